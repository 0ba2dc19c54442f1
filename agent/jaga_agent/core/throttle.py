"""A limit on how much goes out: so many bytes a second, however it is asked for.

A token bucket of depth nothing (ITU-T I.371's generic cell rate algorithm with
tolerance 0): what is spent must be paid off before more may go. So within any span of
time no more goes than the rate allows for it and one message besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jaga_agent.core.model import Instant

_PAID_BYTES: Final = 0.5
"""A debt below it is an error of floating point."""


@dataclass(slots=True)
class Throttle:
    """Bytes that went and are not paid off yet."""

    bytes_per_s: float
    _debt_bytes: float = 0.0
    _at: float = 0.0

    def set_rate(self, bytes_per_s: float, now: Instant) -> None:
        """Go on at another rate; what is owed stays owed."""
        self._pay(now)
        self.bytes_per_s = bytes_per_s

    def spend(self, size_bytes: int, now: Instant) -> None:
        """Take note of what went out."""
        self._pay(now)
        self._debt_bytes += size_bytes

    def ready_at(self, now: Instant) -> Instant:
        """Return when more may go; `now`, if it may."""
        self._pay(now)
        if self._debt_bytes < _PAID_BYTES:
            return now
        return Instant(now + self._debt_bytes / self.bytes_per_s)

    def _pay(self, now: Instant) -> None:
        paid = (now - self._at) * self.bytes_per_s
        self._debt_bytes = max(0.0, self._debt_bytes - paid)
        self._at = now
