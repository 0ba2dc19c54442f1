"""The contract, version 1: what makes telemetry complete and provable.

Histogram and Digest are records like heartbeats and events: numbered with them, kept
with them. They, and all that could not be sent live, travel in a History. A Watermark
tells a site what the collector has for good.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from jaga_agent.wire.base import (
    BootId,
    ClockAge,
    Hash,
    Integer,
    MalformedMessage,
    Name,
    Natural,
    Record,
    Signature,
    decode,
    deflated,
    encode,
    inflated,
)
from jaga_agent.wire.messages import Event, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STORE_BYTES: Final = 8
GAPS: Final = 16
"""Gaps listed of a boot at most."""
BOOTS: Final = 8
"""Boots listed in a watermark at most: those of which something came last."""
PACKED_BYTES: Final = 48 * 1024
"""A packed history at most: a broker refuses packets above 64 KiB."""
UNPACKED_BYTES: Final = 512 * 1024
"""What may come out of it at most: no bomb explodes here."""
ITEMS: Final = 2000
"""Records in one history at most."""
NO_HASH: Final = bytes(32)
"""`prev` of a site's first digest."""
CERTIFICATE_BYTES: Final = 4096


class RecordCode(IntEnum):
    """The kinds of records, as a history and a digest name them."""

    HEARTBEAT = 0
    EVENT = 1
    HISTOGRAM = 2
    DIGEST = 3


class UplinkHistogram(Record, frozen=True, array_like=True):
    """One uplink's round trips of some minutes, exactly mergeable.

    Base-2 exponential, scale 3 (OpenTelemetry metrics data model, ExponentialHistogram):
    bucket i holds those above 2^(i/8) and up to 2^((i+1)/8) microseconds.
    """

    name: Name
    sent: Natural
    lost: Natural
    not_sent: Natural
    first: Integer | None
    """Index of the first bucket; nil: no round trip."""
    counts: Annotated[tuple[Natural, ...], msgspec.Meta(max_length=512)]
    sum_us: Natural
    """Of all round trips."""
    rx_bytes: Natural | None
    tx_bytes: Natural | None
    healths_ms: Annotated[tuple[Natural, ...], msgspec.Meta(min_length=4, max_length=4)]
    """How long it was unknown, up, degraded, down."""


class Histogram(Record, frozen=True, array_like=True):
    """Some minutes of every uplink. Topic `…/history` only."""

    boot: BootId
    seq: Natural
    at_ms: Natural
    wall_ms: Natural
    clock_age_s: ClockAge
    begin_ms: Natural
    """Milliseconds since boot of its beginning; `at_ms` is its end."""
    uplinks: tuple[UplinkHistogram, ...]


SeqRange = tuple[Natural, Natural]
"""First and last, both of it."""


class Digest(Record, frozen=True, array_like=True):
    """What a site recorded, from one record to another, as one hash. `…/history` only.

    `root` is over the records first…last of the boot `of`: `root_of`. The digests of a
    site are a chain over all its boots: `prev` is `hash_of` of the one before.
    """

    boot: BootId
    seq: Natural
    at_ms: Natural
    wall_ms: Natural
    clock_age_s: ClockAge
    of: BootId
    """Whose records it covers: `boot`, or an earlier one that ended without a digest."""
    first: Natural
    last: Natural
    missing: Annotated[tuple[SeqRange, ...], msgspec.Meta(max_length=64)]
    """Records of them that were gone when it was made, so that `root` is without them."""
    root: Hash
    prev: Hash
    certificate: Annotated[bytes, msgspec.Meta(max_length=CERTIFICATE_BYTES)] | None = (
        None
    )
    """DER, X.509: whose key signs from here on; said at least once a boot."""
    signature: Signature = b""
    """By the site's key, over `digest_to_sign`. The last field for ever: others check a
    signature without knowing the message, by cutting it off the payload's end."""


