"""Loss over the last five minutes of probes, with the counts behind it.

The window ends at the site's own last heartbeat: the figure is "as of then", and a
silent site's loss neither fades nor grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_server.core.model import Probes, UplinkMemory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_server.core.model import Beat

WINDOW_MS = 300_000


@dataclass(frozen=True, slots=True)
class Loss:
    """Counts, and their ratio (None where nothing was sent: 0 of 0 is not 0 %)."""

    sent: int
    lost: int

    @property
    def ratio(self) -> float | None:
        return self.lost / self.sent if self.sent else None


def total(probes: tuple[Probes, ...]) -> Loss:
    """Return the sum of a window."""
    return Loss(sum(p.sent for p in probes), sum(p.lost for p in probes))


def remember(
    memory: Mapping[str, UplinkMemory], beat: Beat, *, newest: bool
) -> dict[str, UplinkMemory]:
    """Return the memory with this heartbeat's probes.

    A heartbeat that came late (`newest` false) fills its place in the window but never
    moves the window's end, nor the last round trip. Uplinks that the newest heartbeat
    does not name are forgotten: they were taken off the site.
    """
    named = {reading.name for reading in beat.uplinks}
    kept = {n: m for n, m in memory.items() if n in named} if newest else dict(memory)
    end_ms = beat.t_ms
    if not newest:
        end_ms = max(
            (p.t_ms for m in memory.values() for p in m.probes), default=beat.t_ms
        )
    for reading in beat.uplinks:
        if not newest and reading.name not in kept:
            continue
        before = kept.get(reading.name, UplinkMemory())
        probes = (*before.probes, Probes(beat.t_ms, reading.sent, reading.lost))
        rtt_ms = before.rtt_ms
        if reading.rtt_ms is not None and (newest or rtt_ms is None):
            rtt_ms = reading.rtt_ms
        kept[reading.name] = UplinkMemory(
            tuple(
                sorted(
                    (p for p in probes if end_ms - WINDOW_MS < p.t_ms <= end_ms),
                    key=lambda p: p.t_ms,
                )
            ),
            rtt_ms,
        )
    return kept
