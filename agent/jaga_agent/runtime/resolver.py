"""Keeps the LAN's resolver on the uplinks that work. What to ask where is the core's."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from jaga_agent.core.resolving import Forwarding, servers_file
from jaga_agent.core.state import USABLE
from jaga_agent.errors import ResolverError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaga_agent import ports
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.state import State, UplinkState
    from jaga_agent.runtime.troubles import Troubles

_log = logging.getLogger(__name__)

PART: Final = "resolver"
DEBOUNCE_S: Final = 0.2
"""One fault changes the health of several uplinks, and each reload empties the cache."""
LOOK_AGAIN_S: Final = 30.0
"""Whether dnsmasq still runs is asked this often."""


def _resolves(per: UplinkState) -> bool:
    dead = any(reason.code == "dns.dead" for _, reason in per.faults)
    return per.health in USABLE and not dead


class Resolver:
    """The LAN's DNS, as the runtime sees it."""

    def __init__(
        self,
        devices: Mapping[UplinkName, str],
        resolvers: Sequence[str],
        *,
        door: ports.Resolver,
        troubles: Troubles,
    ) -> None:
        self._devices = devices
        self._resolvers = resolvers
        self._door = door
        self._troubles = troubles
        self._wanted = self._text(frozenset())
        self._changed = asyncio.Event()
        self._changed.set()
        self._failed = False

    def see(self, state: State) -> None:
        """Take note of the uplinks' health; cheap, and repeatable at will."""
        wanted = self._text(
            frozenset(n for n in self._devices if _resolves(state.of(n)))
        )
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def work(self) -> None:
        """Keep the resolver's list for as long as the agent runs."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN_S)
                await asyncio.sleep(DEBOUNCE_S)
            except TimeoutError:
                pass
            self._changed.clear()
            self._load()

    def _load(self) -> None:
        try:
            told = self._door.load(self._wanted)
        except ResolverError as error:
            # At boot dnsmasq starts after us: one failure is not yet a trouble.
            if self._failed:
                self._troubles.tell(PART, str(error))
            self._failed = True
            return
        self._failed = False
        self._troubles.over(PART)
        if told:
            _log.info("resolver asks: %s", ", ".join(self._wanted.split()))

    def _text(self, usable: frozenset[UplinkName]) -> str:
        return servers_file(
            [Forwarding(d, name in usable) for name, d in self._devices.items()],
            self._resolvers,
        )
