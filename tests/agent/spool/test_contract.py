"""What `ports.Spool` promises, on the file and on the fake."""

import pytest

from jaga_agent.adapters.fakes import MemorySpool
from jaga_agent.errors import SpoolError
from jaga_agent.wire.evidence import BOOTS, BootMark, LostRange, Watermark
from support.spools import STORE, SpoolHome, fill, mark, pending, seqs


@pytest.fixture(params=["sqlite", "sqlite on the card", "memory"])
def spool(request, tmp_path):
    if request.param == "memory":
        yield MemorySpool()
        return
    home = SpoolHome(tmp_path)
    spool = home.open()
    if request.param == "sqlite on the card":
        append = spool.append

        def append_and_flush(seq, leaf, payload):
            record = append(seq, leaf, payload)
            assert spool.flush(10)
            return record

        spool.append = append_and_flush
    yield spool
    home.close()


def test_keeps_in_order(spool):
    kept = fill(spool, "heartbeat", "event", "histogram", "digest")
    assert len(spool.boot) == 8
    assert [r.boot for r in kept] == [spool.boot] * 4
    assert list(spool.pending(10)) == kept
    assert list(spool.pending(2)) == kept[:2]
    assert list(spool.pending(10, after=kept[1].token)) == kept[2:]
    assert spool.depth() == 4
    assert [r.payload for r in kept[:2]] == [b"heartbeat 1", b"event 2"]
    assert list(spool.boots()) == [(spool.boot, 4)]
    assert not spool.lost()


def test_a_wrong_seq_is_refused(spool):
    fill(spool, "event")
    with pytest.raises(SpoolError, match="expects seq 2, not 1"):
        spool.append(1, "event", b"")
    assert spool.depth() == 1


def test_connections_are_counted(spool):
    assert [spool.next_connection() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("through", "highest", "gaps", "want"),
    [
        (0, 0, (), [1, 2, 3, 4, 5, 6]),
        (4, 4, (), [5, 6]),
        (2, 5, ((3, 4),), [3, 4, 6]),
        (0, 6, ((1, 1), (4, 5)), [1, 4, 5]),
        (6, 6, (), []),
        # Nobody can have what was not recorded yet.
        (99, 99, (), []),
    ],
)
def test_what_a_mark_covers(spool, through, highest, gaps, want):
    fill(spool, *["heartbeat"] * 6)
    spool.cover(mark(spool.boot, through, highest, *gaps))
    assert pending(spool) == want
    assert spool.depth() == len(want)
    # Covered ones are kept all the same.
    assert seqs(spool.select(spool.boot, 2, 5)) == [2, 3, 4, 5]
    assert spool.dropped == 0
    assert not spool.lost()


@pytest.mark.parametrize(
    ("name", "back", "want"),
    [
        ("same store, lower mark", {"through": 2, "revision": 8}, [3, 4, 5, 6]),
        ("an older state of it", {"through": 2, "revision": 3}, [3, 4, 5, 6]),
        ("another store", {"through": 1, "store": b"store--2"}, [2, 3, 4, 5, 6]),
    ],
)
def test_a_mark_goes_back(spool, name, back, want):
    fill(spool, *["heartbeat"] * 6)
    spool.cover(mark(spool.boot, 6, revision=7))
    assert spool.depth() == 0
    spool.cover(mark(spool.boot, **back))
    assert pending(spool) == want, name
    assert spool.depth() == len(want)
    spool.cover(mark(spool.boot, 6, revision=9, store=back.get("store", STORE)))
    assert spool.depth() == 0


def test_another_store_that_knows_nothing_of_us(spool):
    fill(spool, *["event"] * 3)
    spool.cover(mark(spool.boot, 3))
    spool.cover(Watermark(b"store--2", 1, ()))
    assert pending(spool) == [1, 2, 3]


def test_a_restored_backup_that_lacks_all_of_this_boot(spool):
    fill(spool, *["event"] * 3)
    spool.cover(mark(spool.boot, 3))
    others = tuple(BootMark(b"other-%2d" % n, 1, 1) for n in range(BOOTS))
    # Of whom there is no place for it says nothing.
    spool.cover(Watermark(STORE, 8, others))
    assert pending(spool) == []
    # With places to spare it says that it has nothing, whatever its revision.
    spool.cover(Watermark(STORE, 9, others[1:]))
    assert pending(spool) == [1, 2, 3]
    assert spool.depth() == 3


def test_a_mark_of_unknown_boots_is_none(spool):
    fill(spool, "event")
    spool.cover(mark(b"stranger", 7))
    assert pending(spool) == [1]
    assert not spool.lost()
    assert [name for name, _ in spool.boots()] == [spool.boot]


def test_the_chains_head(spool):
    assert spool.last_digest() is None
    fill(spool, "digest", "event", "digest", "heartbeat")
    assert spool.last_digest().seq == 3
    spool.cover(mark(spool.boot, 4))
    assert spool.last_digest().payload == b"digest 3"


@pytest.mark.parametrize("first_last", [(0, 0), (4, 3), (7, 9)])
def test_nothing_to_select(spool, first_last):
    fill(spool, *["event"] * 6)
    assert not spool.select(spool.boot, *first_last)
    assert not spool.select(b"stranger", 1, 6)


def test_what_is_lost_is_told_until_it_is_booked():
    spool = MemorySpool(max_records=4)
    fill(spool, "heartbeat", "event", "heartbeat", "heartbeat", "event", "event")
    assert pending(spool) == [2, 4, 5, 6]
    assert list(spool.lost()) == [
        LostRange(spool.boot, 1, 1),
        LostRange(spool.boot, 3, 3),
    ]
    assert spool.dropped == 2
    spool.cover(mark(spool.boot, 2))
    assert list(spool.lost()) == [LostRange(spool.boot, 3, 3)]
