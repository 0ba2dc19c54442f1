"""A set of whole numbers kept as ranges: small where numbers come in runs.

Pure; no I/O. Sixteen bytes a range: a spool of nothing but single records fits too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last, both of it."""


class RangeSet:
    """Ranges that neither overlap nor touch, in order."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts = array("q")
        self._lasts = array("q")
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number)
        return place > 0 and number <= self._lasts[place - 1]

    @property
    def highest(self) -> int | None:
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int) -> None:
        """Put these in; an empty range (last < first) is none."""
        if last < first:
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = array("q", (first,))
        self._lasts[low:high] = array("q", (last,))

    def remove(self, first: int, last: int) -> None:
        """Take these out, if they are in."""
        if last < first:
            return
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        left = [r for r in ((self._firsts[low], first - 1),) if r[0] <= r[1]]
        right = [r for r in ((last + 1, self._lasts[high - 1]),) if r[0] <= r[1]]
        rest = left + right
        self._firsts[low:high] = array("q", (r[0] for r in rest))
        self._lasts[low:high] = array("q", (r[1] for r in rest))

    def within(self, first: int, last: int) -> Iterator[Range]:
        """Yield what of first…last is in, in order. The set must not change meanwhile."""
        for place in range(bisect_left(self._lasts, first), len(self._firsts)):
            if self._firsts[place] > last:
                return
            yield max(first, self._firsts[place]), min(last, self._lasts[place])

    def missing(self, first: int, last: int) -> Iterator[Range]:
        """Yield what of first…last is not in, in order. As `within`."""
        for inside_first, inside_last in self.within(first, last):
            if first < inside_first:
                yield first, inside_first - 1
            first = inside_last + 1
        if first <= last:
            yield first, last

    def count(self, first: int, last: int) -> int:
        """Return how many of first…last are in."""
        return sum(b - a + 1 for a, b in self.within(first, last))
