"""The hearing clock: counts only the milliseconds in which the collector could hear.

Silence is evidence only while somebody listens. Were silence taken from the wall clock,
a broker away for ten minutes would turn the whole district offline at once, and if it
were counted anew at each reconnect, a dead site would come back to life with every blip
of the broker. So silence is measured on a clock that stops while the collector is deaf,
and that goes on where it stopped, across restarts too (the store keeps its reading).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Hearing:
    """A stopped or running clock; all values are milliseconds.

    `now_ms` is read from a clock that is never set (not the wall clock), so a reading
    never goes back.
    """

    heard_ms: int = 0
    """Reading when it was last started or stopped."""
    since_ms: int | None = None
    """When it was started; None while deaf."""

    def read(self, now_ms: int) -> int:
        """Return the reading."""
        if self.since_ms is None:
            return self.heard_ms
        return self.heard_ms + now_ms - self.since_ms

    def start(self, now_ms: int) -> Hearing:
        """Return the clock running: the collector is connected and subscribed."""
        return self if self.since_ms is not None else replace(self, since_ms=now_ms)

    def stop(self, now_ms: int) -> Hearing:
        """Return the clock stopped: the connection is gone."""
        return Hearing(self.read(now_ms), None)
