"""What the broker hands over, and how it is taken apart. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.wire import echo, evidence, messages, topics
from jaga_agent.wire.evidence import Digest, Histogram, History
from jaga_agent.wire.messages import (
    Event,
    Heartbeat,
    MalformedMessage,
    ModeCode,
    Status,
)
from jaga_agent.wire.orders import Command, Order, Reply
from jaga_server.core import model

if TYPE_CHECKING:
    from jaga_agent.wire.evidence import HistoryItem
    from jaga_server.core.dating import Dated

UNKNOWN_TOPIC = "unknown topic"
MALFORMED = "malformed"
NAMED_TWICE = "uplink named twice"
TOO_MANY_UNLISTED = "too many sites that are not on the list"
UNSTORABLE = "unstorable"
CONFLICT = "another record of that number"


@dataclass(frozen=True, slots=True)
class Token:
    """What an acknowledgement needs. Packet ids belong to one connection only."""

    generation: int
    packet_id: int


@dataclass(frozen=True, slots=True)
class Received:
    """One message from the broker."""

    topic: str
    payload: bytes
    arrival_ms: int
    retained: bool
    token: Token | None
    """None: nothing to acknowledge (QoS 0)."""


class RejectedError(ValueError):
    """Says why a message can never be stored. `reason` is one of a few fixed words."""

    def __init__(self, reason: str, detail: str, site: str | None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.site = site


Record = Heartbeat | Event | Histogram | Digest
Message = Heartbeat | Event | Status | History | Command | Reply
HEALTH = {code: model.Health[code.name] for code in messages.HealthCode}
MODE = {code: model.Mode[code.name] for code in ModeCode}
_KINDS: dict[str, type[Message]] = {
    "heartbeat": Heartbeat,
    "event": Event,
    "status": Status,
    "history": History,
    "command": Command,
    "reply": Reply,
}
"""What a collector consumes, by leaf."""


def open_envelope(received: Received) -> tuple[topics.Topic, Message]:
    """Return the topic's parts and the message; raises RejectedError."""
    topic = topics.parse(received.topic)
    kind = None if topic is None else _KINDS.get(topic.leaf)
    if topic is None or kind is None:
        raise RejectedError(UNKNOWN_TOPIC, received.topic[:200], None)
    try:
        message: Message = messages.decode(received.payload, kind)
    except MalformedMessage as error:
        raise RejectedError(MALFORMED, str(error), topic.site) from error
    if isinstance(message, Heartbeat | Event):
        _check(message, topic.site)
    return topic, message


def unpack(history: History, site: str) -> tuple[HistoryItem, ...]:
    """Return a history's items, still closed; raises RejectedError."""
    try:
        return evidence.unpack(history.packed)
    except MalformedMessage as error:
        raise RejectedError(MALFORMED, str(error), site) from error


def open_item(item: HistoryItem, site: str) -> Record:
    """Return the record in one item; raises RejectedError."""
    try:
        record = evidence.open_item(item)
    except MalformedMessage as error:
        raise RejectedError(MALFORMED, str(error), site) from error
    _check(record, site)
    return record


def open_order(command: Command, site: str) -> Order:
    """Return what a command orders, for the log; raises RejectedError.

    Whether it is signed by whom it names only the site can tell.
    """
    try:
        return messages.decode(command.body, Order)
    except MalformedMessage as error:
        raise RejectedError(MALFORMED, str(error), site) from error


def _check(record: Record, site: str) -> None:
    """Refuse what the types cannot; raises RejectedError."""
    if record.seq < 1:
        raise RejectedError(MALFORMED, "seq counts from 1", site)
    if isinstance(record, Heartbeat | Histogram):
        names = Counter(uplink.name for uplink in record.uplinks)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise RejectedError(NAMED_TWICE, twice[0], site)
    if isinstance(record, Histogram) and record.begin_ms > record.at_ms:
        raise RejectedError(MALFORMED, "begin_ms after at_ms", site)


def beat(site: str, wire: Heartbeat, t_ms: int, arrival_ms: int) -> model.Beat:
    """Return the heartbeat as the core knows it."""
    return model.Beat(
        site,
        wire.boot,
        wire.seq,
        t_ms,
        arrival_ms,
        wire.clock_age_s >= 0,
        MODE[wire.mode],
        wire.active,
        tuple(
            model.Reading(
                u.name,
                HEALTH[u.health],
                u.sent,
                u.lost,
                None if u.rtt_mean_us is None else u.rtt_mean_us / 1000,
            )
            for u in wire.uplinks
        ),
        model.Host(
            wire.host.uptime_s,
            _scaled(wire.host.cpu_permille, 1000),
            _scaled(wire.host.memory_permille, 1000),
            _scaled(wire.host.disk_permille, 1000),
            _scaled(wire.host.temperature_decidegc, 10),
        ),
    )


def transition(
    site: str, wire: Event, dated: Dated, arrival_ms: int
) -> model.Transition:
    """Return the event as the core knows it."""
    return model.Transition(
        site,
        wire.boot,
        wire.seq,
        dated.t_ms,
        arrival_ms,
        wire.kind,
        wire.rule,
        wire.uplink,
        wire.old,
        wire.new,
        wire.reason,
        wire.detected_ms,
        wire.switched_ms,
        wire.evidence,
        dated.by_clock,
    )


def report(site: str, wire: Status, received: Received) -> model.Report:
    """Return the status as the core knows it."""
    return model.Report(
        site,
        wire.online,
        wire.boot,
        wire.connection,
        wire.version,
        wire.config_hash,
        tuple(model.Identity(u.name, u.provider, u.device) for u in wire.uplinks),
        received.arrival_ms,
        received.retained,
    )


def last_resort(state: echo.SiteState, place: int, arrival_ms: int) -> model.LastResort:
    """Return a last-resort heartbeat as the core knows it."""
    return model.LastResort(
        arrival_ms,
        place,
        state.active,
        tuple(HEALTH[code] for code in state.healths),
        MODE[state.mode],
        state.waiting,
        state.silent_s,
    )


def _scaled(value: int | None, divisor: int) -> float | None:
    return None if value is None else value / divisor
