"""How often an uplink is probed, and how long an answer may take. Policy in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jaga_agent.core.estimate import ALARM, HEAVY_RATIO, MILD_RATIO
from jaga_agent.core.governor import factors
from jaga_agent.core.model import Health, Instant
from jaga_agent.core.state import USABLE, UplinkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.core.estimate import LossTest, RoundTrip
    from jaga_agent.core.model import Policy

PULSE_BYTES: Final = 64
"""Of IP, a small echo both ways: what an interval costs."""
CARRIED_RATIO: Final = 0.01
"""Probes take at most this share of what people carry."""
EARNED_RATIO: Final = 1.25 * CARRIED_RATIO
"""What use adds to the day's allowance: a little more than it lets be spent."""
YOUNG_S: Final = 4.0
YOUNG_INTERVAL_S: Final = 0.5
"""A silence's end is looked for closely at first: its length is what is learnt."""
OUTAGE_RATIO: Final = 0.05
"""After that, a recovery may be found late by this share of the outage."""


def due(
    policy: Policy, per: Sequence[UplinkState], index: int, active: int | None
) -> Instant:
    """Return when the next heartbeat probe of a linked uplink is due."""
    uplink = per[index]
    if uplink.last_probe_at is None:
        return Instant(0.0)
    if uplink.race is not None:
        # The race is probing; its volleys have their own times.
        return Instant(float("inf"))
    return Instant(uplink.last_probe_at + _interval_s(policy, per, index, active))


def _interval_s(
    policy: Policy, per: Sequence[UplinkState], index: int, active: int | None
) -> float:
    if per[index].health in USABLE:
        return _usable_interval_s(policy, per, index, active)
    if not any(other.health in USABLE for other in per):
        return policy.stranded_interval_s
    return _silent_interval_s(policy, per[index])


def _silent_interval_s(policy: Policy, uplink: UplinkState) -> float:
    """Of an uplink that is down or unknown: close at first, rarer the longer it is."""
    if uplink.streak:
        return policy.confirm_interval_s
    last = uplink.last_probe_at or 0.0
    down_s = last - (uplink.since or last)
    if down_s < YOUNG_S:
        return YOUNG_INTERVAL_S
    rarer_s = max(policy.recovery_interval_s, OUTAGE_RATIO * down_s)
    return min(policy.probe_interval_s, rarer_s)


def _usable_interval_s(
    policy: Policy, per: Sequence[UplinkState], index: int, active: int | None
) -> float:
    """Of one that works: by how much its loss or delay is in question, and its use."""
    uplink = per[index]
    last = uplink.last_probe_at or 0.0
    carries = index == active
    urgent = uplink.urgent_until is not None and last < uplink.urgent_until
    interval_s = policy.probe_interval_s
    if (carries and urgent) or uplink.loss.hasty or _in_waiting(per, index, active):
        interval_s = policy.urgent_interval_s
    elif uplink.loss.in_question or uplink.ended_gap_s is not None:
        interval_s = policy.boosted_interval_s
    elif uplink.health is Health.DEGRADED:
        interval_s = (
            policy.boosted_interval_s if carries else policy.recovery_interval_s
        )
    elif carries:
        rate = max(uplink.traffic.rx_rate, uplink.traffic.tx_rate)
        paid_s = PULSE_BYTES / (CARRIED_RATIO * rate) if rate else interval_s
        interval_s = max(policy.busy_interval_s, paid_s)
    idle_s = policy.probe_interval_s * factors(uplink.thrift)[0]
    if interval_s >= policy.probe_interval_s:
        return idle_s
    return interval_s


def _in_waiting(per: Sequence[UplinkState], index: int, active: int | None) -> bool:
    """Whether the active uplink loses packets, so that this one must be made ready."""
    if active is None or index == active:
        return False
    lossy = per[active].reason.code == "loss.high"
    leaving = per[active].health is Health.DEGRADED and lossy
    return per[index].health is Health.UP and (leaving or per[active].loss.likely)


def asleep(policy: Policy, per: UplinkState, at: Instant) -> bool:
    """Return whether the radio may have slept at that time."""
    return per.heard_at is None or at - per.heard_at > policy.idle_after_s


def timeout_s(
    policy: Policy,
    index: int,
    per: UplinkState,
    estimate: RoundTrip,
    now: Instant,
    *,
    asleep: bool,
) -> float:
    """Return how long an answer may take: longer if the radio may have been asleep."""
    awake_s = estimate.timeout_s(
        floor_s=policy.rto_floor_s,
        cap_s=policy.rto_cap_s,
        initial_s=policy.rto_initial_s,
    )
    if not asleep:
        return awake_s
    wake_s = per.wakes.tolerance_s(now, policy.uplinks[index].access)
    if not per.wake_known:
        wake_s = max(wake_s, policy.wake_s)
    return max(awake_s, wake_s)


def limit_percent(test: LossTest) -> int:
    """Return what loss the chart that was raised stands for, per cent."""
    return round(100 * (HEAVY_RATIO if test.heavy >= ALARM else MILD_RATIO))
