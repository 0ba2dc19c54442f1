"""A configuration on trial: proposed, proved by the collector's own word, or given up.

Proof is a watermark that covers a record of this very run: it says that the collector
has it for good. A connection, or a broker's acknowledgement, would prove less.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core import applied
from jaga_agent.core.applied import Applied, Ended, Source, Trial
from jaga_agent.core.coverage import Said, of_boot, said
from jaga_agent.errors import KeptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.config import Config
    from jaga_agent.effective import InForce
    from jaga_agent.wire.evidence import Watermark

_log = logging.getLogger(__name__)

TRIAL_S: Final = 120.0


class Proving:
    """The one door to what is kept of applied configurations."""

    def __init__(
        self,
        in_force: InForce,
        *,
        check: Callable[[str], Config],
        again: Callable[[], None],
        trial_s: float = TRIAL_S,
    ) -> None:
        """Go by what was in force at the start.

        `check` returns a text's configuration once everything it names is there, and
        raises JagaError. `again` has the agent end and start anew.
        """
        self._in_force = in_force
        self._kept = in_force.kept
        self._check = check
        self._again = again
        self._trial_s = trial_s
        self._proved = asyncio.Event()
        self.leaves: str | None = None
        """Why this agent ends; None: it does not on our account."""
        self._boot = b""
        self._first_seq = 0

    @property
    def source(self) -> Source:
        """Where the configuration in force is from."""
        was = self._in_force.source
        over = self._kept is None or self._kept.trial is None
        return Source.APPLIED if was is Source.TRIAL and over else was

    @property
    def trouble(self) -> str | None:
        """Why what was applied is not in force, if it should be."""
        return self._in_force.trouble

    @property
    def order(self) -> str | None:
        """The order whose configuration is on trial now, hexadecimal."""
        trial = None if self._kept is None else self._kept.trial
        return trial.order if trial and self.source is Source.TRIAL else None

    @property
    def ended(self) -> Ended | None:
        """A trial's end that is still to be told."""
        return None if self._kept is None else self._kept.ended

    def begin(self, boot: bytes, first_seq: int) -> None:
        """Take note which record is the first of this run."""
        self._boot, self._first_seq = boot, first_seq

    def reached(self, mark: Watermark) -> None:
        """Take the collector's word for what it has."""
        if self._first_seq and covers(mark, self._boot, self._first_seq):
            self._proved.set()

    def check(self, toml: str) -> Config:
        """Return a text's configuration; raises JagaError with every fault."""
        return self._check(toml)

    def is_in_force(self, toml: str) -> bool:
        """Return whether this is what the agent runs by already."""
        return toml == self._in_force.text

    async def propose(self, order: str, toml: str) -> None:
        """Have the agent start anew with this on trial; raises KeptError."""
        trial = Trial(order, toml)
        await self._keep(applied.proposed(self._kept, self._in_force.base, trial))
        self._leave("starts anew with a configuration on trial")

    async def outcome(self) -> Ended | None:
        """Wait for the end of the trial; None: none is on, or it was given up.

        What is given up ends this agent: the next one tells of it.
        """
        if self.order is None or self._kept is None:
            return None
        try:
            await asyncio.wait_for(self._proved.wait(), self._trial_s)
        except TimeoutError:
            why = f"the collector was not reached within {self._trial_s:g} s"
            _log.error("the configuration on trial is given up: %s", why)
            try:
                await self._keep(applied.rolled_back(self._kept, why))
            except KeptError as error:
                # It is on the card as begun: the next start is without it all the same.
                _log.error("%s", error)
            self._leave("starts anew with the configuration from before the trial")
            return None
        detail = "the collector has been reached with it; it is in force from here on"
        try:
            await self._keep(applied.confirmed(self._kept, detail))
        except KeptError as error:
            _log.error("%s; the configuration on trial is given up", error)
            self._leave("starts anew with the configuration from before the trial")
            return None
        return self.ended

    async def told(self) -> None:
        """Forget a trial's end that has been told; raises KeptError."""
        if self._kept is not None and self._kept.ended is not None:
            await self._keep(applied.told(self._kept))

    def snapshot(self) -> dict[str, Any]:
        """Return the configuration's row of the status answer."""
        return {"source": self.source.value, "hash": self._in_force.hash}

    def _leave(self, why: str) -> None:
        self.leaves = why
        self._again()

    async def _keep(self, kept: Applied) -> None:
        await asyncio.to_thread(self._in_force.file.save, kept)
        self._kept = kept


def covers(mark: Watermark, boot: bytes, first_seq: int) -> bool:
    """Return whether a watermark covers any record of a boot from `first_seq` on."""
    of = of_boot(mark, boot)
    return of is not None and any(
        word is Said.COVERED
        for *_, word in said(of, first_seq, max(of.through, of.highest))
    )
