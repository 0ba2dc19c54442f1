"""What the site carries: read often as evidence for the core, told in heartbeats."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import report
from jaga_agent.config import HEARTBEAT_S
from jaga_agent.core.events import TrafficSeen
from jaga_agent.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from jaga_agent.config import Config
    from jaga_agent.ports import Counters
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.probes import Probes
    from jaga_agent.runtime.recorder import Recorder
    from jaga_agent.runtime.troubles import Troubles

SAMPLE_BUSY_S: Final = 0.05
SAMPLE_IDLE_S: Final = 0.5
BUSY_FOR_S: Final = 5.0
"""Counters are read 20 times a second for this long after the last packet sent."""


class Heartbeats:
    """Reads the devices' counters; makes one record each interval."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        driver: Driver,
        probes: Probes,
        recorder: Recorder,
        troubles: Troubles,
    ) -> None:
        self._config = config
        self._devices = config.devices
        self._clock = doors.clock
        self._host = doors.host
        self._driver = driver
        self._probes = probes
        self._recorder = recorder
        self._troubles = troubles
        self._last_sent_at = self._clock.now()
        self._reported: Mapping[str, Counters] = {}

    def begin(self) -> None:
        """Count from here: what was carried before is not this run's."""
        self._reported = self._counters()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._sample_traffic(), self._beat()]

    async def _sample_traffic(self) -> None:
        while True:
            totals = self._counters()
            now = self._clock.now()
            for name, device in self._devices.items():
                if (of := totals.get(device)) is None:
                    continue
                state = self._driver.state
                per = state.of(name)
                if name == state.active and of.tx_packets != per.traffic.tx_packets:
                    self._last_sent_at = now
                if (of.rx_packets, of.tx_packets) != (
                    per.traffic.rx_packets,
                    per.traffic.tx_packets,
                ) or (per.traffic.unanswered_since is not None):
                    self._driver.feed(
                        TrafficSeen(
                            name,
                            of.rx_packets,
                            of.tx_packets,
                            of.rx_bytes,
                            of.tx_bytes,
                        )
                    )
            busy = now - self._last_sent_at < BUSY_FOR_S
            await asyncio.sleep(SAMPLE_BUSY_S if busy else SAMPLE_IDLE_S)

    def _counters(self) -> Mapping[str, Counters]:
        try:
            totals = self._host.counters(tuple(self._devices.values()))
        except HostError as error:
            self._troubles.tell("host", str(error))
            return {}
        self._troubles.over("host")
        return totals

    async def _beat(self) -> None:
        interval_s = HEARTBEAT_S[self._config.site.mode]
        # A fixed phase for each site: after a district's power cut they must spread.
        phase_s = interval_s * (sum(self._config.site.id.encode()) % 97) / 97
        await asyncio.sleep(min(1.0, phase_s))
        while True:
            self._heartbeat()
            now = self._clock.now()
            await asyncio.sleep(interval_s - (now - phase_s) % interval_s)

    def _heartbeat(self) -> None:
        totals = self._counters()
        moved = report.moved(self._reported, totals)
        self._reported = {**self._reported, **totals}
        measured = self._probes.collect(self._clock.now())
        host = self._host.read()
        self._recorder.record(
            lambda s: report.heartbeat(
                s,
                self._config,
                self._driver.state,
                measured=measured,
                traffic=moved,
                host=host,
            )
        )
