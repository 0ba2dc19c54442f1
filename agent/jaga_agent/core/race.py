"""Doubt and verdict: when a race starts, what it sends, and what its outcome means.

"Silent" is only ever said by a race: every probe of its volleys unanswered within the
path's own timeout (RFC 6298) while another uplink answers, for longer than the gaps
that this uplink is known for. A full queue is not silence: packets that keep coming in
refute it (bufferbloat).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jaga_agent.core import checks, pace
from jaga_agent.core.estimate import RoundTrip
from jaga_agent.core.memory import SHORTEST_S
from jaga_agent.core.model import Health, Instant, TargetName
from jaga_agent.core.passive import EMPTY_MORE_S
from jaga_agent.core.reason import Reason, because
from jaga_agent.core.state import USABLE, Race, UplinkState

if TYPE_CHECKING:
    from jaga_agent.core.turn import Turn

MIN_UNANSWERED_PACKETS = 2
"""One packet may be a keep-alive that wants no answer, if it opens no connection."""
MIN_ASKED = 3
"""Connections asked for and none answered: one or two may be to hosts that are dead."""
CONFIRMED_WITHIN_S = 2.0
SWOLLEN_RATIO = 2.0
"""A smoothed round trip this many times the lowest one has a queue in it."""
SETTLED_RATIO = 1.3
"""A long path's round trip is as it was when it is this near to its lowest."""
BUSY_S = 0.25
"""A queue this long is felt: ITU-T G.114 wants 0.15 s each way of a conversation."""
FREE_S = 0.15
DRAINED_S = 10.0
"""A queue of the site's own making is empty so long after its traffic."""
CALM_FACTOR = 3.0
CALM_MEMORY_S = 10.0
"""A doubt so soon after the last calm is another of its kind."""
LOST_OPENINGS = 1.5
"""Lost connection attempts within two seconds that are worth a burst of probes."""
URGENT_S = 2.0
DOUBT_CALM_S = 10.0
DOUBT_CALM_CAP_S = 300.0


def start(
    turn: Turn, index: int, cause: Reason, silent_since: Instant | None = None
) -> None:
    """Begin a race on an uplink, unless one is on or its link is gone."""
    per = turn.per[index]
    if per.race is not None or not per.linked:
        return
    since = per.silent_since
    if since is None:
        since = turn.now if silent_since is None else silent_since
    turn.change(
        index,
        race=Race(cause, turn.now, per.traffic.rx_packets, 0, next_volley_at=turn.now),
        silent_since=since,
        silent_asleep=pace.asleep(turn.policy, per, since),
    )


def heard(turn: Turn, index: int) -> None:
    """Take note of a sign of life: a silence that began is over."""
    per = turn.per[index]
    if per.silent_since is None:
        turn.change(index, heard_at=turn.now)
        return
    silence_s = turn.now - per.silent_since
    changes: dict[str, object] = {"silent_since": None, "heard_at": turn.now}
    if per.silent_asleep:
        changes["wakes"] = per.wakes.after(silence_s, turn.now)
    elif silence_s >= SHORTEST_S:
        changes["ended_gap_s"] = silence_s
        changes["ended_gap_at"] = turn.now
    turn.change(index, **changes)


def remember_gap(turn: Turn, index: int, sent_at: Instant, rtt_s: float) -> None:
    """Learn from a silence that ended, if what follows is as swift as before.

    If it is not, the link was not silent: its round trip has jumped.
    """
    per = turn.per[index]
    if per.ended_gap_s is None or per.ended_gap_at is None:
        return
    if sent_at < per.ended_gap_at:
        return
    if sent_at > per.ended_gap_at + CONFIRMED_WITHIN_S:
        turn.change(index, ended_gap_s=None, ended_gap_at=None)
        return
    normal_s = max(0.3, 2 * (per.traffic.base_s or 0.0))
    gaps = per.gaps
    if rtt_s <= normal_s:
        gaps = gaps.after(per.ended_gap_s, turn.now)
    turn.change(index, gaps=gaps, ended_gap_s=None, ended_gap_at=None)


