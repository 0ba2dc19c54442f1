"""Histories, digests and watermarks: packed and opened, and nothing that explodes."""

import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.wire import evidence
from jaga_agent.wire.base import MalformedMessage, decode, encode
from jaga_agent.wire.evidence import (
    GAPS,
    ITEMS,
    NO_HASH,
    UNPACKED_BYTES,
    BootMark,
    Digest,
    History,
    HistoryItem,
    LostRange,
    RecordCode,
    Watermark,
    digest_to_sign,
    hash_of,
    open_item,
    pack,
    root_of,
    unpack,
)
from jaga_agent.wire.messages import Event

BOOT = b"8 octets"
EVENT = Event(BOOT, 1, 2, 3, -1, "started", None, None, None, None, "a first start")
DIGEST = Digest(BOOT, 31, 300_000, 5, -1, BOOT, 1, 30, (), bytes(32), NO_HASH)

items = st.builds(HistoryItem, st.sampled_from(RecordCode), st.binary(max_size=300))


@given(st.lists(items, max_size=50))
def test_what_is_packed_comes_out(given_items):
    message = History(pack(given_items), (LostRange(BOOT, 1, 7),))
    opened = decode(encode(message), History)
    assert unpack(opened.packed) == tuple(given_items)
    assert opened.lost == message.lost


def test_an_empty_history_says_only_what_is_lost():
    assert unpack(b"") == ()


def test_a_record_in_a_history_is_opened_as_what_it_is():
    assert open_item(HistoryItem(RecordCode.EVENT, encode(EVENT))) == EVENT
    with pytest.raises(MalformedMessage):
        open_item(HistoryItem(RecordCode.HEARTBEAT, encode(EVENT)))


def deflated(data):
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(data) + deflate.flush()


BAD = {
    "not deflate": b"\xff\xfe\xfd",
    "cut": pack([HistoryItem(RecordCode.EVENT, b"x" * 90)])[:-2],
    "more behind it": pack([]) + b"more",
    "not an array": deflated(msgspec.msgpack.encode("text")),
    "unknown kind": deflated(msgspec.msgpack.encode([[9, b""]])),
    "too many": deflated(msgspec.msgpack.encode([[0, b""]] * (ITEMS + 1))),
    "a header that promises 4 billion": deflated(b"\xdd\xff\xff\xff\xff"),
    "deep": deflated(b"\x91" * 100_000),
}


@pytest.mark.parametrize("packed", BAD.values(), ids=BAD)
def test_what_is_no_history_is_malformed(packed):
    with pytest.raises(MalformedMessage):
        unpack(packed)


def test_a_bomb_does_not_explode():
    bomb = deflated(bytes(200 * 1024 * 1024))
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            unpack(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * UNPACKED_BYTES


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data):
    for kind in (History, Watermark, Digest):
        try:
            decode(data, kind)
        except MalformedMessage:
            continue
    try:
        unpack(data)
    except MalformedMessage:
        return


def test_a_watermark_lists_a_bounded_number_of_gaps():
    mark = BootMark(BOOT, 1, 99, tuple((n, n) for n in range(3, 3 + 2 * GAPS, 2)))
    message = Watermark(b"a store!", 1, (mark,))
    assert decode(encode(message), Watermark) == message
    more = msgspec.structs.replace(mark, gaps=(*mark.gaps, (98, 98)))
    with pytest.raises(MalformedMessage):
        decode(encode(msgspec.structs.replace(message, boots=(more,))), Watermark)


def test_the_root_depends_on_each_record_its_kind_and_the_order():
    one = [(RecordCode.HEARTBEAT, b"a"), (RecordCode.EVENT, b"b")]
    others = [
        [(RecordCode.EVENT, b"a"), (RecordCode.EVENT, b"b")],
        [(RecordCode.HEARTBEAT, b"a"), (RecordCode.EVENT, b"c")],
        list(reversed(one)),
        one[:1],
        [],
    ]
    roots = [root_of(hash_of(*each) for each in records) for records in [one, *others]]
    assert len(set(roots)) == len(roots)


def test_a_signature_is_over_the_site_and_all_but_itself():
    said = digest_to_sign("6408", "tps-1", DIGEST)
    signed = msgspec.structs.replace(DIGEST, signature=b"0" * 70)
    assert digest_to_sign("6408", "tps-1", signed) == said
    assert digest_to_sign("6408", "tps-2", DIGEST) != said
    for name in set(DIGEST.__struct_fields__) - {"signature"}:
        other = {"certificate": b"x", "missing": ((1, 1),)}.get(name)
        old = getattr(DIGEST, name)
        if other is None:
            other = (
                bytes(reversed(range(len(old)))) if isinstance(old, bytes) else old + 1
            )
        changed = msgspec.structs.replace(DIGEST, **{name: other})
        assert digest_to_sign("6408", "tps-1", changed) != said, name


def test_every_record_has_a_leaf():
    assert evidence.CODE_OF == {
        "heartbeat": RecordCode.HEARTBEAT,
        "event": RecordCode.EVENT,
        "histogram": RecordCode.HISTOGRAM,
        "digest": RecordCode.DIGEST,
    }
