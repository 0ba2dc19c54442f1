"""A real agent with its site's certificate, killed, stopped, rebooted: `verify` proves it."""

import shutil
import signal
import sqlite3
import time

import pytest

from support.life import SITE, one_life

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def life():
    with one_life() as life:
        yield life


def test_killed_stopped_and_rebooted_it_is_all_proven(life):
    from_ms = time.time_ns() // 1_000_000 - 1000
    life.start()
    life.wait("heartbeat", 2)
    life.end(signal.SIGKILL)
    life.start()
    # What the killed run left, covered by the next one at its start.
    life.wait("digest", 1)
    life.wait("heartbeat", 4)
    life.end(signal.SIGTERM)
    life.reboot()
    life.start()
    # And by the stop's digest what came until then: it may have waited for this run.
    life.wait("digest", 2)
    life.wait("heartbeat", 5)
    life.end(signal.SIGTERM)
    life.start()
    life.wait("digest", 3)

    boots = life.rows("SELECT count(DISTINCT of_boot) FROM digest")
    assert boots == [(2,)]
    done = life.verify(from_ms)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"PROVEN: {SITE}, ")
    life.from_ms = from_ms


def test_one_row_altered_is_named(life):
    db = sqlite3.connect(life.collector.database, timeout=10)
    boot_no, seq, uplink = db.execute(
        "SELECT boot_no, seq, uplink FROM sample ORDER BY boot_no, seq LIMIT 1"
    ).fetchone()
    boot = db.execute("SELECT boot FROM boot WHERE boot_no = ?", (boot_no,)).fetchone()
    db.execute(
        "UPDATE sample SET sent = sent + 1 WHERE boot_no = ? AND seq = ? AND uplink = ?",
        (boot_no, seq, uplink),
    )
    db.commit()
    done = life.verify(life.from_ms)
    db.execute(
        "UPDATE sample SET sent = sent - 1 WHERE boot_no = ? AND seq = ? AND uplink = ?",
        (boot_no, seq, uplink),
    )
    db.commit()
    db.close()
    assert done.returncode == 1
    assert done.stdout.startswith(f"NOT PROVEN: {SITE}, ")
    assert f"altered   {boot[0].hex()}/{seq} " in done.stdout
    assert f"sample {uplink} sent is " in done.stdout


def test_a_damaged_spool_begins_a_new_chain(life):
    life.end(signal.SIGTERM)
    digests = life.stored("digest")
    shutil.rmtree(life.ram)
    for file in life.home.glob("spool.sqlite3*"):
        file.write_bytes(b"not a database, whatever it was")
    life.start()
    life.wait("heartbeat", life.stored("heartbeat") + 1)
    life.end(signal.SIGTERM)
    life.start()
    life.wait("digest", digests + 1)
    done = life.verify(life.from_ms)
    assert done.returncode == 1
    assert "began a new chain here" in done.stdout
    assert "forged" not in done.stdout
    assert "altered" not in done.stdout
