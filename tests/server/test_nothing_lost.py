"""What broker, disk and operator may do to a collector, and nothing is lost in the end.

Real Mosquitto, real processes, real SQLite. Where the words say so, the site sends again
what its watermark does not cover; where they do not, nothing has to be sent again.
"""

import random
import shutil
import signal
import sqlite3
import subprocess
import threading

import psutil
import pytest

from jaga_agent.wire.messages import encode
from support.spooled_site import SpooledSite

pytestmark = pytest.mark.slow

SITE = "tps-6408012001-001"
QUIET = "tps-6408012001-002"


@pytest.fixture
def spooled():
    made = []

    def make(port, site=SITE):
        made.append(SpooledSite(site, port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def published(handles, within_s=20):
    for handle in handles:
        handle.wait_for_publish(within_s)
        assert handle.is_published()


def payloads(room):
    """Return (boot, seq) → payload of all that is stored, one row each."""
    db = sqlite3.connect(f"file:{room.database}?mode=ro", uri=True)
    try:
        rows = db.execute(
            "SELECT boot, seq, payload FROM payload JOIN boot USING (boot_no)"
        ).fetchall()
        (records,) = db.execute("SELECT count(*) FROM record").fetchone()
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
    found = {(boot, seq): payload for boot, seq, payload in rows}
    assert len(found) == len(rows) == records
    return found


def recorded(*sites):
    return {key: payload for one in sites for key, (_, payload) in one.records.items()}


def stored_without_resending(room, site, wait_until, within_s=40):
    """Wait for the database, not for the watermark: that takes a minute if none waits."""
    wait_until(
        lambda: (
            not room.metrics()["jaga_in_flight"]
            and len(room.records()) >= len(site.records)
        ),
        "all stored, nothing sent again",
        within_s,
    )


class Stream:
    """A site that records all the time, on a thread."""

    def __init__(self, site, every_s=0.01):
        self._site, self._every_s = site, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self._every_s):
            self._site.record(2)

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kills", [5, pytest.param(200, marks=pytest.mark.torture, id="torture")]
)
def test_a_collector_killed_at_random_moments(broker, room, spooled, wait_until, kills):
    dice = random.Random(f"{kills} kills")  # noqa: S311 (it guards nothing)
    site = spooled(broker.port)
    stream = Stream(site)
    for _ in range(kills):
        wait_until(lambda: room.process.poll() is None, "it runs")
        threading.Event().wait(dice.uniform(0, 1.2))
        room.stop(signal.SIGKILL)
        room.start(ready=dice.random() < 0.5)
    stream.stop()
    wait_until(lambda: room.process.poll() is None and room._answers(), "it answers")
    # Mosquitto 2.0.11 hands a backlog that it delivered many times over at some 600 /s.
    stored_without_resending(room, site, wait_until, 40 + 3 * kills)
    assert payloads(room) == recorded(site)
    (boot,) = room.get(f"/api/1/sites/{SITE}/boots")["boots"]
    assert (boot["through"], boot["records"], boot["missing"]) == (
        *[len(site.records)] * 2,
        0,
    )
    assert site.stale == 0
    assert "Traceback" not in room.log.read_text()


@pytest.mark.parametrize(
    ("how", "wiped"),
    [(signal.SIGTERM, False), (signal.SIGKILL, False), (signal.SIGKILL, True)],
    ids=["saved", "killed", "killed, and its disk is lost"],
)
def test_a_broker_that_ends_amid_a_stream(
    broker, room, spooled, wait_until, how, wiped
):
    site, quiet = spooled(broker.port), spooled(broker.port, QUIET)
    published(quiet.record(3))
    wait_until(lambda: quiet.marks, "the quiet site is told")
    stream = Stream(site)
    wait_until(lambda: len(site.records) > 200, "it streams")
    broker.stop(how)
    if wiped:
        (broker.directory / "mosquitto.db").unlink(missing_ok=True)
    told = len(quiet.marks)
    broker.start()
    wait_until(lambda: room.connected() and site.connected, "both are back", 40)
    if wiped:
        # It said nothing since; its watermark was gone with the broker's disk.
        wait_until(lambda: len(quiet.marks) > told, "the quiet site is told again")
        assert quiet.marks[-1].boots == quiet.marks[told - 1].boots
    stream.stop()
    site.settle()
    assert payloads(room) == recorded(site, quiet)
    assert site.stale == 0


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_broker_killed_at_random_moments(broker, room, spooled, wait_until):
    dice = random.Random("the broker")  # noqa: S311 (it guards nothing)
    site = spooled(broker.port)
    stream = Stream(site, every_s=0.05)
    for _ in range(200):
        wait_until(lambda: room.connected() and site.connected, "both are here", 60)
        threading.Event().wait(dice.uniform(0, 1))
        broker.stop(signal.SIGKILL)
        if dice.random() < 0.5:
            (broker.directory / "mosquitto.db").unlink(missing_ok=True)
        broker.start()
    stream.stop()
    site.settle(120)
    assert payloads(room) == recorded(site)
    assert site.stale == 0


