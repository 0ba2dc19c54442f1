"""The database: opened strictly, written whole or not at all."""

import sqlite3

import pytest

from jaga_server.core.district import Moment
from jaga_server.core.model import Condition, Presence, Thresholds
from jaga_server.errors import StoreError
from jaga_server.ingest import batch
from jaga_server.ingest.received import Received
from jaga_server.store.opening import migrations
from jaga_server.store.reader import Reader
from jaga_server.store.sqlite import DEAD_LETTERS, Store, UnstorableError

SITE = "tps-6408012001-001"
T0 = 1_790_000_000_000


@pytest.fixture
def reader(store):
    reader = Reader(store.path)
    yield reader
    reader.close()


def write(store, *messages, known=None, arrival_ms=T0):
    from jaga_agent.wire.messages import encode

    return batch.write(
        [Received(topic, encode(m), arrival_ms, False, None) for topic, m in messages],
        store,
        known=known or {},
        listed={SITE},
        moment=Moment(arrival_ms, 0),
        thresholds=Thresholds(),
    )


def test_migrations_are_numbered_without_a_hole():
    assert [n for n, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_newer_database_is_left_alone(tmp_path):
    path = tmp_path / "c.db"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for opening in (Store, Reader):
        with pytest.raises(StoreError, match="99"):
            opening(path)


def test_files_that_are_no_database_of_ours(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at as one\n" * 40)
    with pytest.raises(StoreError, match="not a database"):
        Store(text)
    foreign = tmp_path / "foreign.db"
    db = sqlite3.connect(foreign)
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(StoreError, match="not a collector's database"):
        Store(foreign)
    with pytest.raises(StoreError, match="no such file"):
        Reader(tmp_path / "none.db")


def test_a_record_is_stored_once_for_ever(store, reader, simulate):
    site = simulate(SITE)
    pair = (site.topic("heartbeat"), site.heartbeat(t_ms=T0 - 100))
    event = (site.topic("event"), site.event())
    assert write(store, pair, pair, event).duplicate == 1
    assert write(store, pair, event).duplicate == 2
    other = simulate("tps-6408012001-002", boot=site.boot)
    assert write(store, (other.topic("heartbeat"), pair[1])).duplicate == 0
    assert reader.tally(SITE, site.boot).heartbeats == 1
    assert len(reader.events(10)) == 1


def test_holes_are_counted(store, reader, simulate):
    site = simulate(SITE)
    beats = [(site.topic("heartbeat"), site.heartbeat()) for _ in range(10)]
    write(store, *(beats[n] for n in (0, 1, 4, 9)))
    assert reader.tally(SITE, site.boot).missing == 6
    write(store, *beats[2:4])
    assert reader.tally(SITE, site.boot).missing == 4


def test_a_batch_is_stored_whole_or_not_at_all(store, reader, simulate, monkeypatch):
    site = simulate(SITE)
    good = (site.topic("heartbeat"), site.heartbeat())
    write(store, good)
    failing = (site.topic("heartbeat"), site.heartbeat())

    def full(*_):
        message = "database or disk is full"
        raise sqlite3.OperationalError(message)

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_states", full)
        with pytest.raises(StoreError, match="disk is full"):
            write(store, failing)
    assert reader.tally(SITE, site.boot).heartbeats == 1
    assert write(store, failing).duplicate == 0


def test_what_no_retry_mends_is_told_apart(store):
    with pytest.raises(UnstorableError), store.transaction():
        store.save_hearing(2**63, None)
    with pytest.raises(UnstorableError), store.transaction():
        store.bury(T0, "topic", None, b"")


def test_dead_letters_are_bounded(store):
    with store.transaction():
        for n in range(DEAD_LETTERS + 50):
            store.bury(T0 + n, "topic", "malformed", b"x" * 10_000)
    db = sqlite3.connect(store.path)
    count, oldest, longest = db.execute(
        "SELECT count(*), min(arrival_ms), max(length(payload)) FROM dead_letter"
    ).fetchone()
    db.close()
    assert (count, oldest, longest) == (DEAD_LETTERS, T0 + 50, 4096)


def test_a_boot_is_dated_once_its_clock_is_confirmed(store, reader, simulate):
    site = simulate(SITE, started_ms=T0 - 100_000)
    for second, age in ((10, -1), (20, 3), (30, -1)):
        told = site.heartbeat(t_ms=T0 - 100_000 + second * 1000, clock_age_s=age)
        if age < 0:
            told = type(told)(**{f: getattr(told, f) for f in told.__struct_fields__} | {"wall_ms": 777})  # fmt: skip
        write(store, (site.topic("heartbeat"), told))
    times = [s.t_ms - T0 for s in reader.samples(SITE, T0 - 200_000, T0)["telkomsel"]]
    assert times == [-90_000, -80_000, -70_000]


def test_what_was_known_is_known_after_a_restart(store, simulate):
    site = simulate(SITE)
    known = write(
        store,
        (site.topic("status"), site.status()),
        (site.topic("heartbeat"), site.heartbeat(t_ms=T0 - 50)),
    ).states
    again = Store(store.path)
    memory = again.remember()
    again.close()
    assert memory.states == known
    assert known[SITE].presence is Presence.ONLINE
    assert known[SITE].condition is Condition.FINE
    assert memory.last_message_ms == T0


def test_a_state_that_cannot_be_read_costs_only_the_shortcut(store, simulate):
    site = simulate(SITE)
    write(store, (site.topic("heartbeat"), site.heartbeat()))
    with store.transaction():
        store._db.execute("UPDATE site_state SET state = x'c1'")
    assert store.remember().states == {}


def test_samples_of_one_site_in_a_window(store, reader, simulate):
    site, other = simulate(SITE), simulate("kpu-kutim")
    minute = 60_000
    for at_ms in (0, 30_000, minute, 3 * minute, 61 * minute):
        for one in (site, other):
            told = one.heartbeat(t_ms=T0 + at_ms)
            write(store, (one.topic("heartbeat"), told), arrival_ms=T0 + at_ms)
    got = reader.samples(SITE, T0 + 30_000, T0 + 60 * minute)
    assert set(got) == {"telkomsel", "indosat"}
    assert [s.t_ms - T0 for s in got["telkomsel"]] == [30_000, minute, 3 * minute]
    assert [s.active for s in got["indosat"]] == [False] * 3
