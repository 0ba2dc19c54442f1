"""What the spool holds in RAM, shared by the event loop and the writing thread.

One lock over all of it, held for work in RAM alone: whoever waits for it never waits for
the card. Records not yet on the card are here and, byte for byte, in the tail file.
"""

from __future__ import annotations

import errno
import logging
import threading
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.spool.coverage import Boot, Coverage
from jaga_agent.adapters.spool.tail import Entry, Header, Tail
from jaga_agent.core.write_pace import WritePace
from jaga_agent.ports import SpooledRecord
from jaga_agent.wire.evidence import LEAF_OF, RecordCode, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from jaga_agent.core.ranges import Range

_log = logging.getLogger(__name__)

BATCH: Final = 2000
"""Records in one transaction at most."""
AT_ONCE: Final = (RecordCode.EVENT, RecordCode.DIGEST)
"""Kinds that do not wait for a batch."""
WORTH: Final = (
    (RecordCode.HEARTBEAT,),
    (RecordCode.HISTOGRAM,),
    (RecordCode.EVENT, RecordCode.DIGEST),
)
"""What goes first when something the collector lacks must go."""
_SHED_RATIO: Final = 0.05
"""Share of a full tail that goes at once, so that it is not rewritten for each record."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """One record that is not on the card yet."""

    token: int
    entry: Entry
    at: float
    """Seconds since boot when it came; of one found in a tail, when it was found."""

    @property
    def row(self) -> tuple[int, int, bytes]:
        return self.token, self.entry.leaf, self.entry.payload

    @property
    def record(self) -> SpooledRecord:
        return record(self.token, self.entry.boot, self.entry.seq, self.row)


def record(
    token: int, boot: bytes, seq: int, row: tuple[int, int, bytes]
) -> SpooledRecord:
    return SpooledRecord(token, boot, seq, LEAF_OF[RecordCode(row[1])], row[2])


class Memory:
    """Take `changed` (a condition with the lock) around everything."""

    def __init__(
        self,
        *,
        coverage: Coverage,
        header: Header,
        entries: Iterable[Entry],
        head: SpooledRecord | None,
        dropped: int,
        tail_path: Path,
        max_tail_bytes: int,
        now: Callable[[], float],
    ) -> None:
        """Begin with what was found; raises OSError if the tail cannot be written."""
        self.changed = threading.Condition()
        self.coverage = coverage
        self.header = header
        self.head = head
        """The newest digest."""
        self.dropped = dropped
        self.fresh: dict[int, Fresh] = {}
        """By token, oldest first."""
        self.durable_up_to = 0
        self.unreadable: set[int] = set()
        """Records that the card gave back other than they were written."""
        self.urgent = self.suspect = self.closing = self.flushing = False
        self.failing = False
        """The card does not take what is written."""
        self.marks_dirty = self.marks_urgent = False
        self.pace = WritePace(at=now())
        self._now = now
        self._max_tail_bytes = max_tail_bytes
        self._last_mark: Watermark | None = None
        self._tail_broken = False
        self._fresh_bytes = 0
        current = coverage.named(header.boot)
        if current is None:
            msg = "the tail's boot is none of the spool's"
            raise ValueError(msg)
        self._current: Boot = current
        for entry in entries:
            boot = coverage.named(entry.boot)
            if boot is not None and boot.base + entry.seq not in coverage.kept:
                self._take(boot.base + entry.seq, entry)
        self._tail = Tail(tail_path)
        try:
            self._tail.rewrite(header, (f.entry for f in self.fresh.values()))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._break_tail(error)
        self.urgent = bool(self.fresh)

    @property
    def last_seq(self) -> int:
        return self.header.last_seq

    @property
    def last_token(self) -> int:
        return self._current.base + self.header.last_seq

    def append(self, entry: Entry) -> Fresh:
        """Take one more record of this boot into the tail."""
        self.header = replace(self.header, last_seq=entry.seq)
        self._current.highest = entry.seq
        self._put(lambda: self._tail.append(entry))
        fresh = self._take(self.last_token, entry)
        if self._fresh_bytes > self._max_tail_bytes:
            self._shed()
        self.changed.notify_all()
        return fresh

    def next_connection(self) -> int:
        number = self.header.last_connection + 1
        self.header = replace(self.header, last_connection=number)
        self._put(lambda: self._tail.count_connection(number))
        return number

    def cover(self, mark: Watermark) -> None:
        """Take a watermark."""
        self._last_mark = mark
        goes_back = self.coverage.goes_back(mark)
        if self.coverage.cover(mark):
            self.marks_dirty = True
            # Else a kill would bring back what is not true any more, for boots that no
            # later watermark speaks of.
            self.marks_urgent |= goes_back
            self.changed.notify_all()

    def due(self) -> float | None:
        """Return when the next batch is due, in seconds since boot; None: nothing is."""
        oldest = next(iter(self.fresh.values()), None)
        if oldest is None:
            return None
        if len(self.fresh) >= BATCH:
            return oldest.at
        lacking = next(
            (f for t, f in self.fresh.items() if not self.coverage.is_covered(t)), None
        )
        return self.pace.due(
            self._now(), oldest=oldest.at, uncovered=lacking.at if lacking else None
        )

    def batch(self) -> list[Fresh]:
        """Return the oldest records that are not on the card."""
        return list(islice(self.fresh.values(), BATCH))

    def committed(self, batch: Iterable[Fresh], gone: Iterable[int]) -> None:
        """Cut the tail: these are on the card for good, those are no more."""
        for one in batch:
            if self.fresh.pop(one.token, None) is not None:
                self._fresh_bytes -= one.entry.size
            self.durable_up_to = max(self.durable_up_to, one.token)
        self.let_go(gone)
        self._rewrite()
        self.urgent = self._tail_broken or any(
            fresh.entry.leaf in AT_ONCE for fresh in self.fresh.values()
        )
        self.changed.notify_all()

    def let_go(self, tokens: Iterable[int]) -> int:
        """Forget records; return how many of them the collector lacks."""
        lacking = self.coverage.drop(tokens)
        self.dropped += lacking
        return lacking

    def oldest_covered(self, limit: int, *, after: int) -> list[Range]:
        """Return ranges of covered records, at most `limit` records, above a token."""
        ranges: list[Range] = []
        for first, last in self.coverage.covered_kept():
            begin = max(first, after + 1)
            end = min(last, begin + limit - 1)
            if begin <= end:
                ranges.append((begin, end))
                limit -= end - begin + 1
            if limit <= 0:
                break
        return ranges

    def merge(
        self,
        boots: Iterable[Boot],
        kept: Iterable[Range],
        head: SpooledRecord | None,
    ) -> bool:
        """Take in a file that was opened in mid-run; return whether the two agree."""
        old = self.coverage
        known = {boot.name: boot for boot in boots}
        reached = max((last for _, last in kept), default=0)
        for boot in old.boots:
            there = known.get(boot.name)
            if (there is not None and there.base != boot.base) or (
                there is None and boot is self._current and boot.base < reached
            ):
                return False
            known[boot.name] = boot
        self.coverage = Coverage(known.values(), store=old.store, revision=old.revision)
        for first, last in kept:
            self.coverage.keep(first, last)
        for token in self.fresh:
            self.coverage.keep(token, token)
        if self._last_mark is not None:
            self.coverage.cover(self._last_mark)
        if self.head is None or (head is not None and head.token > self.head.token):
            self.head = head
        self.marks_dirty = True
        return True

    def close(self) -> None:
        self._tail.close()

    def _take(self, token: int, entry: Entry) -> Fresh:
        fresh = Fresh(token, entry, self._now())
        self.fresh[token] = fresh
        self._fresh_bytes += entry.size
        self.coverage.keep_one(token)
        if entry.leaf == RecordCode.DIGEST:
            self.head = fresh.record
        if entry.leaf in AT_ONCE:
            self.urgent = True
        return fresh

    def _put(self, write: Callable[[], None]) -> None:
        """Write to the tail. Should RAM be full, the card must serve, and at once."""
        try:
            if not self._tail_broken:
                write()
        except OSError as error:
            self._break_tail(error)
        if self._tail_broken:
            self.urgent = True

    def _break_tail(self, error: OSError) -> None:
        _log.error(
            "cannot write the spool's tail (%s); each record goes to the card at once:"
            " see the free space of the run directory",
            error,
        )
        # A tail that lacks what was sent would let a number be used twice.
        self._tail_broken = True
        self._tail.abandon()

    def _rewrite(self) -> None:
        try:
            self._tail.rewrite(self.header, (f.entry for f in self.fresh.values()))
        except OSError as error:
            if not self._tail_broken:
                self._break_tail(error)
            return
        if self._tail_broken:
            self._tail_broken = False
            _log.warning("the spool's tail can be written again")

    def _shed(self) -> None:
        """Make the tail shorter: the card has not taken anything for long."""
        excess = self._fresh_bytes - self._max_tail_bytes * (1 - _SHED_RATIO)
        gone: list[int] = []
        for leaves in WORTH:
            for fresh in self.fresh.values():
                if excess <= 0:
                    break
                if fresh.entry.leaf in leaves and not self._is_head(fresh):
                    gone.append(fresh.token)
                    excess -= fresh.entry.size
        for token in gone:
            self._fresh_bytes -= self.fresh.pop(token).entry.size
        self.let_go(gone)
        self._rewrite()

    def _is_head(self, fresh: Fresh) -> bool:
        return self.head is not None and self.head.token == fresh.token
