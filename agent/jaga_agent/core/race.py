"""Doubt and verdict: when a race starts, what it sends, and what its outcome means.

"Silent" is only ever said by a race: every probe of its volleys unanswered within the
path's own timeout (RFC 6298) while another uplink answers. A full queue is not silence:
packets that keep coming in refute it (bufferbloat).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_agent.core.estimate import LossTest, RoundTrip
from jaga_agent.core.model import Health, Instant, TargetName
from jaga_agent.core.state import USABLE, Race, State, UplinkState

if TYPE_CHECKING:
    from jaga_agent.core.model import Policy
    from jaga_agent.core.turn import Turn

MIN_UNANSWERED_PACKETS = 2
"""One packet may be an ARP or a keep-alive that wants no answer."""


def start(turn: Turn, index: int, cause: str) -> None:
    """Begin a race on an uplink, unless one is on or its link is gone."""
    per = turn.per[index]
    if per.race is not None or not per.linked:
        return
    turn.change(
        index, race=Race(cause, turn.now, per.rx_packets, next_volley_at=turn.now)
    )


def refute(turn: Turn, index: int, how: str) -> None:
    """End a race that found the uplink alive."""
    per = turn.per[index]
    if per.race is None:
        return
    turn.change(
        index,
        race=None,
        calm_until=Instant(turn.now + turn.policy.calm_s),
        unanswered_since=None,
        unanswered_packets=0,
        reason=per.reason if how == "answered" else how,
    )


def suspect_traffic(turn: Turn, index: int) -> None:
    """Doubt an uplink whose packets get no answer for longer than its timeout."""
    per = turn.per[index]
    if (
        per.health not in USABLE
        or per.unanswered_since is None
        or per.unanswered_packets < MIN_UNANSWERED_PACKETS
        or (per.calm_until is not None and turn.now < per.calm_until)
    ):
        return
    waited_s = turn.now - per.unanswered_since
    if waited_s >= _timeout_s(turn, per, per.overall):
        packets = per.unanswered_packets
        start(turn, index, f"{packets} packets unanswered for {waited_s * 1000:.0f} ms")


def send_due(turn: Turn, index: int) -> None:
    """Send the volley or the heartbeat probe that is due on one uplink."""
    per = turn.per[index]
    if not per.linked:
        return
    race = per.race
    if race is not None:
        if race.next_volley_at is None or race.next_volley_at > turn.now:
            return
        for target in turn.live_targets():
            _send(turn, index, target, racing=True)
        if race.volleys_sent == 0:
            _send_witnesses(turn, index)
        sent = race.volleys_sent + 1
        more = sent < turn.policy.volleys
        turn.change(
            index,
            race=Race(
                race.cause,
                race.started_at,
                race.rx_packets,
                sent,
                Instant(turn.now + turn.policy.volley_gap_s) if more else None,
            ),
        )
        return
    if _due(turn.policy, turn.per, index) <= turn.now:
        targets = turn.policy.targets
        _send(turn, index, targets[per.next_target % len(targets)], racing=False)
        turn.change(index, next_target=(per.next_target + 1) % len(targets))


def _send_witnesses(turn: Turn, suspect: int) -> None:
    """Ask the same targets through the others: the uplink or the targets."""
    for index, per in enumerate(turn.per):
        if index != suspect and per.linked and per.race is None:
            for target in turn.live_targets():
                _send(turn, index, target, racing=True)


def settle(turn: Turn, index: int) -> None:
    """Give the verdict of a race whose probes are all in, late or refused."""
    per = turn.per[index]
    race = per.race
    if race is None or race.next_volley_at is not None or race.volleys_sent == 0:
        return
    if turn.racing(index, race.started_at):
        return
    came_in = (per.rx_packets or 0) - (race.rx_packets or 0)
    if race.rx_packets is not None and came_in >= turn.policy.busy_packets:
        refute(turn, index, f"busy: probes late, but {came_in} packets came in")
        return
    others = [i for i in range(len(turn.per)) if i != index and turn.per[i].linked]
    witnesses = [i for i in others if _answered_since(turn.per[i], race.started_at)]
    if not witnesses and any(turn.racing(i, race.started_at) for i in others):
        return
    took_ms = (turn.now - race.started_at) * 1000
    if witnesses:
        names = ", ".join(turn.name(i) for i in witnesses)
        verdict = f"silent for {took_ms:.0f} ms of racing while {names} answers"
    else:
        verdict = f"silent for {took_ms:.0f} ms of racing; no other uplink answers"
    turn.set_health(index, Health.DOWN, f"{verdict} ({race.cause})")


def _answered_since(per: UplinkState, since: Instant) -> bool:
    return per.answered_at is not None and per.answered_at >= since


def judge_answer(turn: Turn, index: int) -> None:
    """Judge an uplink's health after an answer: recovery, brownout, or back to clean."""
    per = turn.per[index]
    limits = turn.policy
    slow = (per.overall.srtt_s or 0.0) > limits.rtt_degraded_s
    srtt_ms = (per.overall.srtt_s or 0.0) * 1000
    if per.health in (Health.UNKNOWN, Health.DOWN):
        streak = per.streak + 1
        turn.change(index, streak=streak)
        enough = turn.regrouping or per.health is Health.UNKNOWN
        needed = 1 if enough else limits.rise
        if streak >= needed:
            new = Health.DEGRADED if slow else Health.UP
            turn.set_health(index, new, f"{streak} answered, RTT {srtt_ms:.0f} ms")
    elif per.health is Health.UP and slow:
        turn.set_health(index, Health.DEGRADED, f"slow: RTT {srtt_ms:.0f} ms")
    elif per.health is Health.DEGRADED and not slow and per.loss.cleared:
        turn.change(index, loss=LossTest())
        turn.set_health(index, Health.UP, f"clean again, RTT {srtt_ms:.0f} ms")


