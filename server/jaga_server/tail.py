"""`jaga-collector tail`: what the sites say, as JSON lines.

It takes nothing away from the collector: its own subscription, a throw-away session.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import msgspec

from jaga_agent.wire import topics
from jaga_agent.wire.evidence import LEAF_OF, History
from jaga_agent.wire.orders import Command
from jaga_server.adapters.mqtt import Consumer
from jaga_server.ingest.counters import Counters
from jaga_server.ingest.received import (
    Received,
    RejectedError,
    open_envelope,
    open_item,
    open_order,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_server.config import Config
    from jaga_server.ingest.received import Message

CAPACITY = 5000


def as_line(received: Received) -> str:
    """Return one message as a line of JSON; one that is malformed says so."""
    line: dict[str, Any] = {
        "arrival_ms": received.arrival_ms,
        "topic": received.topic,
        "retained": received.retained,
    }
    try:
        topic, message = open_envelope(received)
        opened = _open(message, topic.site)
    except RejectedError as refusal:
        line |= {"refused": refusal.reason, "detail": str(refusal)}
        line["payload_hex"] = received.payload[:256].hex()
    else:
        line |= {"site": topic.site, topic.leaf: opened}
    return msgspec.json.encode(line).decode()


def _open(message: Message, site: str) -> Any:
    """Return a message as plain values, with what is packed in it; raises RejectedError."""
    match message:
        case History():
            items = [
                {LEAF_OF[item.kind]: _plain(open_item(item, site))}
                for item in unpack(message, site)
            ]
            return {"items": items, "lost": _plain(message.lost)}
        case Command():
            order = _plain(open_order(message, site))
            return {"order": order, "signature": message.signature.hex()}
        case _:
            return _plain(message)


def _plain(value: Any) -> Any:
    """Return structs as objects with their field names (on the wire they are arrays)."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value


def run(config: Config, site: str | None, write: Callable[[str], None]) -> int:
    """Print until interrupted. Returns the exit status."""
    inbox: Queue[Received] = Queue(CAPACITY)
    settings = replace(
        config.mqtt,
        client_id=f"jaga-tail-{secrets.token_hex(4)}",
        share=None,
        session_expiry_s=0,
    )
    consumer = Consumer(
        settings, config.region, inbox, Counters(), lambda _connected: None
    )
    consumer.start()
    try:
        while consumer.alive:
            try:
                received = inbox.get(timeout=0.5)
            except Empty:
                continue
            topic = topics.parse(received.topic)
            if site is None or (topic is not None and topic.site == site):
                write(as_line(received))
            if received.token is not None:
                consumer.acknowledge([received.token])
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    finally:
        consumer.close(timeout_s=2)
    return 1
