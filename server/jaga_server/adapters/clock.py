"""The only door to time. Decides nothing."""

from __future__ import annotations

import ctypes
import struct
import time
from dataclasses import dataclass
from typing import Final

# linux/timex.h.
_STA_UNSYNC: Final = 0x0040
_TIMEX_BYTES: Final = 512
"""More than struct timex has anywhere (208 with 64-bit longs)."""
# modes, offset, freq, maxerror, esterror, status.
_TIMEX = struct.Struct("@IllllI")


@dataclass(frozen=True, slots=True)
class ClockError:
    """How wrong the server's wall clock may be."""

    error_s: float
    synchronised: bool


UNKNOWN_ERROR: Final = ClockError(16.0, synchronised=False)
"""The kernel's own word for a clock that nobody sets (NTP_PHASE_LIMIT, 16 s)."""


def wall_ms() -> int:
    """Return Unix milliseconds by the server's clock."""
    return time.time_ns() // 1_000_000


def wall_ns() -> int:
    """Return Unix nanoseconds by the server's clock."""
    return time.time_ns()


def monotonic_s() -> float:
    """Return seconds on a clock that is never set."""
    return time.monotonic()  # noqa: TID251 (this is the door)


def error() -> ClockError:
    """Return the kernel's bound of the clock's error (adjtimex(2), maxerror)."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        refused: bool = ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0
    except AttributeError:
        return UNKNOWN_ERROR  # a C library without it
    if refused:
        return UNKNOWN_ERROR  # a sandbox forbids even to read it
    _, _, _, maxerror_us, _, status = _TIMEX.unpack_from(timex)
    return ClockError(maxerror_us / 1e6, synchronised=not status & _STA_UNSYNC)
