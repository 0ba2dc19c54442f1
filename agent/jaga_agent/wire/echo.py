"""The udp-echo datagrams, version 1: both 40 bytes, authenticated; pure functions.

`docs/udp-echo.md` has the layout and what each field guards against. The agent sends
requests, the collector's reflector answers; an answer is never longer than its request,
so nobody can use the reflector to amplify.

All integers are unsigned and big-endian. Times are Unix nanoseconds of the collector's
clock; the agent's own clock is never sent, a Pi may not have one.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import struct
from dataclasses import dataclass
from typing import Final

from jaga_agent.wire.messages import HealthCode, ModeCode

DEFAULT_PORT: Final = 7007
DATAGRAM_BYTES: Final = 40
KEY_BYTES: Final = 32
MAC_BYTES: Final = 12
"""96 bits of HMAC-SHA-256. RFC 2104 (5) wants at least 80; the rest is RFC 2404's length.
Only the reflector itself can tell whether a guess was right, one packet a guess: at a
million guesses a second 96 bits last 10^15 years, and 28 bytes are left to say something.
"""
MAX_UPLINKS: Final = 8

_VERSION = 1
_REQUEST_KIND = _VERSION << 4 | 1
_ANSWER_KIND = _VERSION << 4 | 2

# Kind, flags and place, site tag, flow, sequence, token, state.
_REQUEST = struct.Struct("!BBIQII6s")
# Kind, flags, error estimate, sequence, received, token, receive stamp, hold.
_ANSWER = struct.Struct("!BBHIIIQI")
_BODY_BYTES = DATAGRAM_BYTES - MAC_BYTES
_TAG = struct.Struct("!2xI")
_SEQ_OF_ANSWER = struct.Struct("!4xI")
_SEQ_OF_REQUEST = struct.Struct("!14xI")

_HAS_STATE = 0x80
_PLACE = 0x07
_COUNTED = 0x01
_NO_STATE = bytes(6)
_NO_UPLINK = 0xF
_LARGEST_BUCKET = 31
_MAX_HOLD_NS = 2**32 - 1

MALFORMED: Final = "malformed"
VERSION: Final = "version"
FORGED: Final = "forged"


class DatagramError(ValueError):
    """Says why it is no datagram of ours. `reason` is MALFORMED, VERSION or FORGED."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SiteState:
    """The last-resort heartbeat: what the collector most needs when MQTT is down."""

    active: int | None
    """Place of the uplink that carries the site, in the order of the site's `Status`."""
    healths: tuple[HealthCode, ...]
    """Of at most eight uplinks, in that order."""
    mode: ModeCode
    waiting: int
    """Records in the spool; sent as its power of two, read as at least this many."""
    silent_s: int
    """Whole seconds without MQTT; sent and read in the same way."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the agent asks."""

    site_tag: int
    flow: int
    """64 random bits, one for each uplink and target of one run: the requests' nonce."""
    seq: int
    """Counts the flow's requests from 1."""
    token: int
    """The last answer's, 0 before there is one: proves that this is no old recording."""
    place: int
    """Which uplink it is sent through, in the order of the site's `Status`."""
    state: SiteState | None = None
    """None while MQTT is connected."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the reflector says. Bound by its code to the one request it answers."""

    seq: int
    """The request's."""
    received: int | None
    """Requests of this flow received so far, this one included; None: not counted,
    because the flow is unknown and its token not (any more) the reflector's."""
    token: int
    """For the next request."""
    receive_ns: int
    """When the request came in, by the collector's wall clock."""
    hold_ns: int
    """From then until this answer left."""
    error_s: float
    """How wrong that clock may be."""
    synchronised: bool
    """Whether that clock follows a source of UTC."""


# Keys and names


def site_key(master: bytes, site: str) -> bytes:
    """Return a site's own key: HKDF-Expand with SHA-256, one block (RFC 5869, 2.3).

    The master secret is uniformly random, so the extract step is skipped (3.3).
    """
    return hmac.digest(
        master, b"jaga udp-echo 1 key\0" + site.encode() + b"\1", "sha256"
    )


def site_tag(site: str) -> int:
    """Return the 32 bits that stand for a site id; two sites may share them."""
    return int.from_bytes(
        hashlib.sha256(b"jaga udp-echo 1 site\0" + site.encode()).digest()[:4], "big"
    )


def key_of_text(text: str) -> bytes:
    """Return the key or master secret in a file's text; raises ValueError."""
    digits = text.strip()
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * KEY_BYTES}}}", digits):
        # Never the text itself: it may be most of a secret.
        msg = f"want {2 * KEY_BYTES} hexadecimal digits, this has {len(digits)} characters"
        raise ValueError(msg)
    return bytes.fromhex(digits)


# Requests


def encode_request(request: Request, key: bytes) -> bytes:
    """Return the datagram; raises struct.error for a value that does not fit."""
    state = request.state
    body = _REQUEST.pack(
        _REQUEST_KIND,
        request.place & _PLACE | (0 if state is None else _HAS_STATE),
        request.site_tag,
        request.flow,
        request.seq,
        request.token,
        _NO_STATE if state is None else _encode_state(state),
    )
    return body + _mac(key, body)


def tag_of_request(datagram: bytes) -> int:
    """Return whose request this claims to be; raises DatagramError."""
    _check_kind(datagram, _REQUEST_KIND)
    tag: int = _TAG.unpack_from(datagram)[0]
    return tag


