"""Who carries the site: failover, switchover by quality, failback. Policy only.

Rules, in order; the first that fires wins:
1. No uplink carries yet → the most preferred usable one, after a moment's wait (`first`).
2. The active one is down → the best usable one (`failover`). None usable: move nothing.
3. The active one has been degraded a while and a steady, clean one exists
   (`switchover`). Loss needs no while, but a standby that has just answered in a row.
4. A more preferred one has been up for its hold-down (`failback`), unless forbidden.
An operator's order comes before them (`switchover`): rule 4 takes nothing back from what
he chose, rule 3 only for what was not wrong with it then. While he holds the site,
neither fires.
Damping delays failback only; the last working uplink is never suppressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_agent.core import race
from jaga_agent.core.estimate import hold_down_s
from jaga_agent.core.model import Failback, Health, Instant
from jaga_agent.core.reason import ORDERED, Reason, because
from jaga_agent.core.state import USABLE, Chosen, State, UplinkState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.core.events import HoldOrdered, SwitchOrdered
    from jaga_agent.core.model import Policy, UplinkName
    from jaga_agent.core.turn import Turn


NEVER = Instant(float("inf"))


def choose(turn: Turn) -> None:
    """Move the site to another uplink if a rule says so."""
    if turn.active is None:
        best = _best(turn.per, None)
        if best is not None and turn.now >= _first_at(
            turn.policy, turn.per, turn.usable_since, best
        ):
            _move(turn, best, "first", because("first"))
        return
    index = turn.index(turn.active)
    active = turn.per[index]
    if active.health is Health.DOWN:
        best = _best(turn.per, active)
        if best is not None and turn.now >= _failover_at(
            turn.policy, turn.per, index, best
        ):
            _move(turn, best, "failover", active.reason)
    elif active.health is Health.DEGRADED:
        cleaner = _cleaner(turn.policy, turn.per, active, turn.now)
        leave_at = _leave_at(turn.policy, active, turn.hold_until, turn.chosen)
        if cleaner is not None and turn.now >= leave_at:
            _move(turn, cleaner, "switchover", active.reason)
    if turn.active == turn.name(index) and active.health in USABLE:
        for preferred in range(index):
            at = back_at(turn.policy, turn.per[preferred], turn.hold_until, turn.chosen)
            if at is not None and at <= turn.now:
                held_s = turn.now - (turn.per[preferred].since or turn.now)
                reason = because("holddown.over", held_s=held_s)
                _move(turn, preferred, "failback", reason)
                return


def obey(turn: Turn, order: SwitchOrdered) -> None:
    """Move the site where an operator wants it, if that can carry."""
    index = turn.index(order.uplink)
    if _unfit(order.uplink, turn.per[index]) is not None:
        return
    if turn.active == order.uplink:
        turn.chosen = Chosen(order.uplink, turn.now)
        return
    _move(turn, index, "switchover", because(ORDERED, operator=order.operator))


def unfit(state: State, uplink: UplinkName) -> Reason | None:
    """Return why an operator's switch to this uplink is refused; None: it is not."""
    return _unfit(uplink, state.of(uplink))


def _unfit(uplink: UplinkName, per: UplinkState) -> Reason | None:
    if per.linked and per.health in USABLE:
        return None
    return because("order.unfit", uplink=uplink, why=per.reason)


def hold(turn: Turn, order: HoldOrdered) -> None:
    """Keep the site where it works for a while; 0 s takes back every order."""
    if order.for_s > 0:
        turn.hold_until = Instant(turn.now + order.for_s)
    else:
        turn.hold_until = turn.chosen = None


def deadlines(state: State) -> list[Instant]:
    """Return the instants at which time alone may make a rule fire."""
    leaving = None if state.active is None else state.of(state.active)
    best = _best(state.per, leaving)
    if best is None:
        return []
    if state.active is None:
        return [_first_at(state.policy, state.per, state.usable_since, best)]
    index = state.index(state.active)
    active = state.per[index]
    if active.health is Health.DOWN:
        return [_failover_at(state.policy, state.per, index, best)]
    due = _switchovers(state, active)
    for per in state.per[:index]:
        back = back_at(state.policy, per, state.hold_until, state.chosen)
        if back is not None:
            due.append(back)
    return due


def _switchovers(state: State, active: UplinkState) -> list[Instant]:
    """Return when the active uplink, if it is bad, may be left for another one."""
    leave_at = _leave_at(state.policy, active, state.hold_until, state.chosen)
    if active.health is not Health.DEGRADED or leave_at == NEVER:
        return []
    due = []
    for per in state.per:
        if per.health is Health.UP and per.since is not None:
            at = Instant(max(per.since + state.policy.steady_s, leave_at))
            # What waits for answers is told by them, not by time.
            if _cleaner(state.policy, state.per, active, at) is not None:
                due.append(at)
    return due


