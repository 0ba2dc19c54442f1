"""Probes on their way: sent as the core asks, their outcomes counted and told to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_agent.config import target_address
from jaga_agent.core.cost import Spent
from jaga_agent.core.events import ProbeAnswered, ProbeNotSent, ProbeRefused
from jaga_agent.core.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.config import Config
    from jaga_agent.core.actions import SendProbe
    from jaga_agent.core.model import Instant, UplinkName
    from jaga_agent.core.tally import Measured
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver


class Probes:
    """The prober's listener."""

    def __init__(self, config: Config, doors: Doors, driver: Driver) -> None:
        self._clock = doors.clock
        self._driver = driver
        self._devices = config.devices
        self._addresses = {t.name: target_address(t) for t in config.targets}
        self._tally = Tally(tuple(self._devices), config.policy.lost_after_s)
        self.spent = Spent()
        """What the probes put on the wire, by uplink and kind."""
        self._prober = doors.make_prober(self)

    def send(self, asked: SendProbe) -> None:
        now = self._clock.now()
        self._tally.sent(asked.probe_id, asked.uplink, now)
        self.spent.sent(asked.probe_id, asked.uplink, "icmp", now)
        self._prober.send(
            asked.probe_id, self._devices[asked.uplink], self._addresses[asked.target]
        )

    def collect(self, now: Instant) -> Mapping[UplinkName, Measured]:
        """Return what was measured since the last call."""
        return self._tally.collect(now)

    def close(self) -> None:
        self._prober.close()

    def answered(self, probe_id: int, rtt_s: float) -> None:
        self._tally.answered(probe_id, rtt_s)
        self.spent.answered(probe_id, self._clock.now())
        self._driver.feed(ProbeAnswered(probe_id, rtt_s))

    def refused(self, probe_id: int, reason: str) -> None:
        self._tally.refused(probe_id)
        self.spent.refused(probe_id, self._clock.now())
        self._driver.feed(ProbeRefused(probe_id, reason))

    def not_sent(self, probe_id: int, reason: str) -> None:
        self._tally.not_sent(probe_id)
        self.spent.not_sent(probe_id, self._clock.now())
        self._driver.feed(ProbeNotSent(probe_id, reason))
