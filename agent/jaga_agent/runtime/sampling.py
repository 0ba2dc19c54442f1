"""Evidence that costs no data: what the kernel counts anyway, read often.

The one place that makes `TrafficSeen` and `FlowsSeen`. Devices are read 20 times a
second while the site's uplink is in use, else 5 times: the first packet after idleness
is seen within 0.2 s. It judges nothing; a carrier that is not as known is only a reason
to look at the links.

What is read is not all told, for that is most of what the agent costs. An uplink that
is calm (nothing about it is in question) and that received since the last sample is
told of every `FLOWING_S` only; the newest totals are held meanwhile, with their time.
Held totals are always told first, as of their own time: before a sample without a
received packet, which is told at once, and before any other event (`Driver.before`). So
the core judges by the same last packet received, the same beginning of a silence and
the same totals as if it were told of each sample. Only the rates are smoothed over
`FLOWING_S` more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core.events import FlowsSeen, TrafficSeen
from jaga_agent.core.model import Health
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
FLOWING_S: Final = 0.2
"""As often as the flows, with which they are told: a tenth of the rates' time constant."""
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
        """Told each device's totals, if they changed, whenever the core is."""
        self._links = links
        self._look = look
        self._seen: dict[UplinkName, Device] = {}
        self._told_at: dict[UplinkName, Instant] = {}
        self._told: dict[UplinkName, Device] = {}
        self._held: dict[UplinkName, tuple[Instant, Device]] = {}
        """Totals not told yet, the oldest first."""
        self._flows: dict[UplinkName, Flows] = {}
        self._waiting: set[UplinkName] = set()
        """Uplinks that sent since they last received."""
        self._looked_for: dict[str, bool] = {}
        """Carriers that were not as known, and for which a look was asked."""
        self._used_at: Instant | None = None
        self._flows_at: float = self._clock.now()
        self._busy = False
        self._failed: asyncio.Future[None]
        self._timer: asyncio.TimerHandle | None = None
        driver.before = self._tell_held

    def totals(self) -> Mapping[str, Counters]:
        """Read the devices now; return the totals of those that exist, by device."""
        return {device: seen.counters for device, seen in self._read().items()}

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._sample()]

    async def _sample(self) -> None:
        # A timer that sets itself anew costs two thirds of a task that sleeps: it takes
        # the loop one turn, a sleep two.
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        self._again(loop)
        try:
            await self._failed
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            wait_s = self._turn()
        except Exception as error:  # noqa: BLE001 - raised by `_sample`
            if not self._failed.done():
                self._failed.set_exception(error)
            return
        self._timer = loop.call_later(wait_s, self._again, loop)

    def _turn(self) -> float:
        """Read what is due; return how long to wait for the next turn."""
        now = self._clock.now()
        self._sample_devices(now)
        was_busy, self._busy = self._busy, self._is_busy(now)
        # Due before the next sample is due now.
        if now + BUSY_S / 2 >= self._flows_at or (self._busy and not was_busy):
            self._sample_flows()
            self._flows_at = now + (FLOWS_BUSY_S if self._busy else FLOWS_IDLE_S)
        return BUSY_S if self._busy else IDLE_S

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
            if new is not old and (old is None or new.counters != old.counters):
                self._seen[name] = new
                flows = self._follow(name, old, new, now)
                if flows:
                    # It stands for those since the last one told.
                    self._held.pop(name, None)
                if flows and self._may_hold(name, now):
                    self._held[name] = now, new
                else:
                    self._tell_traffic(name, new)
            elif name in self._waiting:
                self._tell_traffic(name, new)
            elif name in self._held and now >= self._held[name][0] + FLOWING_S:
                self._tell_held()
        self._compare_carriers(found)

    def _follow(
        self, name: UplinkName, old: Device | None, new: Device, now: Instant
    ) -> bool:
        """Return whether it went on receiving: no silence begins, none ends."""
        if old is None or old.index != new.index:
            self._waiting.discard(name)
            return False
        sent = new.counters.tx_packets != old.counters.tx_packets
        if sent and name == self._driver.state.active:
            self._used_at = now
        waited = name in self._waiting
        if new.counters.rx_packets == old.counters.rx_packets:
            if sent:
                self._waiting.add(name)
            return False
        self._waiting.discard(name)
        return not waited

    def _may_hold(self, name: UplinkName, now: Instant) -> bool:
        told_at = self._told_at.get(name)
        if told_at is None or now + BUSY_S / 2 >= told_at + FLOWING_S:
            return False
        state = self._driver.state
        of = state.of(name)
        return (
            of.health is Health.UP
            and of.race is None
            and of.silent_since is None
            and of.ended_gap_s is None
            and not of.loss.in_question
            # Its first packet ends the gap that a move is measured by.
            and (state.cut is None or name != state.active)
        )

    def _tell_held(self) -> None:
        while self._held:
            name = next(iter(self._held))
            at, device = self._held.pop(name)
            self._tell_traffic(name, device, at)

    def _tell_traffic(
        self, name: UplinkName, device: Device, at: Instant | None = None
    ) -> None:
        of = device.counters
        if self._told.get(name) is not device:
            self._told[name] = device
            self._carried(name, device)
        self._told_at[name] = self._clock.now() if at is None else at
        self._driver.feed(
            TrafficSeen(
                name,
                rx_packets=of.rx_packets,
                tx_packets=of.tx_packets,
                rx_bytes=of.rx_bytes,
                tx_bytes=of.tx_bytes,
            ),
            at,
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
