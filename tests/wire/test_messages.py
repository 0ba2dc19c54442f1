"""Decoding: strict about what is there, lenient about what comes after the end."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.wire.messages import (
    CLOCK_UNKNOWN,
    Event,
    HealthCode,
    Heartbeat,
    HostBeat,
    MalformedMessage,
    ModeCode,
    Status,
    UplinkBeat,
    UplinkIdentity,
    decode,
    encode,
)

BOOT = b"8 octets"
UPLINK = ["xl", 1, 10, 2, 0, 61_004, 118_772, 402_119, 1_088, 1_280, -101]
HOST = [60, 83, 214, 112, 571]
HEARTBEAT = [BOOT, 7, 60_000, 1_700_000_000_000, -1, 2, "xl", [UPLINK], HOST]
EVENT = [
    BOOT,
    8,
    60_000,
    1_700_000_000_000,
    3,
    "health",
    None,
    "xl",
    "up",
    "down",
    "silent",
]
STATUS = [True, BOOT, 1, "0.1.0", "abc", [["xl", "XL", "wan0", 1]]]
VALID = {Heartbeat: HEARTBEAT, Event: EVENT, Status: STATUS}


def packed(value):
    return msgspec.msgpack.encode(value)


def with_item(array, *path_and_value):
    """A copy of nested lists with one item replaced."""
    *path, value = path_and_value
    copy = msgspec.convert(array, list)
    if len(path) == 1:
        copy[path[0]] = value
    else:
        copy[path[0]] = with_item(copy[path[0]], *path[1:], value)
    return copy


@pytest.mark.parametrize("kind", VALID)
def test_the_table_below_starts_from_valid_messages(kind):
    assert encode(decode(packed(VALID[kind]), kind))


MALFORMED = {
    "nothing": (Heartbeat, b""),
    "not MessagePack": (Heartbeat, b"\xc1"),
    "cut short": (Heartbeat, packed(HEARTBEAT)[:-3]),
    "something after it": (Heartbeat, packed(HEARTBEAT) + b"\x00"),
    "nil": (Heartbeat, packed(None)),
    "a map": (Heartbeat, packed({"seq": 7})),
    "JSON": (Heartbeat, b'["not", "this"]'),
    "an empty array": (Heartbeat, packed([])),
    "a field missing that has no default": (Heartbeat, packed(HEARTBEAT[:-1])),
    "another message": (Heartbeat, packed(STATUS)),
    "boot of 7 bytes": (Heartbeat, packed(with_item(HEARTBEAT, 0, b"7 octet"))),
    "boot as text": (Heartbeat, packed(with_item(HEARTBEAT, 0, "8 octets"))),
    "seq negative": (Heartbeat, packed(with_item(HEARTBEAT, 1, -1))),
    "seq as text": (Heartbeat, packed(with_item(HEARTBEAT, 1, "7"))),
    "seq with a fraction": (Heartbeat, packed(with_item(HEARTBEAT, 1, 7.5))),
    "seq true": (Heartbeat, packed(with_item(HEARTBEAT, 1, True))),
    "seq above 63 bits": (Heartbeat, packed(with_item(HEARTBEAT, 1, 2**63))),
    "seq nil": (Heartbeat, packed(with_item(HEARTBEAT, 1, None))),
    "clock age -2": (Heartbeat, packed(with_item(HEARTBEAT, 4, -2))),
    "clock age above 63 bits": (Heartbeat, packed(with_item(HEARTBEAT, 4, 2**63))),
    "unknown mode": (Heartbeat, packed(with_item(HEARTBEAT, 5, 3))),
    "active without a name": (Heartbeat, packed(with_item(HEARTBEAT, 6, ""))),
    "uplinks nil": (Heartbeat, packed(with_item(HEARTBEAT, 7, None))),
    "name of 65": (Heartbeat, packed(with_item(HEARTBEAT, 7, 0, 0, "x" * 65))),
    "unknown health": (Heartbeat, packed(with_item(HEARTBEAT, 7, 0, 1, 4))),
    "sent nil": (Heartbeat, packed(with_item(HEARTBEAT, 7, 0, 2, None))),
    "round trip negative": (Heartbeat, packed(with_item(HEARTBEAT, 7, 0, 5, -1))),
    "signal above 31 bits": (Heartbeat, packed(with_item(HEARTBEAT, 7, 0, 10, 2**31))),
    "host nil": (Heartbeat, packed(with_item(HEARTBEAT, 8, None))),
    "CPU above one": (Heartbeat, packed(with_item(HEARTBEAT, 8, 1, 1_001))),
    "temperature above 31 bits": (Heartbeat, packed(with_item(HEARTBEAT, 8, 4, 2**31))),
    "not UTF-8": (
        Heartbeat,
        packed(HEARTBEAT).replace(b"\xa2xl", b"\xa2\xff\xfe", 1),
    ),
    "kind without a name": (Event, packed(with_item(EVENT, 5, ""))),
    "reason of 513": (Event, packed(with_item(EVENT, 10, "x" * 513))),
    "evidence of numbers": (Event, packed([*EVENT, None, None, {"loss": 1}])),
    "evidence of 33": (
        Event,
        packed([*EVENT, None, None, {str(n): "" for n in range(33)}]),
    ),
    "detected negative": (Event, packed([*EVENT, -1])),
    "online as a number": (Status, packed(with_item(STATUS, 0, 1))),
    "connection negative": (Status, packed(with_item(STATUS, 2, -1))),
    "identity without provider": (Status, packed(with_item(STATUS, 5, 0, 1, ""))),
    "a deep nest": (Status, b"\x91" * 5_000 + b"\xc0"),
    "an array that claims 4 GiB": (Status, b"\xdd\xff\xff\xff\xff"),
}


@pytest.mark.parametrize(("kind", "payload"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(kind, payload):
    with pytest.raises(MalformedMessage) as caught:
        decode(payload, kind)
    assert str(caught.value)


def test_malformed_tells_where():
    with pytest.raises(MalformedMessage, match=r"\$\[7\]\[0\]\[1\]"):
        decode(packed(with_item(HEARTBEAT, 7, 0, 1, 4)), Heartbeat)


@given(st.binary(max_size=300), st.sampled_from(list(VALID)))
def test_any_bytes_are_a_message_or_malformed(payload, kind):
    try:
        message = decode(payload, kind)
    except MalformedMessage:
        return
    assert decode(encode(message), kind) == message


FROM_A_NEWER_AGENT = {
    "heartbeat": (Heartbeat, [*HEARTBEAT, "new", {"a": [1]}], HEARTBEAT),
    "uplink": (Heartbeat, with_item(HEARTBEAT, 7, [[*UPLINK, 9.5, None]]), HEARTBEAT),
    "host": (Heartbeat, with_item(HEARTBEAT, 8, [*HOST, True]), HEARTBEAT),
    "event": (Event, [*EVENT, 640, 2, {}, "new"], [*EVENT, 640, 2, {}]),
    "status": (Status, [*STATUS, b"new"], STATUS),
    "identity": (
        Status,
        with_item(STATUS, 5, [["xl", "XL", "wan0", 1, "new"]]),
        STATUS,
    ),
}


@pytest.mark.parametrize(
    ("kind", "newer", "known"), FROM_A_NEWER_AGENT.values(), ids=FROM_A_NEWER_AGENT
)
def test_what_a_newer_agent_appended_is_skipped(kind, newer, known):
    assert decode(packed(newer), kind) == decode(packed(known), kind)


FROM_AN_OLDER_AGENT = {
    "no signal": (Heartbeat, with_item(HEARTBEAT, 7, [UPLINK[:10]])),
    "no detected, switched, evidence": (Event, EVENT),
    "no switched, evidence": (Event, [*EVENT, 640]),
    "no version": (Status, STATUS[:3]),
}


@pytest.mark.parametrize(
    ("kind", "older"), FROM_AN_OLDER_AGENT.values(), ids=FROM_AN_OLDER_AGENT
)
def test_what_an_older_agent_did_not_send_has_its_default(kind, older):
    message = decode(packed(older), kind)
    again = msgspec.msgpack.decode(encode(message))
    assert again[: len(older)] == older or kind is Heartbeat
    if kind is Heartbeat:
        assert message.uplinks[0].signal_dbm is None
    elif kind is Event:
        assert (message.switched_ms, message.evidence) == (None, {})
    else:
        assert (message.version, message.config_hash, message.uplinks) == ("", "", ())


natural = st.integers(0, 2**63 - 1)
integer = st.integers(-(2**31), 2**31 - 1)
permille = st.integers(0, 1_000)
name = st.text(min_size=1, max_size=64)
text = st.text(max_size=512)
boot = st.binary(min_size=8, max_size=8)
clock_age = st.integers(CLOCK_UNKNOWN, 2**63 - 1)


def maybe(strategy):
    return st.none() | strategy


uplink_beats = st.builds(
    UplinkBeat,
    name=name,
    health=st.sampled_from(HealthCode),
    sent=natural,
    lost=natural,
    not_sent=natural,
    rtt_min_us=maybe(natural),
    rtt_mean_us=maybe(natural),
    rtt_max_us=maybe(natural),
    rx_bytes=maybe(natural),
    tx_bytes=maybe(natural),
    signal_dbm=maybe(integer),
)
hosts = st.builds(
    HostBeat,
    uptime_s=natural,
    cpu_permille=maybe(permille),
    memory_permille=maybe(permille),
    disk_permille=maybe(permille),
    temperature_decidegc=maybe(integer),
)
heartbeats = st.builds(
    Heartbeat,
    boot=boot,
    seq=natural,
    at_ms=natural,
    wall_ms=natural,
    clock_age_s=clock_age,
    mode=st.sampled_from(ModeCode),
    active=maybe(name),
    uplinks=st.lists(uplink_beats, max_size=4).map(tuple),
    host=hosts,
)
events = st.builds(
    Event,
    boot=boot,
    seq=natural,
    at_ms=natural,
    wall_ms=natural,
    clock_age_s=clock_age,
    kind=name,
    rule=maybe(name),
    uplink=maybe(name),
    old=maybe(name),
    new=maybe(name),
    reason=text,
    detected_ms=maybe(natural),
    switched_ms=maybe(natural),
    evidence=st.dictionaries(st.text(max_size=20), text, max_size=4),
)
statuses = st.builds(
    Status,
    online=st.booleans(),
    boot=boot,
    connection=natural,
    version=text,
    config_hash=text,
    uplinks=st.lists(
        st.builds(
            UplinkIdentity, name=name, provider=name, device=name, preference=integer
        ),
        max_size=4,
    ).map(tuple),
)


@given(heartbeats | events | statuses)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message), type(message)) == message
