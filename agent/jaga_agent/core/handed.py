"""What was handed on and is not known to be committed: in flight, or the broker's.

A broker's acknowledgement (PUBACK) is one hop's word: brokers acknowledge messages that
they then drop (a full queue, a lost disk). Only a watermark that covers a record ends
the duty. A record is taken for lost on its way, and is to be sent again, when

* its connection ended before its PUBACK (`connection_ended`), or
* a watermark that came `GAP_S` or more after the PUBACK lacks it, though something that
  was sent later on the same channel is committed, or
* a watermark that came `OVERDUE_S` or more after the sending does not cover it, though
  something that was sent later is committed.

"Sent later" is what tells a loss from a queue: broker and collector handle each
channel's messages in order, so that a district's collector that is minutes behind is
not flooded with repeats. Live data and histories are a channel each, for the newest
state is sent first and leaves a gap below it that is no loss. Each time one is sent
again both waits double, up to `PATIENCE_S`: a record that the collector can never commit
is not sent for ever at the pace of its watermarks.

Kept as runs of seqs, not record by record: a collector may be away for weeks while the
broker takes everything.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from jaga_agent.core.coverage import Said, of_boot, said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jaga_agent.core.coverage import Mark
    from jaga_agent.core.model import Instant

GAP_S: Final = 5.0
"""A collector commits in well under a second and tells of it every few."""
OVERDUE_S: Final = 120.0
PATIENCE_S: Final = 3600.0
FULL_GAPS: Final = 16
"""A mark with so many gaps says nothing of what is above them, though it may be there."""
FULL_FACTOR: Final = 10
_COMPACT_RUNS: Final = 64


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Records of one boot, next to each other, that travelled alike."""

    first: int
    last: int
    boot: bytes
    above: int
    """A token below all of theirs, to look for them again from."""
    history: bool
    order: int
    """Rises with each sending."""
    sent_at: float
    acked_at: float
    """The same as `sent_at` until there is a PUBACK."""
    tries: int
    """How often before."""


class Handed:
    """The runs, by where they are."""

    def __init__(self) -> None:
        self._flying: dict[int, tuple[Run, ...]] = {}
        """By the sending's number, which is the run's `order`."""
        self._held: dict[bytes, list[Run]] = {}
        """PUBACKed, by boot, in order of seq; no two overlap."""
        self._tries: dict[tuple[bytes, int], int] = {}
        """Of those sent again and not covered yet."""
        self._committed = {False: 0, True: 0}
        """The highest `order` known to be committed: of live data, of histories."""

    @property
    def flying(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._flying)

    @property
    def committed(self) -> int:
        """The highest `order` known to be committed."""
        return max(self._committed.values())

    def has(self, boot: bytes, seq: int) -> bool:
        """Tell whether a record is on its way, or with the broker."""
        runs = self._held.get(boot, ())
        at = bisect_right(runs, seq, key=lambda run: run.first) - 1
        if at >= 0 and seq <= runs[at].last:
            return True
        return any(
            run.boot == boot and run.first <= seq <= run.last
            for runs in self._flying.values()
            for run in runs
        )

    def sent(
        self,
        order: int,
        records: Iterable[tuple[bytes, int, int]],
        now: Instant,
        *,
        history: bool,
    ) -> None:
        """Take note of one message: boot, seq and token of each record, ascending."""
        runs: list[Run] = []
        for boot, seq, token in records:
            tries = self._tries.get((boot, seq), 0)
            last = runs[-1] if runs else None
            if (
                last is not None
                and (last.boot, last.last + 1, last.tries) == (boot, seq, tries)
            ):  # fmt: skip
                runs[-1] = replace(last, last=seq)
                continue
            runs.append(Run(seq, seq, boot, token - 1, history, order, now, now, tries))
        self._flying[order] = tuple(runs)

    def acknowledged(self, order: int, now: Instant) -> tuple[Run, ...]:
        """Take a PUBACK; return what it was for, nothing if it is of no message here."""
        runs = self._flying.pop(order, ())
        for run in runs:
            kept = self._held.setdefault(run.boot, [])
            insort(kept, replace(run, acked_at=now))
            if len(kept) > _COMPACT_RUNS:
                kept[:] = _compact(kept, now)
        return runs

    def connection_ended(self) -> None:
        """Forget what had no PUBACK: it is to be sent again."""
        self._flying.clear()

    def begin_anew(self) -> None:
        """Forget every PUBACK: the collector has lost what it may have had."""
        self._held.clear()
        self._tries.clear()

    def review(self, mark: Mark, now: Instant) -> int | None:
        """Take a watermark; return a token above which something is to be sent again.

        None: nothing is. Call it with those that say something new only.
        """
        self._drop_covered(mark)
        again: list[Run] = []
        for boot, runs in list(self._held.items()):
            of = of_boot(mark, boot)
            full = of is not None and len(of.gaps) >= FULL_GAPS
            kept: list[Run] = []
            for run in runs:
                for first, last, word in said(of, run.first, run.last):
                    part = replace(run, first=first, last=last)
                    lost = self._is_lost(part, word, now, full=full)
                    (again if lost else kept).append(part)
            self._keep(boot, kept)
        for run in again:
            for seq in range(run.first, run.last + 1):
                self._tries[run.boot, seq] = run.tries + 1
        return min((run.above for run in again), default=None)

    def _drop_covered(self, mark: Mark) -> None:
        for boot, runs in list(self._held.items()):
            of = of_boot(mark, boot)
            kept = []
            for run in runs:
                for first, last, word in said(of, run.first, run.last):
                    if word is Said.COVERED:
                        known = self._committed[run.history]
                        self._committed[run.history] = max(known, run.order)
                    else:
                        kept.append(replace(run, first=first, last=last))
            self._keep(boot, kept)
        for boot, seq in list(self._tries):
            of = of_boot(mark, boot)
            if of is not None and all(
                word is Said.COVERED for *_, word in said(of, seq, seq)
            ):
                del self._tries[boot, seq]

    def _keep(self, boot: bytes, runs: list[Run]) -> None:
        if runs:
            self._held[boot] = runs
        else:
            self._held.pop(boot, None)

    def _is_lost(self, run: Run, word: Said, now: Instant, *, full: bool) -> bool:
        doubled = 2.0 ** min(run.tries, 16)
        if (
            word is Said.LACKING
            and now - run.acked_at >= min(GAP_S * doubled, PATIENCE_S)
            and self._committed[run.history] > run.order
        ):
            return True
        overdue_s = min(OVERDUE_S * doubled, PATIENCE_S)
        if word is Said.NOTHING and full:
            overdue_s *= FULL_FACTOR
        return now - run.sent_at >= overdue_s and self.committed > run.order


def _compact(runs: list[Run], now: Instant) -> Iterator[Run]:
    """Join neighbours that are old enough for every rule; the younger's times count."""
    before: Run | None = None
    for run in runs:
        if (
            before is not None
            and before.last + 1 == run.first
            and (before.history, before.tries) == (run.history, run.tries)
            and min(now - before.sent_at, now - run.sent_at) >= PATIENCE_S
        ):
            before = replace(
                before,
                last=run.last,
                order=max(before.order, run.order),
                sent_at=max(before.sent_at, run.sent_at),
                acked_at=max(before.acked_at, run.acked_at),
            )
            continue
        if before is not None:
            yield before
        before = run
    if before is not None:
        yield before
