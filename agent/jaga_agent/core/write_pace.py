"""When what is in RAM goes to the card: soon enough for evidence, rarely for the card.

An SD card on ext4 takes some 20 kB for each commit, whatever is in it (docs/spool.md):
it is the number of commits that counts. So what the collector already has may wait
longer, and in an outage of hours the commits become rarer, down to a steady rate.
Pure: `now` is seconds since boot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BATCH_S: Final = 30.0
"""What the collector lacks is in RAM alone for no longer, while the allowance lasts."""
COVERED_BATCH_S: Final = 300.0
"""What the collector has; no longer than between two digests, which go at once."""
STEADY_S: Final = 240.0
"""One commit each is allowed for ever: 360 a day."""
ALLOWANCE: Final = 180.0
"""Commits saved up at most: an hour and a half of one each 30 s over the steady rate's."""


@dataclass(frozen=True, slots=True)
class WritePace:
    """How many commits are saved up."""

    allowance: float = ALLOWANCE
    at: float = 0.0
    """When that was so."""

    def due(
        self, now: float, *, oldest: float | None, uncovered: float | None
    ) -> float | None:
        """Return when to commit what is no event; None: nothing is there.

        `oldest` is since when something is in RAM alone, `uncovered` since when
        something of it that the collector lacks.
        """
        if oldest is None:
            return None
        due = oldest + COVERED_BATCH_S
        if uncovered is not None:
            due = min(due, uncovered + BATCH_S)
        short = 1.0 - self._at(now)
        return max(due, now + short * STEADY_S) if short > 0 else due

    def spent(self, now: float) -> WritePace:
        """Return the pace after a commit. Events never wait, but count."""
        return WritePace(max(self._at(now) - 1.0, 0.0), now)

    def _at(self, now: float) -> float:
        earned = max(now - self.at, 0.0) / STEADY_S
        return min(self.allowance + earned, ALLOWANCE)
