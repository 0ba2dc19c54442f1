"""How many refused commands are told of. Pure.

Each costs an event on the card; whoever floods a site with forgeries must not wear it
out, nor push out its measurements. What is not told of is counted, and that is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jaga_agent.core.model import Instant

BURST: Final = 20
EVERY_S: Final = 30.0
"""One more for each of these: 2,880 a day at most."""


class Flood:
    """A token bucket (RFC 2697, in its simplest form), and what overflowed it."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._at: float | None = None
        self._untold = 0

    def admits(self, now: Instant) -> bool:
        """Return whether one more may be told of; if not, it is counted."""
        self._refill(now)
        if self._tokens < 1:
            self._untold += 1
            return False
        self._tokens -= 1
        return True

    def missed(self) -> None:
        """Count one that was not even looked at."""
        self._untold += 1

    def due_s(self, now: Instant) -> float | None:
        """Return in how many seconds the count is to be told; None: there is none."""
        if not self._untold:
            return None
        self._refill(now)
        return max(0.0, (1 - self._tokens) * EVERY_S)

    def tally(self, now: Instant) -> int:
        """Return how many were not told of, if that may be told now, else 0."""
        self._refill(now)
        if not self._untold or self._tokens < 1:
            return 0
        self._tokens -= 1
        count, self._untold = self._untold, 0
        return count

    def _refill(self, now: Instant) -> None:
        passed_s = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(float(BURST), self._tokens + passed_s / EVERY_S)
