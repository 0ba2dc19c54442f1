"""The tail file: what it holds after any ending."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaga_agent.adapters.spool.tail import Entry, Header, Tail, read

HEADER = Header(b"i" * 16, 3, b"boot---1", 1 << 20, 7, 2)
ENTRIES = [
    Entry(b"boot---1", 1 << 20, seq, seq % 4, bytes([seq]) * (seq * 9))
    for seq in range(8, 14)
]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "spool.tail"
    tail = Tail(path)
    tail.rewrite(HEADER, ENTRIES[:2])
    for entry in ENTRIES[2:]:
        tail.append(entry)
    tail.count_connection(5)
    tail.close()
    return path


def test_holds_what_was_written(written):
    found = read(written)
    assert list(found.entries) == ENTRIES
    assert found.intact
    assert (found.header.last_seq, found.header.last_connection) == (13, 5)
    assert found.header.boot == HEADER.boot


def test_an_earlier_boots_entry_does_not_count_for_this_one(tmp_path):
    path = tmp_path / "tail"
    tail = Tail(path)
    tail.rewrite(HEADER, [Entry(b"boot---0", 5, 99, 1, b"old")])
    tail.close()
    assert read(path).header.last_seq == 7


def test_is_cut(written):
    tail = Tail(written)
    tail.rewrite(HEADER, ENTRIES)
    tail.rewrite(HEADER, ENTRIES[4:])
    tail.append(ENTRIES[0])
    tail.close()
    assert list(read(written).entries) == [*ENTRIES[4:], ENTRIES[0]]
    assert [p.name for p in written.parent.iterdir()] == ["spool.tail"]


def test_none_is_none(tmp_path):
    assert read(tmp_path / "tail") is None


def test_any_length_of_it_is_a_kill_within_a_write(written):
    content = written.read_bytes()
    whole = 0
    for size in range(len(content)):
        written.write_bytes(content[:size])
        found = read(written)
        if found is None:
            assert size < 68
            continue
        assert found.intact
        assert list(found.entries) == ENTRIES[: len(found.entries)]
        assert len(found.entries) >= whole
        whole = len(found.entries)
    assert whole == len(ENTRIES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_damaged_byte_is_believed(written, data):
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = written.with_name("damaged")
    damaged.write_bytes(content)
    found = read(damaged)
    if found is not None:
        assert not found.intact
        assert list(found.entries) == ENTRIES[: len(found.entries)]


@given(content=st.binary(max_size=300))
def test_random_bytes_are_no_tail(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tail") / "tail"
    path.write_bytes(content)
    assert read(path) is None


def test_an_abandoned_one_takes_nothing(written):
    tail = Tail(written)
    tail.rewrite(HEADER, ())
    tail.abandon()
    assert not written.exists()
    with pytest.raises(OSError, match="abandoned"):
        tail.append(ENTRIES[0])
