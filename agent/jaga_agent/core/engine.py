"""The decision core: `step(state, event, now) -> (state, actions)`.

Rules of this file:
1. Everything that decides which uplink carries the site starts here.
2. Nothing here does I/O, reads a clock, logs, or draws a random number.
3. The shell needs `step` and `next_deadline`, and nothing else.

Theory of operation. Evidence is gathered cheaply (packet counters, one small probe now
and then). A doubt (packets go out and none come back; a probe is late) proves nothing:
it starts a race (`race.py`), several probes at once on the suspect and on the standbys.
Only the race's outcome is a verdict: silent while another uplink answers → down.
`choice.py` then picks who carries. A target that is silent on every uplink is the
target's own fault and moves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from jaga_agent.core import choice, race
from jaga_agent.core.events import (
    Event,
    FlowsSeen,
    LinkSeen,
    ProbeAnswered,
    ProbeNotSent,
    ProbeRefused,
    Tick,
    TrafficSeen,
    UsageSeen,
)
from jaga_agent.core.model import Health, Instant
from jaga_agent.core.turn import Turn

if TYPE_CHECKING:
    from jaga_agent.core.actions import Action
    from jaga_agent.core.state import Probe, State

__all__ = ["next_deadline", "step"]


def step(state: State, event: Event, now: Instant) -> tuple[State, tuple[Action, ...]]:
    """Return the state after `event` and what the adapters must now do.

    `now` must not run backwards. Unknown probe ids are replies too late to matter.
    """
    turn = Turn(state, now)
    match event:
        case LinkSeen():
            _link_seen(turn, event)
        case ProbeAnswered():
            _answered(turn, event)
        case ProbeRefused(probe_id=probe_id, reason=reason):
            if (probe := turn.take(probe_id)) is not None and not probe.overdue:
                _unanswered(turn, probe, f"refused: {reason}", lost=True)
        case ProbeNotSent(probe_id=probe_id, reason=reason):
            if (probe := turn.take(probe_id)) is not None and not probe.overdue:
                _unanswered(turn, probe, f"cannot send: {reason}", lost=False)
        case TrafficSeen():
            _traffic(turn, event)
        case Tick() | FlowsSeen() | UsageSeen():
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
    for index, per in enumerate(state.per):
        if per.linked:
            due.append(race.probe_due(state, index))
        if per.race is not None and per.race.next_volley_at is not None:
            due.append(per.race.next_volley_at)
    due += choice.deadlines(state)
    return min(due, default=Instant(now + 60.0))


def _link_seen(turn: Turn, event: LinkSeen) -> None:
    index = turn.index(event.uplink)
    linked = event.present and event.carrier and event.routed
    if linked and not turn.per[index].linked:
        turn.change(index, linked=True, last_probe_at=None, streak=0)
    if linked:
        return
    turn.change(index, linked=False, race=None, unanswered_since=None, streak=0)
    turn.forget_probes(event.uplink)
    if not event.present:
        reason = "device gone"
    elif not event.carrier:
        reason = "carrier lost"
    else:
        reason = "no address or gateway"
    turn.set_health(index, Health.DOWN, reason)


def _answered(turn: Turn, event: ProbeAnswered) -> None:
    probe = turn.take(event.probe_id)
    if probe is None:
        return
    index = turn.index(probe.uplink)
    per = turn.per[index]
    turn.set_path(
        index,
        probe.target,
        round_trip=turn.path(index, probe.target).round_trip.after(event.rtt_s),
        misses=0,
    )
    loss = per.loss
    if not probe.racing:
        loss = loss.taken_back() if probe.overdue else loss.after(lost=False)
    turn.change(
        index,
        overall=per.overall.after(event.rtt_s),
        loss=loss,
        answered_at=turn.now,
        heard_at=turn.now,
        unanswered_since=None,
        unanswered_packets=0,
    )
    turn.target_answers(probe.target)
    race.refute(turn, index, "answered")
    race.judge_answer(turn, index)


def _unanswered(turn: Turn, probe: Probe, reason: str, *, lost: bool) -> None:
    """Take note that a probe got no answer in time; doubt, but do not judge yet."""
    index = turn.index(probe.uplink)
    per = turn.per[index]
    if lost:
        turn.set_path(
            index, probe.target, misses=turn.path(index, probe.target).misses + 1
        )
    at_fault = turn.judge_target(probe.target)
    turn.change(index, streak=0)
    if at_fault or per.health is Health.DOWN:
        return
    if lost and not probe.racing:
        turn.change(index, loss=per.loss.after(lost=True))
        race.judge_loss(turn, index)
    if not probe.racing:
        race.start(turn, index, f"probe to {probe.target} {reason}")


def _traffic(turn: Turn, event: TrafficSeen) -> None:
    index = turn.index(event.uplink)
    per = turn.per[index]
    known = per.rx_packets is not None and per.tx_packets is not None
    rx = event.rx_packets - (per.rx_packets or 0)
    tx = event.tx_packets - (per.tx_packets or 0)
    turn.change(index, rx_packets=event.rx_packets, tx_packets=event.tx_packets)
    if not known or rx < 0 or tx < 0:
        # First sample, or the device was re-created and counts from 0 again.
        turn.change(index, unanswered_since=None, unanswered_packets=0)
        return
    if rx > 0:
        turn.change(
            index, heard_at=turn.now, unanswered_since=None, unanswered_packets=0
        )
    elif tx > 0:
        turn.change(
            index,
            unanswered_since=per.unanswered_since or turn.now,
            unanswered_packets=per.unanswered_packets + tx,
        )
    race.suspect_traffic(turn, index)


def _pass_time(turn: Turn) -> None:
    for probe in turn.overdue_probes():
        _unanswered(turn, probe, "late", lost=True)
    turn.drop_lost_probes()
    for index in range(len(turn.per)):
        race.settle(turn, index)
    for index in range(len(turn.per)):
        race.send_due(turn, index)
    choice.choose(turn)
    # A move starts a race on the new active uplink: its first volley goes out now.
    for index in range(len(turn.per)):
        race.send_due(turn, index)
