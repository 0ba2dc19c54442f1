"""The only door to time. Decides nothing."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Return Unix milliseconds by the server's clock."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Return seconds on a clock that is never set."""
    return time.monotonic()  # noqa: TID251 (this is the door)
