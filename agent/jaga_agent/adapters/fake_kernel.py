"""A kernel, conntrack, firewall and settings in memory, for tests and simulations.

Small and honest: a slot holds one route, an occupied slot refuses `add`, a device that
goes takes its routes with it. Everything asked of them is kept in `log`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jaga_agent.core.routes import (
    AddRule,
    DeleteRoute,
    DeleteRule,
    Link,
    PutRoute,
    Route,
    RoutingState,
    RoutingStep,
    Rule,
)
from jaga_agent.errors import NetlinkError
from jaga_agent.ports import KernelEvent, KernelView

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Mapping

    from jaga_agent.core.firewall import Ruleset


class FakeKernel:
    """`ports.Kernel` in memory."""

    def __init__(
        self,
        links: Iterable[Link] = (),
        ours: RoutingState | None = None,
        *,
        alien_slots: Iterable[tuple[int, str, int]] = (),
    ) -> None:
        ours = ours or RoutingState()
        self.devices = {link.device: link for link in links}
        self.routes: dict[tuple[int, str, int], Route] = {
            route.slot: route for route in ours.routes
        }
        self.rules: set[Rule] = set(ours.rules)
        self.alien_slots = frozenset(alien_slots)
        """Slots that another program's routes take."""
        self.log: list[str] = []
        self.refuse = False
        """Refuse every step, as a kernel does to an agent without capabilities."""
        self._events: asyncio.Queue[KernelEvent] = asyncio.Queue()

    @property
    def ours(self) -> RoutingState:
        return RoutingState(frozenset(self.routes.values()), frozenset(self.rules))

    def set_link(self, link: Link) -> None:
        """Let the device appear or change; going down takes its routes."""
        self.devices[link.device] = link
        if not link.admin_up:
            self._drop_routes(link.device)
        self._events.put_nowait(KernelEvent.LINK)

    def remove_link(self, device: str) -> None:
        """Unplug the device; its routes go from every table."""
        del self.devices[device]
        self._drop_routes(device)
        self._events.put_nowait(KernelEvent.LINK)

    def _drop_routes(self, device: str) -> None:
        self.routes = {s: r for s, r in self.routes.items() if r.device != device}

    async def links(self, devices: Collection[str]) -> Mapping[str, Link]:
        return {d: link for d, link in self.devices.items() if d in devices}

    async def observe(self, devices: Collection[str]) -> KernelView:
        return KernelView(await self.links(devices), self.ours)

    async def apply(self, step: RoutingStep) -> None:
        if self.refuse:
            msg = f"{step}: no permission"
            raise NetlinkError(msg)
        match step:
            case PutRoute(route, swap):
                self._put(route, swap=swap)
            case DeleteRoute(route):
                if self.routes.get(route.slot) == route:
                    del self.routes[route.slot]
            case AddRule(rule):
                self.rules.add(rule)
            case DeleteRule(rule):
                self.rules.discard(rule)
        self.log.append(str(step))

    def _put(self, route: Route, *, swap: bool) -> None:
        link = self.devices.get(route.device or "")
        if route.device is not None and (link is None or not link.admin_up):
            msg = f"no device {route.device} that is up"
            raise NetlinkError(msg)
        if not swap and (route.slot in self.routes or route.slot in self.alien_slots):
            msg = f"route {route}: the place is taken"
            raise NetlinkError(msg)
        self.routes[route.slot] = route

    async def watch(self) -> AsyncGenerator[KernelEvent, None]:
        yield KernelEvent.EVENTS_LOST
        while True:
            yield await self._events.get()


class FakeConntrack:
    """`ports.Conntrack` in memory."""

    def __init__(self) -> None:
        self.flushed: list[tuple[int, int]] = []

    async def flush_mark(self, mark: int, mask: int) -> None:
        self.flushed.append((mark, mask))


class FakeFirewall:
    """`ports.Firewall` in memory."""

    def __init__(self) -> None:
        self.stamp: str | None = None
        self.loads = 0

    async def ensure(self, ruleset: Ruleset) -> bool:
        if self.stamp == ruleset.stamp:
            return False
        self.stamp = ruleset.stamp
        self.loads += 1
        return True

    async def remove(self) -> bool:
        had, self.stamp = self.stamp is not None, None
        return had


class FakeSettings:
    """`ports.KernelSettings` in memory; every setting exists."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def ensure(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        changed = tuple(
            f"{name}: {self.values.get(name)} -> {value}"
            for name, value in settings.items()
            if self.values.get(name) != value
        )
        self.values |= settings
        return changed
