import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaga_agent.adapters.fakes import MemorySpool
from jaga_agent.adapters.spool import SqliteSpool
from jaga_agent.errors import SpoolError

BOOT_A = "11111111-1111-4111-8111-111111111111"
BOOT_B = "22222222-2222-4222-8222-222222222222"


def sqlite_spool(path, *, max_records=1000, **rest):
    return SqliteSpool(
        path / "spool.db", **{"boot_id": BOOT_A, "max_records": max_records, **rest}
    )


@pytest.fixture(params=["sqlite", "memory"])
def make(request, tmp_path):
    opened = []

    def open_one(**options):
        if request.param == "memory":
            return MemorySpool(**options)
        opened.append(sqlite_spool(tmp_path, **options))
        return opened[-1]

    yield open_one
    for spool in opened:
        spool.close()


def fill(spool, *leaves):
    return [
        spool.append(spool.next_seq(), leaf, f"{leaf}{n}".encode())
        for n, leaf in enumerate(leaves)
    ]


def seqs(spool):
    return [record.seq for record in spool.pending(10_000)]


# ---- the contract, on both


def test_keeps_in_order_until_acknowledged(make):
    spool = make()
    kept = fill(spool, "heartbeat", "event", "heartbeat")
    assert len(spool.boot) == 8
    assert list(spool.pending(10)) == kept
    spool.acknowledge(kept[1].token)
    spool.acknowledge(kept[1].token)
    assert list(spool.pending(10)) == [kept[0], kept[2]]
    assert list(spool.pending(1)) == kept[:1]
    assert list(spool.pending(10, after=kept[0].token)) == kept[2:]
    assert spool.depth() == 2
    assert [r.payload for r in kept] == [b"heartbeat0", b"event1", b"heartbeat2"]


def test_seq_goes_on_when_all_is_acknowledged(make):
    spool = make()
    for record in fill(spool, "heartbeat", "event"):
        spool.acknowledge(record.token)
    assert spool.depth() == 0
    assert spool.next_seq() == 3


def test_a_wrong_seq_is_refused(make):
    spool = make()
    fill(spool, "event")
    with pytest.raises(SpoolError, match="expects seq 2, not 1"):
        spool.append(1, "event", b"")
    assert spool.depth() == 1


def test_connections_are_counted(make):
    spool = make()
    assert [spool.next_connection() for _ in range(3)] == [1, 2, 3]


def test_heartbeats_go_before_events_when_full(make):
    spool = make(max_records=4)
    fill(spool, "event", "heartbeat", "event", "heartbeat")
    fill(spool, "event")
    assert seqs(spool) == [1, 3, 4, 5]
    fill(spool, "event")
    assert seqs(spool) == [1, 3, 5, 6]
    fill(spool, "heartbeat")
    assert seqs(spool) == [3, 5, 6, 7]
    assert (spool.depth(), spool.dropped) == (4, 3)


# ---- SQLite alone


def test_a_restart_of_the_agent_goes_on(tmp_path):
    first = sqlite_spool(tmp_path)
    kept = fill(first, "heartbeat", "event")
    first.acknowledge(kept[1].token)
    first.next_connection()
    first.close()
    again = sqlite_spool(tmp_path)
    assert again.boot == first.boot
    assert list(again.pending(10)) == kept[:1]
    assert again.next_seq() == 3
    assert again.next_connection() == 2
    (more,) = fill(again, "event")
    assert more.token > kept[1].token
    again.close()


def test_a_new_boot_counts_anew_and_keeps_the_old_records(tmp_path):
    first = sqlite_spool(tmp_path)
    old = fill(first, "heartbeat", "event")
    first.next_connection()
    first.close()
    second = sqlite_spool(tmp_path, boot_id=BOOT_B)
    assert second.boot != first.boot
    assert second.next_connection() == 1
    new = fill(second, "event")
    assert [r.seq for r in new] == [1]
    assert list(second.pending(10)) == [*old, *new]
    assert len({r.token for r in [*old, *new]}) == 3
    second.acknowledge(new[0].token)
    assert list(second.pending(10)) == old
    second.close()


def test_another_spool_of_the_same_boot_has_another_name(tmp_path):
    one, two = sqlite_spool(tmp_path / "one"), sqlite_spool(tmp_path / "two")
    assert one.boot != two.boot
    one.close()
    two.close()


def test_payload_bytes_are_bounded(tmp_path):
    spool = sqlite_spool(tmp_path, max_bytes=1000)
    for n in range(30):
        spool.append(spool.next_seq(), "event" if n % 3 else "heartbeat", bytes(100))
    kept = spool.pending(100)
    assert sum(len(r.payload) for r in kept) <= 1000
    assert spool.depth() == len(kept) == 10
    assert spool.dropped == 20
    assert kept[-1].seq == 30
    spool.close()
    again = sqlite_spool(tmp_path, max_bytes=1000)
    assert (again.depth(), again.dropped) == (10, 20)
    again.close()


