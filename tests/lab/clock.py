"""The lab's one clock: CLOCK_BOOTTIME, the same as the agent's, in every process.

All instants that the lab hands out (faults, phone, relay) are seconds on it, so that
they may be subtracted from one another and from the agent's own events.
"""

from __future__ import annotations

import time


def boottime_s() -> float:
    """Return seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def sleep_until(at_s: float) -> None:
    """Sleep until an instant of this clock; at once if it is past."""
    time.sleep(max(0.0, at_s - boottime_s()))
