"""Is what the database holds what the site sent? Rows in, findings out; no I/O.

`core.digests` says what a digest proves. Here each record of a period is held against
the digest that covers it, each digest against the one before, and what is left over is
named: as narrow as can be told, and never as proven.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from jaga_server.core.boot_records import BootRecords, ranges
from jaga_server.core.digests import (
    GRACE_MS,
    NO_HASH,
    Finding,
    Kind,
    Report,
    relevant,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaga_server.core.boot_records import Times
    from jaga_server.core.digests import Period, Record, SeqRange, Statement

POWER_CUT_MS: Final = 60_000
"""What a site keeps in RAM before its card has it: half a minute, and a margin."""


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return the root of records' hashes, as the wire has it."""
    whole = hashlib.sha256()
    for each in hashes:
        whole.update(each)
    return whole.digest()


def tally(report: Report) -> dict[str, int]:
    """Return how many findings there are of each kind, in the kinds' order."""
    counts = Counter(finding.kind for finding in report.findings)
    return {kind.value: counts[kind] for kind in Kind if counts[kind]}


def examine(
    chain: Sequence[Statement],
    records: Iterable[Record],
    period: Period,
    *,
    now_ms: int,
    lost: Mapping[bytes, Sequence[SeqRange]],
    settled: Mapping[bytes, int],
) -> Report:
    """Return what holds of the period.

    `chain`: all the site's digests in order, judged. `records`: those of the period and
    those that the `relevant` digests cover. `lost`: what the site said it will never
    send, by boot. `settled`: by boot, the highest number that was ever here.
    """
    return _Examination(chain, records, period, now_ms=now_ms, lost=lost).run(settled)


