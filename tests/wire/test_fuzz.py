"""Any bytes at any door: taken or refused, with the one error that is allowed there.

Random bytes are refused at their first one; so most inputs here are right messages,
bent. `make fuzz` does the same a million times, led by what code is reached.
"""

import gc
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaga_agent.wire import evidence
from jaga_agent.wire.evidence import ITEMS, PACKED_BYTES, HistoryItem, RecordCode
from support.fuzzing import DOORS, PAYLOAD_BYTES, golden, seeds

SEEDS = seeds()
ROOT = Path(__file__).parents[2]
FACTOR = 48
"""Bytes of memory for one of input: an object and its place for each that is a value."""
BASE_BYTES = 3 * evidence.UNPACKED_BYTES


def test_what_agents_send_is_taken_at_its_door():
    for door, data in SEEDS:
        assert DOORS[door](data), (door, data)


@pytest.mark.parametrize("door", DOORS)
@given(data=st.binary(max_size=600))
def test_any_bytes(door, data):
    DOORS[door](data)


@st.composite
def bent(draw):
    """A right message with bytes changed, lost, doubled, put in, or cut off."""
    door, data = draw(st.sampled_from(SEEDS))
    array = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(array) - 1)))
        match draw(st.sampled_from(("set", "header", "cut", "drop", "put", "double"))):
            case "set":
                array[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case "header":
                array[at : at + 1] = draw(st.sampled_from(HEADERS))
            case "cut":
                del array[at:]
            case "drop":
                del array[at : at + draw(st.integers(1, 8))]
            case "put":
                array[at:at] = draw(st.binary(max_size=8))
            case "double":
                array[at:at] = array[at : at + draw(st.integers(1, 40))]
    return door, bytes(array)


HEADERS = (
    b"\xc0", b"\xc1", b"\xc4\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\x08\xff", b"\xca",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\0\0\0\0\0\0\0", b"\xd6\xff",
    b"\xd9\xff", b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdd\0\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x90", b"\x91",
    b"\x80", b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xcb\x7f\xf0\0\0\0\0\0\0",
)  # fmt: skip
"""Headers that promise too much, text that is not UTF-8, numbers beyond every bound."""


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(bent())
def test_bent_messages(case):
    door, data = case
    DOORS[door](data)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=40,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_messagepack_at_every_door(value):
    data = msgspec.msgpack.encode(value)
    for door in DOORS.values():
        door(data)
    deflate = zlib.compressobj(wbits=-15)
    DOORS["unpack"](deflate.compress(data) + deflate.flush())


def deflated(data):
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(data) + deflate.flush()


def history_of(packed):
    """At the collector's door."""
    return b"\x03" + msgspec.msgpack.encode([packed])


def nested(depth):
    return b"\x91" * depth + b"\xc0"


BEAT = golden()["heartbeat"]
# An uplink of two letters and the least that is valid: many fit into one message.
SMALL_UPLINK = msgspec.msgpack.encode(["a", 0, 0, 0, 0, None, None, None, None, None])
HEAD = b"\x99\xc4\x088 octets" + b"\x01\x01\x01\xff\x00\xc0"
HOST = msgspec.msgpack.encode([0, None, None, None, None])


def many_uplinks():
    count = (PAYLOAD_BYTES - 100) // len(SMALL_UPLINK)
    return HEAD + b"\xdc" + count.to_bytes(2, "big") + SMALL_UPLINK * count + HOST


def many_counts():
    """Histograms of numbers that need an object each, as many as fit."""
    uplink = msgspec.msgpack.encode(
        ["a", 0, 0, 0, 0, [300] * 512, 0, None, None, [0, 0, 0, 0]]
    )
    count = (PAYLOAD_BYTES - 100) // len(uplink)
    head = b"\x97\xc4\x088 octets" + b"\x01\x01\x01\xff\x00"
    return head + b"\xdc" + count.to_bytes(2, "big") + uplink * count


EXPLOSIVE = {
    "a bomb": ("unpack", deflated(bytes(200 << 20))[:PACKED_BYTES]),
    "a whole bomb": ("unpack", deflated(bytes(30 << 20))),
    "as many items as there may be": (
        "unpack",
        evidence.pack([HistoryItem(RecordCode.EVENT, b"")] * ITEMS),
    ),
    "a bomb at the collector's door": (
        "envelope",
        history_of(deflated(bytes(30 << 20))),
    ),
    "as many heartbeats as there may be": (
        "envelope",
        history_of(
            evidence.pack([HistoryItem(RecordCode.HEARTBEAT, BEAT)] * ITEMS)[
                :PACKED_BYTES
            ]
        ),
    ),
    "a promise of four billion records": ("unpack", deflated(b"\xdd\xff\xff\xff\xff")),
    "a promise of four billion uplinks": ("Heartbeat", HEAD + b"\xdd\xff\xff\xff\xff"),
    "a promise of four billion words": (
        "Event",
        b"\x9e"
        + HEAD[1:13]
        + b"\x01\xff\xa1x\xc0\xc0\xc0\xc0\xa0\xc0\xc0\xdf"
        + b"\xff" * 4,
    ),
    "a promise of four billion bytes": ("History", b"\x91\xc6\xff\xff\xff\xff"),
    "nothing but arrays": ("Heartbeat", nested(PAYLOAD_BYTES - 1)),
    "arrays where nobody reads": ("Status", golden()["status-will"] + nested(9)),
    "arrays in a field from the future": (
        "Status",
        b"\x97\xc2\xc4\x088 octets\x01\xa0\xa0\x90" + nested(PAYLOAD_BYTES - 30),
    ),
    "maps in a field from the future": (
        "Status",
        b"\x97\xc2\xc4\x088 octets\x01\xa0\xa0\x90"
        + b"\x81\xa1x" * (PAYLOAD_BYTES // 3 - 30)
        + b"\xc0",
    ),
    "as many uplinks as fit": ("Heartbeat", many_uplinks()),
    "as many buckets as fit": ("Histogram", many_counts()),
    "the longest text": ("Event", b"\x9b" + b"\xdb\x00\x00\xff\x00" + b"x" * 0xFF00),
}


@pytest.mark.parametrize(("door", "data"), EXPLOSIVE.values(), ids=EXPLOSIVE)
def test_one_input_takes_no_more_memory_than_it_is_worth(door, data):
    gc.collect()
    tracemalloc.start()
    try:
        DOORS[door](data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < FACTOR * len(data) + BASE_BYTES


def test_the_largest_messages_above_are_valid():
    """Or they would show nothing."""
    for name in ("as many uplinks as fit", "as many buckets as fit"):
        door, data = EXPLOSIVE[name]
        assert DOORS[door](data), name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "inputs", [1_000_000, pytest.param(20_000_000, marks=pytest.mark.torture)]
)
def test_a_million_inputs_led_by_coverage(tmp_path, inputs):
    pytest.importorskip("atheris", reason="no wheel of atheris for this machine")
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--inputs", str(inputs), "--keep", tmp_path],
        cwd=ROOT / "tests",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"{inputs} inputs" in done.stdout
