"""The decision core: `step(state, event, now) -> (state, actions)`.

Rules of this file:
1. Everything that decides which uplink carries the site starts here.
2. Nothing here does I/O, reads a clock, logs, or draws a random number.
3. The shell needs `step` and `next_deadline`, and nothing else.

Theory of operation. Evidence is gathered cheaply (packet counters, one small probe now
and then). A doubt (packets go out and none come back; a probe is late; connections get
no answer, or resets) proves nothing: it starts a race (`race.py`), several probes at
once on the suspect and on the standbys, or a burst for the loss test (`estimate.py`),
or a check of the real thing (`checks.py`). Only their outcome is a verdict: fails here
while it works by another uplink → this uplink. `choice.py` then picks who carries. A
target that fails on every uplink is the target's own fault and moves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from jaga_agent.core import checks, choice, governor, pace, race
from jaga_agent.core.actions import ReportThrift
from jaga_agent.core.events import (
    CheckDone,
    Event,
    FlowsSeen,
    HoldOrdered,
    LinkSeen,
    PaceOrdered,
    ProbeAnswered,
    ProbeNotSent,
    ProbeRefused,
    RaceOrdered,
    SwitchOrdered,
    Tick,
    TrafficSeen,
    UsageSeen,
)
from jaga_agent.core.model import Health, Instant
from jaga_agent.core.reason import Reason, because
from jaga_agent.core.turn import Turn

if TYPE_CHECKING:
    from jaga_agent.core.actions import Action
    from jaga_agent.core.state import Probe, State

CLOSED_PORT = "port unreachable"
"""So begins the refusal of a host that was reached (RFC 792, type 3, code 3)."""

__all__ = ["next_deadline", "step"]


def step(  # noqa: C901 - one case for each kind of event, nothing else
    state: State, event: Event, now: Instant
) -> tuple[State, tuple[Action, ...]]:
    """Return the state after `event` and what the adapters must now do.

    `now` must not run backwards. Unknown probe ids are replies too late to matter.
    """
    turn = Turn(state, now)
    match event:
        case LinkSeen():
            _link_seen(turn, event)
        case ProbeAnswered():
            _answered(turn, event)
        case ProbeRefused():
            _refused(turn, event)
        case ProbeNotSent(probe_id=probe_id, reason=detail):
            if (probe := turn.take(probe_id)) is not None and not probe.overdue:
                cause = because("cause.not_sent", target=probe.target, detail=detail)
                _unanswered(turn, probe, cause, lost=False)
        case CheckDone():
            checks.done(turn, event)
        case TrafficSeen():
            _traffic(turn, event)
        case FlowsSeen():
            _flows(turn, event)
        case UsageSeen():
            _usage(turn, event)
        case SwitchOrdered() | HoldOrdered() | RaceOrdered() | PaceOrdered():
            _ordered(turn, event)
        case Tick():
            pass
        case _:
            assert_never(event)
    _pass_time(turn)
    return turn.done()


def next_deadline(state: State, now: Instant) -> Instant:
    """Return when `step` must next be called with `Tick` at the latest."""
    due = [probe.deadline for probe in state.outstanding if not probe.overdue]
    due += [
        Instant(probe.sent_at + state.policy.lost_after_s)
        for probe in state.outstanding
        if probe.overdue
    ]
    active = None if state.active is None else state.index(state.active)
    for index, per in enumerate(state.per):
        if per.linked:
            due.append(pace.due(state.policy, state.per, index, active))
        if per.race is not None and per.race.next_volley_at is not None:
            due.append(per.race.next_volley_at)
    due += checks.deadlines(state)
    due += choice.deadlines(state)
    return min(due, default=Instant(now + 60.0))


def _link_seen(turn: Turn, event: LinkSeen) -> None:
    index = turn.index(event.uplink)
    linked = event.present and event.carrier and event.routed
    if linked and not turn.per[index].linked:
        turn.change(index, linked=True, last_probe_at=None, streak=0)
    if linked:
        return
    per = turn.per[index]
    if per.linked:
        checks.forget(turn, index)
    turn.change(
        index,
        linked=False,
        race=None,
        silent_since=None,
        traffic=per.traffic.answered(),
        streak=0,
    )
    turn.forget_probes(event.uplink)
    if not event.present:
        reason = because("link.gone")
    elif not event.carrier:
        reason = because("link.carrier")
    else:
        reason = because("link.no_address")
    turn.set_health(index, Health.DOWN, reason)


def _answered(turn: Turn, event: ProbeAnswered) -> None:
    probe = turn.take(event.probe_id)
    if probe is None:
        return
    index = turn.index(probe.uplink)
    race.heard(turn, index)
    per = turn.per[index]
    rtt_s = event.rtt_s
    path = turn.path(index, probe.target)
    loss = per.loss
    if not probe.racing and not race.queues(turn, index):
        loss = loss.taken_back() if probe.overdue else loss.after(lost=False)
    if probe.asleep:
        # It may hold the radio's waking: it says nothing of the path awake.
        turn.set_path(index, probe.target, misses=0)
        turn.change(
            index,
            wakes=per.wakes.after(rtt_s, turn.now),
            wake_known=True,
            overall=per.overall if per.overall.srtt_s else per.overall.after(rtt_s),
        )
    else:
        turn.set_path(
            index, probe.target, round_trip=path.round_trip.after(rtt_s), misses=0
        )
        turn.change(index, overall=per.overall.after(rtt_s))
    traffic = per.traffic.answered()
    if not probe.asleep:
        traffic = traffic.timed(rtt_s, turn.now)
    turn.change(index, loss=loss, answered_at=turn.now, traffic=traffic)
    race.remember_gap(turn, index, probe.sent_at, rtt_s)
    turn.target_answers(probe.target)
    race.refute(turn, index)
    race.judge_answer(turn, index, rtt_s)


def _refused(turn: Turn, event: ProbeRefused) -> None:
    probe = turn.take(event.probe_id)
    if probe is None or probe.overdue:
        return
    if event.reason.startswith(CLOSED_PORT):
        _closed(turn, probe)
    else:
        cause = because("cause.refused", target=probe.target, detail=event.reason)
        _unanswered(turn, probe, cause, lost=True)


def _closed(turn: Turn, probe: Probe) -> None:
    """Take note of a host that answers, on which nobody listens: the target's fault."""
    index = turn.index(probe.uplink)
    race.heard(turn, index)
    misses = turn.path(index, probe.target).misses + 1
    turn.set_path(index, probe.target, misses=misses)
    turn.judge_target(probe.target)
    race.refute(turn, index)


