"""The spool on its file: restarts, boots, versions, and a file that is full."""

import os
import sqlite3

import pytest

from jaga_agent.adapters.spool.writer import HOUR_S, HOURS_KEPT
from jaga_agent.errors import SpoolError
from jaga_agent.wire.evidence import BOOTS, BootMark, LostRange, Watermark
from support.spools import fill, mark, pending, seqs
from support.waiting import until

V1 = """
PRAGMA page_size = 1024;
PRAGMA journal_mode = WAL;
CREATE TABLE records (token INTEGER PRIMARY KEY, seq INTEGER NOT NULL,
    leaf TEXT NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), spool_id BLOB NOT NULL,
    boot BLOB NOT NULL, last_seq INTEGER NOT NULL, last_token INTEGER NOT NULL,
    last_connection INTEGER NOT NULL, dropped INTEGER NOT NULL) STRICT;
PRAGMA user_version = 1;
"""


def reopened(home, **options):
    home.opened.pop().close()
    return home.open(**options)


# ---- restarts


def test_a_restart_of_the_agent_goes_on(home):
    first = home.open()
    kept = fill(first, "heartbeat", "event", "digest")
    first.cover(mark(first.boot, 1, 3, (2, 2)))
    first.next_connection()
    again = reopened(home)
    assert again.boot == first.boot
    assert list(again.pending(10)) == [kept[1]]
    assert again.next_seq() == 4
    assert again.next_connection() == 2
    assert again.last_digest() == kept[2]
    (more,) = fill(again, "event")
    assert more.token > kept[2].token


def test_what_is_in_the_tail_alone_is_taken_over(home):
    first = home.open()
    kept = fill(first, *["heartbeat"] * 5)
    assert first.durable_up_to == 0
    home.kill()
    again = home.open()
    assert again.boot == first.boot
    assert list(again.pending(10)) == kept
    assert again.next_seq() == 6
    until(lambda: again.durable_up_to == kept[-1].token, "the tail is on the card")


def test_power_loss_takes_the_tail_alone(home):
    first = home.open()
    kept = fill(first, "heartbeat", "event")
    until(lambda: first.durable_up_to == kept[-1].token, "the event is on the card")
    fill(first, "heartbeat")
    home.kill()
    assert home.tail.stat().st_size > 68
    home.lose_power()
    second = home.open()
    assert second.boot != first.boot
    assert list(second.pending(10)) == kept
    assert second.next_seq() == second.next_connection() == 1
    (new,) = fill(second, "event")
    assert list(second.pending(10)) == [*kept, new]
    assert [n for n, _ in second.boots()] == [first.boot, second.boot]


def test_a_tail_that_outlived_the_boot_is_taken_over_too(home):
    first = home.open()
    kept = fill(first, *["heartbeat"] * 3)
    home.kill()
    home.kernel = "another boot"
    second = home.open()
    assert second.boot != first.boot
    assert list(second.pending(10)) == kept
    assert second.next_seq() == 1


def cut_the_front(tail):
    tail.write_bytes(tail.read_bytes()[9:])


def damage_the_middle(tail):
    content = bytearray(tail.read_bytes())
    content[-60] ^= 1
    tail.write_bytes(content)


@pytest.mark.parametrize(
    "harm", [lambda tail: tail.unlink(), cut_the_front, damage_the_middle]
)
def test_a_tail_that_cannot_vouch_for_the_numbers_ends_the_boot(home, harm):
    names, kept = set(), {}
    for n in range(3):
        spool = home.open()
        assert spool.next_seq() == 1
        assert spool.boot not in names
        names.add(spool.boot)
        records = fill(spool, "event", *["heartbeat"] * 3)
        kept.update({(r.boot, r.seq): r.token for r in records})
        until(lambda s=spool, r=records: s.durable_up_to >= r[0].token, "committed")
        home.kill()
        harm(home.tail)
        assert len(kept) == 4 * (n + 1)
    last = home.open()
    assert last.boot not in names
    assert len(set(kept.values())) == len(kept)
    assert all(kept[r.boot, r.seq] == r.token for r in last.pending(100))


def test_another_spool_of_the_same_boot_has_another_name(home, tmp_path):
    one = home.open()
    fill(one, "event")
    home.folder = tmp_path / "other"
    assert home.open().boot != one.boot


def test_connections_alone_are_not_forgotten(home):
    first = home.open()
    assert [first.next_connection() for _ in range(3)] == [1, 2, 3]
    home.kill()
    assert home.open().next_connection() == 4


def test_a_kind_that_is_none(home):
    with pytest.raises(SpoolError, match="no status"):
        home.open().append(1, "status", b"")


# ---- several boots and their marks


