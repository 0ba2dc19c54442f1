"""A site's digests: what each says, whether it counts, and how they follow one another.

A site signs, every five minutes, a digest: one hash over the payloads of its records
`first…last` of a boot, and the hash of the digest before. So a digest that is the site's
proves each record it covers, the chain proves that no digest is missing between two
others, and the records' numbers that no record is. What nothing signed covers may be
right; it is not proven.

Pure: no I/O, no clock, no cryptography but what it is told of it. `order` puts a site's
digests in their chain's order; whoever calls judges their signatures in that order
(`signature_fault`), and `core.proof` says what holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SeqRange = tuple[int, int]

NO_HASH: Final = bytes(32)
"""`prev` of a site's first digest."""
GRACE_MS: Final = 15 * 60_000
"""What arrived this lately may wait for its digest: made every five minutes, sent with
what is not urgent."""


MOST: Final = 10_000
"""Records that one digest may cover; a site says 2000 at most."""


class Kind(StrEnum):
    """What does not hold."""

    ALTERED = "altered"
    """Signed by the site, and not the same here."""
    FORGED = "forged"
    """The site never said so."""
    MISSING = "missing"
    """Recorded by the site, and not here."""
    CHAIN = "chain"
    """Two digests do not follow each other as the site made them."""
    UNSIGNED = "unsigned"
    """A site without a key: whole, but anybody may have made it."""
    UNPROVEN = "unproven"
    """Here, and covered by nothing that the site signed."""
    LOST = "lost"
    """Gone at the site itself, which says so."""
    OPEN = "open"
    """The end of the period: nothing tells what was recorded after the last digest."""
    PENDING = "pending"
    """Too new to be covered; nothing wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold, as narrow as can be told."""

    kind: Kind
    boot: bytes | None
    first: int | None
    last: int | None
    """Records of that boot it is about."""
    begin_ms: int | None
    end_ms: int | None
    detail: str

    @property
    def fails(self) -> bool:
        """Whether the period is not proven because of it."""
        return self.kind is not Kind.PENDING


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the database has it."""

    boot: bytes
    seq: int
    leaf: str
    t_ms: int
    arrival_ms: int
    hash: bytes | None
    """Of its kind and payload, as the wire has it; None: its payload is not here."""
    faults: tuple[str, ...] = ()
    """Where its rows say otherwise than its payload."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One digest as the database has it; `wire.evidence.Digest` says what each means."""

    boot: bytes
    seq: int
    t_ms: int
    arrival_ms: int
    of: bytes
    first: int
    last: int
    missing: tuple[SeqRange, ...]
    root: bytes
    prev: bytes
    hash: bytes
    refusal: tuple[Kind, str] | None = None
    """Why it counts for nothing; None: the site signed it."""

    @property
    def is_sane(self) -> bool:
        """Whether what it covers is what a site would say, and small enough to look at."""
        return 0 <= self.last - self.first < MOST and all(
            self.first <= first <= last <= self.last for first, last in self.missing
        )


@dataclass(frozen=True, slots=True)
class Period:
    """Unix milliseconds, both ends of it."""

    from_ms: int
    to_ms: int

    def part_ms(self, begin_ms: int, end_ms: int) -> int:
        """Return how much of a span lies in the period."""
        return max(0, min(end_ms, self.to_ms) - max(begin_ms, self.from_ms))


@dataclass(frozen=True, slots=True)
class Signature:
    """What the arithmetic says of a digest's signature; times are Unix milliseconds."""

    is_given: bool
    fault: str | None
    """Of the certificate itself: whose it is, who issued it."""
    fits: bool
    not_before_ms: int
    not_after_ms: int
    revoked_ms: int | None


@dataclass(slots=True)
class Report:
    """What was found of one site and period."""

    period: Period
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    """Of the period, here."""
    proven: int = 0
    digests: int = 0
    """That cover them."""
    digests_proven: int = 0
    recorded_ms: int = 0
    """Of the period: from the first to the last record of each boot."""
    proven_ms: int = 0
    """Of that: between two proven records that follow each other."""

    @property
    def is_proven(self) -> bool:
        """Whether everything in the period is."""
        return not any(finding.fails for finding in self.findings)


def signature_fault(
    signature: Signature, t_ms: int, arrival_ms: int
) -> tuple[Kind, str] | None:
    """Return why a digest made at `t_ms` does not count; None: the site signed it.

    A revoked key may be in a thief's hands, and a thief dates as he likes: what counts
    is that the digest was here before the revocation.
    """
    fault: tuple[Kind, str] | None = None
    revoked_ms = signature.revoked_ms
    if not signature.is_given:
        fault = (Kind.UNSIGNED, "without a signature: anybody may have made it")
    elif signature.fault is not None:
        fault = (Kind.FORGED, f"its certificate will not do: {signature.fault}")
    elif not signature.fits:
        fault = (Kind.FORGED, "its signature does not fit the site's key")
    elif not signature.not_before_ms <= t_ms <= signature.not_after_ms:
        fault = (Kind.FORGED, "its certificate was not valid at its time")
    elif revoked_ms is not None and t_ms >= revoked_ms:
        fault = (Kind.FORGED, "its certificate was revoked by then")
    elif revoked_ms is not None and arrival_ms >= revoked_ms:
        detail = "dated before its certificate was revoked, yet it came only after"
        fault = (Kind.UNPROVEN, detail)
    return fault


def order(statements: Sequence[Statement]) -> list[Statement]:
    """Return a site's digests as they follow one another, each after the one it names."""
    hashes = {statement.hash for statement in statements}
    following: dict[bytes, list[Statement]] = {}
    for statement in statements:
        following.setdefault(statement.prev, []).append(statement)
    ordered: list[Statement] = []
    # Depth first: a fork's branches stay whole. A hash cannot be in its own past.
    waiting = [s for s in reversed(statements) if s.prev not in hashes]
    while waiting:
        statement = waiting.pop()
        ordered.append(statement)
        waiting += reversed(following.pop(statement.hash, []))
    return ordered


def vouched(chain: Sequence[Statement]) -> list[Statement]:
    """Return the chain with what a digest that counts vouches for, in any way before it.

    It names the digest before by its hash: the site's key says that those very bytes are
    the site's, whatever became of the key or certificate that they were signed by.
    """
    named: set[bytes] = set()
    found = []
    for statement in reversed(chain):
        is_named = statement.hash in named and statement.is_sane
        if statement.refusal is None or is_named:
            named.add(statement.prev)
            found.append(replace(statement, refusal=None))
        else:
            found.append(statement)
    return found[::-1]


def relevant(
    chain: Sequence[Statement], period: Period, inside: Mapping[bytes, Sequence[int]]
) -> list[Statement]:
    """Return the digests that may cover what was recorded in the period.

    `inside`: the numbers of the period's records, rising, by boot. Times alone will not
    do: they are the database's own word.
    """
    after = [s.t_ms for s in chain if s.t_ms >= period.to_ms and s.refusal is None]
    until_ms = min(after, default=None)
    return [
        s
        for s in chain
        if (s.t_ms >= period.from_ms and (until_ms is None or s.t_ms <= until_ms))
        or _any_within(inside.get(s.of, ()), s.first, s.last)
    ]


def _any_within(numbers: Sequence[int], first: int, last: int) -> bool:
    return bool(numbers) and numbers[0] <= last and numbers[-1] >= first
