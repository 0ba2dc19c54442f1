"""Golden files: bytes that agents in the field have sent and every decoder must read.

A file that fails here means the wire changed. That is never mended by writing the file
anew: a new field goes at the end, with a default, and gets a golden file of its own.
"""

import enum
import json
from pathlib import Path

import msgspec
import pytest

from jaga_agent.wire import evidence, messages, orders
from jaga_agent.wire.messages import Heartbeat, decode, encode

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
HEARTBEAT_MAX_BYTES = 200
MESSAGES = {
    "Heartbeat",
    "Event",
    "Status",
    "Histogram",
    "Digest",
    "History",
    "Watermark",
    "Command",
    "Order",
    "Reply",
}


def struct(name):
    return next(
        getattr(module, name)
        for module in (messages, evidence, orders)
        if hasattr(module, name)
    )


def payload_of(name):
    return bytes.fromhex((GOLDEN / f"{name}.msgpack.hex").read_text())


def named(value):
    """The value for a reader: field names, hexadecimal bytes, names of codes."""
    if isinstance(value, msgspec.Struct):
        return {name: named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: named(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [named(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.name if isinstance(value, enum.Enum) else value


def test_there_are_golden_files_of_every_message():
    assert {
        json.loads((GOLDEN / f"{name}.json").read_text())["message"] for name in NAMES
    } == MESSAGES
    assert {path.name.partition(".")[0] for path in GOLDEN.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_mean_what_the_file_says(name):
    readable = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    payload = payload_of(name)
    message = decode(payload, struct(readable["message"]))
    assert named(message) == readable["fields"]
    assert encode(message) == payload


def test_a_heartbeat_of_three_uplinks_is_small():
    payload = payload_of("heartbeat")
    beat = decode(payload, Heartbeat)
    assert len(beat.uplinks) == 3
    as_json = len(json.dumps(named(beat), separators=(",", ":")))
    print(f"heartbeat, three uplinks: {len(payload)} B, named JSON {as_json} B")  # noqa: T201 - the measured figure, shown by -s
    assert len(payload) <= HEARTBEAT_MAX_BYTES
