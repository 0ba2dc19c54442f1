"""The runtime's resolver: what it tells dnsmasq, when, and what it says of failures."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from jaga_agent.core.model import Health, Policy, TargetName, Uplink, UplinkName
from jaga_agent.core.state import State
from jaga_agent.errors import ResolverError
from jaga_agent.runtime import resolver as module
from jaga_agent.runtime.resolver import Resolver
from jaga_agent.runtime.troubles import Troubles
from support.waiting import until_async

NAMES = {UplinkName("a"): "wan0", UplinkName("b"): "wan1"}
START = State.initial(
    Policy(
        uplinks=tuple(Uplink(name, n) for n, name in enumerate(NAMES)),
        targets=(TargetName("t"),),
    )
)
BOTH = "server=1.1.1.1@wan0\nserver=8.8.8.8@wan1\n"
SECOND = "server=8.8.8.8@wan1\nserver=1.1.1.1@wan1\n"


def state(*healths):
    return replace(
        START,
        per=tuple(
            replace(per, health=health)
            for per, health in zip(START.per, healths, strict=True)
        ),
    )


class Door:
    """A dnsmasq that notes what it is told, or does not run."""

    def __init__(self):
        self.told = []
        self.runs = True
        self.asked = 0

    def load(self, servers):
        self.asked += 1
        if not self.runs:
            msg = "the LAN's resolver does not run"
            raise ResolverError(msg)
        new = self.told[-1:] != [servers]
        if new:
            self.told.append(servers)
        return new


@asynccontextmanager
async def running(door, monkeypatch):
    monkeypatch.setattr(module, "DEBOUNCE_S", 0.02)
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.05)
    troubles = Troubles()
    resolver = Resolver(NAMES, ("1.1.1.1", "8.8.8.8"), door=door, troubles=troubles)
    task = asyncio.create_task(resolver.work())
    try:
        yield resolver, troubles
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_list_follows_health(monkeypatch):
    door = Door()
    async with running(door, monkeypatch) as (resolver, troubles):
        await until_async(lambda: door.told == [BOTH])
        resolver.see(state(Health.UP, Health.DEGRADED))
        resolver.see(state(Health.DOWN, Health.UP))
        await until_async(lambda: door.told == [BOTH, SECOND])
        resolver.see(state(Health.DOWN, Health.DOWN))
        await until_async(lambda: door.told == [BOTH, SECOND, BOTH])
        assert troubles.all() == []


async def test_a_burst_is_one_reload(monkeypatch):
    door = Door()
    async with running(door, monkeypatch) as (resolver, _):
        await until_async(lambda: door.told == [BOTH])
        for _ in range(5):
            resolver.see(state(Health.DOWN, Health.UP))
            resolver.see(state(Health.UP, Health.UP))
        resolver.see(state(Health.DOWN, Health.UP))
        await until_async(lambda: len(door.told) > 1)
        assert door.told == [BOTH, SECOND]


async def test_it_is_told_when_it_lasts_and_over_when_it_is_over(monkeypatch):
    door = Door()
    door.runs = False
    async with running(door, monkeypatch) as (_, troubles):
        await until_async(lambda: door.asked == 1)
        assert troubles.all() == [], "at boot dnsmasq starts after the agent"
        await until_async(lambda: troubles.all() == ["the LAN's resolver does not run"])
        door.runs = True
        await until_async(lambda: troubles.all() == [])
        assert door.told == [BOTH]
