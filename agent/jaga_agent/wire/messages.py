"""The contract between agent and collector, version 1: state now, transitions, presence.

MessagePack arrays, positional and append-only: a new field goes at the end with a
default, so that an old collector skips it and a new one reads old agents. A type that
does not fit, or a value out of its range, makes the whole message malformed.
`docs/asyncapi.yaml` says the same in public; a test keeps the two together.

Units are in the names: `_us` microseconds, `_ms` milliseconds, `_permille` 0…1000,
`_decidegc` tenths of a degree Celsius. Missing is nil, never 0.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from jaga_agent.wire.base import (
    BOOT_BYTES,
    CLOCK_UNKNOWN,
    CONTRACT_VERSION,
    BootId,
    ClockAge,
    Integer,
    MalformedMessage,
    Name,
    Natural,
    Permille,
    Record,
    Text,
    decode,
    encode,
)

__all__ = [
    "BOOT_BYTES",
    "CLOCK_UNKNOWN",
    "CONTRACT_VERSION",
    "EVENT_KINDS",
    "Event",
    "HealthCode",
    "Heartbeat",
    "HostBeat",
    "MalformedMessage",
    "ModeCode",
    "Status",
    "UplinkBeat",
    "UplinkIdentity",
    "decode",
    "encode",
]


EVENT_KINDS: Final = {
    "started": (),
    "stopped": (),
    "health": ("unknown", "up", "degraded", "down"),
    "decision": (),
    "target": ("silent", "answering"),
    "check": ("failing", "working"),
    "busy": ("free", "busy"),
    "thrift": ("normal", "thrift", "sparing", "last-drops"),
    "gap": (),
    "order": ("refused", "accepted", "done", "failed"),
    "clock": ("unknown", "ntp", "reflector", "http-date", "modem"),
}
"""The kinds of events, and the words that their `old` and `new` take.

Of a decision those are uplinks. check: the real thing began to fail through an uplink, or
works; busy: the site's own traffic fills an uplink; thrift: the governor measures an
uplink less, or as usual; gap: the first packet after a move came in; clock: who tells the time
changed, or the Pi's own clock stepped; order: what became of an operator's command (only
`new`). Append-only.
"""


class HealthCode(IntEnum):
    """Health of an uplink on the wire. Names as in the agent's core."""

    UNKNOWN = 0
    UP = 1
    DEGRADED = 2
    DOWN = 3


class ModeCode(IntEnum):
    """The site's stage on the wire."""

    DORMANT = 0
    READY = 1
    POLLING_DAY = 2


class UplinkBeat(Record, frozen=True, array_like=True):
    """One uplink since the last heartbeat."""

    name: Name
    health: HealthCode
    sent: Natural
    """Probes on the wire whose fate is known: answered, late or lost."""
    lost: Natural
    """Of them: never answered within the loss interval."""
    not_sent: Natural
    """Probes the kernel refused to send; not counted in `sent`."""
    rtt_min_us: Natural | None
    rtt_mean_us: Natural | None
    rtt_max_us: Natural | None
    rx_bytes: Natural | None
    """Bytes received by the device since the last heartbeat; nil: device gone."""
    tx_bytes: Natural | None
    signal_dbm: Integer | None = None


class HostBeat(Record, frozen=True, array_like=True):
    """The Pi itself."""

    uptime_s: Natural
    cpu_permille: Permille | None
    memory_permille: Permille | None
    disk_permille: Permille | None
    temperature_decidegc: Integer | None


class Heartbeat(Record, frozen=True, array_like=True):
    """State now. Topic `jaga/1/{region}/{site}/heartbeat`, QoS 1."""

    boot: BootId
    """Names one boot of one spool; (site, boot, seq) is unique for ever."""
    seq: Natural
    """Counts all records of the boot together, from 1, without a hole."""
    at_ms: Natural
    """Milliseconds since boot (CLOCK_BOOTTIME) when the record was made."""
    wall_ms: Natural
    """The best known UTC, Unix milliseconds; the Pi's own wall clock, which may be years
    off, if nobody has confirmed the time since boot."""
    clock_age_s: ClockAge
    """Seconds since `wall_ms`'s UTC was confirmed; -1: not since boot."""
    mode: ModeCode
    active: Name | None
    uplinks: tuple[UplinkBeat, ...]
    host: HostBeat


class Event(Record, frozen=True, array_like=True):
    """A transition or decision. Topic `…/event`, QoS 1, at once."""

    boot: BootId
    seq: Natural
    at_ms: Natural
    wall_ms: Natural
    clock_age_s: ClockAge
    kind: Name
    """One of `EVENT_KINDS`; a receiver keeps kinds it does not know."""
    rule: Name | None
    """Of a decision: first | failover | switchover | failback."""
    uplink: Name | None
    old: Name | None
    """Before: in the words of `EVENT_KINDS`, or the uplink that carried."""
    new: Name | None
    reason: Text
    detected_ms: Natural | None = None
    """Of a decision: from the old uplink's last sign of life to the decision."""
    switched_ms: Natural | None = None
    """Of a decision: from the decision until the kernel had the new route."""
    evidence: Annotated[dict[str, Text], msgspec.Meta(max_length=32)] = msgspec.field(
        default_factory=dict
    )
    """Of a decision, each candidate's name: what was held of it. `target`: which one a
    target's or check's event is about. `gap_ms`: the time the site was cut. `id`, `hash`:
    the entry in the agent's decision chain, and the first 16 characters of its hash.
    `order`, `operator`, `action`: of an order, its id (hexadecimal), and as it says.
    Of kind clock `offset_ms`: UTC minus the Pi's wall clock; `uncertainty_ms`: of UTC;
    `step_ms`: by how much the wall clock stepped, 0 if it did not."""


class UplinkIdentity(Record, frozen=True, array_like=True):
    """Which provider stands behind an uplink's name."""

    name: Name
    provider: Name
    device: Name
    preference: Integer


class Status(Record, frozen=True, array_like=True):
    """Presence, retained. Topic `…/status`; `online = false` is also the last will."""

    online: bool
    boot: BootId
    connection: Natural
    """Counts this boot's connections: a late will is told from its own birth."""
    version: Text = ""
    config_hash: Text = ""
    uplinks: tuple[UplinkIdentity, ...] = ()