def refute(turn: Turn, index: int) -> None:
    """End a race that found the uplink alive."""
    per = turn.per[index]
    if per.race is None:
        return
    policy = turn.policy
    again = per.calm_until is not None and turn.now - per.calm_until < CALM_MEMORY_S
    calm_s = min(policy.calm_cap_s, 2 * per.calm_s) if again else policy.calm_s
    turn.change(
        index,
        race=None,
        calm_until=Instant(turn.now + calm_s),
        calm_s=calm_s,
        traffic=per.traffic.answered(),
        flows=per.flows.asked_again(),
    )


def suspect_traffic(turn: Turn, index: int) -> None:
    """Doubt an uplink whose packets get no answer for longer than its timeout."""
    per = turn.per[index]
    since = per.traffic.unanswered_since
    if per.health not in USABLE or since is None or per.race is not None:
        return
    packets = per.traffic.unanswered_packets
    if packets < MIN_UNANSWERED_PACKETS and not per.flows.asked:
        return
    waited_s = turn.now - since
    if waited_s >= _patience_s(turn, per):
        cause = because("cause.traffic", packets=packets, waited_ms=waited_s * 1000)
        start(turn, index, cause)


def suspect_flows(turn: Turn, index: int, *, asked: bool) -> None:
    """Doubt an uplink on which connections are asked for and not answered."""
    per = turn.per[index]
    if per.health not in USABLE:
        return
    flows = per.flows
    if asked and flows.asked >= MIN_ASKED and flows.asked_since is not None:
        waited_s = turn.now - flows.asked_since
        if waited_s >= 2 * _patience_s(turn, per):
            start(
                turn,
                index,
                because("cause.syn", packets=flows.asked, waited_ms=waited_s * 1000),
            )
    calm = per.doubt_calm_until is not None and turn.now < per.doubt_calm_until
    if flows.lost >= LOST_OPENINGS and not calm and not per.busy:
        calm_s = min(DOUBT_CALM_CAP_S, 2 * per.doubt_calm_s or DOUBT_CALM_S)
        turn.change(
            index,
            urgent_until=Instant(turn.now + URGENT_S),
            doubt_calm_s=calm_s,
            doubt_calm_until=Instant(turn.now + URGENT_S + calm_s),
            flows=flows.without_losses(),
        )


def _patience_s(turn: Turn, per: UplinkState) -> float:
    policy = turn.policy
    patience_s = per.overall.timeout_s(
        floor_s=policy.suspect_floor_s,
        cap_s=policy.rto_cap_s,
        initial_s=policy.rto_initial_s,
    )
    calm = per.calm_until is not None and turn.now < per.calm_until
    return patience_s * CALM_FACTOR if calm else patience_s


def send_due(turn: Turn, index: int) -> None:
    """Send the volley or the heartbeat probe that is due on one uplink."""
    per = turn.per[index]
    if not per.linked:
        return
    if per.race is None:
        if pace.due(turn.policy, turn.per, index, turn.active_index) <= turn.now:
            _send_one(turn, index, racing=False)
        return
    race = per.race
    if race.next_volley_at is None or race.next_volley_at > turn.now:
        return
    sent = race.volleys_sent + 1
    if sent <= turn.policy.volleys:
        for target in turn.live_targets():
            _send(turn, index, target, racing=True)
    else:
        _send_one(turn, index, racing=True)
    if sent == turn.policy.volleys:
        _send_witnesses(turn, index)
    more = sent < turn.policy.volleys
    next_at = Instant(turn.now + turn.policy.volley_gap_s) if more else None
    _set_race(turn, index, volleys_sent=sent, next_volley_at=next_at)


def _set_race(
    turn: Turn, index: int, *, volleys_sent: int, next_volley_at: Instant | None
) -> None:
    race = turn.per[index].race
    if race is not None:
        turn.change(
            index,
            race=Race(
                race.cause,
                race.started_at,
                race.rx_packets,
                volleys_sent,
                next_volley_at,
            ),
        )