class LostRange(Record, frozen=True, array_like=True):
    """Records that a site had and will never send: its spool was full, or damaged."""

    boot: BootId
    first: Natural
    last: Natural


class HistoryItem(Record, frozen=True, array_like=True):
    """One record as it was recorded: the same bytes as on its own topic."""

    kind: RecordCode
    payload: bytes


class History(Record, frozen=True, array_like=True):
    """Records that do not come live. Topic `…/history`, QoS 1, at a limited rate."""

    packed: Annotated[bytes, msgspec.Meta(max_length=PACKED_BYTES)]
    """`pack`: DEFLATE (RFC 1951) of a MessagePack array of HistoryItem, oldest first."""
    lost: Annotated[tuple[LostRange, ...], msgspec.Meta(max_length=64)] = ()


class BootMark(Record, frozen=True, array_like=True):
    """What is committed of one boot."""

    boot: BootId
    through: Natural
    """All records up to this one; 0: not even the first."""
    highest: Natural
    """Above `through`: all up to this one but `gaps`. Nothing is said of what is above."""
    gaps: Annotated[tuple[SeqRange, ...], msgspec.Meta(max_length=GAPS)] = ()


class Watermark(Record, frozen=True, array_like=True):
    """What the collector has for good. Topic `…/watermark`, retained, QoS 1.

    It may go back: a database was restored from a backup. What is then above it is to be
    sent again by whoever has it. With fewer than BOOTS boots it lists all that the
    collector has anything of; with BOOTS nothing is said of any other.
    """

    store: Annotated[
        bytes, msgspec.Meta(min_length=STORE_BYTES, max_length=STORE_BYTES)
    ]
    """Names the database."""
    revision: Natural
    """Rises with each watermark of this site and database."""
    boots: Annotated[tuple[BootMark, ...], msgspec.Meta(max_length=BOOTS)]


LEAF_OF: Final = {code: code.name.lower() for code in RecordCode}
"""What a record is called outside a history: the leaf of its topic, if it has one."""
CODE_OF: Final = {leaf: code for code, leaf in LEAF_OF.items()}

_ITEMS = msgspec.msgpack.Decoder(
    Annotated[tuple[HistoryItem, ...], msgspec.Meta(max_length=ITEMS)], strict=True
)
_PACK = msgspec.msgpack.Encoder()


def pack(items: Sequence[HistoryItem]) -> bytes:
    """Return the items for `History.packed`; the caller bounds them (PACKED_BYTES)."""
    return deflated(_PACK.encode(items))


def unpack(packed: bytes) -> tuple[HistoryItem, ...]:
    """Return what `pack` was given; raises MalformedMessage."""
    if not packed:
        return ()
    data = inflated(packed, UNPACKED_BYTES)
    try:
        items: tuple[HistoryItem, ...] = _ITEMS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    return items


def open_item(item: HistoryItem) -> Heartbeat | Event | Histogram | Digest:
    """Return the record in an item; raises MalformedMessage."""
    match item.kind:
        case RecordCode.HEARTBEAT:
            return decode(item.payload, Heartbeat)
        case RecordCode.EVENT:
            return decode(item.payload, Event)
        case RecordCode.HISTOGRAM:
            return decode(item.payload, Histogram)
        case RecordCode.DIGEST:
            return decode(item.payload, Digest)


def hash_of(kind: RecordCode, payload: bytes) -> bytes:
    """Return the SHA-256 by which a digest knows a record: of its kind and payload."""
    return hashlib.sha256(bytes((kind,)) + payload).digest()


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return a digest's `root`: SHA-256 over the records' hashes in order of seq."""
    whole = hashlib.sha256()
    for each in hashes:
        whole.update(each)
    return whole.digest()


def digest_to_sign(region: str, site: str, digest: Digest) -> bytes:
    """Return the bytes that a digest's signature is over. It names the site."""
    bare = msgspec.structs.replace(digest, signature=b"")
    return f"jaga/1 digest {region}/{site}\n".encode() + encode(bare)
