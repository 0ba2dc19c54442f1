"""Make the kernel agree with the desired routing: observe, diff, apply, look again.

It chooses no uplink: the caller says which one is active. Debouncing and timing are the
caller's too. Nothing is kept here that a restart would miss, except gateways that the
kernel has ceased to show.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.core.firewall import ruleset
from jaga_agent.core.routes import MARK_MASK, PutRoute, RoutingState
from jaga_agent.core.routing import (
    active_route,
    adopted_active,
    desired,
    diff,
    kernel_settings,
    prune,
    recall_gateways,
)
from jaga_agent.errors import AdapterError, FirewallError, NetlinkError, SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.routes import Link, RoutingConfig, RoutingStep
    from jaga_agent.core.routing import LearntGateway
    from jaga_agent.ports import Clock, Conntrack, Firewall, Kernel, KernelSettings

_ROUNDS = 3
"""A device may come or go between looking and acting: then look again, so often."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync found and did."""

    links: Mapping[str, Link]
    """By device, gateways filled in from memory; absent devices are absent."""
    adopted_active: UplinkName | None
    """Who carried the site by the routes found, before anything was changed."""
    changed: tuple[str, ...]
    """Each step, setting and load that was needed, in words; empty: all was right."""
    failures: tuple[AdapterError, ...]
    """What could not be put right. The rest was: one part does not stop the others."""


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """What a switch cost. The traffic goes the new way after `route_ms`."""

    active: UplinkName
    flushed: UplinkName | None
    """Whose connections were forgotten."""
    route_ms: float
    flush_ms: float | None
    failures: tuple[AdapterError, ...]
    """The flush's refusal, if any: the site is moved, old flows may hang."""


