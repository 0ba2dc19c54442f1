"""What `verify` found, said: for people the verdict first, for programs all of it.

Adds nothing to the report and leaves nothing out but what it counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import msgspec

from jaga_server.core import proof

if TYPE_CHECKING:
    from jaga_server.core.digests import Finding, Kind, Report

SHOWN: Final = 40
"""Findings listed of one kind; `--json` has all."""


def as_json(report: Report, site: str, zone: str) -> str:
    """Return the report for programs: one JSON object, times in Unix milliseconds.

    `zone` is how the period was asked for.
    """
    answer: dict[str, Any] = {
        "site": site,
        "timezone": zone,
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


def as_text(report: Report, site: str, zone: str) -> str:
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
        f"{verdict}: {site}, {begin} to {end} ({zone}): {reason}",
        _numbers(report),
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


def _numbers(report: Report) -> str:
    return (
        f"  {report.proven} of {_count(report.records, 'record')} proven,"
        f" {report.digests_proven} of {_count(report.digests, 'digest')} good;"
        f" {_share(report)}"
    )


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
