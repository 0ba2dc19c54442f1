"""When did it happen? A Pi has no clock of its own.

A record carries milliseconds since boot (always true), the site's wall clock, and how
long ago that clock was confirmed (-1: never in this boot). Once one record of a boot has
a confirmed clock, the boot's offset dates all of that boot.
"""

from __future__ import annotations

FUTURE_MS = 60_000
"""A clock this far ahead of the collector is wrong, whatever it says of itself."""


def offset_ms(
    at_ms: int, wall_ms: int, clock_age_s: int, arrival_ms: int
) -> int | None:
    """Return Unix time of this boot's start, or None if this record cannot tell."""
    if clock_age_s < 0 or wall_ms > arrival_ms + FUTURE_MS or wall_ms < at_ms:
        return None
    return wall_ms - at_ms


def event_time(
    at_ms: int, offset: int | None, own_offset: int | None, arrival_ms: int
) -> int:
    """Return the event time of a record, Unix milliseconds.

    `own_offset` is what the record itself tells, `offset` what its boot is known by.
    Without either it is dated by its arrival. Nothing is dated into the future.
    """
    start = own_offset if own_offset is not None else offset
    return arrival_ms if start is None else min(start + at_ms, arrival_ms)
