"""The kernel side: what it tells of links goes to the core, moves go to the kernel.

Order matters in one place only: a move is carried out before anything else that
touches the kernel, and the records of it come after (`moved`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import tenacity

from jaga_agent.core.events import LinkSeen
from jaga_agent.errors import NetlinkError
from jaga_agent.ports import KernelEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from jaga_agent.core.actions import SelectUplink
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.routes import Link
    from jaga_agent.reconcile import SwitchReport, SyncReport
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.troubles import Troubles

_log = logging.getLogger(__name__)

RECONCILE_S: Final = 30.0
"""The kernel is read again this often even if no event came: events can be lost."""
DEBOUNCE_S: Final = 0.2
"""Address and route events come in bursts; the last state is what counts."""


class Routes:
    """Keeps the kernel as the core wants it."""

    links: Mapping[str, Link]
    """By device, as last seen."""

    def __init__(
        self,
        devices: Mapping[UplinkName, str],
        *,
        doors: Doors,
        driver: Driver,
        troubles: Troubles,
        moved: Callable[[SelectUplink, float | None], None],
    ) -> None:
        self.links = {}
        self._devices = devices
        self._kernel = doors.kernel
        self._reconciler = doors.reconciler
        self._clock = doors.clock
        self._driver = driver
        self._troubles = troubles
        self._moved = moved
        """Told each move and how long it took in seconds; None: it failed."""
        self._moves: asyncio.Queue[tuple[SelectUplink, float]] = asyncio.Queue()
        self._look = asyncio.Event()
        self._sync = asyncio.Event()

    async def adopt(self) -> SyncReport:
        """Put the kernel right without moving the site; its links are still to see."""
        synced = await self._reconciler.sync(None)
        self._tell(synced)
        return synced

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [
            self._watch_kernel(),
            self._look_at_links(),
            self._keep_routes(),
            self._move_site(),
        ]

    def move(self, action: SelectUplink) -> None:
        """Have the site moved as soon as the moves before it are done."""
        self._moves.put_nowait((action, self._clock.now()))

    def look(self) -> None:
        """Have the links read at once: somebody saw that they are not as known."""
        self._look.set()

    def see(self, links: Mapping[str, Link]) -> None:
        """Tell the core of every uplink's device."""
        before, self.links = self.links, links
        for name, device in self._devices.items():
            old, new = before.get(device), links.get(device)
            if old is not None and new is not None and old.index != new.index:
                # Re-created between two looks: everything known of it is void.
                self._driver.feed(
                    LinkSeen(name, present=False, carrier=False, routed=False)
                )
            self._driver.feed(
                LinkSeen(
                    name,
                    present=new is not None,
                    carrier=new is not None and new.carrier and new.admin_up,
                    routed=new is not None and new.routed,
                )
            )
            if new is None and (old is not None or not before):
                _log.warning("uplink %s: device %s does not exist", name, device)

    async def _watch_kernel(self) -> None:
        async with aclosing(self._kernel.watch()) as events:
            async for event in events:
                if event is KernelEvent.LINK:
                    self._look.set()
                self._sync.set()

    async def _look_at_links(self) -> None:
        """React to a link event at once: one read, no repair."""
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                self.see(await self._reconciler.observe())
            except NetlinkError as error:
                self._troubles.tell("kernel", str(error))

    async def _keep_routes(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._sync.wait(), RECONCILE_S)
                await asyncio.sleep(DEBOUNCE_S)
            except TimeoutError:
                pass
            self._sync.clear()
            try:
                synced = await self._reconciler.sync(self._driver.state.active)
            except NetlinkError as error:
                self._troubles.tell("kernel", str(error))
                continue
            self._tell(synced)
            self.see(synced.links)

    def _tell(self, synced: SyncReport) -> None:
        for change in synced.changed:
            _log.info("kernel %s", change)
        if synced.failures:
            self._troubles.tell("kernel", "; ".join(str(f) for f in synced.failures))
        else:
            self._troubles.over("kernel")

    async def _move_site(self) -> None:
        while True:
            action, decided_at = await self._moves.get()
            switched_s = None
            try:
                switched = await self._switch(action)
                switched_s = self._clock.now() - decided_at
                for failure in switched.failures:
                    _log.warning("after the move: %s", failure)
            except NetlinkError as error:
                self._troubles.tell(
                    "kernel", f"move to {action.uplink} failed: {error}"
                )
                self._sync.set()
            self._moved(action, switched_s)

    async def _switch(self, action: SelectUplink) -> SwitchReport:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(NetlinkError),
            stop=tenacity.stop_after_attempt(4),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=0.4),
            reraise=True,
        )
        return await retrying(self._reconciler.switch, action.uplink, action.previous)
