"""Which configuration is in force: the card's, or one that an operator applied. Pure.

States of what is kept in the state directory, and the only ways between them:

    nothing ──proposed──▶ trial ──started──▶ trial, begun ──confirmed──▶ applied
                                              │ started again (a crash, SIGKILL, power)
                                              │ rolled_back (the collector not reached)
                                              └──────────▶ what was before the trial

Each is written before what it says is done. So whatever happens in a trial, the next
start is without it. What was applied holds only over the same card's file: a technician
who changes that file, or the card, has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration to be tried, or on trial."""

    order: str
    """The order's id, hexadecimal."""
    toml: str
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial's end, until it has been told."""

    order: str
    confirmed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What is kept."""

    base: str
    """SHA-256 of the card's file that all this is over, hexadecimal."""
    toml: str | None = None
    """What was applied and has proved itself; None: nothing, the card's file holds."""
    trial: Trial | None = None
    ended: Ended | None = None


class Source(Enum):
    """Where the configuration in force comes from."""

    FILE = "file"
    APPLIED = "applied"
    TRIAL = "trial"


def in_force(kept: Applied | None, base: str) -> tuple[Source, str | None]:
    """Return the source, and the text unless it is the card's file."""
    if kept is None or kept.base != base:
        return Source.FILE, None
    if kept.trial is not None and kept.trial.begun:
        return Source.TRIAL, kept.trial.toml
    if kept.toml is not None:
        return Source.APPLIED, kept.toml
    return Source.FILE, None


def proposed(kept: Applied | None, base: str, trial: Trial) -> Applied:
    """Return what is kept once a configuration is to be tried at the next start."""
    before = kept if kept is not None and kept.base == base else Applied(base)
    return replace(before, trial=trial)


def started(kept: Applied | None, base: str) -> Applied | None:
    """Return what is kept once the agent starts over a card's file."""
    if kept is None:
        return None
    trial = kept.trial
    if kept.base != base:
        # Nothing of it holds any more; only a trial's end is still to be told.
        ended = kept.ended
        if trial is not None:
            ended = Ended(trial.order, False, "the card's own file was changed")
        return Applied(base, ended=ended)
    if trial is None:
        return kept
    if trial.begun:
        return rolled_back(kept, "the agent ended before the collector was reached")
    return replace(kept, trial=replace(trial, begun=True))


def confirmed(kept: Applied, detail: str) -> Applied:
    """Return what is kept once the trial's configuration has proved itself."""
    if kept.trial is None:
        return kept
    ended = Ended(kept.trial.order, True, detail)
    return Applied(kept.base, kept.trial.toml, None, ended)


def rolled_back(kept: Applied, why: str) -> Applied:
    """Return what is kept once the trial is given up."""
    if kept.trial is None:
        return kept
    ended = Ended(kept.trial.order, False, f"rolled back: {why}")
    return Applied(kept.base, kept.toml, None, ended)


def told(kept: Applied) -> Applied:
    """Return what is kept once a trial's end has been told."""
    return replace(kept, ended=None)
