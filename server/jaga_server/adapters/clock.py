"""The only door to time. Decides nothing."""

from __future__ import annotations

import ctypes
import struct
import time
from dataclasses import dataclass
from typing import Final

_TIMEX_BYTES: Final = 512
"""More than struct timex has anywhere (208 with 64-bit longs)."""
# modes, offset, freq, maxerror; linux/timex.h.
_TIMEX = struct.Struct("@Illl")


@dataclass(frozen=True, slots=True)
class ClockError:
    """How wrong the server's wall clock may be."""

    error_s: float
    synchronised: bool


NOBODY_SETS_IT_S: Final = 16.0
"""The kernel's own word for a clock that nobody sets (NTP_PHASE_LIMIT). STA_UNSYNC is not
asked: chronyd without rtcsync leaves it standing, and timedated judges likewise."""
UNKNOWN_ERROR: Final = ClockError(NOBODY_SETS_IT_S, synchronised=False)


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
    error_s = _TIMEX.unpack_from(timex)[3] / 1e6
    return ClockError(error_s, synchronised=error_s < NOBODY_SETS_IT_S)
