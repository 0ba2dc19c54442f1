"""Which sequence numbers of a boot the database holds, and which it never will. Pure.

Spans are pairs (first, last), both of it, rising, apart by at least one number: one set
has one spelling. A boot's numbers begin with 1, so what is missing below the first span
is a gap like any other.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int]
Spans = tuple[Span, ...]

SPANS: Final = 1024
"""Kept of a boot at most. A site that leaves more holes than this has the highest spans
forgotten: its records are stored, but it is told of them again only when they came again.
Under-claiming costs bytes, over-claiming would cost records."""


def union(spans: Spans, first: int, last: int) -> Spans:
    """Return the spans with first…last."""
    if spans:
        begin, end = spans[-1]
        if begin <= first <= end + 1:
            # The usual: the next record of a boot.
            return spans if last <= end else (*spans[:-1], (begin, last))
    # Those before `low` end too early to touch the new one, those from `high` begin too late.
    low = bisect_right(spans, first - 2, key=_last)
    high = bisect_right(spans, last + 1, key=_first)
    if low < high:
        first = min(first, spans[low][0])
        last = max(last, spans[high - 1][1])
    return (*spans[:low], (first, last), *spans[high:])


def joined(ranges: Iterable[Span]) -> Spans:
    """Return any ranges as spans."""
    spans: Spans = ()
    for first, last in sorted(ranges):
        spans = union(spans, first, last)
    return spans


def difference(spans: Spans, first: int, last: int) -> Spans:
    """Return the spans without first…last."""
    low = bisect_right(spans, first - 1, key=_last)
    high = bisect_right(spans, last, key=_first)
    rest: list[Span] = []
    for begin, end in spans[low:high]:
        if begin < first:
            rest.append((begin, first - 1))
        if end > last:
            rest.append((last + 1, end))
    return (*spans[:low], *rest, *spans[high:])


def holes(spans: Spans) -> Spans:
    """Return what is missing from 1 up to the highest number of the spans."""
    found: list[Span] = []
    after = 1
    for first, last in spans:
        if first > after:
            found.append((after, first - 1))
        after = last + 1
    return tuple(found)


def count(spans: Spans) -> int:
    """Return how many numbers they hold."""
    return sum(last - first + 1 for first, last in spans)


def _first(span: Span) -> int:
    return span[0]


def _last(span: Span) -> int:
    return span[1]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a watermark says of a boot: all up to `through`, and up to `highest` but gaps."""

    through: int
    highest: int
    gaps: Spans


@dataclass(frozen=True, slots=True)
class Coverage:
    """One boot's records."""

    held: Spans = ()
    """Stored, or known to be lost: nothing of it is asked for again."""
    lost: Spans = ()
    """Of `held`: what the site says that it will never send, and that never came."""

    def stored(self, seq: int) -> Coverage:
        """Return the coverage with a record (from 1); it may be one that was lost."""
        held = union(self.held, seq, seq)
        lost = difference(self.lost, seq, seq) if self.lost else self.lost
        return self if held is self.held and lost == self.lost else _cut(held, lost)

    def declared_lost(self, first: int, last: int) -> Coverage:
        """Return the coverage with what the site gave up; what is stored stays stored.

        More than SPANS ranges are not booked: they stay gaps, for all to see.
        """
        lost = self.lost
        for begin, end in _within(
            holes((*self.held, (last + 1, last + 1))), first, last
        ):
            lost = union(lost, begin, end)
        if len(lost) > SPANS:
            return self
        return _cut(union(self.held, first, last), lost)

    @property
    def gaps(self) -> Spans:
        """What is missing below the highest."""
        return holes(self.held)

    @property
    def lost_count(self) -> int:
        """How many numbers are lost."""
        return count(self.lost)

    @property
    def highest(self) -> int:
        """The highest number held; 0: none."""
        return self.held[-1][1] if self.held else 0

    def mark(self, limit: int) -> Mark:
        """Return what to tell the site, with at most `limit` gaps.

        With more, `highest` ends before the first gap that is not listed.
        """
        gaps = self.gaps
        through = self.held[0][1] if self.held and self.held[0][0] == 1 else 0
        highest = gaps[limit][0] - 1 if len(gaps) > limit else self.highest
        return Mark(through, highest, gaps[:limit])


def _within(spans: Spans, first: int, last: int) -> Spans:
    """Return the part of the spans that lies in first…last."""
    return tuple(
        (max(begin, first), min(end, last))
        for begin, end in spans
        if begin <= last and end >= first
    )


def _cut(held: Spans, lost: Spans) -> Coverage:
    """Return the coverage with at most SPANS spans; nothing above them is known."""
    if len(held) > SPANS:
        top = held[SPANS - 1][1]
        held = held[:SPANS]
        lost = (
            difference(lost, top + 1, lost[-1][1])
            if lost and lost[-1][1] > top
            else lost
        )
    return Coverage(held, lost)