def _send_one(turn: Turn, index: int, *, racing: bool) -> None:
    targets = turn.live_targets() if racing else turn.policy.targets
    at = turn.per[index].next_target
    _send(turn, index, targets[at % len(targets)], racing=racing)
    turn.change(index, next_target=(at + 1) % len(turn.policy.targets))


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
    policy = turn.policy
    # What is sent while a race lingers need not be overdue: the silence speaks.
    volleys_until = race.started_at + policy.volleys * policy.volley_gap_s
    if any(p.sent_at <= volleys_until for p in turn.racing(index, race.started_at)):
        return
    came_in = (per.traffic.rx_packets or 0) - (race.rx_packets or 0)
    if race.rx_packets is not None and came_in >= turn.policy.busy_packets:
        refute(turn, index)
        turn.change(index, silent_since=None, heard_at=turn.now)
        if per.traffic.fills_queue(turn.now):
            turn.set_busy(index, _busy(turn, per))
        return
    others = [i for i in range(len(turn.per)) if i != index and turn.per[i].linked]
    witnesses = [i for i in others if _answered_since(turn.per[i], race.started_at)]
    if not witnesses and any(turn.racing(i, race.started_at) for i in others):
        return
    since = race.started_at if per.silent_since is None else per.silent_since
    if (until := _linger_until(turn, index, race.cause, since)) > turn.now:
        gap_s = turn.policy.linger_gap_s
        next_at = Instant(min(until, turn.now + gap_s))
        _set_race(turn, index, volleys_sent=race.volleys_sent, next_volley_at=next_at)
        return
    _silent(turn, index, since, witnesses=witnesses, others=others)


def _silent(
    turn: Turn, index: int, since: Instant, *, witnesses: list[int], others: list[int]
) -> None:
    """Give the verdict of a race that nothing has answered."""
    per = turn.per[index]
    race = per.race
    if race is None:
        return
    if per.health is Health.DOWN:
        # Raced by an operator's order, and as dead as before. A silence does not begin
        # with the order.
        ordered = per.silent_since == race.started_at
        turn.change(
            index, race=None, silent_since=None if ordered else per.silent_since
        )
        return
    heard_at = since if per.heard_at is None else min(per.heard_at, since)
    told: dict[str, object] = {
        "silent_ms": (turn.now - heard_at) * 1000,
        "took_ms": (turn.now - race.started_at) * 1000,
        "cause": race.cause,
        "cause_code": race.cause.code,
        **dict(race.cause.values),
    }
    if witnesses:
        names = ", ".join(turn.name(i) for i in witnesses)
        reason = because("race.silent", witnesses=names, **told)
    else:
        reason = because("race.silent_alone", **told)
        for other in others:
            if turn.per[other].health in USABLE:
                start(turn, other, because("cause.silent_too"))
    turn.set_health(index, Health.DOWN, reason)


def _linger_until(
    turn: Turn, index: int, cause: Reason, silent_since: Instant
) -> Instant:
    """Return until when a silence may still be one of the uplink's known gaps."""
    if cause.code in ("cause.refused", "cause.not_sent"):
        return Instant(0.0)
    per = turn.per[index]
    access = turn.policy.uplinks[index].access
    tolerance_s = per.gaps.tolerance_s(turn.now, access)
    if per.silent_asleep:
        tolerance_s = max(tolerance_s, per.wakes.tolerance_s(turn.now, access))
    return Instant(silent_since + tolerance_s)


def _answered_since(per: UplinkState, since: Instant) -> bool:
    return per.answered_at is not None and per.answered_at >= since


def queues(turn: Turn, index: int) -> bool:
    """Whether the site's own traffic stands in a queue, so that lateness and loss are its.

    A drop-tail queue that is full drops probes too.
    """
    per = turn.per[index]
    return per.busy or _swollen(per, turn.now)


def _swollen(per: UplinkState, now: Instant) -> bool:
    base_s, srtt_s = per.traffic.base_s, per.overall.srtt_s
    if base_s is None or srtt_s is None:
        return False
    swollen = srtt_s > SWOLLEN_RATIO * base_s + EMPTY_MORE_S
    return swollen and per.traffic.fills_queue(now)