def decode_request(datagram: bytes, key: bytes) -> Request:
    """Return an authentic request; raises DatagramError."""
    _check_kind(datagram, _REQUEST_KIND)
    body = datagram[:_BODY_BYTES]
    if not hmac.compare_digest(_mac(key, body), datagram[_BODY_BYTES:]):
        raise DatagramError(FORGED, "the code does not fit the key")
    _, flags, tag, flow, seq, token, state = _REQUEST.unpack(body)
    return Request(
        tag,
        flow,
        seq,
        token,
        flags & _PLACE,
        _decode_state(state) if flags & _HAS_STATE else None,
    )


def seq_of_request(head: bytes) -> int | None:
    """Return the sequence of a request that may be cut short (as ICMP errors quote it)."""
    if len(head) < _SEQ_OF_REQUEST.size or head[0] != _REQUEST_KIND:
        return None
    seq: int = _SEQ_OF_REQUEST.unpack_from(head)[0]
    return seq


# Answers


def encode_answer(answer: Answer, request: bytes, key: bytes) -> bytes:
    """Return the datagram that answers the datagram `request`."""
    body = _ANSWER.pack(
        _ANSWER_KIND,
        0 if answer.received is None else _COUNTED,
        _encode_error(answer.error_s, synchronised=answer.synchronised),
        answer.seq,
        answer.received or 0,
        answer.token,
        answer.receive_ns,
        min(max(answer.hold_ns, 0), _MAX_HOLD_NS),
    )
    return body + _mac(key, request + body)


def seq_of_answer(datagram: bytes) -> int:
    """Return which request this claims to answer; raises DatagramError."""
    _check_kind(datagram, _ANSWER_KIND)
    seq: int = _SEQ_OF_ANSWER.unpack_from(datagram)[0]
    return seq


def decode_answer(datagram: bytes, request: bytes, key: bytes) -> Answer:
    """Return an authentic answer to exactly that request; raises DatagramError."""
    _check_kind(datagram, _ANSWER_KIND)
    body = datagram[:_BODY_BYTES]
    if not hmac.compare_digest(_mac(key, request + body), datagram[_BODY_BYTES:]):
        raise DatagramError(FORGED, "the code does not fit the key and the request")
    _, flags, error, seq, received, token, receive_ns, hold_ns = _ANSWER.unpack(body)
    error_s, synchronised = _decode_error(error)
    return Answer(
        seq,
        received if flags & _COUNTED else None,
        token,
        receive_ns,
        hold_ns,
        error_s,
        synchronised,
    )


def _check_kind(datagram: bytes, kind: int) -> None:
    if len(datagram) != DATAGRAM_BYTES:
        raise DatagramError(MALFORMED, f"{len(datagram)} bytes")
    if datagram[0] != kind:
        if datagram[0] >> 4 != _VERSION:
            raise DatagramError(VERSION, f"first byte {datagram[0]:#04x}")
        raise DatagramError(MALFORMED, f"first byte {datagram[0]:#04x}")


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:MAC_BYTES]


# The state's 48 bits, from the lowest: active 4, uplinks 4, mode 2, waiting 5, silent 5,
# health 8 × 2, not used 12.


def _encode_state(state: SiteState) -> bytes:
    healths = state.healths[:MAX_UPLINKS]
    active = state.active
    if active is None or active >= len(healths):
        active = _NO_UPLINK
    word = (
        active
        | len(healths) << 4
        | state.mode.value << 8
        | _bucket(state.waiting) << 10
        | _bucket(state.silent_s) << 15
    )
    for place, health in enumerate(healths):
        word |= health.value << (20 + 2 * place)
    return word.to_bytes(6, "big")


def _decode_state(packed: bytes) -> SiteState:
    word = int.from_bytes(packed, "big")
    active, count, mode = word & 0xF, word >> 4 & 0xF, word >> 8 & 0x3
    if count > MAX_UPLINKS or (active >= count and active != _NO_UPLINK):
        raise DatagramError(MALFORMED, f"uplink {active} of {count} is active")
    try:
        mode_code = ModeCode(mode)
    except ValueError as error:
        raise DatagramError(MALFORMED, f"mode {mode}") from error
    return SiteState(
        None if active == _NO_UPLINK else active,
        tuple(HealthCode(word >> (20 + 2 * place) & 0x3) for place in range(count)),
        mode_code,
        _floor(word >> 10 & 0x1F),
        _floor(word >> 15 & 0x1F),
    )


def _bucket(number: int) -> int:
    return min(max(number, 0).bit_length(), _LARGEST_BUCKET)


def _floor(bucket: int) -> int:
    return 1 << (bucket - 1) if bucket else 0


def _encode_error(error_s: float, *, synchronised: bool) -> int:
    """Return an Error Estimate (RFC 4656, 4.1.2): S, Z, six bits of scale, multiplier.

    Rounded up; the multiplier is never 0, "perfection is not allowed".
    """
    units = max(1, math.ceil(min(max(error_s, 0.0), 2**31) * 2**32))
    scale = max(0, units.bit_length() - 8)
    multiplier = -(-units >> scale)
    if multiplier > 0xFF:
        scale, multiplier = scale + 1, multiplier >> 1
    return (0x8000 if synchronised else 0) | scale << 8 | multiplier


def _decode_error(packed: int) -> tuple[float, bool]:
    return (packed & 0xFF) * 2.0 ** ((packed >> 8 & 0x3F) - 32), bool(packed & 0x8000)
