"""The contract, version 1: what an operator orders, and what became of it.

MQTT 5 request and response. An order is signed by an operator's key, which neither the
broker nor the collector has: whoever breaks into them can hold orders back, but make or
change none, nor have one carried out twice.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from jaga_agent.wire.base import (
    BootId,
    ClockAge,
    Name,
    Natural,
    Record,
    Signature,
    Text,
)

ORDER_BYTES: Final = 40 * 1024
CONTENT_BYTES: Final = 48 * 1024
ORDER_ID_BYTES: Final = 16

OrderId = Annotated[
    bytes, msgspec.Meta(min_length=ORDER_ID_BYTES, max_length=ORDER_ID_BYTES)
]

ACTIONS: Final = {
    "probe-now": (),
    "switch-to": ("uplink",),
    "hold": ("for_s",),
    "set-mode": ("mode",),
    "send-diagnostics": (),
    "reboot-modem": ("uplink",),
    "apply-configuration": ("toml",),
}
"""The closed list of what may be ordered, and the arguments each needs. Append-only."""


class Order(Record, frozen=True, array_like=True):
    """What is signed. Fresh while one of its two times has not come."""

    id: OrderId
    """Random; the correlation data of the request and of every reply."""
    region: Name
    site: Name
    operator: Name
    """As the key is called."""
    counter: Natural
    """Rises with every order of one operator to one site: nothing is done twice."""
    issued_ms: Natural
    """By the operator's clock, Unix milliseconds."""
    expires_ms: Natural
    """The same clock; for a site that knows the time."""
    action: Name
    """One of `ACTIONS`."""
    arguments: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=32_768)]],
        msgspec.Meta(max_length=8),
    ] = msgspec.field(default_factory=dict)
    boot: BootId | None = None
    boot_expires_ms: Natural | None = None
    """Milliseconds since that boot: for a site that does not know the time."""


class Command(Record, frozen=True, array_like=True):
    """Topic `…/command`, QoS 1, with a message expiry."""

    body: Annotated[bytes, msgspec.Meta(max_length=ORDER_BYTES)]
    """An encoded Order."""
    signature: Signature
    """By the operator's key, over `order_to_sign`."""


class ReplyCode(IntEnum):
    """What became of an order."""

    REFUSED = 0
    """Not done, and never will be: forged, stale, repeated, impossible."""
    ACCEPTED = 1
    """Being done; another reply follows."""
    DONE = 2
    FAILED = 3


class Reply(Record, frozen=True, array_like=True):
    """Topic `…/reply`, QoS 1, with the request's correlation data."""

    order: OrderId
    code: ReplyCode
    detail: Text
    """One sentence for the operator."""
    boot: BootId
    at_ms: Natural
    wall_ms: Natural
    clock_age_s: ClockAge
    content: Annotated[bytes, msgspec.Meta(max_length=CONTENT_BYTES)] = b""
    """Of diagnostics: JSON, DEFLATE (RFC 1951)."""


def order_to_sign(body: bytes) -> bytes:
    """Return the bytes that an order's signature is over."""
    return b"jaga/1 order\n" + body