def _busy(turn: Turn, per: UplinkState) -> Reason:
    return because(
        "busy",
        rtt_ms=(per.overall.srtt_s or 0.0) * 1000,
        rate_kbit_s=per.traffic.rate(turn.now) * 8 / 1000,
    )


def judge_answer(turn: Turn, index: int, rtt_s: float) -> None:
    """Judge an uplink's health after an answer: recovery, brownout, or back to clean."""
    per = turn.per[index]
    limit_s = turn.policy.rtt_degraded_s
    srtt_s = per.overall.srtt_s or 0.0
    slow = srtt_s > limit_s
    base_s = per.traffic.base_s or 0.0
    # While the site fills the queue a slow answer is its own doing, also where the
    # lowest round trip known was itself measured through a queue.
    own = per.traffic.fills_queue(turn.now) if slow else _swollen(per, turn.now)
    if own and srtt_s > BUSY_S:
        turn.change(index, busy_at=turn.now)
        turn.set_busy(index, _busy(turn, per))
        slow = False
    elif slow and per.busy_at is not None and turn.now - per.busy_at < DRAINED_S:
        slow = False  # what it left in the queue is on its way still
    elif slow or srtt_s < max(FREE_S, SETTLED_RATIO * base_s):
        turn.set_busy(index, None)
    if per.health in (Health.UNKNOWN, Health.DOWN):
        _judge_recovery(turn, index, slow=slow)
    elif per.health is Health.UP and slow:
        turn.set_health(index, Health.DEGRADED, because("slow", rtt_ms=srtt_s * 1000))
    elif per.health is Health.DEGRADED and not per.faults:
        lossy = per.reason.code == "loss.high"
        swift = srtt_s < max(limit_s / 2, min(limit_s, SETTLED_RATIO * base_s))
        clean = per.loss.cleared if lossy else swift
        if clean:
            _time_anew(turn, index, rtt_s)
            turn.set_health(index, Health.UP, because("clean", rtt_ms=srtt_s * 1000))


def _time_anew(turn: Turn, index: int, rtt_s: float) -> None:
    """Forget a brownout's round trips: its timeouts would hide the next silence.

    RFC 6298 needs some twenty samples to lower a variation that one jump has raised.
    """
    fresh = RoundTrip().after(rtt_s)
    paths = tuple(replace(path, round_trip=fresh) for path in turn.per[index].paths)
    turn.change(index, overall=fresh, paths=paths)


def _judge_recovery(turn: Turn, index: int, *, slow: bool) -> None:
    per = turn.per[index]
    blocked = checks.blocking(turn.policy, per)
    if blocked is not None and turn.usable_since is not None:
        # It answers, but does not do the site's work: only if nothing else is left.
        return
    streak = per.streak + 1
    turn.change(index, streak=streak)
    enough = turn.regrouping or per.health is Health.UNKNOWN
    if streak < (1 if enough else turn.policy.rise):
        return
    if per.faults:
        turn.set_health(index, Health.DEGRADED, blocked or per.faults[0][1])
        return
    rtt_ms = (per.overall.srtt_s or 0.0) * 1000
    reason = because("answered", streak=streak, rtt_ms=rtt_ms)
    turn.set_health(index, Health.DEGRADED if slow else Health.UP, reason)


def judge_loss(turn: Turn, index: int) -> None:
    """Judge an uplink after a lost probe: the sequential test may raise the alarm."""
    per = turn.per[index]
    if per.health is Health.UP and per.loss.raised:
        limit = pace.limit_percent(per.loss)
        turn.change(index, doubt_calm_s=0.0)
        turn.set_health(
            index, Health.DEGRADED, because("loss.high", limit_percent=limit)
        )


def _send(turn: Turn, index: int, target: TargetName, *, racing: bool) -> None:
    per = turn.per[index]
    estimate = turn.path(index, target).round_trip
    if estimate.srtt_s is None:
        estimate = per.overall
    asleep = pace.asleep(turn.policy, per, turn.now)
    timeout_s = pace.timeout_s(
        turn.policy, index, per, estimate, turn.now, asleep=asleep
    )
    turn.send(index, target, timeout_s, racing=racing, asleep=asleep)
