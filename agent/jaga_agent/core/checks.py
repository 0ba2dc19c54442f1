"""The check of the real thing: when it is asked for, and what its outcome means.

A quota that is used up answers pings and even names; a portal answers everything. Only
asking for what the site is here for (TLS to Sirekap) tells. That costs kilobytes, so it
is rare, unless connections are being reset. Blame as with pulses: fails here and works
by another uplink → the uplink's fault; fails everywhere → the target's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core.actions import ReportCheck
from jaga_agent.core.events import CheckVerdict
from jaga_agent.core.governor import factors
from jaga_agent.core.model import Health, Instant, Role
from jaga_agent.core.reason import Reason, because
from jaga_agent.core.state import USABLE, CheckState, State, UplinkState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaga_agent.core.events import CheckDone
    from jaga_agent.core.model import Policy
    from jaga_agent.core.turn import Turn

FIRST_AFTER_S: Final = 3.0
STAGGER_S: Final = 2.0
"""Between the first checks: not all uplinks and targets at once."""
GIVEN_UP_S: Final = 60.0
"""A check of which nothing was heard for so long is asked for again."""
NOT_SENT_S: Final = 60.0
MIN_FAILS: Final = 2
"""In a row, of the kinds that one lost packet could explain."""
CALM_MEMORY_S: Final = 300.0
"""A suspicion so long after the last calm is a new one."""
MIN_RESETS: Final = 2.5
"""TCP resets within about two seconds that are worth a check."""
MIN_LOST: Final = 4.0
"""And connection attempts that nobody answered."""

PLAIN = frozenset(
    {CheckVerdict.RESET, CheckVerdict.CERTIFICATE, CheckVerdict.REDIRECTED}
)
"""Somebody on the path answers in the target's place: once is enough."""


def deadlines(state: State) -> Iterator[Instant]:
    """Yield when checks are due, or given up."""
    for per in state.per:
        if _asks(per):
            for check in per.checks:
                if check.check_id is not None and check.sent_at is not None:
                    yield Instant(check.sent_at + GIVEN_UP_S)
                elif check.due_at is not None:
                    yield check.due_at


def _asks(per: UplinkState) -> bool:
    """Whether an uplink can answer for itself: one that is silent has been judged."""
    return per.linked and (per.health in USABLE or bool(per.faults))


def send_due(turn: Turn) -> None:
    """Plan and send the checks of every uplink that can answer for itself."""
    for index, per in enumerate(turn.per):
        if not _asks(per):
            continue
        for at, check in enumerate(per.checks):
            if check.check_id is not None:
                sent_at = check.sent_at or turn.now
                if sent_at + GIVEN_UP_S <= turn.now:
                    _set(turn, index, at, check_id=None, due_at=turn.now)
                    _send(turn, index, at)
            elif check.due_at is None:
                first_s = FIRST_AFTER_S + STAGGER_S * (index * len(per.checks) + at)
                _set(turn, index, at, due_at=Instant(turn.now + first_s))
            elif check.due_at <= turn.now:
                _send(turn, index, at)


def suspect(turn: Turn, index: int) -> None:
    """Ask for the real thing at once if the active's connections are reset or ignored."""
    per = turn.per[index]
    if (
        (per.flows.resets < MIN_RESETS and per.flows.lost < MIN_LOST)
        or turn.active_index != index
        or per.health not in USABLE
        or not per.checks
    ):
        return
    turn.change(index, flows=per.flows.looked_into())
    if per.check_calm_until is not None and turn.now < per.check_calm_until:
        return
    policy = turn.policy
    until = per.check_calm_until
    soon = until is not None and turn.now - until < CALM_MEMORY_S
    before_s = per.check_calm_s if soon else 0.0
    calm_s = min(policy.recheck_cap_s, 2 * before_s or policy.check_calm_s)
    turn.change(index, check_calm_s=calm_s, check_calm_until=Instant(turn.now + calm_s))
    witness = _witness(turn, index)
    for at in range(len(per.checks)):
        for asked in (index, witness):
            if asked is not None and turn.per[asked].checks[at].check_id is None:
                _send(turn, asked, at)


def done(turn: Turn, event: CheckDone) -> None:
    """Take note of a check's outcome, and judge."""
    found = _find(turn, event.check_id)
    if found is None:
        return
    index, at = found
    per = turn.per[index]
    check = per.checks[at]
    target = turn.policy.checks[at].target
    _set(turn, index, at, check_id=None)
    if event.verdict is CheckVerdict.NOT_SENT:
        _set(turn, index, at, due_at=Instant(turn.now + NOT_SENT_S))
        return
    if event.verdict is CheckVerdict.OK:
        _works(turn, index, at)
        return
    recheck_s = min(
        turn.policy.checks[at].interval_s,
        2 * check.recheck_s or turn.policy.recheck_s,
    )
    first = check.ok is not False
    failing_since = check.sent_at if first else check.failing_since
    _set(
        turn,
        index,
        at,
        ok=False,
        fails=check.fails + 1,
        verdict=event.verdict.value,
        detail=event.detail,
        ended_at=turn.now,
        failing_since=failing_since,
        recheck_s=recheck_s,
        due_at=Instant(turn.now + recheck_s),
    )
    if first:
        reason = because(
            "check.alone",
            target=target,
            verdict=event.verdict.value,
            detail=event.detail,
        )
        turn.tell(ReportCheck(turn.name(index), target, False, reason))
    _seek(turn, index, at)
    _judge(turn, at)


def blocking(policy: Policy, per: UplinkState) -> Reason | None:
    """Return why an uplink that answers cannot do the site's work; None if it can."""
    app = {check.target for check in policy.checks if check.role is Role.APP}
    for target, reason in per.faults:
        if target in app and reason.code != "dns.dead":
            return reason
    return None


