"""What the broker hands over, and how it is taken apart. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jaga_agent.wire import echo, messages, topics
from jaga_agent.wire.messages import (
    Event,
    Heartbeat,
    MalformedMessage,
    ModeCode,
    Status,
)
from jaga_server.core import model

UNKNOWN_TOPIC = "unknown topic"
MALFORMED = "malformed"
NAMED_TWICE = "uplink named twice"
TOO_MANY_UNLISTED = "too many sites that are not on the list"
UNSTORABLE = "unstorable"


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


Message = Heartbeat | Event | Status
HEALTH = {code: model.Health[code.name] for code in messages.HealthCode}
MODE = {code: model.Mode[code.name] for code in ModeCode}


def open_envelope(received: Received) -> tuple[topics.Topic, Message]:
    """Return the topic's parts and the message; raises RejectedError."""
    topic = topics.parse(received.topic)
    if topic is None:
        raise RejectedError(UNKNOWN_TOPIC, received.topic[:200], None)
    try:
        message = _decode(received.payload, topic.leaf)
    except MalformedMessage as error:
        raise RejectedError(MALFORMED, str(error), topic.site) from error
    if isinstance(message, Heartbeat):
        names = Counter(uplink.name for uplink in message.uplinks)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise RejectedError(NAMED_TWICE, twice[0], topic.site)
    return topic, message


def _decode(payload: bytes, leaf: str) -> Message:
    match leaf:
        case "heartbeat":
            return messages.decode(payload, Heartbeat)
        case "event":
            return messages.decode(payload, Event)
        case _:
            return messages.decode(payload, Status)


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


def transition(site: str, wire: Event, t_ms: int, arrival_ms: int) -> model.Transition:
    """Return the event as the core knows it."""
    return model.Transition(
        site,
        wire.boot,
        wire.seq,
        t_ms,
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
