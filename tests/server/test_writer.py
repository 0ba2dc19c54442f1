"""The writer's thread with a real database that refuses, and with what never fits."""

import sqlite3

import pytest

from jaga_agent.wire.messages import encode
from jaga_server.core.model import Thresholds
from jaga_server.ingest.counters import Counters
from jaga_server.ingest.received import UNSTORABLE, Received, Token
from jaga_server.ingest.watermarks import Watermarks
from jaga_server.ingest.writer import Writer
from jaga_server.store.reader import Reader

SITE = "tps-6408012001-001"
T0 = 1_790_000_000_000


class Desk:
    """A writer, and what it acknowledges and publishes."""

    def __init__(self, store):
        self.counters = Counters()
        self.acknowledged = []
        self.updates = []
        self.commits = []
        self.told = []
        self.writer = Writer(
            store,
            listed={SITE},
            thresholds=Thresholds(),
            counters=self.counters,
            acknowledge=self.acknowledged.extend,
            publish=self.updates.append,
            commit_seconds=self.commits.append,
            watermarks=Watermarks(
                store, "6408", self.counters, lambda *told: self.told.append(told)
            ),
        )

    def put(self, topic, message):
        self.counters.received += 1
        token = Token(1, self.counters.received)
        self.writer.inbox.put(Received(topic, encode(message), T0, False, token))


@pytest.fixture
def desk(store):
    desk = Desk(store)
    yield desk
    if desk.writer.alive:
        desk.writer.stop(10)


def test_a_locked_database_is_asked_again_and_nothing_acknowledged(
    store, desk, simulate, wait_until, caplog
):
    site = simulate(SITE)
    store._db.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    desk.writer.start()
    for _ in range(3):
        desk.put(site.topic("heartbeat"), site.heartbeat())
    wait_until(lambda: desk.counters.retries >= 2, "it was refused and asks again")
    assert desk.acknowledged == []
    assert desk.counters.in_flight == 3
    other.execute("COMMIT")
    other.close()
    wait_until(lambda: len(desk.acknowledged) == 3, "all stored and acknowledged")
    assert desk.counters.stored["heartbeat"] == 3
    assert caplog.text.count("batch not stored") == 1
    assert "locked" in caplog.text
    assert desk.writer.stop(5)


def test_told_to_stop_while_the_database_refuses(store, desk, simulate, wait_until):
    site = simulate(SITE)
    store._db.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    desk.writer.start()
    desk.put(site.topic("heartbeat"), site.heartbeat())
    wait_until(lambda: desk.counters.retries, "refused")
    assert desk.writer.stop(0.2) is False
    assert not desk.writer.alive
    assert desk.acknowledged == []
    other.close()


def test_one_message_that_never_fits_harms_no_other(
    store, desk, simulate, wait_until, monkeypatch
):
    site = simulate(SITE)
    real = store.add

    def add(name, leaf, message, payload, arrival_ms):
        if message.seq == 2:
            store._db.execute("SELECT ?", (2**63,))
        return real(name, leaf, message, payload, arrival_ms)

    monkeypatch.setattr(store, "add", add)
    for _ in range(4):
        desk.put(site.topic("heartbeat"), site.heartbeat())
    desk.writer.start()
    wait_until(lambda: len(desk.acknowledged) == 4, "all acknowledged")
    assert desk.counters.stored["heartbeat"] == 3
    assert desk.counters.rejected == {UNSTORABLE: 1}
    reader = Reader(store.path)
    assert reader.tally(SITE, site.boot).missing == 1
    reader.close()


def test_nothing_is_acknowledged_before_its_commit(store, desk, simulate, wait_until):
    site = simulate(SITE)
    seen = []
    reader = Reader(store.path)

    def acknowledge(tokens):
        seen.append((len(tokens), reader.tally(SITE, site.boot).heartbeats))

    desk.writer._acknowledge = acknowledge
    desk.writer.start()
    for _ in range(20):
        desk.put(site.topic("heartbeat"), site.heartbeat())
    wait_until(lambda: sum(n for n, _ in seen) == 20, "all acknowledged")
    total = 0
    for count, stored in seen:
        total += count
        assert stored >= total
    reader.close()


def test_a_fault_of_ours_ends_the_writer_and_shows(
    store, desk, simulate, wait_until, monkeypatch
):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(store, "save_hearing", broken)
    site = simulate(SITE)
    desk.put(site.topic("heartbeat"), site.heartbeat())
    desk.writer.start()
    wait_until(lambda: not desk.writer.alive, "the writer has ended")
    assert isinstance(desk.writer.failure, ZeroDivisionError)
    assert desk.acknowledged == []
