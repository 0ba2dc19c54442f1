"""`jaga-collector verify`: whether what the database holds of a site is what it sent.

Reads the database, has the signatures checked, and asks `core.proof`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from jaga_agent.wire.evidence import digest_to_sign
from jaga_server import export, verdict
from jaga_server.adapters import clock
from jaga_server.adapters.certificates import Authority
from jaga_server.core import proof
from jaga_server.core.boot_records import ranges
from jaga_server.core.coverage import joined
from jaga_server.core.digests import (
    Kind,
    Period,
    Report,
    Signature,
    Statement,
    order,
    relevant,
    signature_fault,
    vouched,
)
from jaga_server.errors import ConfigError
from jaga_server.store.evidence import Evidence

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from jaga_server.adapters.certificates import Certificate
    from jaga_server.config import Config
    from jaga_server.core.coverage import Spans
    from jaga_server.core.digests import Record
    from jaga_server.store.evidence import StoredDigest

LONGEST: Final = timedelta(days=92)
"""A period: a quarter at most, so that one site's fits in memory."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be proven."""

    region: str
    site: str
    period: Period
    now_ms: int


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.description = (
        "Exit status 0: all of the period is proven; 1: something is not; 2: it could"
        " not be looked at. docs/evidence.md says what is proven, and how."
    )
    when = "e.g. 2027-02-14 or 2027-02-14T08:30"
    parser.add_argument("--site", required=True, help="e.g. tps-6408052001-901")
    parser.add_argument(
        "--from", required=True, metavar="TIME", help=when, dest="begin"
    )
    parser.add_argument("--to", metavar="TIME", help=f"{when}; now, if left out")
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="the CA that issues the sites' certificates; [mqtt] ca, if left out",
    )
    parser.add_argument(
        "--crl", type=Path, metavar="FILE", help="its list of revoked certificates"
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="put payloads, digests and signatures there, for others to check",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def answer(arguments: argparse.Namespace, settings: Config) -> tuple[str, int]:
    """Return what to print, and the exit status; raises CollectorError."""
    ca = arguments.ca or settings.mqtt.ca
    if ca is None:
        message = "no CA to check the sites' certificates by; name it: --ca ca.crt"
        raise ConfigError(message)
    zone = settings.timezone
    now_ms = to_ms = clock.wall_ms()
    if arguments.to is not None:
        to_ms = moment_ms(arguments.to, zone)
    asked = period(moment_ms(arguments.begin, zone), to_ms)
    question = Question(settings.region, arguments.site, asked, now_ms)
    authority = Authority(ca, arguments.crl)
    report = verify(settings.store, question, authority, folder=arguments.export)
    say = verdict.as_json if arguments.json else verdict.as_text
    return say(report, question.site, zone), 0 if report.is_proven else 1


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


def verify(
    store: Path,
    question: Question,
    authority: Authority,
    *,
    folder: Path | None = None,
) -> Report:
    """Return what the database proves; raises StoreError if it cannot be read.

    `folder`: where to put what it is proven from, for others to check.
    """
    with Evidence(store, question.site) as evidence:
        chain = judged(evidence.digests(), question, authority)
        inside = evidence.inside(question.period)
        wanted = _wanted(chain, question.period, inside)
        records: list[Record] = []
        for boot, spans in wanted.items():
            for first, last in spans:
                records += evidence.records(boot, first, last)
        if folder is not None:
            export.export(evidence, wanted, folder)
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
        if refusal is None and not statement.is_sane:
            refusal = (Kind.FORGED, "it covers what no site would say")
        elif refusal is None and not found.is_canonical:
            refusal = (Kind.ALTERED, "not the bytes that were sent, though they say it")
        chain.append(replace(statement, refusal=refusal))
    return vouched(chain)


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
) -> dict[bytes, Spans]:
    """Return the spans of records to read, by boot: none twice."""
    spans: dict[bytes, list[tuple[int, int]]] = {
        boot: ranges(numbers) for boot, numbers in inside.items()
    }
    for statement in relevant(chain, period, inside):
        spans.setdefault(statement.of, []).append((statement.first, statement.last))
        spans.setdefault(statement.boot, []).append((statement.seq, statement.seq))
    return {boot: joined(each) for boot, each in spans.items()}
