"""What a watermark says of a record: the collector has it, lacks it, or nothing.

Pure arithmetic on ranges of seqs; shapes as in the wire's `Watermark`, which is not
imported here.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


LISTED: Final = 8
"""Boots in one mark at most (`wire.evidence.BOOTS`)."""
_BOOTS: Final = 64
"""Remembered at most."""


class BootMark(Protocol):
    """What is committed of one boot (`wire.evidence.BootMark`)."""

    @property
    def boot(self) -> bytes: ...
    @property
    def through(self) -> int: ...
    @property
    def highest(self) -> int: ...
    @property
    def gaps(self) -> Sequence[tuple[int, int]]: ...


class Mark(Protocol):
    """What a collector has of a site (`wire.evidence.Watermark`)."""

    @property
    def store(self) -> bytes: ...
    @property
    def revision(self) -> int: ...
    @property
    def boots(self) -> Sequence[BootMark]: ...


class Said(Enum):
    """Of a record, by a watermark."""

    COVERED = "covered"
    LACKING = "lacking"
    """In a gap: a later one is committed."""
    NOTHING = "nothing"


def said(
    mark: BootMark | None, first: int, last: int
) -> Iterator[tuple[int, int, Said]]:
    """Divide the seqs first…last into ranges by what the mark says; in order."""
    at = first
    if mark is not None:
        end = min(last, mark.through)
        if at <= end:
            yield at, end, Said.COVERED
            at = end + 1
        for low, high in sorted(mark.gaps):
            if at > last or low > last:
                break
            if high < at:
                continue
            if at < low:
                yield at, low - 1, Said.COVERED
                at = low
            end = min(high, last)
            yield at, end, Said.LACKING
            at = end + 1
        end = min(last, mark.highest)
        if at <= end:
            yield at, end, Said.COVERED
            at = end + 1
    if at <= last:
        yield at, last, Said.NOTHING


def covers(mark: BootMark | None, first: int, last: int) -> bool:
    """Tell whether all of first…last is covered."""
    return all(word is Said.COVERED for _, _, word in said(mark, first, last))


def of_boot(mark: Mark, boot: bytes) -> BootMark | None:
    """Return what the mark says of a boot, if anything."""
    return next((each for each in mark.boots if each.boot == boot), None)


def is_whole(mark: Mark) -> bool:
    """Tell whether it lists all there is: places are left.

    Then the collector has nothing of any other boot. With all places taken nothing is
    said of the others.
    """
    return len(mark.boots) < LISTED


class Memory:
    """What was said of each boot last; a mark lists those that were touched lately."""

    def __init__(self) -> None:
        self._store = b""
        self._boots: dict[bytes, BootMark] = {}
        self._revision = -1

    def take(self, mark: Mark) -> tuple[bool, bool]:
        """Take a mark; return whether it says something new, and whether it goes back.

        Back: what was committed is no longer, as after a database was restored from a
        backup, or replaced.
        """
        is_first = self._revision < 0
        back = not is_first and (
            self._store != mark.store
            or mark.revision < self._revision
            or any(_shrank(was, mark) for was in self._boots.values())
        )
        new = back or is_first or mark.revision != self._revision
        if back:
            self._boots.clear()
        self._store, self._revision = mark.store, mark.revision
        for now in mark.boots:
            self._boots.pop(now.boot, None)
            self._boots[now.boot] = now
        while len(self._boots) > _BOOTS:
            del self._boots[next(iter(self._boots))]
        return new, back


def _shrank(was: BootMark, mark: Mark) -> bool:
    now = of_boot(mark, was.boot)
    if now is None and not is_whole(mark):
        return False
    return not all(
        covers(now, first, last)
        for first, last, word in said(was, 1, was.highest)
        if word is Said.COVERED
    )
