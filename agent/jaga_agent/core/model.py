"""The words of the decision core: names, health, policy. No behaviour, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
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


class TargetKind(Enum):
    """How a target is probed; the scheme of its URL."""

    ICMP = "icmp"
    UDP_ECHO = "udp-echo"
    TCP = "tcp"
    DNS = "dns"
    TLS = "tls"
    HTTP = "http"
    HTTPS = "https"


PULSE_KINDS = frozenset({TargetKind.ICMP, TargetKind.UDP_ECHO})
"""One small packet and its echo: for heartbeats and races. The others are checks."""


class Role(Enum):
    """What a failing check means: the site's work, or a reference beside it."""

    APP = "app"
    REFERENCE = "reference"


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
    """Heartbeat probes of an uplink that is up, round-robin over the targets."""
    boosted_interval_s: float = 0.5
    """The same while its loss or delay is in question: a sequential test needs samples."""
    recovery_interval_s: float = 2.0
    """Probes of an uplink that is down or unknown while another one carries."""
    confirm_interval_s: float = 0.2
    """After the first answer of an uplink that was down, until `rise` is reached."""
    stranded_interval_s: float = 0.5
    """Probes of every uplink while none is usable."""
    rise: int = 3
    """Answered probes in a row before an uplink that was down counts as up."""

    rto_floor_s: float = 0.2
    """Shortest verdict timeout: below it a phone's Wi-Fi hiccup looks like an outage."""
    rto_cap_s: float = 2.0
    """Longest: a satellite's worst standing delay, well under a phone's 5 s patience."""
    rto_initial_s: float = 1.0
    """RFC 6298 (2.1): 1 s before the first round trip is known."""
    wake_s: float = 1.0
    """Shortest timeout of the first packets after idleness: an LTE radio needs 0.3 to
    2 s to wake (RRC promotion)."""
    idle_after_s: float = 8.0
    """Without a received packet for this long, the radio may sleep (typical RRC
    inactivity timers are about 10 s)."""
    lost_after_s: float = 3.0
    """RFC 2680: a reply later than this is as good as none; what is reported as loss."""

    volley_gap_s: float = 0.12
    """Between the volleys of a race: one queue's hiccup must not eat them all."""
    volleys: int = 2
    calm_s: float = 1.0
    """After a race that found the uplink alive, passive suspicion rests this long."""
    busy_packets: int = 6
    """Received packets during a race that prove a full queue, not a dead link."""

    rtt_degraded_s: float = 0.8
    """A smoothed round trip above this is a brownout."""
    debounce_degraded_s: float = 5.0
    """An active uplink stays degraded this long before a cleaner one takes over."""
    steady_s: float = 10.0
    """And the cleaner one must have been up this long."""
    hold_down_s: float = 60.0
    """How long a recovered uplink must stay up before failback, the first time."""
    hold_down_cap_s: float = 900.0
    penalty_half_life_s: float = 300.0
    """Flap damping in the manner of RFC 2439: each fall adds 1, which decays by half."""
    settle_s: float = 1.0
    """At the start, how long the first usable uplink waits for a preferred one."""
    regroup_s: float = 0.3
    """When all had been silent, how long another one waits for the active one."""
    failback: Failback = Failback.AFTER_HOLD_DOWN