def test_a_newer_version_is_one_clear_line(tmp_path):
    sqlite_spool(tmp_path).close()
    db = sqlite3.connect(tmp_path / "spool.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SpoolError, match=r"is of version 99.*install the newer") as e:
        sqlite_spool(tmp_path)
    assert "\n" not in str(e.value)
    assert (tmp_path / "spool.db").exists()


def scribble(path):
    path.write_bytes(b"SD cards do this" * 512)


def scribble_over_the_middle(path):
    content = bytearray(path.read_bytes())
    content[1024 : len(content)] = os.urandom(len(content) - 1024)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [scribble, scribble_over_the_middle])
def test_a_damaged_file_is_set_aside(tmp_path, caplog, damage):
    spool = sqlite_spool(tmp_path)
    fill(spool, *["event"] * 300)
    old_boot = spool.boot
    spool.close()
    path = tmp_path / "spool.db"
    for n in (1, 2):
        damage(path)
        caplog.clear()
        spool = sqlite_spool(tmp_path)
        assert caplog.text.count("was damaged") == 1
        assert (tmp_path / f"spool.db.corrupt-{n}").exists()
        assert spool.boot != old_boot
        assert spool.next_seq() == 1
        fill(spool, *["event"] * 300)
        spool.close()


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot prepare the spool") as e:
        sqlite_spool(tmp_path / "file" / "state")
    assert "\n" not in str(e.value)
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(SpoolError, match="cannot open the spool"):
        sqlite_spool(tmp_path)


def test_the_log_is_moved_into_the_file_meanwhile(tmp_path):
    spool = sqlite_spool(tmp_path, max_records=10)
    log, file = tmp_path / "spool.db-wal", tmp_path / "spool.db"
    pause = threading.Event()
    for _ in range(10):
        before = file.stat().st_mtime_ns
        for _ in range(200):
            spool.append(spool.next_seq(), "heartbeat", bytes(150))
        while file.stat().st_mtime_ns == before:
            pause.wait(0.005)
        pause.wait(0.02)
    # 2000 commits are some 9 MB of log, were it never begun anew.
    assert log.stat().st_size < 4_000_000
    spool.close()
    assert not log.exists()


CHILD = """
import sys
from pathlib import Path
from jaga_agent.adapters.spool import SqliteSpool
spool = SqliteSpool(Path(sys.argv[1]) / "spool.db")
while True:
    seq = spool.next_seq()
    record = spool.append(seq, "event" if seq % 5 == 0 else "heartbeat", b"%d" % seq)
    print("kept", seq, record.token, flush=True)
    if seq % 3 == 0:
        spool.acknowledge(record.token)
        print("gone", seq, record.token, flush=True)
"""


def run_and_kill(directory, records):
    """Let a child write, SIGKILL it in mid-loop, return what it said it had done."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, directory], stdout=subprocess.PIPE, text=True
    )
    lines = list(itertools.islice(child.stdout, records))
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    return [line.split() for line in lines]


def test_nothing_is_lost_or_reused_when_killed(tmp_path):
    kept, gone = {}, set()
    for round_ in range(4):
        for verb, seq, token in run_and_kill(tmp_path, 150 + 77 * round_):
            if verb == "kept":
                assert int(seq) not in kept, "a seq was used twice"
                assert int(token) not in kept.values(), "a token was used twice"
                kept[int(seq)] = int(token)
            else:
                gone.add(int(seq))
    spool = SqliteSpool(tmp_path / "spool.db")
    left = {r.seq: r.token for r in spool.pending(100_000)}
    must = set(kept) - gone
    # What was done but not yet said when the kill came may differ: at most one record
    # of each round.
    assert len(must - set(left)) <= 4
    assert all(seq % 3 == 0 for seq in must - set(left)), (
        "an unacknowledged one is gone"
    )
    assert not gone & set(left)
    assert len(set(left) - must) <= 4
    assert spool.next_seq() > max([*kept, *left])
    # Every number was used: said, or kept although the kill came before it was said.
    silent = set(range(1, spool.next_seq())) - set(kept) - set(left)
    assert all(seq % 3 == 0 for seq in silent)
    assert len(silent) <= 4
    assert all(r.payload == b"%d" % r.seq for r in spool.pending(100_000))
    spool.close()


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["heartbeat", "event", "reopen", "reboot"]),
        st.integers(0, 30).map(lambda n: ("ack", n)),
    ),
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_course_keeps_what_is_not_acknowledged(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("spool")
    boots = itertools.count()
    boot = str(next(boots))
    spool = sqlite_spool(path, boot_id=boot)
    want, tokens, seq = {}, set(), 0
    for step in steps:
        match step:
            case "reopen" | "reboot":
                spool.close()
                if step == "reboot":
                    boot, seq = str(next(boots)), 0
                spool = sqlite_spool(path, boot_id=boot)
            case ("ack", n):
                token = (sorted(want) or [0])[n % max(len(want), 1)]
                want.pop(token, None)
                spool.acknowledge(token)
            case leaf:
                seq += 1
                record = spool.append(spool.next_seq(), leaf, boot.encode())
                assert record.seq == seq
                assert record.token not in tokens
                tokens.add(record.token)
                want[record.token] = record
        assert list(spool.pending(1000)) == list(want.values())
        assert spool.depth() == len(want)
    spool.close()