def back_at(
    policy: Policy,
    per: UplinkState,
    hold_until: Instant | None,
    chosen: Chosen | None,
) -> Instant | None:
    """Return when an uplink takes the traffic back from a less preferred one.

    None while it may not at all.
    """
    matured = None if chosen is not None else matured_at(policy, per)
    return None if matured is None else Instant(max(matured, hold_until or 0.0))


def matured_at(policy: Policy, per: UplinkState) -> Instant | None:
    """Return when an uplink may take the traffic back; None while it may not at all."""
    if per.health is not Health.UP or per.since is None:
        return None
    if policy.failback is Failback.NEVER:
        return None
    # The penalty at the moment it came up: waiting must not shorten the wait.
    penalty = per.damping.now(per.since, policy.penalty_half_life_s)
    wait_s = hold_down_s(
        penalty, base_s=policy.hold_down_s, cap_s=policy.hold_down_cap_s
    )
    return Instant(per.since + wait_s)


def _best(per: Sequence[UplinkState], leaving: UplinkState | None) -> int | None:
    """Return the best usable uplink, one that answered in the race if any did.

    If none did, only what answers now is better than the one that fell silent.
    """
    alone = leaving is not None and leaving.reason.code == "race.silent_alone"
    ranked = []
    for index, uplink in enumerate(per):
        if uplink.health in USABLE and uplink.linked:
            verified = leaving is None or _answered(uplink, leaving.heard_at)
            if not alone or (leaving is not None and _answered(uplink, leaving.since)):
                ranked.append((uplink.health is not Health.UP, not verified, index))
    return min(ranked)[2] if ranked else None


def _answered(uplink: UplinkState, since: Instant | None) -> bool:
    return uplink.answered_at is not None and uplink.answered_at >= (since or 0.0)


def _cleaner(
    policy: Policy, per: Sequence[UplinkState], active: UplinkState, now: Instant
) -> int | None:
    lossy = active.reason.code == "loss.high"
    better = 0
    for index, uplink in enumerate(per):
        if (
            uplink.health is Health.UP
            and uplink.since is not None
            and uplink.since + policy.steady_s <= now
        ):
            if not lossy or _verified(policy, uplink, active, better):
                return index
            better += 1
    return None


def _verified(
    policy: Policy, uplink: UplinkState, active: UplinkState, better: int
) -> bool:
    """Whether it has answered in a row while the active one lost.

    Longer for each of the `better` ones whose row is not complete: they come first.
    """
    return (
        uplink.loss.clean_run >= policy.verified_probes * (1 + better / 2)
        and not uplink.loss.in_question
        and uplink.answered_at is not None
        and active.since is not None
        and uplink.answered_at >= active.since
    )


def _leave_at(
    policy: Policy,
    active: UplinkState,
    hold_until: Instant | None,
    chosen: Chosen | None,
) -> Instant:
    """Return from when on a bad uplink may be left for a cleaner one."""
    if chosen is not None and (active.since or 0.0) <= chosen.at:
        return NEVER  # It was as bad when the operator chose it.
    return Instant(max(_debounced_at(policy, active), hold_until or 0.0))


def _debounced_at(policy: Policy, active: UplinkState) -> Instant:
    lossy = active.reason.code == "loss.high"
    wait_s = 0.0 if lossy else policy.debounce_degraded_s
    return Instant((active.since or 0.0) + wait_s)


def _first_at(
    policy: Policy,
    per: Sequence[UplinkState],
    usable_since: Instant | None,
    best: int,
) -> Instant:
    """Wait a moment for uplinks preferred to the best one whose verdict is still out."""
    open_verdicts = any(p.linked and p.health is Health.UNKNOWN for p in per[:best])
    wait_s = policy.settle_s if open_verdicts else 0.0
    return Instant((usable_since or 0.0) + wait_s)


def _failover_at(
    policy: Policy, per: Sequence[UplinkState], active: int, best: int
) -> Instant:
    """Move at once; only after silence everywhere let the active one answer first."""
    candidate = per[best]
    down_since = per[active].since
    if (
        candidate.since is None
        or down_since is None
        or candidate.since <= down_since
        or not per[active].linked
    ):
        return Instant(0.0)
    return Instant(candidate.since + policy.regroup_s)


def _move(turn: Turn, index: int, rule: str, reason: Reason) -> None:
    turn.select(index, rule, reason)
    answered_at = turn.per[index].answered_at
    if answered_at is None or turn.now - answered_at > turn.policy.rto_floor_s:
        race.start(turn, index, because("cause.verify"))
