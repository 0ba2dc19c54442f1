"""`jaga-collector verify`: is what the database holds of a site what the site sent?

Reads the database, has the signatures checked, asks `core.proof`, and says the answer:
the verdict first, then each thing that does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import msgspec

from jaga_agent.wire.evidence import digest_to_sign
from jaga_server.core import proof
from jaga_server.core.digests import (
    Kind,
    Period,
    Report,
    Signature,
    Statement,
    order,
    relevant,
    signature_fault,
)
from jaga_server.errors import ConfigError
from jaga_server.store.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jaga_server.adapters.certificates import Authority, Certificate
    from jaga_server.core.digests import Finding, Record
    from jaga_server.store.evidence import StoredDigest

SHOWN: Final = 40
"""Findings listed of one kind; `--json` has all."""
LONGEST: Final = timedelta(days=92)
"""A period: a quarter at most, so that one site's fits in memory."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be proven."""

    region: str
    site: str
    period: Period
    now_ms: int


def moment_ms(text: str, zone: str) -> int:
    """Return a time as people write it in Unix milliseconds; raises ConfigError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no time; write e.g. 2027-02-14 or 2027-02-14T08:30"
        raise ConfigError(message) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return round(moment.timestamp() * 1000)


def period(from_ms: int, to_ms: int) -> Period:
    """Return the period between two moments; raises ConfigError."""
    if not 0 < to_ms - from_ms <= LONGEST / timedelta(milliseconds=1):
        message = f"--to must be after --from, and at most {LONGEST.days} days"
        raise ConfigError(message)
    return Period(from_ms, to_ms)


def verify(store: Path, question: Question, authority: Authority) -> Report:
    """Return what the database proves; raises StoreError if it cannot be read."""
    with Evidence(store, question.site) as evidence:
        chain = judged(evidence.digests(), question, authority)
        inside = evidence.inside(question.period)
        records: list[Record] = []
        for boot, spans in _wanted(chain, question.period, inside).items():
            for first, last in spans:
                records += evidence.records(boot, first, last)
        report = proof.examine(
            chain,
            records,
            question.period,
            now_ms=question.now_ms,
            lost=evidence.lost(),
            settled=evidence.settled(),
        )
        report.findings += evidence.unfounded(question.period)
    return report


def judged(
    stored: Sequence[StoredDigest], question: Question, authority: Authority
) -> list[Statement]:
    """Return the site's digests in their chain's order, signatures checked."""
    by_hash = {each.hash: each for each in stored}
    named = list(
        dict.fromkeys(s.digest.certificate for s in stored if s.digest.certificate)
    )
    certificates = {der: authority.judge(der, question.site) for der in named}
    in_force: dict[bytes, bytes] = {}
    chain = []
    for statement in order([_statement(each) for each in by_hash.values()]):
        found = by_hash[statement.hash]
        digest = found.digest
        said = digest.certificate or in_force.get(digest.prev)
        if said is not None:
            in_force[statement.hash] = said
        # Where the digest that named it is not here, any of the site's may be the one.
        others = named if digest.certificate is None else []
        tried = dict.fromkeys([*([said] if said else []), *others])
        signature = _signature(
            found,
            digest_to_sign(question.region, question.site, digest),
            [certificates[der] for der in tried],
        )
        refusal = signature_fault(signature, statement.t_ms, statement.arrival_ms)
        if refusal is None and not found.is_canonical:
            refusal = (Kind.ALTERED, "not the bytes that were sent, though they say it")
        chain.append(replace(statement, refusal=refusal))
    return chain


def _statement(stored: StoredDigest) -> Statement:
    digest = stored.digest
    return Statement(
        digest.boot,
        digest.seq,
        stored.t_ms,
        stored.arrival_ms,
        digest.of,
        digest.first,
        digest.last,
        digest.missing,
        digest.root,
        digest.prev,
        stored.hash,
    )


def _signature(
    stored: StoredDigest, signed: bytes, certificates: Sequence[Certificate]
) -> Signature:
    signature = stored.digest.signature
    fitting = [c for c in certificates if c.verifies(signature, signed)]
    best = next(
        (c for c in fitting if c.fault is None),
        next(iter([*fitting, *certificates]), None),
    )
    if best is None:
        fault = "no certificate is here that it could be of"
        return Signature(bool(signature), fault, False, 0, 0, None)
    return Signature(
        bool(signature),
        best.fault,
        best in fitting,
        best.not_before_ms,
        best.not_after_ms,
        best.revoked_ms,
    )


def _wanted(
    chain: Sequence[Statement], period: Period, inside: Mapping[bytes, Sequence[int]]
) -> dict[bytes, list[tuple[int, int]]]:
    """Return the spans of records to read, by boot: none twice."""
    spans: dict[bytes, list[tuple[int, int]]] = {
        boot: proof.ranges(numbers) for boot, numbers in inside.items()
    }
    for statement in relevant(chain, period, inside):
        spans.setdefault(statement.of, []).append((statement.first, statement.last))
        spans.setdefault(statement.boot, []).append((statement.seq, statement.seq))
    return {boot: _joined(each) for boot, each in spans.items()}


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


# Saying it


def as_json(report: Report, question: Question) -> str:
    """Return the report for programs: one JSON object, times in Unix milliseconds."""
    answer: dict[str, Any] = {
        "site": question.site,
        "region": question.region,
        "from_ms": report.period.from_ms,
        "to_ms": report.period.to_ms,
        "proven": report.is_proven,
        "records": report.records,
        "records_proven": report.proven,
        "digests": report.digests,
        "digests_proven": report.digests_proven,
        "recorded_ms": report.recorded_ms,
        "proven_ms": report.proven_ms,
        "findings_by_kind": proof.tally(report),
        "findings": [
            {
                "kind": f.kind.value,
                "fails": f.fails,
                "boot": None if f.boot is None else f.boot.hex(),
                "first": f.first,
                "last": f.last,
                "begin_ms": f.begin_ms,
                "end_ms": f.end_ms,
                "detail": f.detail,
            }
            for f in report.findings
        ],
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()


def as_text(report: Report, question: Question, zone: str) -> str:
    """Return the report for people: the verdict first."""
    tz = ZoneInfo(zone)
    failing = sum(finding.fails for finding in report.findings)
    verdict = "PROVEN" if report.is_proven else "NOT PROVEN"
    begin, end = (_time(ms, tz) for ms in (report.period.from_ms, report.period.to_ms))
    reason = (
        "what is here is what the site sent, and nothing is missing"
        if report.is_proven
        else f"{_count(failing, 'thing')} {'does' if failing == 1 else 'do'} not hold"
    )
    lines = [
        f"{verdict}: {question.site}, {begin} to {end} ({zone}): {reason}",
        f"  {report.proven} of {_count(report.records, 'record')} proven,"
        f" {report.digests_proven} of {_count(report.digests, 'digest')} good;"
        f" {_share(report)}",
    ]
    shown: dict[Kind, int] = {}
    for finding in report.findings:
        shown[finding.kind] = shown.get(finding.kind, 0) + 1
        if shown[finding.kind] <= SHOWN:
            lines.append(_line(finding, tz))
    lines += [
        f"{kind.value:9} … and {count - SHOWN} more; --json lists all"
        for kind, count in shown.items()
        if count > SHOWN
    ]
    return "\n".join(lines)


def _share(report: Report) -> str:
    """Return how much time it is, e.g. "proven 23.98 h of 24.00 h recorded (99.9 %)"."""
    whole_ms = report.period.to_ms - report.period.from_ms
    recorded = f"{_hours(report.recorded_ms)} recorded"
    if not report.recorded_ms:
        return f"nothing recorded in {_hours(whole_ms)}"
    # Rounded down: 100 % must mean all.
    permille = report.proven_ms * 1000 // report.recorded_ms
    return (
        f"{_hours(report.proven_ms)} of {recorded} ({permille / 10:.1f} %),"
        f" in a period of {_hours(whole_ms)}"
    )


def _line(finding: Finding, tz: ZoneInfo) -> str:
    parts = [f"{finding.kind.value:9}"]
    if finding.boot is not None:
        name = finding.boot.hex()
        if finding.first is not None:
            name += f"/{finding.first}"
        if finding.last != finding.first:
            name += f"–{finding.last}"
        parts.append(name)
    parts += _when(finding, tz)
    return f"{' '.join(parts)}: {finding.detail}"


def _when(finding: Finding, tz: ZoneInfo) -> list[str]:
    begin = None if finding.begin_ms is None else _time(finding.begin_ms, tz)
    end = None if finding.end_ms is None else _time(finding.end_ms, tz)
    if begin is None:
        return [] if end is None else [f"before {end}"]
    if end is None:
        return [f"after {begin}"]
    return [begin if begin == end else f"{begin} to {end}"]


def _time(ms: int, tz: ZoneInfo) -> str:
    return datetime.fromtimestamp(ms / 1000, tz).strftime("%Y-%m-%d %H:%M:%S")


def _hours(ms: int) -> str:
    if ms < 2 * 3_600_000:
        return f"{ms / 60_000:.1f} min"
    return f"{ms / 3_600_000:.2f} h"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
