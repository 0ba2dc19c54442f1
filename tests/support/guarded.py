"""A made-up site (`sim.world`) whose decisions go into a real chain with evidence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jaga_agent.adapters.chain import Chain
from jaga_agent.adapters.evidence import EvidenceFiles
from jaga_agent.adapters.fakes import FakeClock
from jaga_agent.adapters.journal import Journal
from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink
from jaga_agent.runtime.decisions import Decisions
from jaga_agent.runtime.troubles import Troubles
from sim.world import World, policy

if TYPE_CHECKING:
    from pathlib import Path

BOOT = b"guarded!"
SWITCHED_S = 0.0031


class GuardedWorld(World):
    """Carries moves out at once, as the agent's runtime does."""

    def keep_in(self, directory: Path, **bounds) -> None:
        self.chain = Chain(directory, boot=BOOT.hex())
        self.troubles = Troubles()
        self.decisions = Decisions(
            self.chain,
            EvidenceFiles(directory, **bounds),
            self.journal,
            clock=FakeClock(0.0, source=lambda: self.now),
            boot=BOOT,
            troubles=self.troubles,
        )
        self.decisions.lifecycle("started", "a test")

    def feed(self, event):
        told = len(self.log)
        super().feed(event)
        for _, action in self.log[told:]:
            match action:
                case SelectUplink():
                    self.decisions.decided(action, self.state)
                    self.decisions.moved(action, SWITCHED_S)
                case ReportHealth() | ReportTarget():
                    self.decisions.record(action, self.state)

    async def guard(self, until: float) -> None:
        """Run, five seconds at a time, with the writing of evidence in between."""
        at = 0.0
        while at < until:
            at = min(until, at + 5.0)
            self.run(at)
            while self.decisions._tasks:
                await asyncio.gather(*self.decisions._tasks)

    async def end(self) -> None:
        await self.decisions.close("the test ends")
        self.chain.close()


async def outage(directory: Path, **changes) -> GuardedWorld:
    """Keep a run in which telkomsel falls silent at 40 s and comes back at 60 s."""
    world = GuardedWorld(policy(hold_down_s=20.0, **changes), journal=Journal(None))
    world.keep_in(directory)
    world.change(40, "telkomsel", silent=True)
    world.change(60, "telkomsel", silent=False)
    await world.guard(50)
    world.decisions.gap("xl", 0.62)
    await world.guard(100)
    await world.end()
    return world
