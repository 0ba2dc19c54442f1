"""Digests and proofs as values: what is told of any history, and of any harm to it."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaga_server.core.boot_records import ranges
from jaga_server.core.digests import (
    MOST,
    NO_HASH,
    Kind,
    Period,
    Record,
    Signature,
    Statement,
    order,
    signature_fault,
    vouched,
)
from jaga_server.core.proof import examine, root_of, tally

MINUTE_MS = 60_000
BEGIN_MS = 1_000_000_000


def sha(*words):
    return hashlib.sha256(repr(words).encode()).digest()


class Site:
    """Records every minute, digests as told; all as values."""

    def __init__(self):
        self.records = {}
        self.chain = []
        self.now_ms = BEGIN_MS
        self.boots = []
        self.seq = 0

    def boot(self):
        self.boots.append(b"boot %03d" % len(self.boots))
        self.seq = 0
        if self.chain:
            self.cover(self.boots[-2])

    def record(self, leaf="heartbeat", content=0):
        self.seq += 1
        self.now_ms += MINUTE_MS
        boot = self.boots[-1]
        hashed = content or sha(boot, self.seq)
        self.records[boot, self.seq] = Record(
            boot, self.seq, leaf, self.now_ms, self.now_ms, hashed
        )

    def covered(self, boot):
        return max((s.last for s in self.chain if s.of == boot), default=0)

    def cover(self, boot=None):
        """Make a digest of what is not covered of a boot; with its own record."""
        boot = boot or self.boots[-1]
        first = self.covered(boot) + 1
        last = max((n for b, n in self.records if b == boot), default=0)
        if last < first:
            return
        root = root_of(self.records[boot, n].hash for n in range(first, last + 1))
        prev = self.chain[-1].hash if self.chain else NO_HASH
        hashed = sha("digest", boot, first, last, prev)
        self.record("digest", hashed)
        self.chain.append(
            Statement(
                self.boots[-1], self.seq, self.now_ms, self.now_ms, boot, first, last,
                (), root, prev, hashed,
            )
        )  # fmt: skip

    def examine(self, **more):
        period = more.pop("period", Period(BEGIN_MS, self.now_ms))
        return examine(
            vouched(order(self.chain)),
            self.records.values(),
            period,
            now_ms=more.pop("now_ms", self.now_ms),
            lost=more.pop("lost", {}),
            settled=more.pop("settled", {}),
        )


def lived(boots):
    """`boots`: for each, how many records each of its digests covers."""
    site = Site()
    for parts in boots:
        site.boot()
        for count in parts:
            for _ in range(count):
                site.record()
            site.cover()
    return site


lives = st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4
)


@given(lives)
def test_any_history_that_is_whole_is_proven(boots):
    report = lived(boots).examine()
    assert report.findings == []
    assert report.proven == report.records
    assert report.digests == report.digests_proven


@given(lives, st.data())
def test_a_part_of_it_is_too(boots, data):
    site = lived(boots)
    first = data.draw(st.integers(BEGIN_MS, site.now_ms - 1))
    last = data.draw(st.integers(first + 1, site.now_ms))
    report = site.examine(period=Period(first, last))
    assert {f.kind for f in report.findings} <= {Kind.OPEN}
    assert report.proven == report.records


def names(report, boot, seq):
    return any(
        f.fails and f.boot == boot and f.first <= seq <= f.last
        for f in report.findings
        if f.first is not None
    )


@settings(max_examples=300)
@given(lives, st.data())
def test_any_one_harm_is_named(boots, data):
    site = lived(boots)
    boot, seq = data.draw(st.sampled_from(sorted(site.records)))
    record = site.records[boot, seq]
    digest = next((s for s in site.chain if (s.boot, s.seq) == (boot, seq)), None)
    is_end = digest is site.chain[-1]
    match data.draw(st.sampled_from(("delete", "alter", "alter rows"))):
        case "delete":
            del site.records[boot, seq]
            if digest is not None:
                site.chain.remove(digest)
        case "alter":
            site.records[boot, seq] = replace(record, hash=sha("another"))
            if digest is not None:
                # Its signature cannot fit what it says now.
                place = site.chain.index(digest)
                site.chain[place] = replace(
                    digest, hash=sha("another"), refusal=(Kind.FORGED, "no")
                )
        case "alter rows":
            site.records[boot, seq] = replace(record, faults=("lost is 0",))
    report = site.examine(settled={boot: seq} if is_end else {})
    assert not report.is_proven
    assert names(report, boot, seq)


@settings(max_examples=200)
@given(lives, st.data())
def test_a_record_put_in_is_named_and_nothing_else(boots, data):
    site = lived([*boots, [1]])
    boot = data.draw(st.sampled_from([*site.boots[:-1], b"invented"]))
    known = [n for b, n in site.records if b == boot]
    seq = max(known, default=0) + data.draw(st.integers(1, 3))
    t_ms = max((site.records[boot, n].t_ms for n in known), default=BEGIN_MS)
    t_ms += data.draw(st.integers(0, 120)) * 1000
    site.records[boot, seq] = Record(boot, seq, "event", t_ms, t_ms, sha("forged"))
    site.now_ms += 20 * MINUTE_MS
    site.record()
    site.cover()
    report = site.examine()
    (finding,) = (f for f in report.findings if f.fails)
    assert finding.kind in {Kind.FORGED, Kind.UNPROVEN}
    assert (finding.boot, finding.first, finding.last) == (boot, seq, seq)


def test_two_digests_after_one_are_a_fork():
    site = lived([[3], [3]])
    *_, before, last = site.chain
    other = replace(last, seq=last.seq + 1, hash=sha("fork"), t_ms=last.t_ms + 1)
    site.chain.append(other)
    site.records[other.boot, other.seq] = Record(
        other.boot, other.seq, "digest", other.t_ms, other.t_ms, other.hash
    )
    assert other.prev == before.hash
    report = site.examine(period=Period(BEGIN_MS, other.t_ms))
    (finding,) = (f for f in report.findings if f.fails)
    assert (finding.kind, finding.first) == (Kind.CHAIN, other.seq)
    assert "two digests follow the same one" in finding.detail


def test_order_is_by_what_each_names_not_by_place():
    chain = lived([[2, 2], [2]]).chain
    assert order(chain[::-1]) == chain
    # One that is not here tears it, and both parts are kept.
    assert order([chain[0], *chain[2:]]) == [chain[0], *chain[2:]]


def test_a_digest_vouches_for_all_before_it():
    chain = lived([[2, 2, 2]]).chain
    doubtful = [replace(s, refusal=(Kind.FORGED, "expired")) for s in chain]
    assert vouched([*doubtful[:2], chain[2]]) == chain
    assert vouched(doubtful) == doubtful
    assert vouched([chain[0], *doubtful[1:]]) == [chain[0], *doubtful[1:]]


INSANE = {
    "backwards": {"first": 5, "last": 4},
    "all there ever was": {"first": 1, "last": 2**62},
    "one too many": {"first": 1, "last": MOST + 1},
    "missing what it does not cover": {"missing": ((0, 2**40),)},
}


@pytest.mark.parametrize("more", INSANE.values(), ids=INSANE)
def test_what_no_site_would_say_counts_for_nothing(more):
    """It would take all memory to look at; nobody vouches for it."""
    chain = lived([[2, 2]]).chain
    silly = replace(chain[0], **more)
    assert chain[0].is_sane
    assert not silly.is_sane
    refused = replace(silly, refusal=(Kind.FORGED, "it covers too much"))
    assert vouched([refused, chain[1]])[0].refusal is not None


DAY = 86_400_000
GOOD = Signature(True, None, True, 10 * DAY, 20 * DAY, None)
SIGNATURES = {
    "right": ({}, 15 * DAY, 15 * DAY, None),
    "none": ({"is_given": False}, 15 * DAY, 15 * DAY, Kind.UNSIGNED),
    "another site's": ({"fault": "it is not"}, 15 * DAY, 15 * DAY, Kind.FORGED),
    "does not fit": ({"fits": False}, 15 * DAY, 15 * DAY, Kind.FORGED),
    "too early": ({}, 9 * DAY, 15 * DAY, Kind.FORGED),
    "expired": ({}, 21 * DAY, 21 * DAY, Kind.FORGED),
    "on its last millisecond": ({}, 20 * DAY, 25 * DAY, None),
    "revoked later": ({"revoked_ms": 16 * DAY}, 15 * DAY, 15 * DAY, None),
    "revoked before": ({"revoked_ms": 14 * DAY}, 15 * DAY, 15 * DAY, Kind.FORGED),
    "revoked that moment": ({"revoked_ms": 15 * DAY}, 15 * DAY, 15 * DAY, Kind.FORGED),
    "dated before, here after": (
        {"revoked_ms": 16 * DAY},
        15 * DAY,
        17 * DAY,
        Kind.UNPROVEN,
    ),
}


@pytest.mark.parametrize(
    ("more", "t_ms", "arrival_ms", "want"), SIGNATURES.values(), ids=SIGNATURES
)
def test_what_a_signature_is_worth(more, t_ms, arrival_ms, want):
    fault = signature_fault(replace(GOOD, **more), t_ms, arrival_ms)
    assert (fault and fault[0]) == want


def test_counts_and_ranges():
    assert ranges([]) == []
    assert ranges([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
    site = lived([[3], [3]])
    for boot, seq in ((site.boots[0], 1), (site.boots[1], 1)):
        del site.records[boot, seq]
    assert tally(site.examine()) == {"missing": 2, "unproven": 2}
