"""`jaga-agent replay`: run a field outage again on a desk, from the agent's journal.

The engine is pure, so the same state and events must give the same actions; a
difference means another version of the engine, and is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.adapters import journal
from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink
from jaga_agent.core.engine import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_agent.core.model import Instant


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine did at one step of the replay that a reader cares about."""

    at: Instant
    actions: tuple[ReportHealth | ReportTarget | SelectUplink, ...]
    same: bool
    """Whether all actions are those that were recorded."""


def replay(path: Path) -> Iterator[Outcome]:
    """Yield each step at which the engine did something; raises JournalError."""
    state, steps = journal.read(path)
    for recorded in steps:
        state, actions = step(state, recorded.event, recorded.at)
        same = actions == recorded.actions
        told = tuple(
            a
            for a in actions
            if isinstance(a, (ReportHealth, ReportTarget, SelectUplink))
        )
        if told or not same:
            yield Outcome(recorded.at, told, same)


def line(began: Instant, outcome: Outcome) -> Iterator[str]:
    """Yield an outcome as lines for a reader; times from the first outcome."""
    at = f"{outcome.at - began:+10.3f} s"
    for action in outcome.actions:
        match action:
            case ReportHealth(uplink=uplink, old=old, new=new, reason=reason):
                yield f"{at}  {uplink}: {old.value} → {new.value}: {reason}"
            case ReportTarget(target=target, reason=reason):
                yield f"{at}  target {target}: {reason}"
            case SelectUplink(uplink=uplink, previous=previous, rule=rule):
                detected = (
                    ""
                    if action.detected_s is None
                    else f" (detected in {action.detected_s * 1000:.0f} ms)"
                )
                move = f"{previous or 'nothing'} → {uplink}{detected}"
                yield f"{at}  {rule.upper()} {move}: {action.why}"
    if not outcome.same:
        yield f"{at}  differs from what the agent did then"
