"""What the engine remembers. Frozen: a state can be kept, compared, replayed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from jaga_agent.core.estimate import Damping, LossTest, RoundTrip
from jaga_agent.core.governor import Level
from jaga_agent.core.memory import Silences
from jaga_agent.core.model import Health, Instant, Policy, TargetName, UplinkName
from jaga_agent.core.passive import Flows, Traffic
from jaga_agent.core.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe on its way."""

    probe_id: int
    uplink: UplinkName
    target: TargetName
    sent_at: Instant
    deadline: Instant
    """After it the probe is overdue; its reply may still come and take that back."""
    racing: bool
    asleep: bool
    """The radio may have slept when it was sent: its round trip may hold the waking."""
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Race:
    """Several probes at once to settle a suspicion."""

    cause: Reason
    started_at: Instant
    rx_packets: int | None
    """The device's counter when the race began."""
    volleys_sent: int = 0
    next_volley_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """One target through one uplink."""

    round_trip: RoundTrip = field(default_factory=RoundTrip)
    misses: int = 0
    """Probes unanswered in a row."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """One check through one uplink."""

    check_id: int | None = None
    """Of the one under way."""
    ended_at: Instant | None = None
    failing_since: Instant | None = None
    """When the first one of those that fail now was sent."""
    sent_at: Instant | None = None
    ok: bool | None = None
    """Of the last one that told something; None: not known yet."""
    fails: int = 0
    """In a row."""
    verdict: str = ""
    detail: str = ""
    due_at: Instant | None = None
    """None: not planned (no link)."""
    recheck_s: float = 0.0


@dataclass(frozen=True, slots=True)
class UplinkState:
    """Everything known of one uplink."""

    health: Health = Health.UNKNOWN
    since: Instant | None = None
    """Since when it has this health."""
    reason: Reason = Reason("new")  # noqa: RUF009 - frozen, shared without harm
    linked: bool = False
    """Device present, carrier, address and gateway known."""
    paths: tuple[Path, ...] = ()
    """In the order of `Policy.targets`."""
    overall: RoundTrip = field(default_factory=RoundTrip)
    """Over all targets, the radio awake: what a brownout is judged by."""
    loss: LossTest = field(default_factory=LossTest)
    streak: int = 0
    """Answered probes in a row while down or unknown."""
    damping: Damping = field(default_factory=Damping)
    race: Race | None = None
    calm_until: Instant | None = None
    calm_s: float = 0.0
    """The last calm's length: doubled by the next false alarm soon after."""
    gaps: Silences = field(default_factory=Silences)
    wakes: Silences = field(default_factory=Silences)
    wake_known: bool = False
    """Whether any first packet after idleness has been timed."""
    silent_since: Instant | None = None
    """Since the first probe that the present silence has swallowed."""
    silent_asleep: bool = False
    """The radio may have slept when it began."""
    ended_gap_s: float | None = None
    """A silence that has just ended: a gap, if the next round trip is a normal one."""
    ended_gap_at: Instant | None = None

    last_probe_at: Instant | None = None
    next_target: int = 0
    answered_at: Instant | None = None
    heard_at: Instant | None = None
    """Last sign of life: a probe's answer, or a packet the counters saw."""

    traffic: Traffic = field(default_factory=Traffic)
    flows: Flows = field(default_factory=Flows)
    busy: bool = False
    """The site's own traffic fills its queue."""
    busy_at: Instant | None = None
    """When that was last seen."""
    urgent_until: Instant | None = None
    """Loss is suspected from connections: probes come at once until then."""
    doubt_calm_until: Instant | None = None
    doubt_calm_s: float = 0.0

    thrift: Level = Level.NORMAL
    """What the governor makes of its quota and of what probes took."""

    checks: tuple[CheckState, ...] = ()
    """In the order of `Policy.checks`."""
    faults: tuple[tuple[TargetName, Reason], ...] = ()
    """Checks of the site's work that fail here and work elsewhere: it cannot carry."""
    check_calm_until: Instant | None = None
    check_calm_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """A move whose first packet has not come in yet."""

    since: Instant
    """Last sign of life before it."""
    rx_packets: int | None
    """The new uplink's counter at the move."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The uplink that an operator put the site on, and when."""

    uplink: UplinkName
    at: Instant


@dataclass(frozen=True, slots=True)
class State:
    """The engine's whole memory."""

    policy: Policy
    per: tuple[UplinkState, ...]
    """In the order of `Policy.uplinks`, which is the order of preference."""
    active: UplinkName | None = None
    outstanding: tuple[Probe, ...] = ()
    faulty_targets: frozenset[TargetName] = frozenset()
    """Silent on every usable uplink while other targets answer."""
    next_probe_id: int = 1
    usable_since: Instant | None = None
    """Since when at least one uplink is usable."""
    cut: Cut | None = None
    hold_until: Instant | None = None
    """An operator's order: until then nothing leaves an uplink that works."""
    chosen: Chosen | None = None
    """What an operator chose, as long as that carries."""

    @classmethod
    def initial(cls, policy: Policy, active: UplinkName | None = None) -> State:
        """Return the state at the start; `active` is what the kernel already does."""
        blank = UplinkState(
            paths=tuple(Path() for _ in policy.targets),
            checks=tuple(CheckState() for _ in policy.checks),
        )
        return cls(policy, tuple(blank for _ in policy.uplinks), active)

    def index(self, name: UplinkName) -> int:
        """Return the uplink's place; raises LookupError for a name never given."""
        # A dozen times in a step: a loop costs a third of a generator.
        for index, uplink in enumerate(self.policy.uplinks):
            if uplink.name == name:
                return index
        raise LookupError(name)

    def of(self, name: UplinkName) -> UplinkState:
        """Return what is known of one uplink."""
        return self.per[self.index(name)]


USABLE = (Health.UP, Health.DEGRADED)
"""A tuple: it is searched by identity, where a set calls Enum's `__hash__`, in Python."""

_FIELDS = tuple(each.name for each in fields(UplinkState))
_VALUES = attrgetter(*_FIELDS)
_PLACES = {name: place for place, name in enumerate(_FIELDS)}


def changed(per: UplinkState, changes: Mapping[str, Any]) -> UplinkState:
    """Return what `dataclasses.replace` does, in half the time; raises KeyError."""
    values = list(_VALUES(per))
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return UplinkState(*values)