def judge_loss(turn: Turn, index: int) -> None:
    """Judge an uplink after a lost probe: the sequential test may raise the alarm."""
    per = turn.per[index]
    if per.health is Health.UP and per.loss.raised:
        turn.change(index, loss=LossTest(per.loss.alarm, 0.0))
        turn.set_health(index, Health.DEGRADED, "loses probes: above 10 % by CUSUM")


def probe_due(state: State, index: int) -> Instant:
    """Return when the next heartbeat probe of a linked uplink is due."""
    return _due(state.policy, state.per, index)


def _due(
    policy: Policy, everyone: list[UplinkState] | tuple[UplinkState, ...], index: int
) -> Instant:
    per = everyone[index]
    if per.last_probe_at is None:
        return Instant(0.0)
    if per.race is not None:
        # The race is probing; its volleys have their own times.
        return Instant(float("inf"))
    if not any(other.health in USABLE for other in everyone):
        interval_s = policy.stranded_interval_s
    elif per.health in (Health.DOWN, Health.UNKNOWN):
        interval_s = (
            policy.confirm_interval_s if per.streak else policy.recovery_interval_s
        )
    elif per.health is Health.DEGRADED or per.loss.alarm > 0:
        interval_s = min(policy.boosted_interval_s, policy.probe_interval_s)
    else:
        interval_s = policy.probe_interval_s
    return Instant(per.last_probe_at + interval_s)


def _send(turn: Turn, index: int, target: TargetName, *, racing: bool) -> None:
    per = turn.per[index]
    estimate = turn.path(index, target).round_trip
    if estimate.srtt_s is None:
        estimate = per.overall
    timeout_s = _timeout_s(turn, per, estimate)
    turn.send(index, target, timeout_s, racing=racing)


def _timeout_s(turn: Turn, per: UplinkState, estimate: RoundTrip) -> float:
    """Return how long an answer may take: longer if the radio may have been asleep."""
    limits = turn.policy
    timeout_s = estimate.timeout_s(
        floor_s=limits.rto_floor_s,
        cap_s=limits.rto_cap_s,
        initial_s=limits.rto_initial_s,
    )
    asleep = per.heard_at is None or turn.now - per.heard_at > limits.idle_after_s
    return max(timeout_s, limits.wake_s) if asleep else timeout_s
