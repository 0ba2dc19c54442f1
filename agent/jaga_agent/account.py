"""From what the agent did to what the decision chain says of it. Pure.

It builds the chain's entries from values and decides nothing; `replay` builds them
again from a replayed decision, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_agent.adapters.chain.entry import Content, Judged, Proof
from jaga_agent.core import choice
from jaga_agent.core.estimate import hold_down_s
from jaga_agent.core.model import Failback, Health
from jaga_agent.core.reason import ORDERED

if TYPE_CHECKING:
    from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.state import State

REASON_CHARS: Final = 512
ENGINE_FIELDS: Final = (
    "kind",
    "rule",
    "uplink",
    "old",
    "new",
    "reason",
    "code",
    "values",
    "detected_ms",
    "targets",
    "hold_down_ms",
    "candidates",
)
"""What a decision's entry takes from the engine alone: a replay must give the same."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was decided, by every clock the Pi has."""

    boot: str
    """Hexadecimal."""
    at_s: float
    """Since boot."""
    wall_ms: int
    clock_age_s: int

    def said(self, kind: str, reason: object = "") -> Content:
        """Return an entry of this moment, to be filled in."""
        text, code, values = coded(reason)
        return Content(
            boot=self.boot,
            at_ms=_ms(self.at_s) or 0,
            wall_ms=self.wall_ms,
            clock_age_s=self.clock_age_s,
            kind=kind,
            reason=text,
            code=code,
            values=values,
        )


def coded(reason: object) -> tuple[str, str | None, dict[str, str]]:
    """Return a reason as English sentence, code and values; a plain text has no code."""
    code = getattr(reason, "code", None)
    values = dict(getattr(reason, "values", ())) if code is not None else {}
    return str(reason)[:REASON_CHARS], code, values


def lifecycle(moment: Moment, kind: str, reason: str) -> Content:
    """Return a start or stop."""
    return moment.said(kind, reason)


def decision(moment: Moment, action: SelectUplink, state: State) -> Content:
    """Return a decision as the engine made it; `state` is the one it left."""
    return msgspec.structs.replace(
        moment.said("decision", action.reason),
        rule=action.rule,
        uplink=action.uplink,
        old=action.previous,
        new=action.uplink,
        detected_ms=_ms(action.detected_s),
        targets=len(set(state.policy.targets) - state.faulty_targets),
        hold_down_ms=_hold_down_ms(action, state, moment.at_s),
        candidates=tuple(
            Judged(
                uplink=candidate.uplink,
                health=candidate.health.value,
                rtt_ms=None if candidate.srtt_ms is None else round(candidate.srtt_ms),
                reason=text,
                code=code,
                values=values,
            )
            for candidate in action.candidates
            for text, code, values in (coded(candidate.reason),)
        ),
    )


def carried_out(
    said: Content, switched_s: float | None, proof: Proof | None
) -> Content:
    """Return a decision's entry once the kernel has the move, or has refused it."""
    return msgspec.structs.replace(said, switched_ms=_ms(switched_s), evidence=proof)


def health(moment: Moment, action: ReportHealth, state: State) -> Content:
    """Return an uplink's transition, and when it may take the site back."""
    matures_at = None
    if state.active is not None and action.new is Health.UP:
        index = state.index(action.uplink)
        if index < state.index(state.active):
            matures_at = choice.back_at(
                state.policy, state.per[index], state.hold_until, state.chosen
            )
    return msgspec.structs.replace(
        moment.said("health", action.reason),
        uplink=action.uplink,
        old=action.old.value,
        new=action.new.value,
        hold_until_ms=_ms(matures_at),
    )


def target_state(moment: Moment, action: ReportTarget) -> Content:
    """Return a target that fell silent everywhere, or came back."""
    said = ("silent", "answering")
    return msgspec.structs.replace(
        moment.said("target", action.reason),
        target=action.target,
        old=said[not action.answering],
        new=said[action.answering],
    )


def gap(moment: Moment, uplink: UplinkName, gap_s: float, of: int | None) -> Content:
    """Return how long the site was cut until something came in through `uplink`."""
    return msgspec.structs.replace(
        moment.said("gap", "the first packet came in after the move"),
        uplink=uplink,
        gap_ms=_ms(gap_s),
        of=of,
    )


def sealed(moment: Moment, of: int, proof: Proof) -> Content:
    """Return that a decision's evidence, with what came after, is complete."""
    reason = "the evidence with what came after the decision"
    return msgspec.structs.replace(moment.said("sealed", reason), of=of, evidence=proof)


def other(
    moment: Moment,
    kind: str,
    reason: object,
    *,
    uplink: str | None = None,
    target: str | None = None,
    old: str | None = None,
    new: str | None = None,
) -> Content:
    """Return any other thing worth a place in the chain."""
    return msgspec.structs.replace(
        moment.said(kind, reason), uplink=uplink, target=target, old=old, new=new
    )


def _hold_down_ms(action: SelectUplink, state: State, now_s: float) -> int | None:
    """Return how long the uplink that was left must stay up before it comes back.

    None if nothing was left, if it is not preferred, or if policy keeps the site where
    it is. It is as of now: the wait grows with each further fall.
    """
    policy = state.policy
    if action.previous is None or policy.failback is Failback.NEVER:
        return None
    if action.reason.code == ORDERED:
        return None  # Nothing takes the site back from what an operator chose.
    left = state.index(action.previous)
    if left > state.index(action.uplink):
        return None
    penalty = state.per[left].damping.now(now_s, policy.penalty_half_life_s)
    return _ms(
        hold_down_s(penalty, base_s=policy.hold_down_s, cap_s=policy.hold_down_cap_s)
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1e3))