def _unanswered(turn: Turn, probe: Probe, cause: Reason, *, lost: bool) -> None:
    """Take note that a probe got no answer in time; doubt, but do not judge yet."""
    index = turn.index(probe.uplink)
    per = turn.per[index]
    if lost:
        turn.set_path(
            index, probe.target, misses=turn.path(index, probe.target).misses + 1
        )
    at_fault = turn.judge_target(probe.target)
    turn.change(index, streak=0)
    if at_fault or per.health is Health.DOWN or probe.racing:
        return
    misses = [path.misses for path in turn.per[index].paths]
    one_target = turn.path(index, probe.target).misses > 1 and 0 in misses
    if lost and not race.queues(turn, index) and not one_target:
        turn.change(index, loss=per.loss.after(lost=True))
        race.judge_loss(turn, index)
    heard_since = per.heard_at is not None and per.heard_at > probe.sent_at
    if heard_since and 0 in misses:
        # One packet lost among others that came: the loss test's business.
        return
    race.start(turn, index, cause, probe.sent_at)


def _traffic(turn: Turn, event: TrafficSeen) -> None:
    index = turn.index(event.uplink)
    per = turn.per[index]
    traffic, came_in = per.traffic.after(event, turn.now)
    if not came_in:
        turn.change(index, traffic=traffic)
        race.suspect_traffic(turn, index)
        return
    if per.silent_since is None:
        # As `race.heard`, in one change: this is the most frequent of all steps.
        turn.change(index, traffic=traffic, heard_at=turn.now)
    else:
        turn.change(index, traffic=traffic)
    turn.came_in(index)


def _flows(turn: Turn, event: FlowsSeen) -> None:
    index = turn.index(event.uplink)
    before = turn.per[index].flows
    flows = before.after(event, turn.now)
    turn.change(index, flows=flows)
    race.suspect_flows(turn, index, asked=flows.asked > before.asked)
    checks.suspect(turn, index)


def _usage(turn: Turn, event: UsageSeen) -> None:
    index = turn.index(event.uplink)
    before = turn.per[index].thrift
    earned = pace.EARNED_RATIO * turn.per[index].traffic.carried_day
    plan = governor.plan(
        governor.Spending(
            event.used_bytes,
            turn.policy.uplinks[index].quota_bytes,
            event.probe_bytes,
            turn.policy.allowance_bytes + int(earned),
        ),
        before,
    )
    if plan.level is not before:
        turn.change(index, thrift=plan.level)
        turn.tell(ReportThrift(event.uplink, plan.level, plan.reason))


def _ordered(
    turn: Turn, event: SwitchOrdered | HoldOrdered | RaceOrdered | PaceOrdered
) -> None:
    match event:
        case SwitchOrdered():
            choice.obey(turn, event)
        case HoldOrdered():
            choice.hold(turn, event)
        case RaceOrdered():
            for index in range(len(turn.per)):
                race.start(turn, index, because("cause.ordered"))
        case PaceOrdered():
            turn.policy = replace(
                turn.policy,
                probe_interval_s=event.probe_interval_s,
                allowance_bytes=event.allowance_bytes,
            )


def _pass_time(turn: Turn) -> None:
    for probe in turn.overdue_probes():
        late = because("cause.late", target=probe.target)
        _unanswered(turn, probe, late, lost=True)
    turn.drop_lost_probes()
    for index in range(len(turn.per)):
        race.settle(turn, index)
    for index in range(len(turn.per)):
        race.send_due(turn, index)
    checks.send_due(turn)
    active = turn.active
    choice.choose(turn)
    if turn.active != active:
        # A move starts a race on the new active uplink: its first volley goes out now.
        for index in range(len(turn.per)):
            race.send_due(turn, index)
