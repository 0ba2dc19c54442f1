"""What a watermark says of a record: the collector has it, lacks it, or nothing.

Pure arithmetic on ranges of seqs; shapes as in the wire's `Watermark`, which is not
imported here.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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


def of_boot(mark: Mark | None, boot: bytes) -> BootMark | None:
    """Return what the mark says of a boot, if anything."""
    if mark is None:
        return None
    return next((each for each in mark.boots if each.boot == boot), None)


def went_back(old: Mark | None, new: Mark) -> bool:
    """Tell whether something that was committed is no longer, as far as is said.

    A database restored from a backup, or another one. A boot that is not listed any more
    is only one of which nothing came lately.
    """
    if old is None:
        return False
    if old.store != new.store or new.revision < old.revision:
        return True
    for was in old.boots:
        now = of_boot(new, was.boot)
        if now is not None and not all(
            covers(now, first, last)
            for first, last, word in said(was, 1, was.highest)
            if word is Said.COVERED
        ):
            return True
    return False
