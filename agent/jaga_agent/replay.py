"""`jaga-agent replay`: run a field outage again on a desk, from the agent's journal.

The engine is pure, so the same state and events must give the same actions, to the
last bit; a difference means another version of the engine, or another journal, and is
shown. A decision's evidence is held against the chain's entry too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent import account
from jaga_agent.adapters import evidence, journal
from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink, SendProbe
from jaga_agent.core.engine import step
from jaga_agent.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_agent.adapters.chain.entry import Entry
    from jaga_agent.core.actions import Action
    from jaga_agent.core.model import Instant
    from jaga_agent.core.state import State


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step of the replay."""

    number: int
    """From 1."""
    at: Instant
    actions: tuple[Action, ...]
    """What this engine does."""
    recorded: bytes
    """The step's line in the journal."""
    state: State
    """After it."""
    same: bool
    """Whether this engine's step is that line, byte for byte (doubles are exact)."""

    @property
    def told(self) -> tuple[Action, ...]:
        """The actions that a reader cares about."""
        return tuple(a for a in self.actions if not isinstance(a, SendProbe))


def replay(path: Path) -> Iterator[Outcome]:
    """Yield each step of a journal, plain or gzip; raises JournalError."""
    return _replayed(*journal.read(path))


def replay_decision(entry: Entry, path: Path) -> Iterator[Outcome]:
    """Yield the same of a decision's evidence, once it is what the entry vouches for.

    Raises EvidenceError if it is not, JournalError if it cannot be read.
    """
    content = journal.content(path)
    if entry.evidence is None:
        msg = f"entry {entry.id} vouches for no evidence, yet there is {path}"
        raise EvidenceError(msg)
    lines = content.splitlines()[: entry.evidence.steps + 1]
    if evidence.digest(lines) != entry.evidence.sha256:
        msg = (
            f"{path} is not what entry {entry.id} of the chain vouches for: "
            "it was changed or swapped"
        )
        raise EvidenceError(msg)
    return _replayed(*journal.parsed(content, path))


def _replayed(state: State, steps: Iterator[journal.Step]) -> Iterator[Outcome]:
    for number, recorded in enumerate(steps, 1):
        state, actions = step(state, recorded.event, recorded.at)
        line = journal.encoded(recorded.at, recorded.event, actions)
        yield Outcome(
            number, recorded.at, actions, recorded.line, state, line == recorded.line
        )


def decided(outcome: Outcome, entry: Entry) -> bool:
    """Return whether this step makes the decision of a chain's entry, in all it says."""
    moment = account.Moment(entry.boot, outcome.at, entry.wall_ms, entry.clock_age_s)
    return any(
        all(
            getattr(said, name) == getattr(entry, name)
            for name in ("at_ms", *account.ENGINE_FIELDS)
        )
        for action in outcome.actions
        if isinstance(action, SelectUplink)
        for said in (account.decision(moment, action, outcome.state),)
    )


def line(began: Instant, outcome: Outcome) -> Iterator[str]:
    """Yield an outcome as lines for a reader; times from `began`."""
    at = f"{outcome.at - began:+10.3f} s"
    for action in outcome.told:
        yield f"{at}  {_said(action)}"


def difference(began: Instant, outcome: Outcome) -> Iterator[str]:
    """Yield what was recorded of a step and what this engine does instead."""
    yield f"step {outcome.number} ({outcome.at - began:+.3f} s) differs"
    yield f"  recorded:     {outcome.recorded.decode(errors='replace')}"
    yield f"  this version: {' '.join(map(str, outcome.actions)) or 'does nothing'}"


def _said(action: Action) -> str:
    if isinstance(action, SelectUplink):
        detected = (
            ""
            if action.detected_s is None
            else f" (detected in {action.detected_s * 1000:.0f} ms)"
        )
        move = f"{action.previous or 'nothing'} → {action.uplink}{detected}"
        return f"{action.rule.upper()} {move}: {action.why}"
    if isinstance(action, ReportHealth):
        change = f"{action.old.value} → {action.new.value}"
        return f"{action.uplink}: {change}: {action.reason}"
    if isinstance(action, ReportTarget):
        return f"target {action.target}: {action.reason}"
    return str(action)
