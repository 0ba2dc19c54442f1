"""The words of the district: sites, reports, states. Values only; no I/O, no clock.

Every instant is Unix milliseconds. `t_ms` is event time (when it happened at the site,
as well as the collector can date it), `arrival_ms` is when the collector got it; the two
never stand in for one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Presence(Enum):
    """Whether the site is heard."""

    ONLINE = "online"
    OVERDUE = "overdue"
    OFFLINE = "offline"
    NEVER = "never"


class Condition(Enum):
    """What an operator counts."""

    FINE = "fine"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Health(Enum):
    """What a site says of one uplink. "No data" is its own state."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Mode(Enum):
    """The site's stage; it sets how often heartbeats are due."""

    DORMANT = "dormant"
    READY = "ready"
    POLLING_DAY = "polling-day"


NOWHERE = "—"
"""The kecamatan of a site that is not on the list."""


@dataclass(frozen=True, slots=True)
class Site:
    """One row of the site list."""

    site: str
    name: str
    kind: str
    desa: str | None
    kecamatan: str
    lat: float | None
    lon: float | None
    providers: tuple[str, ...]
    listed: bool = True
    """False: heard from, but not on the list."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One uplink in one heartbeat."""

    name: str
    health: Health
    sent: int
    lost: int
    rtt_ms: float | None


@dataclass(frozen=True, slots=True)
class Host:
    """The Pi itself."""

    uptime_s: int
    cpu_ratio: float | None
    memory_ratio: float | None
    disk_ratio: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, dated."""

    site: str
    boot: bytes
    seq: int
    t_ms: int
    arrival_ms: int
    clock_confirmed: bool
    mode: Mode
    active: str | None
    uplinks: tuple[Reading, ...]
    host: Host


@dataclass(frozen=True, slots=True)
class Transition:
    """An event of a site, dated."""

    site: str
    boot: bytes
    seq: int
    t_ms: int
    arrival_ms: int
    kind: str
    rule: str | None
    uplink: str | None
    old: str | None
    new: str | None
    reason: str
    detected_ms: int | None
    switched_ms: int | None
    evidence: dict[str, str]
    by_clock: bool = True
    """False: `t_ms` is its arrival, until its boot is dated."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which provider stands behind an uplink's name."""

    name: str
    provider: str
    device: str


@dataclass(frozen=True, slots=True)
class Report:
    """A birth (`online`) or a last will."""

    site: str
    online: bool
    boot: bytes
    connection: int
    version: str
    config_hash: str
    uplinks: tuple[Identity, ...]
    arrival_ms: int
    retained: bool
    """Kept by the broker and of unknown age: says what is, not that it just happened."""


@dataclass(frozen=True, slots=True)
class LastResort:
    """What a site told by udp-echo while it had no MQTT."""

    arrival_ms: int
    place: int
    """Which of the site's uplinks it came through, in the order of its birth."""
    active: int | None
    """Place of the uplink that carries the site."""
    healths: tuple[Health, ...]
    mode: Mode
    waiting: int
    """At least so many records wait at the site."""
    silent_s: int
    """At least so long it has had no MQTT."""


@dataclass(frozen=True, slots=True)
class Probes:
    """The counts of one heartbeat on one uplink, for the loss window."""

    t_ms: int
    sent: int
    lost: int


@dataclass(frozen=True, slots=True)
class UplinkMemory:
    """What is remembered of an uplink beyond its last heartbeat."""

    probes: tuple[Probes, ...] = ()
    """Oldest first, of the last five minutes."""
    rtt_ms: float | None = None
    """Mean of the last heartbeat that had an answered probe."""


@dataclass(frozen=True, slots=True)
class SiteState:
    """All that is known of a site now."""

    beat: Beat | None = None
    """The newest heartbeat of the current boot."""
    birth: Report | None = None
    """The last birth, live or retained."""
    will: Report | None = None
    """The last will that counted."""
    fallen: bool = False
    """Whether that will stands: nothing has been heard since."""
    last_heard_ms: int | None = None
    """Arrival of the last sign of life."""
    heard_at: int | None = None
    """The same moment on the hearing clock (`core.hearing`)."""
    memory: dict[str, UplinkMemory] = field(default_factory=dict)
    presence: Presence = Presence.NEVER
    condition: Condition = Condition.UNKNOWN
    since_ms: int | None = None
    """Since when that condition holds."""
    last_resort: LastResort | None = None
    """The last one, whatever was heard since."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When silence becomes news."""

    interval_polling_day_s: float = 10.0
    interval_ready_s: float = 60.0
    interval_dormant_s: float = 300.0
    overdue_missed: int = 3
    """Heartbeats missed in a row before a site is overdue."""
    offline_missed: int = 12
    """… before it is offline even without its last will."""
    last_resort_s: float = 180.0
    """A site heard by udp-echo within this long is not offline. An agent with eight
    targets and one uplink left asks the reflector each 80 s."""

    def interval_ms(self, mode: Mode) -> int:
        """Return how often a heartbeat is due in this mode."""
        seconds = {
            Mode.POLLING_DAY: self.interval_polling_day_s,
            Mode.READY: self.interval_ready_s,
            Mode.DORMANT: self.interval_dormant_s,
        }[mode]
        return round(seconds * 1000)
