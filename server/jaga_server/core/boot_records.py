"""One boot's records at hand while a proof is made: by number, and what covers them.

An index and no more: `core.proof` decides what follows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_server.core.digests import Period, Record, SeqRange

    Times = tuple[int | None, int | None]


def ranges(numbers: Sequence[int]) -> list[SeqRange]:
    """Return rising numbers as (first, last) of each unbroken run."""
    found: list[SeqRange] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


class BootRecords:
    """One boot's records at hand, and what is known of them by now."""

    def __init__(self, boot: bytes, records: list[Record], period: Period) -> None:
        self.boot = boot
        self.records = {r.seq: r for r in sorted(records, key=lambda r: r.seq)}
        self.numbers = list(self.records)
        self.inside = [
            n
            for n, r in self.records.items()
            if period.from_ms <= r.t_ms <= period.to_ms
        ]
        self.covers: list[tuple[int, int, bool]] = []
        """First and last that a digest that counts covers of it, rising; whether the
        digest before that one is not here."""
        self.void: list[tuple[int, int, str]] = []
        """What digests that do not count say they cover, and which those are."""
        self.proven: set[int] = set()
        self.named: set[int] = set()
        """What a finding is about, or what is a digest and judged as one."""

    def around(self, first: int, last: int) -> Times:
        """Return the times of what is here just before and just after these numbers."""
        before = bisect_left(self.numbers, first) - 1
        after = bisect_right(self.numbers, last)
        return (
            self.records[self.numbers[before]].t_ms if before >= 0 else None,
            self.records[self.numbers[after]].t_ms
            if after < len(self.numbers)
            else None,
        )

    def is_covered(self, seq: int) -> bool:
        """Whether a digest that counts speaks of this number."""
        place = self._place(seq)
        return place > 0 and self.covers[place - 1][1] >= seq

    def is_torn(self, seq: int) -> bool:
        """Whether the digest that follows this number lacks the one before it."""
        place = self._place(seq)
        return place < len(self.covers) and self.covers[place][2]

    def _place(self, seq: int) -> int:
        return bisect_right(self.covers, seq, key=lambda cover: cover[0])

    @property
    def top(self) -> int:
        """The highest number that is covered; 0: none."""
        return self.covers[-1][1] if self.covers else 0