class Reconciler:
    """The kernel side of the agent, for the runtime. Safe to call concurrently."""

    def __init__(
        self,
        config: RoutingConfig,
        *,
        kernel: Kernel,
        conntrack: Conntrack,
        firewall: Firewall,
        settings: KernelSettings,
        clock: Clock,
    ) -> None:
        self._config = config
        self._kernel = kernel
        self._conntrack = conntrack
        self._firewall = firewall
        self._settings = settings
        self._clock = clock
        self._ruleset = ruleset(config)
        self._gateways: dict[str, LearntGateway] = {}
        self._links: dict[str, Link] = {}
        self._ours = RoutingState()
        self._looked = False
        self._switches = 0
        self._active: UplinkName | None = None
        self._lock = asyncio.Lock()
        self._slow_lock = asyncio.Lock()

    async def observe(self) -> Mapping[str, Link]:
        """Read the links and change nothing; the fast answer to a link event.

        Raises:
            NetlinkError: the kernel could not be read.

        """
        async with self._lock:
            await self._look()
            return self._links

    async def sync(self, active: UplinkName | None) -> SyncReport:
        """Put everything right that is not; None keeps whoever carries the site.

        A switch that comes between wins over `active`, which is older.

        Raises:
            NetlinkError: the kernel could not be read; nothing is known.
            ConfigError: no uplink is named `active`.

        """
        if active is not None:
            self._config.uplink(active)
        switches = self._switches
        async with self._lock:
            if self._switches != switches:
                active = self._active
            await self._look()
            adopted = adopted_active(self._config, self._links, self._ours)
            changed, failures = await self._converge(active)
            links = self._links
        async with self._slow_lock:
            # Not under the first lock: a switch must never wait for nft.
            try:
                if await self._firewall.ensure(self._ruleset):
                    changed.append(f"load nftables ruleset {self._ruleset.stamp}")
            except FirewallError as error:
                failures.append(error)
            try:
                changed += self._settings.ensure(kernel_settings(self._config, links))
            except SettingError as error:
                failures.append(error)
        return SyncReport(links, adopted, tuple(changed), tuple(failures))

    async def switch(
        self, active: UplinkName, previous: UplinkName | None
    ) -> SwitchReport:
        """Send the site's traffic by `active`, then forget `previous`'s connections.

        One route replaced, so that no packet finds none; the flush comes after it, so
        that no connection is tracked anew on the old way. Firewall and settings are
        not touched.

        Raises:
            NetlinkError: `active` has no way out, or the kernel refused. Then nothing
                was moved and no connection was forgotten.
            ConfigError: no uplink has that name.

        """
        uplink = self._config.uplink(active)
        old = None if previous is None else self._config.uplink(previous)
        began = self._clock.now()
        async with self._lock:
            if not self._looked:
                await self._look()
            try:
                await self._put_active(active)
            except NetlinkError:
                # What we knew is out of date: the device or its gateway changed.
                await self._look()
                await self._put_active(active)
            self._switches += 1
            self._active = active
        moved = self._clock.now()
        route_ms = (moved - began) * 1000
        if old is None or old.name == uplink.name:
            return SwitchReport(active, None, route_ms, None, ())
        failures: tuple[AdapterError, ...] = ()
        try:
            await self._conntrack.flush_mark(old.mark, MARK_MASK)
        except NetlinkError as error:
            failures = (error,)
        flush_ms = (self._clock.now() - moved) * 1000
        flushed = None if failures else old.name
        return SwitchReport(active, flushed, route_ms, flush_ms, failures)

    async def prune(self) -> tuple[str, ...]:
        """Remove every rule, route and table of ours; return what was removed.

        Settings stay: what they were before is not known.

        Raises:
            NetlinkError, FirewallError: the kernel or nft refused.

        """
        async with self._lock:
            await self._look()
            steps = prune(self._ours)
            for step in steps:
                await self._kernel.apply(step)
            self._looked = False
        removed = [str(step) for step in steps]
        async with self._slow_lock:
            if await self._firewall.remove():
                removed.append("delete nftables table")
        return tuple(removed)

    async def _look(self) -> None:
        view = await self._kernel.observe(self._config.devices)
        self._links, self._gateways = recall_gateways(
            self._config, view.links, self._gateways, view.ours
        )
        self._ours = view.ours
        self._looked = True

    async def _converge(
        self, active: UplinkName | None
    ) -> tuple[list[str], list[AdapterError]]:
        changed: list[str] = []
        failures: list[AdapterError] = []
        tried: tuple[RoutingStep, ...] = ()
        for _ in range(_ROUNDS):
            steps = self._steps(active)
            if not steps:
                return changed, []
            if steps == tried:
                break  # No permission, or another program in our place: not a race.
            tried, failures = steps, []
            for step in steps:
                try:
                    await self._kernel.apply(step)
                except NetlinkError as error:
                    failures.append(error)
                else:
                    changed.append(str(step))
            await self._look()
        if not failures and (left := self._steps(active)):
            msg = f"the kernel does not keep what it is given: {left[0]}"
            failures.append(NetlinkError(msg))
        return changed, failures

    def _steps(self, active: UplinkName | None) -> tuple[RoutingStep, ...]:
        wanted = desired(self._config, self._links, active, self._ours)
        return diff(wanted, self._ours)

    async def _put_active(self, active: UplinkName) -> None:
        uplink = self._config.uplink(active)
        link = self._links.get(uplink.device)
        if link is None:
            msg = f"uplink {active!r} cannot carry: there is no device {uplink.device}"
            raise NetlinkError(msg)
        if not link.admin_up:
            msg = f"uplink {active!r} cannot carry: {uplink.device} is down"
            raise NetlinkError(msg)
        if not link.routed:
            lacks = "address" if link.address is None else "gateway"
            msg = f"uplink {active!r} cannot carry: {uplink.device} has no {lacks} yet"
            raise NetlinkError(msg)
        route = active_route(uplink, link)
        held = {known.slot: known for known in self._ours.routes}
        # Put even if we believe it to be there: belief may be older than the kernel.
        await self._kernel.apply(PutRoute(route, replace=route.slot in held))
        held[route.slot] = route
        self._ours = RoutingState(frozenset(held.values()), self._ours.rules)