def forget(turn: Turn, index: int) -> None:
    """Forget what was known of an uplink whose link is gone: another may come back."""
    per = turn.per[index]
    turn.change(index, checks=tuple(CheckState() for _ in per.checks), faults=())


def _works(turn: Turn, index: int, at: int) -> None:
    per = turn.per[index]
    check = turn.policy.checks[at]
    if per.checks[at].ok is False:
        reason = because("check.ok", target=check.target)
        turn.tell(ReportCheck(turn.name(index), check.target, True, reason))
    _set(
        turn,
        index,
        at,
        ok=True,
        fails=0,
        ended_at=turn.now,
        failing_since=None,
        recheck_s=0.0,
        due_at=_next_at(turn, index, check.interval_s),
    )
    turn.target_answers(check.target)
    faults = tuple(f for f in per.faults if f[0] != check.target)
    if faults != per.faults:
        turn.change(index, faults=faults, last_probe_at=None, check_calm_s=0.0)
    _judge(turn, at)


def _next_at(turn: Turn, index: int, interval_s: float) -> Instant:
    """Return when the next check at leisure is due; never, for an uplink at its last."""
    factor = factors(turn.per[index].thrift)[1]
    return Instant(float("inf") if factor is None else turn.now + interval_s * factor)


def _seek(turn: Turn, index: int, at: int) -> None:
    """Ask again here, and elsewhere, unless that has been answered already."""
    check = turn.per[index].checks[at]
    plain = check.verdict in {verdict.value for verdict in PLAIN}
    if not plain and check.fails == 1:
        _send(turn, index, at)
    witness = _witness(turn, index, at)
    if witness is None:
        return
    other = turn.per[witness].checks[at]
    fresh = (
        other.ended_at is not None
        and check.failing_since is not None
        and other.ended_at >= check.failing_since
    )
    unsure = not fresh or (other.ok is False and not plain)
    if other.check_id is None and unsure and other.fails < MIN_FAILS:
        _send(turn, witness, at)


def _witness(turn: Turn, suspect: int, at: int | None = None) -> int | None:
    """Return the best other uplink to ask; one that is not known to fail, if any."""
    others = [
        i
        for i, per in enumerate(turn.per)
        if i != suspect and per.linked and per.health in USABLE
    ]
    if at is not None:
        others.sort(key=lambda i: turn.per[i].checks[at].ok is False)
    return others[0] if others else None


def _judge(turn: Turn, at: int) -> None:
    """Blame uplinks on which it fails while it works by others, or the target."""
    check = turn.policy.checks[at]
    asked = [i for i, per in enumerate(turn.per) if _asks(per)]
    failing = [i for i in asked if _surely_fails(turn.per[i].checks[at])]
    for index in failing:
        suspect = turn.per[index].checks[at]
        witnesses = [i for i in asked if _speaks(turn.per[i].checks[at], suspect)]
        if not witnesses:
            continue
        asked_at = min(turn.per[i].checks[at].sent_at or 0.0 for i in witnesses)
        if (suspect.ended_at or 0.0) >= asked_at:
            _blame(turn, index, at, ", ".join(turn.name(i) for i in witnesses))
        elif suspect.check_id is None:
            # It may have been the target's fault until just now: ask once more.
            _send(turn, index, at)
    if len(asked) > 1 and len(failing) == len(asked):
        verdict = turn.per[failing[0]].checks[at].verdict
        turn.blame_target(
            check.target,
            because("target.failing", ways=len(failing), verdict=verdict),
        )


def _speaks(check: CheckState, suspect: CheckState) -> bool:
    """Whether it worked since the suspect began to fail."""
    since, ended_at = suspect.failing_since, check.ended_at
    both = since is not None and ended_at is not None
    return check.ok is True and both and (ended_at or 0.0) >= (since or 0.0)


def _surely_fails(check: CheckState) -> bool:
    plain = check.verdict in {verdict.value for verdict in PLAIN}
    return check.ok is False and (plain or check.fails >= MIN_FAILS)


def _blame(turn: Turn, index: int, at: int, witnesses: str) -> None:
    per = turn.per[index]
    check = turn.policy.checks[at]
    seen = per.checks[at]
    if any(target == check.target for target, _ in per.faults):
        return
    dns = seen.verdict == CheckVerdict.DNS_FAILED.value
    if dns:
        reason = because("dns.dead", target=check.target, witnesses=witnesses)
    else:
        reason = because(
            "check.failed",
            target=check.target,
            witnesses=witnesses,
            verdict=seen.verdict,
            detail=seen.detail,
        )
    turn.change(index, faults=(*per.faults, (check.target, reason)), check_calm_s=0.0)
    # The Pi resolves the site's names by whichever uplink answers first.
    if blocking(turn.policy, turn.per[index]) is not None:
        turn.set_health(index, Health.DOWN, reason)
    elif per.health is Health.UP:
        turn.set_health(index, Health.DEGRADED, reason)


def _find(turn: Turn, check_id: int) -> tuple[int, int] | None:
    for index, per in enumerate(turn.per):
        for at, check in enumerate(per.checks):
            if check.check_id == check_id:
                return index, at
    return None


def _send(turn: Turn, index: int, at: int) -> None:
    target = turn.policy.checks[at].target
    check_id = turn.send_check(index, target)
    _set(turn, index, at, check_id=check_id, sent_at=turn.now)


def _set(turn: Turn, index: int, at: int, **changes: Any) -> None:
    per: UplinkState = turn.per[index]
    checks = per.checks
    check = replace(checks[at], **changes)
    turn.change(index, checks=(*checks[:at], check, *checks[at + 1 :]))
