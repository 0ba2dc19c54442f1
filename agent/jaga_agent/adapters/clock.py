"""The only module that reads a clock, and the kernel's word on how right it is.

A Pi has no real-time clock: what it calls the time may be years off until it has been
confirmed, and it jumps when it is. So intervals are on CLOCK_BOOTTIME (monotonic,
counts suspend), and what the time is is told by `runtime.timekeeper`.

Whether NTP keeps the wall clock is asked of the kernel, by adjtimex(2), which needs no
right for reading (modes = 0). It knows every daemon (timesyncd, chronyd, ntpd alike) and
every step by hand. The file that timesyncd touches (/run/systemd/timesync/synchronized)
is not read: it is one daemon's, and stays after somebody has set the clock.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import time
from typing import Final

from jaga_agent.core.model import Instant
from jaga_agent.core.timekeeping import NtpState
from jaga_agent.ports import Stamp

_log = logging.getLogger(__name__)

_STA_NANO: Final = 0x2000
"""linux/timex.h: offset is in nanoseconds, else in microseconds."""

# A stamp whose two reads were torn apart by the scheduler would make the offset
# between the clocks look as if it had moved.
_TORN_NS = 50_000
_STAMP_TRIES = 3


class _Timex(ctypes.Structure):
    """struct timex (linux/timex.h), as far as it is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        # The kernel writes the whole of it: 208 bytes with 64-bit longs.
        ("rest", ctypes.c_long * 32),
    )


class BoottimeClock:
    """The kernel's clocks, as `ports.KernelClock`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._refused = False

    def now(self) -> Instant:
        """Return seconds since boot (CLOCK_BOOTTIME)."""
        return Instant(time.clock_gettime(time.CLOCK_BOOTTIME))

    def wall_ms(self) -> int:
        """Return Unix milliseconds by the Pi's own clock."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000

    def age_s(self) -> int:
        """Return seconds since NTP confirmed the wall clock at most, -1 if it does not."""
        ntp = self.ntp()
        if ntp is None or not ntp.is_synchronised:
            return -1
        return min(ntp.told_ago_ns // 1_000_000_000, int(self.now()))

    def stamp(self) -> Stamp:
        """Return this moment on both clocks, read as close together as can be."""
        for _ in range(_STAMP_TRIES):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if after - before < _TORN_NS:
                break
        return Stamp(wall_ns=wall, boot_ns=(before + after) // 2)

    def ntp(self) -> NtpState | None:
        """Return what the kernel says of its clock; None if it may not be asked."""
        timex = _Timex()
        # -1 alone is an error: TIME_ERROR (5) is the answer of a clock that nobody keeps.
        if self._libc.adjtimex(ctypes.byref(timex)) == -1:
            number = ctypes.get_errno()
            if not self._refused:
                name = errno.errorcode.get(number, str(number))
                _log.warning(
                    "the kernel does not say whether NTP keeps the clock: adjtimex: %s "
                    "(%s); does the unit's SystemCallFilter allow it?",
                    os.strerror(number),
                    name,
                )
            self._refused = True
            return None
        unit_ns = 1 if timex.status & _STA_NANO else 1000
        return NtpState(timex.maxerror, timex.esterror, timex.offset * unit_ns)
