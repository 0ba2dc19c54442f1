"""Every door by which bytes from outside come in, for fuzzing: what may be raised there.

Hypothesis (`tests/wire/test_fuzz.py`) and atheris (`tests/fuzz/`) knock at the same doors.
Each takes any bytes and returns whether they were taken; anything but the one error that
is allowed there escapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jaga_agent.wire import echo, evidence, messages, orders, topics
from jaga_agent.wire.base import MalformedMessage, decode, encode
from jaga_agent.wire.evidence import HistoryItem, RecordCode
from jaga_server.ingest import received as inbox
from jaga_server.ingest.received import Received, RejectedError
from jaga_server.ingest.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parents[1] / "wire" / "golden"
SITE = "tps-6408052001-901"
MASTER = bytes(range(32))
KEY = echo.site_key(MASTER, SITE)
KINDS = (
    messages.Heartbeat,
    messages.Event,
    messages.Status,
    evidence.Histogram,
    evidence.Digest,
    evidence.History,
    evidence.Watermark,
    orders.Command,
    orders.Order,
    orders.Reply,
)
PAYLOAD_BYTES = 64 * 1024
"""More than this no broker of ours lets through."""


def _refused(reason):
    """A refusal says why."""
    assert reason
    return False


def _decoding(kind):
    def knock(data):
        try:
            message = decode(data, kind)
        except MalformedMessage:
            return False
        # What was understood can be said again, and is the same.
        assert decode(encode(message), kind) == message
        return True

    return knock


def _unpack(data):
    try:
        items = evidence.unpack(data)
    except MalformedMessage:
        return False
    assert len(items) <= evidence.ITEMS
    assert sum(len(item.payload) for item in items) <= evidence.UNPACKED_BYTES
    return True


def _open_item(data):
    try:
        record = evidence.open_item(HistoryItem(RecordCode(data[0] & 3), data[1:]))
    except MalformedMessage:
        return False
    if isinstance(record, evidence.Digest):
        assert evidence.digest_to_sign("6408", SITE, record)
    return True


def _envelope(data):
    """The collector's way in; the first byte chooses the topic."""
    leaf = (*topics.LEAVES, "none")[data[0] % (len(topics.LEAVES) + 1)]
    message = Received(f"jaga/1/6408/{SITE}/{leaf}", data[1:], 1, False, None)
    try:
        topic, opened = inbox.open_envelope(message)
        assert topic.site == SITE
        if isinstance(opened, evidence.History):
            _history(opened)
        elif isinstance(opened, orders.Command):
            inbox.open_order(opened, SITE)
    except RejectedError as refusal:
        return _refused(refusal.reason)
    return True


def _history(opened):
    for item in inbox.unpack(opened, SITE):
        try:
            inbox.open_item(item, SITE)
        except RejectedError as refusal:
            # One poison record: the others are taken none the less.
            _refused(refusal.reason)


def _topic(data):
    text = data.decode("utf-8", "replace")
    topic = topics.parse(text)
    assert topic is None or str(topic) == text
    return topic is not None


def _reflector(data):
    taken = REFLECTOR.take(data, 100.0)
    if taken is None:
        return False
    answer = taken.answer(receive_ns=1, hold_ns=2, error_s=0.1, synchronised=True)
    assert len(answer) <= len(data)
    assert echo.decode_answer(answer, data, KEY).seq == taken.request.seq
    return True


def _datagram(data):
    """With the code made right, so that what lies behind it is reached too."""
    body = data[: echo.DATAGRAM_BYTES - echo.MAC_BYTES]
    request = body + echo._mac(KEY, body)
    answer = body + echo._mac(KEY, REQUEST + body)
    taken = 0
    for reading in (
        lambda: echo.tag_of_request(data),
        lambda: echo.seq_of_answer(data),
        lambda: echo.decode_request(data, KEY),
        lambda: echo.decode_request(request, KEY),
        lambda: echo.decode_answer(data, REQUEST, KEY),
        lambda: echo.decode_answer(answer, REQUEST, KEY),
        lambda: echo.seq_of_request(data),
    ):
        try:
            taken += reading() is not None
        except echo.DatagramError as error:
            _refused(error.reason in {echo.MALFORMED, echo.VERSION, echo.FORGED})
    return taken > 0


REFLECTOR = Reflector(MASTER, [SITE], run_secret=bytes(16))
REQUEST = echo.encode_request(
    echo.Request(
        echo.site_tag(SITE),
        flow=7,
        seq=1,
        token=0,
        place=0,
        state=echo.SiteState(
            0, (messages.HealthCode.UP,), messages.ModeCode.READY, 5, 9
        ),
    ),
    KEY,
)
DOORS: dict[str, Callable[[bytes], bool]] = {
    **{kind.__name__: _decoding(kind) for kind in KINDS},
    "unpack": _unpack,
    "open_item": lambda data: bool(data) and _open_item(data),
    "envelope": lambda data: bool(data) and _envelope(data),
    "topic": _topic,
    "reflector": _reflector,
    "datagram": _datagram,
}


def golden():
    """Return name → bytes that agents have sent."""
    return {
        path.name.split(".")[0]: bytes.fromhex(path.read_text("ascii"))
        for path in sorted(GOLDEN.glob("*.msgpack.hex"))
    }


def seeds():
    """Return (door, bytes) of what is right, from which fuzzing starts."""
    found = []
    for name, payload in golden().items():
        kind = next(k for k in KINDS if name.startswith(k.__name__.lower()))
        found.append((kind.__name__, payload))
        leaf = kind.__name__.lower()
        if leaf in topics.CONSUMED:
            place = topics.LEAVES.index(leaf)
            found.append(("envelope", bytes((place,)) + payload))
        if leaf in evidence.CODE_OF:
            code = evidence.CODE_OF[leaf]
            found.append(("open_item", bytes((code,)) + payload))
    history = decode(golden()["history"], evidence.History)
    found += [
        ("unpack", history.packed),
        ("topic", f"jaga/1/6408/{SITE}/event".encode()),
        ("reflector", REQUEST),
        ("datagram", REQUEST),
    ]
    return found
