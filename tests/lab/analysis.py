"""What the phone's log says: gaps, bad seconds, who carried. Pure functions.

Definitions, used by tests, demo and benchmark alike:

* an attempt is GOOD when it succeeded within `GOOD_WITHIN_S` of its start;
* `gap_s` is the longest time, over a window, during which no new connection that was
  started succeeded: from the start of the last good attempt before to the start of
  the first good one after. Without a bad attempt in between it is no gap. The
  resolution is the phone's interval.
* bad seconds are bad attempts times the interval: short repeated holes count here too.
* the upload's gap is the longest time without progress acknowledged by the server.

A gap that reaches the window's edge is measured to that edge and marked open: it is
at least that long.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GOOD_WITHIN_S = 0.3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One new connection of the phone."""

    start_s: float
    duration_s: float
    ok: bool
    seen: str | None = None
    """Address by which the server knew the phone."""
    error: str | None = None

    def good(self, within_s: float = GOOD_WITHIN_S) -> bool | None:
        """Return whether it was good; None: it ended before that could be told."""
        if self.error == "unfinished" and self.duration_s < within_s:
            return None
        return self.ok and self.duration_s <= within_s


@dataclass(frozen=True, slots=True)
class UploadMark:
    """Something that happened to the upload: connected, progress or broken."""

    at_s: float
    what: str
    seen: str | None = None
    total_bytes: int | None = None
    """Acknowledged on the present connection."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PhoneLog:
    """A phone's log, attempts in the order of their start."""

    attempts: list[Attempt] = field(default_factory=list)
    upload: list[UploadMark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without success, CLOCK_BOOTTIME seconds."""

    from_s: float
    to_s: float
    open: bool = False
    """It reaches an edge of the window, so it is at least this long."""

    @property
    def gap_s(self) -> float:
        return self.to_s - self.from_s


@dataclass(frozen=True, slots=True)
class Spell:
    """One provider carried the good attempts from … to (their starts)."""

    provider: str
    from_s: float
    to_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All numbers of one window."""

    gap: Gap | None
    """None: no bad attempt."""
    upload_gap: Gap | None
    """None: no progress at all in the window (no upload was running)."""
    attempts: int
    bad_attempts: int
    bad_s: float
    spells: list[Spell]

    @property
    def gap_s(self) -> float:
        return self.gap.gap_s if self.gap else 0.0


def parse(lines: Iterable[str]) -> PhoneLog:
    """Read a phone's log; a half-written last line is left out."""
    log = PhoneLog()
    for line in lines:
        if not line.endswith("\n"):
            continue
        record = json.loads(line)
        kind = record.pop("kind")
        if kind == "attempt":
            log.attempts.append(Attempt(**record))
        else:
            log.upload.append(UploadMark(**record))
    log.attempts.sort(key=lambda attempt: attempt.start_s)
    return log


def _within(
    attempts: Iterable[Attempt], from_s: float, to_s: float, within_s: float
) -> list[tuple[Attempt, bool]]:
    """Return the window's attempts with their verdict, those without one left out."""
    return [
        (attempt, good)
        for attempt in attempts
        if from_s <= attempt.start_s <= to_s
        and (good := attempt.good(within_s)) is not None
    ]


def connection_gap(
    attempts: Sequence[Attempt],
    from_s: float,
    to_s: float,
    within_s: float = GOOD_WITHIN_S,
) -> Gap | None:
    """Return the longest gap of new connections, None when none was bad."""
    longest: Gap | None = None
    last_good_s: float | None = None
    bad = False
    for attempt, good in _within(attempts, from_s, to_s, within_s):
        if not good:
            bad = True
            continue
        if bad:
            opened = last_good_s is None
            start_s = from_s if last_good_s is None else last_good_s
            longest = _longer(longest, Gap(start_s, attempt.start_s, open=opened))
        last_good_s, bad = attempt.start_s, False
    if bad:
        start_s = from_s if last_good_s is None else last_good_s
        longest = _longer(longest, Gap(start_s, to_s, open=True))
    return longest


def _longer(one: Gap | None, other: Gap) -> Gap:
    return other if one is None or other.gap_s > one.gap_s else one


def bad_attempts(
    attempts: Sequence[Attempt],
    from_s: float,
    to_s: float,
    within_s: float = GOOD_WITHIN_S,
) -> int:
    """Count the window's bad attempts."""
    return sum(not good for _, good in _within(attempts, from_s, to_s, within_s))


def upload_gap(marks: Sequence[UploadMark], from_s: float, to_s: float) -> Gap | None:
    """Return the longest time between two acknowledged steps of the upload.

    The window's end closes the last one (then it is open); the time before the first
    step is not the upload's fault and not counted.
    """
    steps = [
        mark.at_s
        for mark in marks
        if mark.what == "progress" and from_s <= mark.at_s <= to_s
    ]
    if not steps:
        return None
    longest = Gap(steps[-1], to_s, open=True)
    for before_s, after_s in itertools.pairwise(steps):
        longest = _longer(longest, Gap(before_s, after_s))
    return longest


def spells(
    attempts: Sequence[Attempt],
    providers: Mapping[str, str],
    from_s: float,
    to_s: float,
    within_s: float = GOOD_WITHIN_S,
) -> list[Spell]:
    """Return which provider carried when; an unknown address stands for itself."""
    found: list[Spell] = []
    for attempt, good in _within(attempts, from_s, to_s, within_s):
        if not good or attempt.seen is None:
            continue
        provider = providers.get(attempt.seen, attempt.seen)
        start_s = attempt.start_s
        if found and found[-1].provider == provider:
            last = found[-1]
            found[-1] = Spell(provider, last.from_s, start_s, last.attempts + 1)
        else:
            found.append(Spell(provider, start_s, start_s, 1))
    return found


def summarise(
    log: PhoneLog,
    providers: Mapping[str, str],
    *,
    interval_s: float = 0.05,
    from_s: float | None = None,
    to_s: float | None = None,
    within_s: float = GOOD_WITHIN_S,
) -> Summary:
    """Return all numbers of a window; without one, of the whole log."""
    starts = [attempt.start_s for attempt in log.attempts]
    if from_s is None:
        from_s = min(starts, default=0.0)
    if to_s is None:
        to_s = max(
            [*starts, *(mark.at_s for mark in log.upload if mark.what == "progress")],
            default=from_s,
        )
    judged = len(_within(log.attempts, from_s, to_s, within_s))
    bad = bad_attempts(log.attempts, from_s, to_s, within_s)
    return Summary(
        gap=connection_gap(log.attempts, from_s, to_s, within_s),
        upload_gap=upload_gap(log.upload, from_s, to_s),
        attempts=judged,
        bad_attempts=bad,
        bad_s=bad * interval_s,
        spells=spells(log.attempts, providers, from_s, to_s, within_s),
    )
