"""What the udp-echo answers tell: loss each way on each uplink, and the clock's offset.

Evidence to show; nothing is decided by it here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core import clock_sample
from jaga_agent.core.clock_sample import SAMPLES_KEPT, ClockSample
from jaga_agent.core.one_way import OneWayCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.core.model import UplinkName
    from jaga_agent.ports import Clock, EchoSample

WINDOW: Final = 100
"""Loss is shown over this many answers of an uplink and reflector at most."""


class Echoes:
    """The newest samples."""

    def __init__(self, devices: Mapping[UplinkName, str], clock: Clock) -> None:
        self._names = {device: name for name, device in devices.items()}
        self._clock = clock
        self._recent: defaultdict[tuple[UplinkName, str], deque[EchoSample]]
        self._recent = defaultdict(lambda: deque(maxlen=WINDOW))
        self._clocks: deque[ClockSample] = deque(maxlen=SAMPLES_KEPT)

    def take(self, sample: EchoSample) -> None:
        self._clocks.append(sample.clock)
        recent = self._recent[self._names[sample.device], sample.address]
        if recent and recent[-1].began != sample.began:
            recent.clear()
        recent.append(sample)

    def one_way(self) -> dict[UplinkName, OneWayCounts]:
        """Return the recent counts of every uplink that has any."""
        counts: dict[UplinkName, OneWayCounts] = {}
        for (name, _), recent in self._recent.items():
            first, last = recent[0].counts, recent[-1].counts
            if first is not None and last is not None:
                counts[name] = counts.get(name, OneWayCounts()) + (last - first)
        return counts

    def snapshot(self) -> dict[str, Any]:
        """Return the rows of the status answer."""
        return {
            "one_way": {
                name: {
                    "up_sent": of.up_sent,
                    "up_lost": of.up_lost,
                    "down_sent": of.down_sent,
                    "down_lost": of.down_lost,
                }
                for name, of in self.one_way().items()
            },
            "clock_offset": self._offset(),
        }

    def _offset(self) -> dict[str, Any] | None:
        best = clock_sample.best(self._clocks)
        if best is None:
            return None
        of = clock_sample.offset(best, self._clock.stamp())
        return {
            "offset_ms": of.offset_ns / 1e6,
            "uncertainty_ms": of.uncertainty_ns / 1e6,
            "collector_synchronised": of.synchronised,
            "age_s": of.age_ns / 1e9,
        }
