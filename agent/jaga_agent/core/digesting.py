"""Which records the next digest covers: arithmetic on boots and numbers, no I/O.

A digest covers the records `first…last` of one boot, digests among them; the next one
begins where it ended. Boots follow one another as the spool knows them, oldest first: a
boot that ended without a digest (a kill, a power cut) is covered by a later run, before
that run's own records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PERIOD_S: Final = 300.0
"""Between digests, in boot time."""
RECORDS: Final = 2000
"""Numbers in one digest at most: what is read back at a time stays small."""
MISSING: Final = 64
"""Ranges of missing records in one digest at most, as the wire has it."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the chain has come: what its newest digest covers."""

    of: bytes
    last: int


@dataclass(frozen=True, slots=True)
class Span:
    """Records of one boot, both ends of it."""

    of: bytes
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Covering:
    """What one digest says of its records."""

    span: Span
    missing: tuple[tuple[int, int], ...]


def spans(head: Head | None, boots: Sequence[tuple[bytes, int]]) -> Iterator[Span]:
    """Yield what no digest covers yet, in the chain's order, one digest's worth each.

    `boots` are those known with their highest seq, oldest first. Boots before the one
    that the head is of are done: the chain went past them.
    """
    known = [boot for boot, _ in boots]
    skipped = known.index(head.of) if head is not None and head.of in known else 0
    for boot, highest in boots[skipped:]:
        first = head.last + 1 if head is not None and head.of == boot else 1
        while first <= highest:
            last = min(highest, first + RECORDS - 1)
            yield Span(boot, first, last)
            first = last + 1


def cover(span: Span, kept: Sequence[int]) -> Covering:
    """Return the digest over `span`, of which the records `kept` are there (rising).

    It ends early where it would have to name more missing ranges than it may.
    """
    missing: list[tuple[int, int]] = []
    after = span.first
    for seq in (*kept, span.last + 1):
        if seq > after:
            if len(missing) == MISSING:
                return Covering(Span(span.of, span.first, after - 1), tuple(missing))
            missing.append((after, seq - 1))
        after = seq + 1
    return Covering(span, tuple(missing))


def is_worth(span: Span, leaves: Sequence[str], *, ended: bool) -> bool:
    """Whether a span needs a digest, by the kinds of those of its records that are there.

    Not for a boot's last digest alone: the next one names it as the one before. While
    the boot goes on, histograms wait for something that happened. Records that are gone
    are declared, and a full span is never passed over: the next one follows it.
    """
    idle = {"digest"} if ended else {"digest", "histogram"}
    is_full = span.last - span.first + 1 == RECORDS
    return is_full or not leaves or any(leaf not in idle for leaf in leaves)


def next_due_s(now_s: float) -> float:
    """Return how long until the next full period of boot time."""
    return PERIOD_S - now_s % PERIOD_S
