"""Probes on their way: sent as the core asks, their outcomes counted and told to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_agent.core.cost import Spent
from jaga_agent.core.events import ProbeAnswered, ProbeNotSent, ProbeRefused
from jaga_agent.core.tally import Tally
from jaga_agent.runtime.echoes import Echoes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaga_agent.config import Config
    from jaga_agent.core.actions import SendProbe
    from jaga_agent.core.model import Instant, UplinkName
    from jaga_agent.core.tally import Measured
    from jaga_agent.ports import EchoSample, Prober
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.wire.echo import SiteState


class Probes:
    """The probers' listener; each target is probed by its kind's prober."""

    last_resort: Callable[[], SiteState | None]
    """What udp-echo probes carry along; None while the site has MQTT."""

    def __init__(self, config: Config, doors: Doors, driver: Driver) -> None:
        self._clock = doors.clock
        self._driver = driver
        self._devices = config.devices
        self._targets = {
            t.name: (t.kind.value, t.address) for t in config.pulse_targets
        }
        self._tally = Tally(tuple(self._devices), config.policy.lost_after_s)
        self.spent = Spent()
        """What the probes put on the wire, by uplink and kind."""
        self.echoes = Echoes(self._devices, doors.clock)
        self._timekeeper = doors.timekeeper
        self.last_resort = lambda: None
        self._probers: dict[str, Prober] = {"icmp": doors.make_prober(self)}
        if doors.make_echo_prober is not None:
            self._probers["udp-echo"] = doors.make_echo_prober(self, self._state)

    def send(self, asked: SendProbe) -> None:
        now = self._clock.now()
        kind, address = self._targets[asked.target]
        self._tally.sent(asked.probe_id, asked.uplink, now)
        self.spent.sent(asked.probe_id, asked.uplink, kind, now)
        self._probers[kind].send(asked.probe_id, self._devices[asked.uplink], address)

    def collect(self, now: Instant) -> Mapping[UplinkName, Measured]:
        """Return what was measured since the last call."""
        return self._tally.collect(now)

    def close(self) -> None:
        for prober in self._probers.values():
            prober.close()

    def _state(self) -> SiteState | None:
        return self.last_resort()

    def echoed(self, sample: EchoSample) -> None:
        self.echoes.take(sample)
        self._timekeeper.echoed(sample.clock)

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
