"""What the engine remembers. Frozen: a state can be kept, compared, replayed."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaga_agent.core.estimate import Damping, LossTest, RoundTrip
from jaga_agent.core.model import Health, Instant, Policy, TargetName, UplinkName


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
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Race:
    """Several probes at once to settle a suspicion."""

    cause: str
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
class UplinkState:
    """Everything known of one uplink."""

    health: Health = Health.UNKNOWN
    since: Instant | None = None
    """Since when it has this health."""
    reason: str = "not probed yet"
    linked: bool = False
    """Device present, carrier, address and gateway known."""
    paths: tuple[Path, ...] = ()
    """In the order of `Policy.targets`."""
    overall: RoundTrip = field(default_factory=RoundTrip)
    """Over all targets: what a brownout is judged by."""
    loss: LossTest = field(default_factory=LossTest)
    streak: int = 0
    """Answered probes in a row while down or unknown."""
    damping: Damping = field(default_factory=Damping)
    race: Race | None = None
    calm_until: Instant | None = None

    last_probe_at: Instant | None = None
    next_target: int = 0
    answered_at: Instant | None = None
    heard_at: Instant | None = None
    """Last sign of life: a probe's answer, or a packet the counters saw."""

    rx_packets: int | None = None
    tx_packets: int | None = None
    unanswered_since: Instant | None = None
    """When the first packet went out that nothing came back for."""
    unanswered_packets: int = 0


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

    @classmethod
    def initial(cls, policy: Policy, active: UplinkName | None = None) -> State:
        """Return the state at the start; `active` is what the kernel already does."""
        blank = UplinkState(paths=tuple(Path() for _ in policy.targets))
        return cls(policy, tuple(blank for _ in policy.uplinks), active)

    def index(self, name: UplinkName) -> int:
        """Return the uplink's place; raises StopIteration for a name never given."""
        return next(i for i, u in enumerate(self.policy.uplinks) if u.name == name)

    def of(self, name: UplinkName) -> UplinkState:
        """Return what is known of one uplink."""
        return self.per[self.index(name)]


USABLE = frozenset({Health.UP, Health.DEGRADED})
