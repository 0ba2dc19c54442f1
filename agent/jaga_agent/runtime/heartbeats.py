"""The beat: what each uplink and the host did since the last one, as a record.

Every five minutes, with the first beat after a multiple of them since boot, the beats
since the last such record are summed up in a histogram: same probes, same bytes, so that
the two can be held against each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import report
from jaga_agent.config import HEARTBEAT_S
from jaga_agent.core.histogram import Period

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from jaga_agent.config import Config
    from jaga_agent.core.model import Health, UplinkName
    from jaga_agent.ports import Counters
    from jaga_agent.report import Stamp
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.probes import Probes
    from jaga_agent.runtime.recorder import Recorder
    from jaga_agent.runtime.sampling import Sampling
    from jaga_agent.runtime.usage import Usages
    from jaga_agent.wire.evidence import Histogram

EARLY_RATIO: Final = 0.01
"""A beat so little of its interval before its time is in time."""


class Heartbeats:
    """Makes one record each interval, and one each five minutes."""

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
        self._period: Period

    def begin(self) -> None:
        """Count from here: what was carried before is not this run's."""
        self._reported = self._sampling.totals()
        state = self._driver.state
        healths = {
            ranked.name: per.health
            for ranked, per in zip(state.policy.uplinks, state.per, strict=True)
        }
        self._period = Period.of(self._now_ms(), healths)

    def turned(self, uplink: UplinkName, health: Health) -> None:
        """Take note of an uplink's health from now on."""
        self._period.uplinks[uplink].turn(health, self._now_ms())

    def beat(self) -> None:
        """Say the state now, besides the beat: a new connection begins with it."""
        self._heartbeat()

    def close(self) -> None:
        """Keep what the unfinished period's heartbeats said."""
        if self._period.beats:
            self._histogram()

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
            wait_s = interval_s - since_s
            if wait_s < interval_s * EARLY_RATIO:
                # This was the beat that is so near; a timer may be a trifle early.
                wait_s += interval_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)

    def _heartbeat(self) -> None:
        self._usages.feed()
        totals = self._sampling.totals()
        moved = report.moved(self._reported, totals)
        self._reported = {**self._reported, **totals}
        measured = self._probes.collect(self._clock.now())
        host = self._host.read()
        traffic = {n: moved.get(device) for n, device in self._config.devices.items()}
        self._period.add(measured, traffic)
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
        if self._period.is_over(self._now_ms()):
            self._histogram()

    def _histogram(self) -> None:
        """Make the period's record; if the spool refuses it, the period goes on."""
        period = self._period

        def build(stamp: Stamp) -> Histogram:
            self._period = period.close(stamp.at_ms)
            return report.histogram(stamp, period)

        if not self._recorder.record(build):
            self._period = period

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)
