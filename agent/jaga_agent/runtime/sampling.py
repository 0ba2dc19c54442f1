"""Evidence that costs no data: what the kernel counts anyway, read often.

The one place that makes `TrafficSeen` and `FlowsSeen`. Devices are read 20 times a
second while the site's uplink is in use, else 5 times: the first packet after idleness
is seen within 0.2 s. It judges nothing; a carrier that is not as known is only a reason
to look at the links.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core.events import FlowsSeen, TrafficSeen
from jaga_agent.errors import DevicesError, FlowCountersError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from jaga_agent.core.model import Instant, UplinkName
    from jaga_agent.core.routes import Link
    from jaga_agent.ports import Counters, Device, Flows
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.troubles import Troubles

BUSY_S: Final = 0.05
IDLE_S: Final = 0.2
FLOWS_BUSY_S: Final = 0.2
FLOWS_IDLE_S: Final = 0.4
BUSY_FOR_S: Final = 5.0
"""An uplink is in use for this long after the last packet sent by it."""


class Sampling:
    """Reads devices and flows; feeds the core and whoever counts bytes."""

    def __init__(
        self,
        devices: Mapping[UplinkName, str],
        *,
        doors: Doors,
        driver: Driver,
        troubles: Troubles,
        carried: Callable[[UplinkName, Device], None],
        links: Callable[[], Mapping[str, Link]],
        look: Callable[[], None],
    ) -> None:
        self._devices = devices
        self._reader = doors.devices
        self._flow_counters = doors.flow_counters
        self._clock = doors.clock
        self._driver = driver
        self._troubles = troubles
        self._carried = carried
        """Told each device's totals whenever they changed."""
        self._links = links
        self._look = look
        self._seen: dict[UplinkName, Device] = {}
        self._flows: dict[UplinkName, Flows] = {}
        self._waiting: set[UplinkName] = set()
        """Uplinks that sent since they last received."""
        self._looked_for: dict[str, bool] = {}
        """Carriers that were not as known, and for which a look was asked."""
        self._used_at: Instant | None = None
        self._flows_at: float = self._clock.now()

    def totals(self) -> Mapping[str, Counters]:
        """Read the devices now; return the totals of those that exist, by device."""
        return {device: seen.counters for device, seen in self._read().items()}

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._sample()]

    async def _sample(self) -> None:
        busy = False
        while True:
            now = self._clock.now()
            self._sample_devices(now)
            was_busy, busy = busy, self._is_busy(now)
            # Due before the next sample is due now.
            if now + BUSY_S / 2 >= self._flows_at or (busy and not was_busy):
                self._sample_flows()
                self._flows_at = now + (FLOWS_BUSY_S if busy else FLOWS_IDLE_S)
            await asyncio.sleep(BUSY_S if busy else IDLE_S)

    def _is_busy(self, now: Instant) -> bool:
        return self._used_at is not None and now - self._used_at < BUSY_FOR_S

    def _read(self) -> Mapping[str, Device]:
        try:
            found = self._reader.read()
        except DevicesError as error:
            self._troubles.tell("devices", str(error))
            return {}
        self._troubles.over("devices")
        return found

    def _sample_devices(self, now: Instant) -> None:
        found = self._read()
        for name, device in self._devices.items():
            new = found.get(device)
            if new is None:
                continue
            old = self._seen.get(name)
            moved = new is not old and (old is None or new.counters != old.counters)
            if moved:
                self._seen[name] = new
                self._carried(name, new)
                self._follow(name, old, new, now)
            if moved or name in self._waiting:
                self._feed_traffic(name, new.counters)
        self._compare_carriers(found)

    def _follow(
        self, name: UplinkName, old: Device | None, new: Device, now: Instant
    ) -> None:
        if old is None or old.index != new.index:
            self._waiting.discard(name)
            return
        if new.counters.tx_packets != old.counters.tx_packets:
            self._waiting.add(name)
            if name == self._driver.state.active:
                self._used_at = now
        if new.counters.rx_packets != old.counters.rx_packets:
            self._waiting.discard(name)

    def _feed_traffic(self, name: UplinkName, of: Counters) -> None:
        self._driver.feed(
            TrafficSeen(
                name,
                rx_packets=of.rx_packets,
                tx_packets=of.tx_packets,
                rx_bytes=of.rx_bytes,
                tx_bytes=of.tx_bytes,
            )
        )

    def _sample_flows(self) -> None:
        try:
            found = self._flow_counters.read()
        except FlowCountersError as error:
            self._troubles.tell("flow counters", str(error))
            return
        self._troubles.over("flow counters")
        for name, flows in (found or {}).items():
            if self._flows.get(name) == flows:
                continue
            self._flows[name] = flows
            self._driver.feed(
                FlowsSeen(
                    name,
                    syn_out=flows.syn_out,
                    synack_in=flows.synack_in,
                    rst_in=flows.rst_in,
                    dns_out=flows.dns_out,
                    dns_in=flows.dns_in,
                )
            )

    def _compare_carriers(self, found: Mapping[str, Device]) -> None:
        """Ask for a look where the carrier is not as known; once for each change."""
        known = self._links()
        for device in self._devices.values():
            link, seen = known.get(device), found.get(device)
            now = seen is not None and seen.carrier
            if now == (link is not None and link.carrier and link.admin_up):
                self._looked_for.pop(device, None)
            elif self._looked_for.get(device) is not now:
                self._looked_for[device] = now
                self._look()
