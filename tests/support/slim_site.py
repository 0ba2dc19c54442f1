"""Many sites in one process: the agent's own records, delivery, presence and connection.

What is left out of an agent is what measures and moves uplinks. The spool is in RAM, the
heartbeat a fixed one; numbers, outbox, TLS, MQTT and their waiting are the agent's.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from jaga_agent import config as config_module
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.fakes import MemorySpool
from jaga_agent.adapters.mqtt import MqttBroker
from jaga_agent.runtime.delivery import Delivery
from jaga_agent.runtime.presence import Presence
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.runtime.timekeeper import Timekeeper
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.wire import messages as wire
from jaga_agent.wiring import broker_settings

if TYPE_CHECKING:
    from pathlib import Path

    from jaga_agent.ports import BrokerListener
    from jaga_agent.report import Stamp
    from lab.field import Files

UPLINKS = ("telkomsel", "indosat", "starlink")


def configuration(site: str, host: str, port: int, files: Files | None) -> str:
    """Return the site's TOML."""
    tls = (
        "tls = false\n"
        if files is None
        else f'ca = "{files.ca}"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    )
    uplinks = "".join(
        f'[[uplink]]\nname = "{name}"\ndevice = "wan{n}"\n'
        for n, name in enumerate(UPLINKS)
    )
    return (
        f'[site]\nid = "{site}"\n{uplinks}[mqtt]\nhost = "{host}"\nport = {port}\n{tls}'
    )


class SlimSite:
    """One site towards the broker; used on a running event loop."""

    def __init__(self, path: Path, *, boot: bytes) -> None:
        """Read the configuration at `path`."""
        config, config_hash = config_module.load(path)
        self.id = config.site.id
        clock = Timekeeper(BoottimeClock())
        self.spool = MemorySpool(boot, max_records=10_000)
        settings = broker_settings(config, clock)

        def make_broker(listener: BrokerListener, will: object) -> MqttBroker:
            self.broker = MqttBroker(settings, listener, will)
            return self.broker

        self.delivery = Delivery(
            config, spool=self.spool, clock=clock, is_busy=lambda: False
        )
        self.recorder = Recorder(self.spool, clock, self.delivery.recorded)
        self.presence = Presence(
            config,
            config_hash=config_hash,
            version="test",
            doors=SimpleNamespace(
                clock=clock, spool=self.spool, make_broker=make_broker
            ),
            delivery=self.delivery,
            troubles=Troubles(),
            changed=lambda: None,
        )
        self.presence.on_connected = self.beat

    def beat(self) -> None:
        """Record a heartbeat."""
        self.recorder.record(self._heartbeat)

    def _heartbeat(self, stamp: Stamp) -> wire.Heartbeat:
        return wire.Heartbeat(
            stamp.boot,
            stamp.seq,
            stamp.at_ms,
            stamp.wall_ms,
            stamp.clock_age_s,
            wire.ModeCode.POLLING_DAY,
            UPLINKS[0],
            tuple(
                wire.UplinkBeat(
                    name, wire.HealthCode.UP, 3, 0, 0, 38_000, 41_000, 52_000, 900, 800
                )
                for name in UPLINKS
            ),
            wire.HostBeat(600, 30, 200, 100, 520),
        )
