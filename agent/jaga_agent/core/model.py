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


class Access(Enum):
    """What is known beforehand of how an uplink falls silent for a moment."""

    LEARN = "learn"
    FIXED = "fixed"
    """Never: silence is an outage."""
    MOBILE = "mobile"
    """Handovers and a radio that sleeps: gaps up to 2 s."""
    SATELLITE = "satellite"
    """Low orbit, re-scheduled each 15 s: gaps up to 3 s."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """One provider's way out, as the core knows it."""

    name: UplinkName
    preference: int
    """Lower first."""
    access: Access = Access.LEARN
    quota_bytes: int | None = None
    """None: not metered."""


@dataclass(frozen=True, slots=True)
class Check:
    """The real thing, asked for rarely through each uplink."""

    target: TargetName
    kind: TargetKind
    role: Role = Role.REFERENCE
    interval_s: float = 900.0
    """One light request in 15 min: 435,000 sites would be 480 requests a second."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Every threshold the engine decides by. Defaults suit a polling day."""

    uplinks: tuple[Uplink, ...]
    targets: tuple[TargetName, ...]
    """Pulse targets: what heartbeat probes and races ask."""
    checks: tuple[Check, ...] = ()

    allowance_bytes: int = 500_000
    """Of pulses in a day, for each uplink, both ways (`core/governor.py`)."""
    probe_interval_s: float = 13.0
    """Heartbeat probes of an idle uplink that is up, round-robin over the targets:
    within 0.5 MB a day (`core/governor.py`)."""
    busy_interval_s: float = 1.0
    """The same while people use it; never above 1 % of what they carry."""
    boosted_interval_s: float = 0.2
    """While its loss or delay is in question: a sequential test needs samples."""
    urgent_interval_s: float = 0.1
    """While heavy loss is likely."""
    recovery_interval_s: float = 2.0
    """Probes of an uplink that is down or unknown while another one carries; rarer the
    longer it lasts."""
    confirm_interval_s: float = 0.2
    """After the first answer of an uplink that was down, until `rise` is reached."""
    stranded_interval_s: float = 0.4
    """Probes of every uplink while none is usable."""
    rise: int = 3
    """Answered probes in a row before an uplink that was down counts as up."""

    suspect_floor_s: float = 0.1
    """Shortest silence after sent packets that is doubted: above a phone's delayed
    acknowledgement (RFC 1122 allows 0.5 s, Linux and Android use 0.04)."""
    rto_floor_s: float = 0.15
    """Shortest timeout of a probe."""
    rto_cap_s: float = 2.0
    """Longest: a satellite's worst standing delay, well under a phone's 5 s patience."""
    rto_initial_s: float = 1.0
    """RFC 6298 (2.1): 1 s before the first round trip is known."""
    wake_s: float = 1.0
    """Timeout of the first packets after idleness while the uplink's own wake-up is
    not known yet: an LTE radio needs 0.3 to 2 s (RRC promotion)."""
    idle_after_s: float = 8.0
    """Without a received packet for this long, the radio may sleep (typical RRC
    inactivity timers are about 10 s)."""
    lost_after_s: float = 3.0
    """RFC 2680: a reply later than this is as good as none; what is reported as loss."""

    volley_gap_s: float = 0.06
    """Between the volleys of a race: one queue's hiccup must not eat them all."""
    volleys: int = 2
    linger_gap_s: float = 0.25
    """Between single probes while a race waits for a gap that its uplink is known for
    to end."""
    calm_s: float = 1.0
    """After a race that found the uplink alive, the next doubt needs three times the
    silence for so long; twice as long each time in a row, up to `calm_cap_s`."""
    calm_cap_s: float = 8.0
    busy_packets: int = 6
    """Received packets during a race that prove a full queue, not a dead link."""

    rtt_degraded_s: float = 0.8
    """A smoothed round trip above this is a brownout; below half of it, none."""
    debounce_degraded_s: float = 5.0
    """An active uplink stays degraded this long before a cleaner one takes over.
    Loss has no such wait: its sequential test is one."""
    steady_s: float = 10.0
    """And the cleaner one must have been up this long."""
    verified_probes: int = 8
    """Answered in a row by a standby before loss moves the site to it."""
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

    recheck_s: float = 60.0
    """Between checks of an uplink that fails one; doubled up to the check's interval."""
    check_calm_s: float = 10.0
    """Between checks that resets ask for and that pass; doubled up to `recheck_cap_s`."""
    recheck_cap_s: float = 900.0
