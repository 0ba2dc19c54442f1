"""Which records are kept, which the collector has, and what follows from the two.

In RAM, in ranges. A boot's records have tokens in a row (token = base + seq), so that
all three (kept, covered, lost) are ranges of tokens. Not safe across threads by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jaga_agent.core.coverage import is_whole, of_boot
from jaga_agent.core.ranges import RangeSet
from jaga_agent.wire.evidence import BootMark, LostRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jaga_agent.core.ranges import Range
    from jaga_agent.wire.evidence import Watermark

LOST_RANGES: Final = 64
"""As many as one History can name; the next ones follow when these are booked."""


@dataclass(slots=True)
class Boot:
    """One boot of this spool."""

    name: bytes
    base: int
    """token = base + seq."""
    highest: int
    """Highest seq that is known to have been given."""
    mark: BootMark | None = None


class Coverage:
    """The boots, what is kept of them, and what is covered."""

    def __init__(
        self,
        boots: Iterable[Boot] = (),
        *,
        store: bytes = b"",
        revision: int = 0,
    ) -> None:
        self.store = store
        self.revision = revision
        self.kept = RangeSet()
        self._boots = sorted(boots, key=lambda boot: boot.base)
        self._named = {boot.name: boot for boot in self._boots}
        self._covered = RangeSet()
        self._depth: int | None = None
        for boot in self._boots:
            self._paint(boot)

    @property
    def boots(self) -> tuple[Boot, ...]:
        """Oldest first."""
        return tuple(self._boots)

    def named(self, name: bytes) -> Boot | None:
        """Return the boot of that name, if it is known."""
        return self._named.get(name)

    def boot_of(self, token: int) -> Boot | None:
        """Return whose record this is."""
        place = bisect_left(self._boots, token, key=lambda boot: boot.base)
        return self._boots[place - 1] if place else None

    def begin(self, boot: Boot) -> None:
        """Take in one more boot."""
        self._boots.append(boot)
        self._boots.sort(key=lambda one: one.base)
        self._named[boot.name] = boot
        for one in self._boots:
            self._paint(one)

    def keep(self, first: int, last: int) -> None:
        """Take in kept records, by their tokens."""
        self.kept.add(first, last)
        self._depth = None

    def keep_one(self, token: int) -> None:
        """Take in one record more."""
        self.kept.add(token, token)
        if self._depth is not None:
            self._depth += token not in self._covered

    def drop(self, tokens: Iterable[int]) -> int:
        """Let go of these; return how many of them the collector lacks."""
        lacking = 0
        for token in tokens:
            lacking += token in self.kept and token not in self._covered
            self.kept.remove(token, token)
        self._depth = None
        return lacking

    def cover(self, mark: Watermark) -> bool:
        """Take a watermark; return whether anything is other than before."""
        before = [boot.mark for boot in self._boots]
        if self.goes_back(mark):
            # It is not known what it has of boots that it does not speak of.
            for boot in self._boots:
                boot.mark = None
        self.store, self.revision = mark.store, mark.revision
        for one in mark.boots:
            if (named := self._named.get(one.boot)) is not None:
                named.mark = one
        changed = [
            boot
            for boot, old in zip(self._boots, before, strict=True)
            if boot.mark != old
        ]
        for boot in changed:
            self._paint(boot)
        return bool(changed)

    def goes_back(self, mark: Watermark) -> bool:
        """Return whether it is of another database, or of an older state of it.

        Also of one that was restored and has told with later revisions since: it lacks a
        boot that it had.
        """
        return (
            mark.store != self.store
            or mark.revision < self.revision
            or (
                is_whole(mark)
                and any(
                    boot.mark is not None and of_boot(mark, boot.name) is None
                    for boot in self._boots
                )
            )
        )

    def is_covered(self, token: int) -> bool:
        """Return whether the collector has it."""
        return token in self._covered

    def covered_kept(self) -> Iterator[Range]:
        """Yield what is kept and covered, oldest first."""
        for first, last in self._covered:
            yield from self.kept.within(first, last)

    def pending(self, after: int = 0) -> Iterator[Range]:
        """Yield what is kept and not covered, above the token `after`, oldest first."""
        for first, last in self._covered.missing(after + 1, self.kept.highest or 0):
            yield from self.kept.within(first, last)

    def depth(self) -> int:
        """Return how many kept records are not covered."""
        if self._depth is None:
            self._depth = sum(last - first + 1 for first, last in self.pending())
        return self._depth

    def lost(self) -> tuple[LostRange, ...]:
        """Return what was given out, is kept no more, and is not covered."""
        ranges: list[LostRange] = []
        for boot in self._boots:
            for first, last in self._gone(boot):
                ranges.append(LostRange(boot.name, first - boot.base, last - boot.base))
                if len(ranges) == LOST_RANGES:
                    return tuple(ranges)
        return tuple(ranges)

    def forget_done(self, current: bytes) -> list[bytes]:
        """Forget boots of which nothing is kept or owed; return their names."""
        done = [
            boot
            for boot in self._boots
            if boot.name != current
            and next(self.kept.within(*self._tokens(boot)), None) is None
            and next(self._gone(boot), None) is None
        ]
        for boot in done:
            self._covered.remove(*self._tokens(boot))
            self._boots.remove(boot)
            del self._named[boot.name]
        return [boot.name for boot in done]

    def _gone(self, boot: Boot) -> Iterator[Range]:
        first, last = self._tokens(boot)
        for lacking_first, lacking_last in self._covered.missing(first, last):
            yield from self.kept.missing(lacking_first, lacking_last)

    def _tokens(self, boot: Boot) -> Range:
        """Return the first and the last token that can be spoken of.

        Of an earlier boot the collector may know more than a card that lost its last
        seconds; of this one nobody can.
        """
        place = self._boots.index(boot)
        if place + 1 == len(self._boots):
            return boot.base + 1, boot.base + boot.highest
        told = boot.mark.highest if boot.mark else 0
        return boot.base + 1, min(
            boot.base + max(boot.highest, told), self._boots[place + 1].base
        )

    def _paint(self, boot: Boot) -> None:
        """Cover what the boot's mark says, and nothing else of it."""
        place = self._boots.index(boot)
        first, last = self._tokens(boot)
        self._covered.remove(
            first,
            last if place + 1 == len(self._boots) else self._boots[place + 1].base,
        )
        self._depth = None
        if boot.mark is None:
            return
        highest = max(boot.mark.highest, boot.mark.through)
        self._covered.add(first, min(boot.base + highest, last))
        for gap_first, gap_last in boot.mark.gaps:
            self._covered.remove(
                max(boot.base + gap_first, first), min(boot.base + gap_last, last)
            )