def test_marks_are_of_their_boot_and_survive_a_restart(home):
    boots = []
    for _ in range(3):
        spool = home.open()
        boots.append(spool.boot)
        fill(spool, "event", "event", "event")
        home.opened.pop().close()
        home.lose_power()
    spool = home.open()
    spool.cover(
        Watermark(b"store--1", 1, (BootMark(boots[0], 3, 3), BootMark(boots[2], 1, 1)))
    )
    want = [(boots[1], 1), (boots[1], 2), (boots[1], 3), (boots[2], 2), (boots[2], 3)]
    assert [(r.boot, r.seq) for r in spool.pending(10)] == want
    spool = reopened(home)
    assert [(r.boot, r.seq) for r in spool.pending(10)] == want
    # What a mark has no place for stays as it was, unless the mark went back.
    others = tuple(BootMark(b"other-%2d" % n, 1, 1) for n in range(BOOTS - 1))
    spool.cover(Watermark(b"store--1", 2, (BootMark(boots[1], 3, 3), *others)))
    assert [(r.boot, r.seq) for r in spool.pending(10)] == want[3:]
    spool.cover(mark(boots[1], 3, revision=1))
    assert spool.depth() == 6
    assert seqs(spool.select(boots[0], 1, 9)) == [1, 2, 3]


def test_what_the_collector_has_and_a_power_cut_took_is_not_lost(home):
    first = home.open()
    fill(first, "event", "event")
    home.opened.pop().close()
    home.lose_power()
    second = home.open()
    # Of 3…6 nothing was on the card: 3 and 5 arrived, 4 did not, 6 was sent last.
    second.cover(mark(first.boot, 3, 6, (4, 4)))
    assert list(second.lost()) == [LostRange(first.boot, 4, 4)]
    assert second.depth() == 0
    assert dict(second.boots())[first.boot] == 2
    second.cover(mark(first.boot, 6, 6, revision=2))
    assert not second.lost()


# ---- a file of an earlier or a later version


def test_version_1_is_taken_over(home, caplog):
    old, new = b"old-boot", b"new-boot"
    home.path.parent.mkdir(parents=True)
    db = sqlite3.connect(home.path, isolation_level=None)
    db.executescript(V1)

    def payload(boot, seq):
        return b"\x92\xc4\x08" + boot + bytes([seq])

    db.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?)",
        [
            (5, 5, "heartbeat", payload(old, 5)),
            (7, 7, "event", payload(old, 7)),
            (11, 1, "event", payload(new, 1)),
            (13, 3, "heartbeat", payload(new, 3)),
            (9, 42, "heartbeat", b"of nobody"),
        ],
    )
    db.execute("INSERT INTO state VALUES (1, ?, ?, 4, 14, 2, 3)", (b"i" * 16, new))
    db.close()
    for _ in range(2):
        spool = home.open()
        assert [(r.token, r.boot, r.seq, r.leaf) for r in spool.pending(10)] == [
            (5, old, 5, "heartbeat"),
            (7, old, 7, "event"),
            (11, new, 1, "event"),
            (13, new, 3, "heartbeat"),
        ]
        assert spool.pending(1)[0].payload == payload(old, 5)
        assert spool.boot not in {old, new}
        assert dict(spool.boots())[new] == 4
        assert spool.dropped == 3
        home.opened.pop().close()
    assert caplog.text.count("1 records of an earlier version name no boot") == 1


def test_a_newer_version_is_one_clear_line(home):
    home.open()
    home.opened.pop().close()
    db = sqlite3.connect(home.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SpoolError, match=r"is of version 99.*install the newer") as e:
        home.open()
    assert "\n" not in str(e.value)
    assert home.path.exists()


def test_a_directory_that_cannot_be_used_is_one_clear_line(home):
    home.folder.mkdir(exist_ok=True)
    (home.folder / "card").touch()
    with pytest.raises(SpoolError, match="cannot prepare the spool") as e:
        home.open()
    assert "\n" not in str(e.value)
    (home.folder / "card").unlink()
    home.path.mkdir(parents=True)
    with pytest.raises(SpoolError, match="cannot open the spool"):
        home.open()
    home.path.rmdir()
    home.tail.mkdir()
    with pytest.raises(SpoolError, match=r"cannot read the spool's tail.*run_dir"):
        home.open()


# ---- full


def write_many(spool, count, leaf_of=lambda _seq: "heartbeat", size=130):
    for n in range(count):
        seq = spool.next_seq()
        spool.append(seq, leaf_of(seq), os.urandom(size))
        if n % 1000 == 999:
            assert spool.flush(30)
    assert spool.flush(30)


def kinds(seq):
    """As a site does: an event at times, a histogram and a digest in five minutes."""
    return {0: "digest", 1: "histogram", 2: "event"}.get(seq % 32, "heartbeat")


def size_of(home):
    return sum(
        p.stat().st_size for p in home.path.parent.iterdir() if p.suffix != "-shm"
    )


