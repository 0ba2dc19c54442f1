"""When did it happen? A Pi has no clock of its own.

A record carries milliseconds since boot (always true), the site's wall clock, and how
long ago that clock was confirmed (-1: never in this boot). One offset, the Unix time of
the boot's start, dates every record of that boot: the order and the distances of a boot's
records are those of its boot clock, whatever was done to its wall clock meanwhile.

Which offset: the first that a confirmed record tells. A later record replaces it only
while the confirmation behind it is older than FRESH_S and the later one's is a quarter as
old or less. So a wall clock that is wrong by an hour, and still lives on a confirmation
from before, bends nothing; and an offset from a stale confirmation does not last.
docs/decisions/dating.md has the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

FUTURE_MS: Final = 60_000
"""A clock this far ahead of the collector is wrong, whatever it says of itself."""
FRESH_S: Final = 60
"""A confirmation not older than this is final: no quartz drifts a millisecond a second."""
BETTER: Final = 4
"""How many times younger a confirmation must be to count for more."""
SAME_MS: Final = 1000
"""Offsets this near are one: dating a boot anew is not worth it."""


@dataclass(frozen=True, slots=True)
class Offset:
    """What a boot is dated by."""

    start_ms: int
    """Unix time of the boot's start."""
    age_s: int
    """How old the clock's confirmation was when the record was made that tells it."""


def offset(
    at_ms: int, wall_ms: int, clock_age_s: int, arrival_ms: int
) -> Offset | None:
    """Return what a record tells of its boot, or None if it cannot tell."""
    if clock_age_s < 0 or wall_ms > arrival_ms + FUTURE_MS or wall_ms < at_ms:
        return None
    return Offset(wall_ms - at_ms, clock_age_s)


def better(held: Offset | None, told: Offset | None) -> Offset | None:
    """Return what the boot is dated by from now on."""
    if held is None or told is None:
        return told or held
    if held.age_s <= FRESH_S or told.age_s * BETTER > held.age_s:
        return held
    if abs(told.start_ms - held.start_ms) <= SAME_MS:
        return Offset(held.start_ms, told.age_s)
    return told


class Dated(NamedTuple):
    """When a record was made, as well as the collector can tell."""

    t_ms: int
    """Unix milliseconds."""
    by_clock: bool
    """False: by its arrival, until a record of its boot has a confirmed clock."""


def event_time(at_ms: int, start: Offset | None, arrival_ms: int) -> Dated:
    """Return the event time of a record. Nothing is dated into the future."""
    if start is None:
        return Dated(arrival_ms, by_clock=False)
    return Dated(min(start.start_ms + at_ms, arrival_ms), by_clock=True)
