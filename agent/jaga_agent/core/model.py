"""The words of the decision core: names, health, policy. No behaviour, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

UplinkName = NewType("UplinkName", str)
TargetName = NewType("TargetName", str)
Instant = NewType("Instant", float)
"""Seconds on the boot-time clock (monotonic, counts suspend). Never a wall-clock time."""


class Health(Enum):
    """What the evidence says of an uplink. "No data" is its own state, not "down"."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Mode(Enum):
    """The site's stage; it sets how often heartbeats are sent."""

    DORMANT = "dormant"
    READY = "ready"
    POLLING_DAY = "polling-day"


class Failback(Enum):
    """Whether a recovered, preferred uplink takes the traffic back."""

    AFTER_HOLD_DOWN = "after-hold-down"
    NEVER = "never"
    """Only away from an uplink that fails: for the counting hours."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """One provider's way out, as the core knows it."""

    name: UplinkName
    preference: int
    """Lower first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Every threshold the engine decides by. Defaults suit a polling day."""

    uplinks: tuple[Uplink, ...]
    targets: tuple[TargetName, ...]

    probe_interval_s: float = 10.0
    """Heartbeat probes of an uplink that is up or degraded, round-robin over targets."""
    recovery_interval_s: float = 2.0
    """Probes of an uplink that is down or unknown while another one carries."""
    stranded_interval_s: float = 0.5
    """Probes of every uplink while none is usable."""
    rise: int = 3
    """Answered probes in a row before an uplink that was down counts as up."""
    rto_floor_s: float = 0.2
    rto_cap_s: float = 2.0
    rto_initial_s: float = 1.0
    """RFC 6298 (2.1): 1 s before the first round trip is known."""
    volley_gap_s: float = 0.12
    """Between the volleys of a race: one queue's hiccup must not eat them all."""
    volleys: int = 2
    rtt_degraded_s: float = 0.8
    """A standing smoothed RTT above this is a brownout."""
    hold_down_s: float = 60.0
    """How long a recovered uplink must stay up before failback, first time."""
    hold_down_cap_s: float = 900.0
    penalty_half_life_s: float = 300.0
    """Flap damping in the manner of RFC 2439: each fall adds 1, decaying by half."""
    debounce_degraded_s: float = 5.0
    """An active uplink must stay degraded this long before a cleaner one takes over."""
    failback: Failback = Failback.AFTER_HOLD_DOWN
    splay: float = field(default=0.0)
    """0 ≤ splay < 1: this site's phase in the probe schedule, so that sites spread."""
