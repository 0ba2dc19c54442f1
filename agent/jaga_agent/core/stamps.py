"""Moments on two clocks at once, and the round trip between two of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The realtime clock may be slewed by 500 ppm at most (adjtimex(2)); more than twice
# that, beyond the noise of reading two clocks, is a step.
_SLEW_RATIO: Final = 0.001
_STEP_NS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """One moment on both clocks, read back to back: to measure with, not to date."""

    wall_ns: int
    """CLOCK_REALTIME, the clock the kernel stamps received packets with."""
    boot_ns: int
    """CLOCK_BOOTTIME."""


def round_trip_s(sent: Stamp, received: Stamp, kernel_ns: int | None) -> float:
    """Return the round-trip time in seconds, never negative.

    By the kernel's receive stamp, which a busy event loop cannot delay, unless the
    realtime clock was stepped between `sent` and `received`: then by CLOCK_BOOTTIME.
    """
    elapsed_ns = received.boot_ns - sent.boot_ns
    moved_ns = (received.wall_ns - sent.wall_ns) - elapsed_ns
    if kernel_ns is not None and abs(moved_ns) <= _STEP_NS + elapsed_ns * _SLEW_RATIO:
        rtt_ns = kernel_ns - sent.wall_ns
        if 0 <= rtt_ns <= elapsed_ns + abs(moved_ns) + _STEP_NS:
            return rtt_ns / 1e9
    return max(elapsed_ns, 0) / 1e9