def test_what_goes_first_when_full(home, caplog):
    spool = home.open(max_bytes=3_000_000)
    write_many(spool, 3000, kinds)
    first = spool.boot
    spool.cover(mark(first, 2000))
    assert spool.dropped == 0
    # Covered ones go first, of any kind, and nothing is lost by it.
    write_many(spool, 7000, kinds)
    assert spool.dropped == 0
    assert "full" not in caplog.text
    assert not spool.select(first, 1, 100)
    assert spool.depth() == 8000
    # Then heartbeats that the collector lacks.
    write_many(spool, 9000, kinds)
    assert caplog.text.count("spool is full") == 1
    left = spool.pending(100_000)
    assert spool.dropped == 17000 - len(left) == 17000 - spool.depth()
    others = [r.seq for r in left if r.leaf != "heartbeat"]
    assert others == [n for n in range(2001, 19001) if kinds(n) != "heartbeat"]
    beats = [r.seq for r in left if r.leaf == "heartbeat"]
    assert beats == [n for n in range(beats[0], 19001) if kinds(n) == "heartbeat"]
    # At most 64 ranges are told, the oldest.
    lost = spool.lost()
    assert len(lost) == 64
    assert (lost[0].first, lost[0].last) == (2001, 2015)
    assert size_of(home) < 3_000_000


def test_histograms_go_before_events_and_the_head_of_the_chain_never(home):
    spool = home.open(max_bytes=1_000_000)
    (head,) = fill(spool, "digest")
    write_many(spool, 2500, lambda seq: "histogram" if seq < 1000 else "event")
    left = spool.pending(100_000)
    # The file's half, as the log takes more than there is.
    assert {r.leaf for r in left} == {"digest", "histogram", "event"}
    write_many(spool, 3000, lambda _: "event")
    left = spool.pending(100_000)
    assert {r.leaf for r in left} == {"digest", "event"}
    assert spool.last_digest() == head == left[0]
    assert left[-1].seq == 5501
    assert reopened(home).last_digest() == head


@pytest.mark.slow
def test_holds_fourteen_polling_days(home):
    spool = home.open()
    write_many(spool, 14 * 8640 + 14 * 288 * 3, kinds, size=130)
    assert spool.dropped == 0
    assert spool.depth() == 14 * (8640 + 288 * 3)
    assert seqs(spool.pending(1)) == [1]
    assert size_of(home) < 32 * 1024 * 1024


def test_covered_records_go_after_seven_days_of_running(home):
    spool = home.open()
    for hour in range(HOURS_KEPT + 24):
        fill(spool, "heartbeat", "digest")
        assert spool.flush(10)
        home.now_s += HOUR_S + 1
        if hour == 19:
            spool.cover(mark(spool.boot, 30))
    last = 2 * (HOURS_KEPT + 24)
    assert pending(spool) == list(range(31, last + 1))
    old = seqs(spool.select(spool.boot, 1, 40))
    # Of the day before the seven, what the collector lacks is still there.
    assert old == list(range(31, 41))
    assert not spool.lost()
    assert spool.dropped == 0
    spool = reopened(home)
    assert pending(spool) == list(range(31, last + 1))


def test_boots_that_are_done_are_forgotten(home):
    first = home.open()
    fill(first, "event")
    home.opened.pop().close()
    home.lose_power()
    spool = home.open()
    spool.cover(mark(first.boot, 1))
    for _ in range(HOURS_KEPT + 2):
        fill(spool, "event")
        assert spool.flush(10)
        home.now_s += HOUR_S + 1
    both = (BootMark(spool.boot, 100, 100), BootMark(first.boot, 1, 1))
    spool.cover(Watermark(b"store--1", 2, both))
    fill(spool, "event")
    assert spool.flush(10)
    spool = reopened(home)
    assert [n for n, _ in spool.boots()] == [spool.boot]


# ---- the writes


def test_events_take_everything_before_them_to_the_card(home):
    spool = home.open()
    beats = fill(spool, *["heartbeat"] * 3)
    assert spool.durable_up_to == 0
    (event,) = fill(spool, "event")
    until(lambda: spool.durable_up_to == event.token, "the event is on the card")
    assert home.tail.stat().st_size == 68
    home.kill()
    db = sqlite3.connect(home.path)
    tokens = [t for (t,) in db.execute("SELECT token FROM records")]
    db.close()
    assert tokens == [r.token for r in [*beats, event]]


def test_the_log_is_made_once_and_never_cut(home):
    log = home.path.with_name(home.path.name + "-wal")
    spool = home.open()
    size = log.stat().st_size
    assert size >= 1_500_000
    for _ in range(3):
        write_many(spool, 6000)
        assert log.stat().st_size == size
        spool = reopened(home)
        assert log.stat().st_size == size