def test_a_broker_whose_queue_overflows(make_broker, collector, spooled, wait_until):
    broker = make_broker("max_queued_messages 20\n")
    broker.start()
    room = collector(broker.port)
    room.start()
    room.wait_connected()
    site = spooled(broker.port)
    published(site.record(10))
    wait_until(lambda: site.marks and not site.pending(), "covered", 20)
    assert room.stop() == 0
    # Acknowledged, every one; and most of them dropped.
    published(site.record(300))
    room.start()
    room.wait_connected()
    published(site.record(1))
    wait_until(lambda: any(m.gaps for m in site.marks[-1].boots), "the gap shows")
    (mark,) = site.marks[-1].boots
    assert mark.highest == 311
    assert room.metrics()["jaga_gaps_open"] >= 1
    (boot,) = room.get(f"/api/1/sites/{SITE}/boots")["boots"]
    assert boot["missing"] == sum(b - a + 1 for a, b in mark.gaps) > 200
    assert [tuple(gap) for gap in boot["gaps"]] == list(mark.gaps)
    done = subprocess.run(
        room.command("gaps"), capture_output=True, text=True, check=True
    )
    _, line = done.stdout.splitlines()
    assert line.split()[0] == SITE
    assert line.split()[-1] == " ".join(f"{a}-{b}" for a, b in mark.gaps)
    assert site.settle() >= boot["missing"]
    assert payloads(room) == recorded(site)
    (boot,) = room.get(f"/api/1/sites/{SITE}/boots")["boots"]
    assert (boot["missing"], boot["gaps"], boot["through"]) == (0, [], 311)
    wait_until(lambda: room.metrics()["jaga_gaps_open"] == 0, "counted as closed")
    assert sum(v for k, v in room.metrics().items() if "history_items" in k) >= 200
    assert (
        "nothing is missing"
        in subprocess.run(
            room.command("gaps", "--site", SITE),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_acknowledgements_that_come_late(make_broker, collector, spooled, wait_until):
    broker = make_broker("autosave_interval 3600\n")
    broker.start()
    room = collector(broker.port)
    room.start()
    room.wait_connected()
    site = spooled(broker.port)
    lock = sqlite3.connect(room.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        published(site.record(40))
        wait_until(lambda: room.metrics()["jaga_in_flight"] == 40, "in its hands")
        # The broker forgets the session and counts its packets from 1 again.
        broker.stop(signal.SIGKILL)
        broker.start()
        wait_until(lambda: site.connected, "the site is back", 20)
        wait_until(
            lambda: room.metrics()["jaga_connections_total"] == 2, "and the room", 40
        )
        published(site.record(40))
        wait_until(lambda: room.metrics()["jaga_in_flight"] == 80, "both", 20)
    finally:
        lock.execute("COMMIT")
        lock.close()
    stored_without_resending(room, site, wait_until)
    assert payloads(room) == recorded(site)
    assert room.metrics()["jaga_late_acknowledgements_total"] == 40


def test_a_database_that_another_process_locks(broker, room, spooled, wait_until):
    site = spooled(broker.port)
    published(site.record(20))
    wait_until(lambda: not site.pending(), "covered")
    lock = sqlite3.connect(room.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        published(site.record(200))
        wait_until(
            lambda: room.metrics()["jaga_store_retries_total"], "it was refused", 30
        )
        assert len(site.pending()) == 200
        assert room.metrics()["jaga_in_flight"] == 200
    finally:
        lock.execute("COMMIT")
        lock.close()
    stored_without_resending(room, site, wait_until)
    assert payloads(room) == recorded(site)
    text = room.log.read_text()
    assert text.count("batch not stored") == 1
    assert "database writes again" in text


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "jaga-test", place], check=True
    )
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.netns  # root, for mount
def test_a_full_disk_that_is_freed(broker, collector, small_disk, spooled, wait_until):
    room = collector(broker.port)
    text = room.config.read_text()
    room.database = small_disk / "collector.db"
    room.config.write_text(text.replace('"collector.db"', f'"{room.database}"'))
    room.start()
    room.wait_connected()
    site = spooled(broker.port)
    published(site.record(50))
    wait_until(lambda: not site.pending(), "covered")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(8 * 2**20))
    stream = Stream(site)
    wait_until(lambda: room.metrics()["jaga_store_retries_total"] >= 2, "refused", 30)
    stream.stop()
    assert site.pending()
    # Killed while the disk is full: it starts, and still takes nothing it cannot keep.
    room.stop(signal.SIGKILL)
    room.start(ready=False)
    wait_until(lambda: room.log.read_text().count("full") >= 2, "it says so again", 30)
    assert site.pending()
    filler.unlink()
    if room.process.poll() is not None:
        room.start()
    wait_until(lambda: not site.pending(), "all covered, nothing sent again", 60)
    assert payloads(room) == recorded(site)
    room.stop()


def test_a_database_set_back_to_a_backup(broker, room, spooled, wait_until, tmp_path):
    site = spooled(broker.port)
    published(site.record(60))
    wait_until(lambda: not site.pending(), "covered")
    room.stop()
    backup = shutil.copy(room.database, tmp_path / "backup.db")
    room.start()
    # In the hour that will be lost it goes on, boots, and boots again.
    published(site.record(60))
    for _ in range(2):
        site.reboot()
        published(site.record(30))
    wait_until(lambda: not site.pending(), "covered", 20)
    before = site.marks[-1]
    room.stop()
    shutil.copy(backup, room.database)
    room.start()
    wait_until(lambda: site.marks[-1] is not before, "it is told")
    after = site.marks[-1]
    assert after.store == before.store
    assert after.revision > before.revision
    assert [(mark.through, mark.highest) for mark in after.boots] == [(60, 60)]
    assert len(site.pending()) == 120
    site.settle()
    assert payloads(room) == recorded(site)


def test_a_flood_before_a_stuck_database_costs_no_memory(
    broker, room, publisher, simulate, wait_until
):
    site = simulate(SITE)
    lock = sqlite3.connect(room.database, isolation_level=None)
    process = psutil.Process(room.process.pid)
    before = process.memory_info().rss
    lock.execute("BEGIN IMMEDIATE")
    try:
        link = publisher(broker.port)
        link.all(
            [(site.topic("heartbeat"), encode(site.heartbeat())) for _ in range(6000)]
        )
        wait_until(lambda: room.metrics()["jaga_in_flight"] >= 1000, "the window", 30)
        # The broker keeps the rest: no more than the receive maximum is ever here.
        assert room.metrics()["jaga_received_total"] == 1000
        assert process.memory_info().rss - before < 30 * 2**20
    finally:
        lock.execute("COMMIT")
        lock.close()
    wait_until(
        lambda: room.metrics().get('jaga_stored_total{leaf="heartbeat"}') == site.seq,
        "all stored",
        40,
    )


def test_what_is_live_never_waits_behind_history(
    broker, room, publisher, simulate, wait_until
):
    past, live = simulate(SITE), simulate(QUIET)
    link = publisher(broker.port)
    start_ms = past.started_ms - 20 * 86_400_000
    histories = [
        past.history(
            [past.heartbeat(t_ms=start_ms + past.seq * 10_000) for _ in range(400)]
        )
        for _ in range(60)
    ]
    link.all([(past.topic("history"), history) for history in histories])
    link.all([(live.topic("heartbeat"), live.heartbeat())])
    wait_until(
        lambda: room.get(f"/api/1/sites/{QUIET}")["site"]["presence"] == "online",
        "the live heartbeat shows",
        2,
    )
    # It did not wait for them, and they come all the same.
    items = 'jaga_history_items_total{leaf="heartbeat"}'
    assert room.metrics().get(items, 0) < 24_000
    wait_until(lambda: room.metrics().get(items) == 24_000, "all of the past", 40)
    (boot,) = room.get(f"/api/1/sites/{SITE}/boots")["boots"]
    assert (boot["through"], boot["missing"]) == (24_000, 0)


def test_histories_wait_in_a_bounded_queue():
    import queue

    from jaga_server.ingest.inbox import Inbox
    from jaga_server.ingest.received import Received

    inbox = Inbox(1_000_000)
    history = Received("t", b"x" * 50_000, 0, False, None)
    for _ in range(20):
        inbox.put_nowait(history)
    with pytest.raises(queue.Full):
        inbox.put_nowait(history)
    assert [inbox.get_nowait() for _ in range(20)] == [history] * 20
    live = Received("jaga/1/6408/tps-1/heartbeat", b"", 0, False, None)
    past = Received("jaga/1/6408/tps-1/history", b"", 0, False, None)
    for one in (past, past, live, past, live):
        inbox.put(one)
    assert [inbox.get_nowait() for _ in range(5)] == [live, live, past, past, past]
    with pytest.raises(queue.Empty):
        inbox.get_nowait()
