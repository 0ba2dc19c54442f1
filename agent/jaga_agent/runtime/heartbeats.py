"""The beat: what each uplink and the host did since the last one, as a record."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from jaga_agent import report
from jaga_agent.config import HEARTBEAT_S

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from jaga_agent.config import Config
    from jaga_agent.ports import Counters
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.probes import Probes
    from jaga_agent.runtime.recorder import Recorder
    from jaga_agent.runtime.sampling import Sampling
    from jaga_agent.runtime.usage import Usages


class Heartbeats:
    """Makes one record each interval."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        driver: Driver,
        probes: Probes,
        recorder: Recorder,
        sampling: Sampling,
        usages: Usages,
    ) -> None:
        self._config = config
        self._clock = doors.clock
        self._host = doors.host
        self._driver = driver
        self._probes = probes
        self._recorder = recorder
        self._sampling = sampling
        self._usages = usages
        self._reported: Mapping[str, Counters] = {}
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """Count from here: what was carried before is not this run's."""
        self._reported = self._sampling.totals()

    def use(self, config: Config) -> None:
        """Beat at another stage's pace from now on."""
        self._config = config
        self._changed.set()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._beat()]

    async def _beat(self) -> None:
        # A fixed phase for each site: after a district's power cut they must spread.
        phase_ratio = (sum(self._config.site.id.encode()) % 97) / 97
        await asyncio.sleep(min(1.0, HEARTBEAT_S[self._config.site.mode] * phase_ratio))
        while True:
            self._changed.clear()
            interval_s = HEARTBEAT_S[self._config.site.mode]
            self._heartbeat()
            since_s = (self._clock.now() - interval_s * phase_ratio) % interval_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), interval_s - since_s)

    def _heartbeat(self) -> None:
        self._usages.feed()
        totals = self._sampling.totals()
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
