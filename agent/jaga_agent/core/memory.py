"""What an uplink's own silences have taught: gaps that end by themselves, slow waking.

A handover (0.3 to 2 s), a sleeping radio (the same) and a low-orbit satellite's change
of beam (1 to 3 s) look like an outage until they end. One constant for all would make
fibre as slow as a satellite. So each uplink is held to what it has shown: the first gap
costs a needless move, and from then on a silence of its class is waited for. Half a day
without one forgets a class again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jaga_agent.core.model import Access, Instant

SHORTEST_S: Final = 0.25
"""Below it, a gap changes nothing: no verdict is so fast."""
MOBILE_S: Final = 2.2
"""Handovers and RRC promotions end within 2 s (`tests/traces` has the sources)."""
SATELLITE_S: Final = 3.5
"""A re-scheduled satellite link is back within 3 s."""
FORGOTTEN_AFTER_S: Final = 6 * 3600.0

_SEED: Final = {
    Access.LEARN: 0.0,
    Access.FIXED: 0.0,
    Access.MOBILE: MOBILE_S,
    Access.SATELLITE: SATELLITE_S,
}


@dataclass(frozen=True, slots=True)
class Silences:
    """The class of silences that one uplink has shown, and when it last did."""

    class_s: float = 0.0
    seen_at: Instant | None = None

    def after(self, silence_s: float, now: Instant) -> Silences:
        """Return the memory after a silence that ended by itself."""
        if not SHORTEST_S <= silence_s <= SATELLITE_S:
            return self
        shown_s = MOBILE_S if silence_s <= MOBILE_S else SATELLITE_S
        return Silences(max(shown_s, self._kept(now)), now)

    def tolerance_s(self, now: Instant, access: Access) -> float:
        """Return how long a silence may last before it is an outage; 0: not at all."""
        if access is Access.FIXED:
            return 0.0
        return max(_SEED[access], self._kept(now))

    def _kept(self, now: Instant) -> float:
        if self.seen_at is None or now - self.seen_at > FORGOTTEN_AFTER_S:
            return 0.0
        return self.class_s
