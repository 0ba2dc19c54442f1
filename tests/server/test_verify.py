"""`verify`: what was sent is proven, and whatever was done to it since is named.

A real database, filled by the collector's own code with what a scripted site signed by a
real key; then one thing in it is changed, and only that must be named.
"""

import json
import re
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jaga_agent.wire import evidence
from jaga_agent.wire.base import decode, encode
from jaga_agent.wire.evidence import Digest, RecordCode, hash_of
from jaga_agent.wire.messages import Heartbeat
from jaga_server.adapters.certificates import Authority
from jaga_server.core.digests import GRACE_MS, Kind, Period
from jaga_server.core.district import Moment
from jaga_server.core.model import Thresholds
from jaga_server.errors import ConfigError, ExportError, StoreError
from jaga_server.ingest import batch
from jaga_server.ingest.received import Received
from jaga_server.store.sqlite import Store
from jaga_server.verdict import as_json, as_text
from jaga_server.verify import Question, period, verify
from support.signing_site import REGION, SigningSite
from support.site_certificates import SiteAuthority

SITE = "tps-6408012001-001"
OTHER = "tps-6408012001-002"
ZONE = "Asia/Makassar"
BEGIN_MS = (time.time_ns() // 60_000_000_000 - 300) * 60_000
"""Five hours ago, as certificates made now have it."""
LAG_MS = 300


@dataclass
class World:
    """A site's life, its CA, and the database that holds what it sent."""

    site: SigningSite
    authority: SiteAuthority
    database: object
    period: Period
    now_ms: int

    def verify(self, *, period=None, crl=None, ca=None, now_ms=None):
        question = Question(
            REGION, self.site.site, period or self.period, now_ms or self.now_ms
        )
        return verify(self.database, question, Authority(ca or self.authority.ca, crl))


def store_all(database, site, *, arrival_ms=None):
    """Take in what a site sent, as the collector does."""
    store = Store(database)
    states = {}
    try:
        for topic, payload in site.messages():
            at_ms = arrival_ms or site.clock.wall_ms() + LAG_MS
            outcome = batch.write(
                [Received(topic, payload, at_ms, False, None)],
                store,
                known=states,
                listed={site.site},
                moment=Moment(at_ms, 0),
                thresholds=Thresholds(),
            )
            assert not outcome.rejected
            states |= outcome.states
    finally:
        store.close()


def lived(folder, authority, *, site=SITE, files="issue"):
    """A boot that a power cut ends, and one that is stopped cleanly."""
    files = authority.issue(site) if files == "issue" else files
    life = SigningSite(site, BEGIN_MS, files)
    life.pass_(740)
    life.boot(off_s=120)
    life.event()
    life.pass_(630)
    life.event("stopped")
    life.digest()
    database = folder / "collector.db"
    store_all(database, life)
    end_ms = life.clock.wall_ms()
    return World(
        life, authority, database, Period(BEGIN_MS - 1000, end_ms), end_ms + 60_000
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return SiteAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def original(tmp_path_factory, authority):
    return lived(tmp_path_factory.mktemp("life"), authority)


@pytest.fixture
def world(original, tmp_path):
    """A copy to spoil."""
    copy = tmp_path / "collector.db"
    with sqlite3.connect(original.database) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    return World(
        original.site, original.authority, copy, original.period, original.now_ms
    )


class Spoiler:
    """The hand of somebody who can write to the database."""

    def __init__(self, world):
        self.world = world
        self.boots = [spool.boot for spool in world.site.spools]
        self.db = sqlite3.connect(world.database, isolation_level=None)

    def boot_no(self, place):
        return self.one("SELECT boot_no FROM boot WHERE boot = ?", self.boots[place])

    def one(self, sql, *values):
        return self.db.execute(sql, values).fetchone()[0]

    def run(self, sql, *values):
        done = self.db.execute(sql, values)
        assert done.rowcount != 0, sql

    def payload(self, place, seq):
        sql = "SELECT payload FROM payload WHERE boot_no = ? AND seq = ?"
        return self.one(sql, self.boot_no(place), seq)

    def set_payload(self, place, seq, payload):
        sql = "UPDATE payload SET payload = ? WHERE boot_no = ? AND seq = ?"
        self.run(sql, payload, self.boot_no(place), seq)

    def seqs(self, place, leaf):
        sql = "SELECT seq FROM record WHERE boot_no = ? AND leaf = ? ORDER BY seq"
        return [row[0] for row in self.db.execute(sql, (self.boot_no(place), leaf))]

    def delete(self, place, seq, *, tables=("record", "payload")):
        rest = ("sample", "host_sample", "event", "histogram", "digest")
        for table in (*tables, *rest):
            self.db.execute(
                f"DELETE FROM {table} WHERE boot_no = ? AND seq = ?",
                (self.boot_no(place), seq),
            )

    def digest(self, place, number):
        """Return a boot's digest: its seq and itself; numbers as in a list."""
        seq = self.seqs(place, "digest")[number]
        return seq, decode(self.payload(place, seq), Digest)

    def set_digest(self, place, seq, digest):
        """Change a digest everywhere."""
        self.set_payload(place, seq, encode(digest))
        self.run(
            "UPDATE digest SET of_boot = ?, first = ?, last = ?, missing = ?, root = ?,"
            " prev = ?, certificate = ?, signature = ? WHERE boot_no = ? AND seq = ?",
            digest.of,
            digest.first,
            digest.last,
            msgspec.json.encode(digest.missing).decode(),
            digest.root,
            digest.prev,
            digest.certificate,
            digest.signature,
            self.boot_no(place),
            seq,
        )


@pytest.fixture
def spoiler(world):
    spoiler = Spoiler(world)
    yield spoiler
    spoiler.db.close()


def named(report):
    """What fails, as (kind, first, last), each once."""
    return {(f.kind, f.first, f.last) for f in report.findings if f.fails}


def kinds(report):
    return {f.kind for f in report.findings if f.fails}


def details(report):
    return "\n".join(f.detail for f in report.findings)


# What is right


def test_what_was_sent_is_proven(world):
    report = world.verify()
    assert report.findings == []
    assert report.is_proven
    assert report.records == report.proven == len(world.site.records())
    assert report.digests == report.digests_proven == 6
    # Both boots whole; the two minutes without power between them are no record's.
    assert 0.9 * report.recorded_ms < report.proven_ms <= report.recorded_ms
    assert report.recorded_ms <= report.period.to_ms - report.period.from_ms - 120_000


def test_a_part_of_it_is_proven_by_itself(world):
    middle = Period(BEGIN_MS + 400_000, BEGIN_MS + 1_000_000)
    report = world.verify(period=middle)
    assert report.findings == []
    assert 0 < report.records < len(world.site.records())


def test_what_has_no_digest_yet_waits_and_is_said(world):
    site = SigningSite(SITE, world.now_ms, world.site.files)
    site.spools = [*world.site.spools, site.spool]
    site.pass_(60)
    store_all(world.database, site)
    now_ms = site.clock.wall_ms() + 1000
    period = Period(world.period.from_ms, now_ms)
    report = world.verify(period=period, now_ms=now_ms)
    assert report.is_proven
    (pending,) = report.findings
    assert (pending.kind, pending.boot) == (Kind.PENDING, site.spool.boot)
    late = now_ms + GRACE_MS + 60_000
    report = world.verify(period=Period(period.from_ms, late), now_ms=late)
    assert kinds(report) == {Kind.UNPROVEN, Kind.OPEN}


def test_a_period_without_an_end_is_open(world):
    """Nothing tells a site that is off from one whose last records were removed."""
    later = world.period.to_ms + 2 * GRACE_MS
    report = world.verify(period=Period(world.period.from_ms, later), now_ms=later)
    assert kinds(report) == {Kind.OPEN}
    assert "its next digest will tell" in details(report)


def test_a_period_with_nothing_in_it(world):
    report = world.verify(period=Period(BEGIN_MS - 9_000_000, BEGIN_MS - 8_000_000))
    assert kinds(report) == {Kind.OPEN}
    assert "nothing of the site is here" in details(report)


def test_a_renewed_certificate_goes_on_in_the_chain(tmp_path, authority):
    files = authority.issue(SITE)
    life = SigningSite(SITE, BEGIN_MS, files)
    life.pass_(320)
    life.renewed(authority.issue(SITE, tag="renewed"))
    life.pass_(320)
    life.digest()
    database = tmp_path / "c.db"
    store_all(database, life)
    end_ms = life.clock.wall_ms()
    world = World(life, authority, database, Period(BEGIN_MS, end_ms), end_ms)
    assert world.verify().findings == []
    crl = authority.revoke(files, BEGIN_MS + 310_000)
    # It came after that; but what goes on in its chain is by the new key.
    assert world.verify(crl=crl).findings == []


def test_a_site_without_a_key_is_whole_but_unsigned(tmp_path, authority):
    world = lived(tmp_path, authority, files=None)
    report = world.verify()
    assert {Kind.UNSIGNED} <= kinds(report) <= {Kind.UNSIGNED, Kind.UNPROVEN, Kind.OPEN}
    assert report.proven == 0


def test_a_spool_that_was_lost_begins_a_new_chain(tmp_path, authority):
    files = authority.issue(SITE)
    life = SigningSite(SITE, BEGIN_MS, files)
    life.pass_(310)
    life.digest()
    life.heartbeat()
    life.lose_spool()
    life.pass_(310)
    life.digest()
    life.spools = [*life.spools_lost, *life.spools]
    database = tmp_path / "c.db"
    store_all(database, life)
    end_ms = life.clock.wall_ms()
    world = World(life, authority, database, Period(BEGIN_MS, end_ms), end_ms)
    report = world.verify()
    (chain,) = (f for f in report.findings if f.kind is Kind.CHAIN)
    assert chain.boot == life.spool.boot
    assert "began a new chain" in chain.detail
    # What came after the last digest is gone with the spool.
    (rest,) = (f for f in report.findings if f.kind is not Kind.CHAIN)
    assert (rest.kind, rest.boot) == (Kind.UNPROVEN, life.spools_lost[0].boot)
    assert report.proven == report.records - (rest.last - rest.first + 1)


# What is not: one thing is changed, and that is named


def flip(payload, at):
    return payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :]


def test_every_byte_of_a_payload_counts(world, spoiler):
    """Each one altered by itself; always that very record, or its digest, is named."""
    seq = spoiler.seqs(0, "heartbeat")[4]
    payload = spoiler.payload(0, seq)
    for at in range(len(payload)):
        spoiler.set_payload(0, seq, flip(payload, at))
        report = world.verify()
        assert (Kind.ALTERED, seq, seq) in named(report), at
        assert kinds(report) == {Kind.ALTERED, Kind.UNPROVEN}, at
    spoiler.set_payload(0, seq, payload)
    assert world.verify().is_proven


@pytest.mark.parametrize("leaf", ["event", "histogram", "digest"])
def test_a_byte_of_every_kind_of_payload(world, spoiler, leaf):
    seq = spoiler.seqs(0, leaf)[0]
    payload = spoiler.payload(0, seq)
    for at in (0, 11, len(payload) // 2, len(payload) - 1):
        spoiler.set_payload(0, seq, flip(payload, at))
        report = world.verify()
        assert any(
            f.first == f.last == seq and f.kind in {Kind.ALTERED, Kind.FORGED}
            for f in report.findings
        ), (at, report.findings)


COLUMNS = {
    "record": ("leaf", "t_ms", "at_ms", "wall_ms", "clock_age_s", "arrival_ms"),
    "sample": (
        "minute", "t_ms", "uplink", "health", "active", "mode", "sent", "lost",
        "not_sent", "rtt_min_us", "rtt_mean_us", "rtt_max_us", "rx_bytes", "tx_bytes",
        "signal_dbm",
    ),
    "host_sample": (
        "minute", "t_ms", "uptime_s", "cpu_permille", "memory_permille",
        "disk_permille", "temperature_decidegc",
    ),
    "event": (
        "t_ms", "kind", "rule", "uplink", "old", "new", "reason", "detected_ms",
        "switched_ms", "evidence",
    ),
    "histogram": (
        "t_ms", "uplink", "duration_ms", "sent", "lost", "not_sent", "first", "counts",
        "sum_us", "rx_bytes", "tx_bytes", "unknown_ms", "up_ms", "degraded_ms",
        "down_ms",
    ),
    "digest": (
        "of_boot", "first", "last", "missing", "root", "prev", "certificate",
        "signature",
    ),
    "payload": ("kind",),
}  # fmt: skip
"""Every column that a payload says; arrival is the collector's own word."""
NOT_SENT = {("record", "arrival_ms")}
KEYS = {"boot_no", "seq", "site_no", "payload"}
LEAF_OF_TABLE = {
    "record": "heartbeat",
    "sample": "heartbeat",
    "host_sample": "heartbeat",
    "payload": "heartbeat",
}


def test_the_table_of_columns_is_whole(spoiler):
    for table, columns in COLUMNS.items():
        found = {r[1] for r in spoiler.db.execute(f"PRAGMA table_info({table})")}
        assert found - KEYS == set(columns), table


def other_value(value):
    match value:
        case None:
            return 7
        case int():
            return value + 1
        case str():
            return value[:-1] + ("x" if not value.endswith("x") else "y")
        case bytes():
            return flip(value, len(value) // 2)


@pytest.mark.parametrize(
    ("table", "column"), [(t, c) for t, columns in COLUMNS.items() for c in columns]
)
def test_a_column_of_a_row(world, spoiler, table, column):
    leaf = LEAF_OF_TABLE.get(table, table)
    seq = spoiler.seqs(1, leaf)[1 if leaf != "event" else 0]
    where = "WHERE boot_no = ? AND seq = ? LIMIT 1"
    boot_no = spoiler.boot_no(1)
    value = spoiler.one(f"SELECT {column} FROM {table} {where}", boot_no, seq)
    new = other_value(value)
    if column in {"rule", "certificate"} and value is None:
        new = b"x" if column == "certificate" else "x"
    if column == "leaf":
        new = "event"
    spoiler.run(
        f"UPDATE {table} SET {column} = ? WHERE boot_no = ? AND seq = ?"
        + (" AND uplink = 'indosat'" if table in {"sample", "histogram"} else ""),
        new,
        boot_no,
        seq,
    )
    report = world.verify()
    if (table, column) in NOT_SENT:
        # It bounds the event time of what came late, and is nobody's word but ours.
        assert report.is_proven
        return
    assert (Kind.ALTERED, seq, seq) in named(report)
    boots = {f.boot for f in report.findings if f.fails}
    assert boots == {spoiler.boots[1]}
    others = {(f.kind, f.first, f.last) for f in report.findings if f.fails} - {
        (Kind.ALTERED, seq, seq)
    }
    # A moved row is no record's where it is now; a kind is part of what is signed.
    assert {kind for kind, *_ in others} <= {Kind.FORGED, Kind.UNPROVEN}


def test_the_start_that_dates_a_boot(world, spoiler):
    sql = "UPDATE boot SET offset_ms = offset_ms - 60000 WHERE boot_no = ?"
    spoiler.run(sql, spoiler.boot_no(0))
    report = world.verify()
    assert "no record tells the start" in details(report)
    assert Kind.ALTERED in kinds(report)


def test_a_boot_dated_anew_with_all_its_rows(world, spoiler):
    """As a forger does it who knows the tables; what was sent says otherwise."""
    boot_no = spoiler.boot_no(0)
    spoiler.run("UPDATE boot SET offset_ms = offset_ms - 1 WHERE boot_no = ?", boot_no)
    for table in ("record", "sample", "host_sample", "event", "histogram"):
        spoiler.run(f"UPDATE {table} SET t_ms = t_ms - 1 WHERE boot_no = ?", boot_no)
    report = world.verify()
    assert "no record tells the start" in details(report)


def test_a_deleted_record_is_missing(world, spoiler):
    seq = spoiler.seqs(0, "heartbeat")[5]
    spoiler.delete(0, seq)
    report = world.verify()
    missing = [f for f in report.findings if f.kind is Kind.MISSING]
    assert [(f.boot, f.first, f.last) for f in missing] == [
        (spoiler.boots[0], seq, seq)
    ]
    # Between the heartbeats around it.
    assert missing[0].end_ms - missing[0].begin_ms == 20_000
    assert kinds(report) == {Kind.MISSING, Kind.UNPROVEN}


def test_deleted_records_that_the_site_declared_lost(world, spoiler):
    boot_no = spoiler.boot_no(0)
    for seq in (7, 8):
        spoiler.delete(0, seq)
    spoiler.run("INSERT INTO lost VALUES (?, 7, 8, 0)", boot_no)
    report = world.verify()
    assert (Kind.LOST, 7, 8) in named(report)
    assert Kind.MISSING not in kinds(report)


def test_a_record_without_its_payload(world, spoiler):
    spoiler.run("DELETE FROM payload WHERE boot_no = ? AND seq = 7", spoiler.boot_no(0))
    report = world.verify()
    assert (Kind.UNPROVEN, 7, 7) in named(report)
    assert "the payload is not here" in details(report)


def test_a_row_that_is_no_records(world, spoiler):
    boot_no = spoiler.boot_no(0)
    row = list(
        spoiler.db.execute(
            "SELECT * FROM event WHERE boot_no = ? ORDER BY seq LIMIT 1", (boot_no,)
        ).fetchone()
    )
    row[2] = 9
    marks = ",".join("?" * len(row))
    spoiler.run(f"INSERT INTO event VALUES ({marks})", *row)
    report = world.verify()
    assert named(report) == {(Kind.FORGED, 9, 9)}
    assert "a row of event that is no record's" in details(report)


def test_a_second_row_of_a_record(world, spoiler):
    boot_no, seq = spoiler.boot_no(0), spoiler.seqs(0, "heartbeat")[2]
    spoiler.run(
        "INSERT INTO sample SELECT minute, site_no, t_ms, boot_no, seq, 'smartfren',"
        " health, active, mode, sent, lost, not_sent, rtt_min_us, rtt_mean_us,"
        " rtt_max_us, rx_bytes, tx_bytes, signal_dbm FROM sample"
        " WHERE boot_no = ? AND seq = ? AND uplink = 'indosat'",
        boot_no,
        seq,
    )
    report = world.verify()
    assert named(report) == {(Kind.ALTERED, seq, seq)}
    assert "smartfren: a row that was not sent" in details(report)


def test_an_altered_payload_and_rows_that_agree_with_it(world, spoiler):
    """The forger writes both; nothing but the digest knows, and names its records."""
    seq = spoiler.seqs(1, "heartbeat")[3]
    beat = decode(spoiler.payload(1, seq), Heartbeat)
    first, *rest = beat.uplinks
    better = msgspec.structs.replace(first, lost=0, sent=99)
    forged = msgspec.structs.replace(beat, uplinks=(better, *rest))
    spoiler.set_payload(1, seq, encode(forged))
    spoiler.run(
        "UPDATE sample SET lost = 0, sent = 99"
        " WHERE boot_no = ? AND seq = ? AND uplink = ?",
        spoiler.boot_no(1),
        seq,
        first.name,
    )
    report = world.verify()
    (finding,) = (f for f in report.findings if f.fails)
    assert finding.kind is Kind.ALTERED
    assert finding.boot == spoiler.boots[1]
    covering = [
        (d.first, d.last)
        for n in range(len(spoiler.seqs(1, "digest")))
        if (d := spoiler.digest(1, n)[1]).of == spoiler.boots[1]
    ]
    assert (finding.first, finding.last) in covering
    assert finding.first <= seq <= finding.last


def insert_forged(world, beat, *, arrival_ms=None):
    """Put a record in as the collector itself does."""
    store = Store(world.database)
    at_ms = arrival_ms or world.period.from_ms + 100_000
    try:
        batch.write(
            [Received(world.site.topic("heartbeat"), encode(beat), at_ms, False, None)],
            store,
            known={},
            listed={SITE},
            moment=Moment(at_ms, 0),
            thresholds=Thresholds(),
        )
    finally:
        store.close()


def forged_beat(world, **more):
    record = next(r for r in world.site.records() if r.leaf == "heartbeat")
    return msgspec.structs.replace(decode(record.payload, Heartbeat), **more)


def test_a_forged_record_of_a_boot_that_never_was(world, spoiler):
    boot = b"invented"
    beat = forged_beat(world, boot=boot, seq=1)
    insert_forged(world, beat)
    report = world.verify()
    assert named(report) == {(Kind.FORGED, 1, 1)}
    assert {f.boot for f in report.findings} == {boot}


def test_a_forged_record_after_a_boots_last(world, spoiler):
    """Within what a power cut may have cost the site, or beyond it."""
    last = world.site.spools[0].next_seq() - 1
    newest = decode(spoiler.payload(0, last), Heartbeat)
    beyond_ms = newest.at_ms + 100_000
    beat = forged_beat(
        world,
        seq=last + 1,
        at_ms=beyond_ms,
        wall_ms=newest.wall_ms + 100_000,
    )
    insert_forged(world, beat, arrival_ms=newest.wall_ms + 100_300)
    report = world.verify()
    assert named(report) == {(Kind.FORGED, last + 1, last + 1)}
    spoiler.delete(0, last + 1)
    near = msgspec.structs.replace(
        beat, at_ms=newest.at_ms + 10_000, wall_ms=newest.wall_ms + 10_000
    )
    insert_forged(world, near, arrival_ms=newest.wall_ms + 10_300)
    report = world.verify()
    assert named(report) == {(Kind.UNPROVEN, last + 1, last + 1)}
    assert "power cut, or put here by another" in details(report)


def test_a_forged_record_in_the_place_of_a_deleted_one(world, spoiler):
    seq = spoiler.seqs(0, "heartbeat")[5]
    beat = decode(spoiler.payload(0, seq), Heartbeat)
    spoiler.delete(0, seq)
    forged = msgspec.structs.replace(beat, active="indosat")
    insert_forged(world, forged, arrival_ms=beat.wall_ms + LAG_MS)
    report = world.verify()
    (finding,) = (f for f in report.findings if f.fails)
    assert finding.kind is Kind.ALTERED
    assert finding.first <= seq <= finding.last


def test_a_deleted_digest(world, spoiler):
    seq, digest = spoiler.digest(0, 0)
    follower, _ = spoiler.digest(0, 1)
    spoiler.delete(0, seq)
    report = world.verify()
    assert (Kind.MISSING, seq, seq) in named(report)
    assert (Kind.CHAIN, follower, follower) in named(report)
    bare = [f for f in report.findings if "the digest that covers them" in f.detail]
    assert [(f.kind, f.first, f.last) for f in bare] == [
        (Kind.UNPROVEN, digest.first, digest.last)
    ]
    assert Kind.FORGED not in kinds(report)


def test_two_digests_in_each_others_place(world, spoiler):
    (one, _), (two, _) = spoiler.digest(1, 1), spoiler.digest(1, 2)
    first, second = spoiler.payload(1, one), spoiler.payload(1, two)
    spoiler.set_payload(1, one, second)
    spoiler.set_payload(1, two, first)
    report = world.verify()
    assert {(Kind.ALTERED, one, one), (Kind.ALTERED, two, two)} <= named(report)
    assert f"record.seq is {one}, sent was {two}" in details(report)


def sign(digest, key_file):
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    data = evidence.digest_to_sign(REGION, SITE, digest)
    signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
    return msgspec.structs.replace(digest, signature=signature)


def test_a_digest_signed_by_another_key(world, spoiler, tmp_path):
    stranger = SiteAuthority(tmp_path / "stranger").issue(SITE)
    seq, digest = spoiler.digest(0, 1)
    spoiler.set_digest(0, seq, sign(digest, stranger.key))
    report = world.verify()
    assert (Kind.FORGED, seq, seq) in named(report)
    assert "does not fit the site's key" in details(report)


CERTIFICATES = {
    "another CA's": ("was not issued by the CA given", SITE, True, {}),
    "another site's": (f"the certificate of {OTHER}", OTHER, False, {}),
    "one that had expired": (
        "not valid at its time",
        SITE,
        False,
        {"days": -1},
    ),
}


@pytest.mark.parametrize(
    ("said", "name", "is_strange", "more"), CERTIFICATES.values(), ids=CERTIFICATES
)
def test_a_chain_signed_anew_with_another_certificate(
    world, spoiler, tmp_path, said, name, is_strange, more
):
    """All of it: roots, links and signatures right, and one heartbeat another."""
    authority = SiteAuthority(tmp_path / "strange") if is_strange else world.authority
    begin = None
    if more:
        begin = datetime.fromtimestamp(BEGIN_MS / 1000 - 20 * 86_400, UTC)
    files = authority.issue(name, tag="forger", begin=begin, days=10 if more else 365)
    prev = evidence.NO_HASH
    for place in (0, 1):
        for number, seq in enumerate(spoiler.seqs(place, "digest")):
            _, digest = spoiler.digest(place, number)
            digest = msgspec.structs.replace(
                digest,
                prev=prev,
                certificate=files.der if number == 0 else None,
            )
            # Its own place in the next one's root is not mended: signatures come first.
            digest = sign(digest, files.key)
            spoiler.set_digest(place, seq, digest)
            prev = hash_of(RecordCode.DIGEST, encode(digest))
    report = world.verify()
    assert Kind.FORGED in kinds(report)
    assert said in details(report)
    assert report.proven == report.digests_proven == 0


def test_a_certificate_replaced_in_a_digest(world, spoiler):
    other = world.authority.issue(OTHER)
    seq, digest = spoiler.digest(1, 0)
    assert digest.certificate is not None
    spoiler.set_digest(1, seq, msgspec.structs.replace(digest, certificate=other.der))
    report = world.verify()
    assert (Kind.FORGED, seq, seq) in named(report)
    assert f"the certificate of {OTHER}" in details(report)
    # The others of that run are judged by the site's own, which an earlier one named.
    assert report.digests_proven == report.digests - 1


def test_a_digest_put_in_by_a_thief_of_nothing(world, spoiler):
    """Unsigned, in the chain's own words."""
    seq, digest = spoiler.digest(0, 1)
    spoiler.set_digest(0, seq, msgspec.structs.replace(digest, signature=b""))
    report = world.verify()
    assert (Kind.UNSIGNED, seq, seq) in named(report)


def test_a_digest_spelled_otherwise(world, spoiler):
    """Its meaning, and so its signature, is right; it is not what was sent."""
    seq, _ = spoiler.digest(1, -1)
    payload = spoiler.payload(1, seq)
    assert payload[0] == 0x9D
    spoiler.set_payload(1, seq, b"\xdc\x00\x0d" + payload[1:])
    report = world.verify()
    assert (Kind.ALTERED, seq, seq) in named(report)
    assert "not the bytes that were sent" in details(report)


def test_the_tail_is_cut(world, spoiler):
    """Records and digests from some moment on: the coverage remembers, or nothing does."""
    seqs = spoiler.seqs(1, "digest")
    for seq in range(seqs[-2], world.site.spools[1].next_seq()):
        spoiler.delete(1, seq)
    report = world.verify()
    top = world.site.spools[1].next_seq() - 1
    assert (Kind.MISSING, seqs[-2], top) in named(report)
    assert "stored once" in details(report)
    # And if its books are cut too, the end of the period is open.
    spoiler.run(
        "UPDATE coverage SET last = ? WHERE boot_no = ?",
        seqs[-2] - 1,
        spoiler.boot_no(1),
    )
    later = world.period.to_ms + GRACE_MS
    report = world.verify(period=Period(world.period.from_ms, later), now_ms=later)
    assert Kind.OPEN in kinds(report)


def test_a_whole_boot_is_deleted(world, spoiler):
    for seq in range(1, world.site.spools[0].next_seq()):
        spoiler.delete(0, seq)
    report = world.verify()
    first, digest = spoiler.digest(1, 0)
    assert digest.of == spoiler.boots[0]
    assert (Kind.CHAIN, first, first) in named(report)
    assert (Kind.MISSING, digest.first, digest.last) in named(report)


def test_a_revoked_certificate(world):
    """Before, after, and in between: what came after it counts no more."""
    at_ms = world.site.clock.wall_ms()
    files = world.site.files
    crl = world.authority.revoke(files, at_ms + 10_000)
    assert world.verify(crl=crl).findings == []
    crl = world.authority.revoke(files, at_ms - 200_000)
    report = world.verify(crl=crl)
    assert kinds(report) == {Kind.FORGED, Kind.UNPROVEN, Kind.OPEN}
    assert "revoked by then" in details(report)
    assert "yet it came only after" in details(report)
    world.authority._revoked.clear()


def test_a_list_of_another_ca_is_refused(world, tmp_path):
    stranger = SiteAuthority(tmp_path / "strange")
    crl = stranger.revoke(stranger.issue(SITE))
    with pytest.raises(ConfigError, match="not signed by the CA given"):
        world.verify(crl=crl)


def test_the_right_database_and_the_wrong_ca(world, tmp_path):
    report = world.verify(ca=SiteAuthority(tmp_path / "strange").ca)
    assert report.proven == 0
    assert "was not issued by the CA given" in details(report)


def test_a_site_that_never_sent(world):
    question = Question(REGION, OTHER, world.period, world.now_ms)
    with pytest.raises(StoreError, match="nothing of a site"):
        verify(world.database, question, Authority(world.authority.ca))


def test_nothing_is_written(world):
    before = world.database.read_bytes()
    world.verify()
    assert world.database.read_bytes() == before
    assert not list(world.database.parent.glob("*-journal"))


# What is said


def test_the_verdict_comes_first(world, spoiler):
    lines = as_text(world.verify(), SITE, ZONE).splitlines()
    assert lines[0].startswith(f"PROVEN: {SITE}, ")
    assert (
        f"{len(world.site.records())} of {len(world.site.records())} records"
        in (lines[1])
    )
    assert len(lines) == 2
    spoiler.run(
        "UPDATE sample SET lost = 5 WHERE boot_no = ? AND seq = 6", spoiler.boot_no(0)
    )
    report = world.verify()
    lines = as_text(report, SITE, ZONE).splitlines()
    assert lines[0].startswith(f"NOT PROVEN: {SITE}, ")
    assert lines[0].endswith("1 thing does not hold")
    (line,) = lines[2:]
    assert line.startswith(f"altered   {spoiler.boots[0].hex()}/6 20")
    assert "sample indosat lost is 5, sent was 0" in line
    answer = json.loads(as_json(report, SITE, ZONE))
    assert answer["proven"] is False
    assert answer["findings_by_kind"] == {"altered": 1}
    assert answer["findings"][0]["boot"] == spoiler.boots[0].hex()


def test_periods():
    assert period(1, 2) == Period(1, 2)
    for begin, end in ((2, 1), (1, 1), (0, 10**12)):
        with pytest.raises(ConfigError):
            period(begin, end)


# Without Jaga

DOCUMENT = Path(__file__).parents[2] / "docs" / "evidence.md"


def commands():
    """The document's second shell block, as it stands there."""
    return re.findall(
        r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )[1]


@pytest.fixture
def exported(world, tmp_path):
    folder = tmp_path / "evidence"
    question = Question(REGION, SITE, world.period, world.now_ms)
    verify(world.database, question, Authority(world.authority.ca), folder=folder)
    return folder


def run_document(world, folder):
    text = commands().replace("tps-6408052001-901", SITE)
    text = text.replace("/etc/jaga/ca.crt", str(world.authority.ca))
    assert text.count(SITE) == text.count(str(world.authority.ca)) == 1
    return subprocess.run(
        ["sh", "-c", text],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.slow
def test_openssl_alone_proves_what_is_exported(world, exported):
    done = run_document(world, exported)
    assert (done.returncode, done.stderr) == (0, "")
    *begins, last = done.stdout.splitlines()
    assert last == "all digests hold"
    assert len(begins) == 1
    assert begins[0].endswith("begins here")
    assert len(list((exported / "records").iterdir())) == len(world.site.records())


@pytest.mark.slow
def test_openssl_alone_finds_an_altered_record(world, exported):
    beat = sorted((exported / "records").glob("*.heartbeat"))[3]
    beat.write_bytes(flip(beat.read_bytes(), -5 % beat.stat().st_size))
    done = run_document(world, exported)
    assert done.returncode != 0
    assert "root differs" in done.stdout


@pytest.mark.slow
def test_openssl_alone_finds_an_altered_digest(world, exported):
    digest = sorted((exported / "records").glob("*.digest"))[1]
    digest.write_bytes(flip(digest.read_bytes(), 30))
    assert run_document(world, exported).returncode != 0


@pytest.mark.slow
def test_openssl_alone_finds_another_site(world, exported):
    done = run_document(world, exported)
    assert done.returncode == 0
    for certificate in (exported / "digests").glob("*.crt"):
        other = world.authority.issue(OTHER)
        certificate.write_bytes(other.certificate.read_bytes())
    assert run_document(world, exported).returncode != 0


def test_an_export_is_not_written_over(world, exported):
    question = Question(REGION, SITE, world.period, world.now_ms)
    with pytest.raises(ExportError, match="has an export in it already"):
        verify(world.database, question, Authority(world.authority.ca), folder=exported)
