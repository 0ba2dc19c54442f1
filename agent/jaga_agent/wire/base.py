"""What every message of the contract is made of: bounded types, and the encoding.

MessagePack arrays, positional and append-only: a new field goes at the end with a
default, so that an old collector skips it and a new one reads old agents. A type that
does not fit, or a value out of its range, makes the whole message malformed.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Annotated, Final, TypeVar

import msgspec

CONTRACT_VERSION: Final = 1

BOOT_BYTES: Final = 8
CLOCK_UNKNOWN: Final = -1
"""`clock_age_s` of a clock nobody has confirmed since boot (RIPE Atlas `lts`)."""

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""Bounded so that what a decoder accepted, every store can keep."""
ClockAge = Annotated[int, msgspec.Meta(ge=CLOCK_UNKNOWN, le=2**63 - 1)]
Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
BootId = Annotated[bytes, msgspec.Meta(min_length=BOOT_BYTES, max_length=BOOT_BYTES)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=512)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""SHA-256."""
Signature = Annotated[bytes, msgspec.Meta(max_length=80)]
"""ECDSA on P-256 with SHA-256 (FIPS 186-5), in DER: 72 bytes at most. Empty: unsigned."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What goes on the wire as an array."""


class MalformedMessage(ValueError):  # noqa: N818 - names the thing, as h11 does
    """The payload is not what the contract says; the message tells where."""


_ENCODER = msgspec.msgpack.Encoder()
R = TypeVar("R", bound=Record)


@cache
def _decoder(kind: type[R]) -> msgspec.msgpack.Decoder[R]:
    return msgspec.msgpack.Decoder(kind, strict=True)


def encode(message: Record) -> bytes:
    """Return the payload as MessagePack."""
    return _ENCODER.encode(message)


def decode(payload: bytes, kind: type[R]) -> R:
    """Return the message in `payload`; raises MalformedMessage."""
    try:
        decoder: msgspec.msgpack.Decoder[R] = _decoder(kind)
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error


def deflated(data: bytes) -> bytes:
    """Return DEFLATE (RFC 1951) of the data, without any header."""
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(data) + deflate.flush()


def inflated(packed: bytes, limit_bytes: int) -> bytes:
    """Return what `deflated` was given; raises MalformedMessage.

    Not one stream and nothing else, or more than `limit_bytes`: no bomb explodes here.
    """
    inflate = zlib.decompressobj(wbits=-15)
    try:
        data = inflate.decompress(packed, limit_bytes)
    except zlib.error as error:
        raise MalformedMessage(str(error)) from error
    if not inflate.eof or inflate.unused_data:
        msg = f"not one DEFLATE stream of at most {limit_bytes} bytes"
        raise MalformedMessage(msg)
    return data
