"""The only module that reads a clock.

A Pi has no real-time clock: what it calls the time may be years off until it has been
confirmed, and it jumps when it is. So intervals are on CLOCK_BOOTTIME (monotonic,
counts suspend) and every wall-clock time goes out with its age.
"""

from __future__ import annotations

import time
from pathlib import Path

from jaga_agent.core.model import Instant
from jaga_agent.ports import Stamp

SYNCHRONIZED_PATH = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd touches it at each successful synchronisation; gone at boot."""

# A stamp whose two reads were torn apart by the scheduler would make the offset
# between the clocks look as if it had moved.
_TORN_NS = 50_000
_STAMP_TRIES = 3


class BoottimeClock:
    """The kernel's clocks, as `ports.Clock`."""

    def __init__(self, synchronized: Path = SYNCHRONIZED_PATH) -> None:
        self._synchronized = synchronized

    def now(self) -> Instant:
        """Return seconds since boot (CLOCK_BOOTTIME)."""
        return Instant(time.clock_gettime(time.CLOCK_BOOTTIME))

    def wall_ms(self) -> int:
        """Return Unix milliseconds by the Pi's own clock."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000

    def age_s(self) -> int:
        """Return seconds since timesyncd confirmed the clock, -1 if unknown.

        A confirmation that lies in the future was given to another clock than the one
        that runs now: unknown.
        """
        try:
            confirmed = self._synchronized.stat().st_mtime_ns
        except OSError:
            return -1
        age_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - confirmed
        # File stamps are as coarse as the scheduler's tick (10 ms at most).
        if -10_000_000 <= age_ns < 0:
            return 0
        return -1 if age_ns < 0 else age_ns // 1_000_000_000

    def stamp(self) -> Stamp:
        """Return this moment on both clocks, read as close together as can be."""
        for _ in range(_STAMP_TRIES):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if after - before < _TORN_NS:
                break
        return Stamp(wall_ns=wall, boot_ns=(before + after) // 2)