class _Examination:
    def __init__(
        self,
        chain: Sequence[Statement],
        records: Iterable[Record],
        period: Period,
        *,
        now_ms: int,
        lost: Mapping[bytes, Sequence[SeqRange]],
    ) -> None:
        self._report = Report(period)
        self._period = period
        self._now_ms = now_ms
        self._lost = lost
        self._chain = chain
        self._good = [s for s in chain if s.refusal is None]
        of_boot: dict[bytes, list[Record]] = {}
        for record in records:
            of_boot.setdefault(record.boot, []).append(record)
        self._boots = {b: BootRecords(b, found, period) for b, found in of_boot.items()}
        self._hashes = {s.hash for s in self._good}
        self._torn_ms = max(
            (s.t_ms for s in self._good if self._is_torn(s)), default=-(2**63)
        )
        """When the chain last lacked a digest."""
        for statement in chain:
            boot = self._boot(statement.of)
            if statement.refusal is None:
                is_torn = self._is_torn(statement)
                boot.covers.append((statement.first, statement.last, is_torn))
            else:
                boot.void.append((statement.first, statement.last, _name(statement)))
        for boot in self._boots.values():
            boot.covers.sort()
        self._last_of = {s.of: place for place, s in enumerate(self._good)}
        """By boot, the place of the last digest that covers of it."""
        self._latest: dict[bytes, int] = {}
        """By boot, when another one last made a digest."""

    def run(self, settled: Mapping[bytes, int]) -> Report:
        """Look at all of it and return the report."""
        inside = {b.boot: b.inside for b in self._boots.values()}
        window = relevant(self._chain, self._period, inside)
        self._report.digests = len(window)
        self._report.digests_proven = sum(s.refusal is None for s in window)
        self._refused(window)
        self._links([s for s in window if s.refusal is None])
        for statement in window:
            self._boot(statement.boot).named.add(statement.seq)
            if statement.refusal is None:
                self._covered(statement)
        for boot in self._boots.values():
            self._rows(boot)
            self._bare(boot)
            self._cut(boot, settled.get(boot.boot, 0))
            self._measure(boot)
        self._end()
        self._report.findings.sort(
            key=lambda f: (not f.fails, f.begin_ms or f.end_ms or 0, f.first or 0)
        )
        return self._report

    def _is_torn(self, statement: Statement) -> bool:
        return statement.prev != NO_HASH and statement.prev not in self._hashes

    def _boot(self, boot: bytes) -> BootRecords:
        if boot not in self._boots:
            self._boots[boot] = BootRecords(boot, [], self._period)
        return self._boots[boot]

    def _find(
        self,
        kind: Kind,
        boot: BootRecords | None,
        numbers: SeqRange | None,
        times: Times,
        detail: str,
    ) -> None:
        first, last = numbers or (None, None)
        name = boot.boot if boot is not None else None
        self._report.findings.append(Finding(kind, name, first, last, *times, detail))

    def _find_records(
        self, kind: Kind, boot: BootRecords, group: list[int], why: str
    ) -> None:
        """Name records that are here, which share one reason."""
        for first, last in ranges(group):
            times = (boot.records[first].t_ms, boot.records[last].t_ms)
            self._find(kind, boot, (first, last), times, why)
        boot.named.update(group)

    # The chain

    def _refused(self, window: Sequence[Statement]) -> None:
        """Name the digests that do not count; many for the same reason once."""
        alike: dict[tuple[Kind, str, bytes], list[Statement]] = {}
        for statement in window:
            if statement.refusal is not None:
                key = (*statement.refusal, statement.boot)
                alike.setdefault(key, []).append(statement)
        for (kind, detail, boot), group in alike.items():
            numbers = [s.seq for s in group]
            times = [s.t_ms for s in group]
            what = "a digest" if len(group) == 1 else f"{len(group)} digests"
            self._find(
                kind,
                self._boot(boot),
                (min(numbers), max(numbers)),
                (min(times), max(times)),
                f"{what}: {detail}",
            )

    def _links(self, window: Sequence[Statement]) -> None:
        first_after: dict[bytes, Statement] = {}
        for statement in self._good:
            first_after.setdefault(statement.prev, statement)
        for statement in window:
            first = first_after[statement.prev]
            if self._is_torn(statement):
                detail = "the digest before this one is not here as it was sent"
            elif first is statement:
                continue
            elif statement.prev == NO_HASH:
                detail = (
                    "the site began a new chain here, as after the loss of its spool or"
                    " card; nothing binds this digest to those before"
                )
            else:
                detail = (
                    f"two digests follow the same one, this and {_name(first)}: power was"
                    " cut before the card had the first, or the card was copied"
                )
            self._find(
                Kind.CHAIN,
                self._boot(statement.boot),
                (statement.seq, statement.seq),
                (statement.t_ms, statement.t_ms),
                detail,
            )

    # What one digest covers

    def _covered(self, statement: Statement) -> None:
        """Hold the records of one digest against its root."""
        maker, boot = self._boot(statement.boot), self._boot(statement.of)
        if statement.seq in maker.records:
            maker.proven.add(statement.seq)
        gone = {n for a, b in statement.missing for n in range(a, b + 1)}
        span = range(statement.first, statement.last + 1)
        absent = [n for n in span if n not in boot.records]
        self._absent(boot, [n for n in absent if n in gone], is_said=True)
        absent = [n for n in absent if n not in gone]
        self._absent(boot, absent, is_said=False)
        claimed = [n for n in span if n in boot.records and n not in gone]
        hashes = [h for n in claimed if (h := boot.records[n].hash) is not None]
        if absent or len(hashes) < len(claimed):
            bare = [n for n in claimed if boot.records[n].hash is None]
            why = "the payload is not here: there is nothing to hold against the digest"
            self._find_records(Kind.UNPROVEN, boot, bare, why)
            self._spoilt(statement, boot, claimed)
        elif root_of(hashes) == statement.root:
            boot.proven.update(claimed)
        else:
            self._differs(statement, boot, claimed)

    def _absent(
        self, boot: BootRecords, numbers: Sequence[int], *, is_said: bool
    ) -> None:
        """Name records that a digest speaks of and that are not here."""
        for first, last in ranges(numbers):
            kind = Kind.LOST
            if is_said:
                detail = "the site itself had them no more when it made its digest"
            elif _lies_in(self._lost.get(boot.boot, ()), first, last):
                detail = "the site declared later that it lost them"
            else:
                kind = Kind.MISSING
                detail = "recorded and signed by the site, and not here"
            self._find(kind, boot, (first, last), boot.around(first, last), detail)

    def _spoilt(
        self, statement: Statement, boot: BootRecords, claimed: list[int]
    ) -> None:
        """Name what cannot be proven because others of its digest are amiss."""
        rest = [n for n in claimed if n not in boot.named]
        if not rest:
            return
        times = (boot.records[rest[0]].t_ms, boot.records[rest[-1]].t_ms)
        detail = (
            f"{_records(len(rest))} of digest {_name(statement)}, which proves them only"
            " together with those named otherwise"
        )
        self._find(Kind.UNPROVEN, boot, (rest[0], rest[-1]), times, detail)
        boot.named.update(rest)

    def _differs(
        self, statement: Statement, boot: BootRecords, claimed: list[int]
    ) -> None:
        """Name what is not what was signed: the very record if it can be told."""
        refused = {
            s.seq for s in self._chain if s.boot == boot.boot and s.refusal is not None
        }
        suspects = [n for n in claimed if boot.records[n].faults]
        for seq in suspects:
            why = "not the payload that was signed: " + "; ".join(
                boot.records[seq].faults
            )
            self._find_records(Kind.ALTERED, boot, [seq], why)
        if not suspects and not refused.intersection(claimed):
            why = (
                f"not what digest {_name(statement)} has: at least one of these"
                f" {_records(len(claimed))} is another, payload and rows alike"
            )
            rest = [n for n in claimed if n not in boot.named]
            times = (
                boot.records[claimed[0]].t_ms if claimed else None,
                boot.records[claimed[-1]].t_ms if claimed else None,
            )
            numbers = (statement.first, statement.last)
            self._find(Kind.ALTERED, boot, numbers, times, why)
            boot.named.update(rest)
        self._spoilt(statement, boot, claimed)

    # What the rows say

    def _rows(self, boot: BootRecords) -> None:
        """Name the rows that say otherwise than their record's payload."""
        for seq, record in boot.records.items():
            if not record.faults:
                continue
            if seq in boot.proven:
                boot.proven.discard(seq)
                why = "; ".join(record.faults)
                self._find_records(Kind.ALTERED, boot, [seq], why)
            elif seq not in boot.named or record.leaf == "digest":
                why = "rows and payload differ: " + "; ".join(record.faults)
                self._find_records(Kind.ALTERED, boot, [seq], why)

    def _bare(self, boot: BootRecords) -> None:
        """Name the records of the period that nothing signed covers."""
        groups: dict[tuple[Kind, str], list[int]] = {}
        for seq in boot.inside:
            if seq not in boot.proven and seq not in boot.named:
                groups.setdefault(self._why_bare(boot, seq), []).append(seq)
        for (kind, why), group in groups.items():
            self._find_records(kind, boot, group, why)

    def _why_bare(self, boot: BootRecords, seq: int) -> tuple[Kind, str]:
        record = boot.records[seq]
        void = [name for first, last, name in boot.void if first <= seq <= last]
        last = boot.records.get(boot.top)
        if boot.is_covered(seq):
            kind, why = (
                Kind.UNPROVEN,
                "the site had them no more when it made its digest",
            )
        elif void:
            kind, why = (
                Kind.UNPROVEN,
                f"digest {void[0]} covers them and does not count",
            )
        elif boot.is_torn(seq) or (seq > boot.top and self._torn_ms > record.t_ms):
            kind, why = Kind.UNPROVEN, "the digest that covers them is not here"
        elif not self._is_passed(boot, record):
            is_new = record.arrival_ms > self._now_ms - GRACE_MS
            kind = Kind.PENDING if is_new else Kind.UNPROVEN
            why = "no digest covers them yet"
        elif last and seq > boot.top and record.t_ms - last.t_ms <= POWER_CUT_MS:
            kind = Kind.UNPROVEN
            why = (
                "after the last that the site knows of its boot: lost there in a power"
                " cut, or put here by another"
            )
        else:
            kind, why = Kind.FORGED, "the site's chain went on without them"
        return kind, why

    def _is_passed(self, boot: BootRecords, record: Record) -> bool:
        """Whether the chain went past this record's place without it."""
        if record.seq < boot.top:
            return True
        if boot.boot in self._last_of:
            # The chain comes to a boot once.
            return self._last_of[boot.boot] < len(self._good) - 1
        if boot.boot not in self._latest:
            times = (s.t_ms for s in self._good if s.boot != boot.boot)
            self._latest[boot.boot] = max(times, default=-(2**63))
        return self._latest[boot.boot] > record.t_ms + GRACE_MS

    # The end, and how much it is

    def _cut(self, boot: BootRecords, settled: int) -> None:
        """Tell of records that were here once, above all that is."""
        top = max(boot.numbers[-1] if boot.numbers else 0, boot.top)
        period = self._period
        last_ms = boot.records[boot.numbers[-1]].t_ms if boot.numbers else None
        if settled > top and last_ms and period.from_ms <= last_ms <= period.to_ms:
            detail = "they were stored once, and are not here any more"
            times = (last_ms, None)
            self._find(Kind.MISSING, boot, (top + 1, settled), times, detail)

    def _end(self) -> None:
        period = self._period
        if not any(boot.inside for boot in self._boots.values()):
            detail = "nothing of the site is here in this period"
            self._find(Kind.OPEN, None, None, (period.from_ms, period.to_ms), detail)
            return
        newest_ms = max((s.t_ms for s in self._good), default=period.from_ms)
        end_ms = min(period.to_ms, self._now_ms)
        if newest_ms < end_ms - GRACE_MS:
            detail = (
                "no digest came since: the site was off or not reached, or what it sent"
                " was removed; its next digest will tell"
            )
            begin_ms = max(newest_ms, period.from_ms)
            self._find(Kind.OPEN, None, None, (begin_ms, end_ms), detail)

    def _measure(self, boot: BootRecords) -> None:
        report, period, records = self._report, self._period, boot.records
        report.records += len(boot.inside)
        report.proven += sum(n in boot.proven for n in boot.inside)
        times = [record.t_ms for record in records.values()]
        if times:
            report.recorded_ms += period.part_ms(min(times), max(times))
        report.proven_ms += sum(
            period.part_ms(records[n].t_ms, records[n + 1].t_ms)
            for n in boot.proven
            if n + 1 in boot.proven
        )


def _name(statement: Statement) -> str:
    return f"{statement.boot.hex()}/{statement.seq}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _lies_in(within: Sequence[SeqRange], first: int, last: int) -> bool:
    return any(a <= first and last <= b for a, b in within)
