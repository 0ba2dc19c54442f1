"""What the agent did on its own, put into the decision chain with its evidence.

Order: a decision is pinned (`decided`) when the engine makes it, carried out first, and
entered (`moved`) when the kernel has it: nothing here may lengthen an outage. Entering
is a write without waiting for the card; the waiting is done in threads.

A chain or card that fails costs the entry, never the move: it is told, and the agent
guards on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import account
from jaga_agent.adapters import evidence as evidence_module
from jaga_agent.adapters.chain.entry import Proof
from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink
from jaga_agent.errors import ChainError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from jaga_agent.adapters.chain import Chain
    from jaga_agent.adapters.chain.entry import Content, Entry
    from jaga_agent.adapters.evidence import EvidenceFiles
    from jaga_agent.adapters.journal import Cut, Journal
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.state import State
    from jaga_agent.ports import Clock
    from jaga_agent.runtime.troubles import Troubles

KEPT: Final = 20
"""Decisions shown by `status`; the chain holds all."""
AFTER_S: Final = 5.0
"""What follows a decision belongs to its evidence for this long."""
HASH_CHARS: Final = 16
"""Of the hash, as told to the collector: 64 bits are plenty to prove a chain by."""


@dataclass(slots=True)
class _Pinned:
    """A decision on its way to the kernel."""

    action: SelectUplink
    said: Content
    cut: Cut | None
    gap_s: float | None = None
    """Measured before the kernel's answer was read: it is entered after the move."""


class Decisions:
    """The one door to the chain; used on the event loop only."""

    def __init__(
        self,
        chain: Chain | None,
        evidence: EvidenceFiles | None,
        journal: Journal | None,
        *,
        clock: Clock,
        boot: bytes,
        troubles: Troubles,
    ) -> None:
        self._chain = chain
        self._evidence = evidence
        self._journal = journal
        self._clock = clock
        self._boot = boot.hex()
        self._troubles = troubles
        self._pinned: deque[_Pinned] = deque()
        self._latest: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._unsynced = False
        if chain is None:
            troubles.tell("decision chain", "not kept; see: journalctl -u jaga-agent")

    def latest(self) -> list[dict[str, Any]]:
        """Return the last decisions as `status` shows them, newest first."""
        return list(self._latest)

    def lifecycle(self, kind: str, reason: str) -> Entry | None:
        """Enter a start or stop."""
        return self._enter(account.lifecycle(self._moment(), kind, reason))

    def record(self, action: ReportHealth | ReportTarget, state: State) -> Entry | None:
        """Enter what the engine reports; `state` is the one it left."""
        match action:
            case ReportHealth():
                return self._enter(account.health(self._moment(), action, state))
            case ReportTarget():
                return self._enter(account.target_state(self._moment(), action))

    def other(
        self,
        kind: str,
        reason: object,
        *,
        uplink: str | None = None,
        target: str | None = None,
        old: str | None = None,
        new: str | None = None,
    ) -> Entry | None:
        """Enter anything else that the agent did on its own."""
        moment = self._moment()
        return self._enter(
            account.other(
                moment, kind, reason, uplink=uplink, target=target, old=old, new=new
            )
        )

    def decided(self, action: SelectUplink, state: State) -> None:
        """Pin a decision and what led to it, before it is carried out."""
        cut = None if self._journal is None else self._journal.cut()
        moment = self._moment(None if cut is None else cut.at)
        said = account.decision(moment, action, state)
        self._pinned.append(_Pinned(action, said, cut))

    def moved(self, action: SelectUplink, switched_s: float | None) -> Entry | None:
        """Enter the oldest pinned decision; `switched_s` None: the kernel refused."""
        pinned = self._pinned.popleft()
        if pinned.action is not action:
            msg = f"moves out of order: {pinned.action.uplink}, then {action.uplink}"
            raise AssertionError(msg)
        proof = None if pinned.cut is None else _proof(pinned.cut.lines)
        entry = self._enter(account.carried_out(pinned.said, switched_s, proof))
        if entry is not None and pinned.cut is not None and self._evidence is not None:
            self._spawn(self._keep(self._evidence, entry.id, pinned.cut))
        detected_s = action.detected_s
        self._latest.appendleft(
            {
                "id": None if entry is None else entry.id,
                "wall_ms": pinned.said.wall_ms,
                "rule": action.rule,
                "from": action.previous,
                "to": action.uplink,
                "reason": pinned.said.reason,
                "detected_ms": None if detected_s is None else detected_s * 1000,
                "switched_ms": None if switched_s is None else switched_s * 1000,
                "gap_ms": None,
            }
        )
        if pinned.gap_s is not None:
            self.gap(action.uplink, pinned.gap_s)
        return entry

    def gap(self, uplink: UplinkName, gap_s: float) -> Entry | None:
        """Enter the measured gap of the last decision, if that was for `uplink`.

        None, for now, if that decision is still on its way to the kernel.
        """
        if self._pinned and self._pinned[-1].action.uplink == uplink:
            self._pinned[-1].gap_s = gap_s
            return None
        last = self._latest[0] if self._latest else None
        of = None
        if last is not None and last["to"] == uplink:
            of = last["id"]
            last["gap_ms"] = gap_s * 1000
        return self._enter(account.gap(self._moment(), uplink, gap_s, of))

    async def close(self, reason: str) -> None:
        """Complete what is under way, enter the stop, and put all on the card."""
        self._closing.set()
        for pinned in self._pinned:
            self._enter(account.carried_out(pinned.said, None, None))
        self._pinned.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks)
        self.lifecycle("stopped", reason)
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _moment(self, at_s: float | None = None) -> account.Moment:
        return account.Moment(
            self._boot,
            self._clock.now() if at_s is None else at_s,
            self._clock.wall_ms(),
            self._clock.age_s(),
        )

    def _enter(self, content: Content) -> Entry | None:
        if self._chain is None:
            return None
        try:
            entry = self._chain.append(content)
        except ChainError as error:
            self._troubles.tell("decision chain", str(error))
            return None
        self._troubles.over("decision chain")
        if not self._unsynced:
            self._unsynced = True
            self._spawn(self._sync(self._chain))
        return entry

    async def _sync(self, chain: Chain) -> None:
        # First: what is appended while the card works is for the next sync.
        self._unsynced = False
        try:
            await asyncio.to_thread(chain.sync)
        except ChainError as error:
            self._troubles.tell("decision chain", str(error))

    async def _keep(self, files: EvidenceFiles, decision: int, cut: Cut) -> None:
        """Keep what led to a decision at once, and with what follows a little later."""
        journal = self._journal
        try:
            await asyncio.to_thread(files.keep, decision, cut.lines)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), AFTER_S)
            if journal is None:
                return
            lines = (*cut.lines, *journal.since(cut.mark))
            await asyncio.to_thread(files.keep, decision, lines)
        except EvidenceError as error:
            self._troubles.tell("evidence", str(error))
            return
        self._troubles.over("evidence")
        self._enter(account.sealed(self._moment(), decision, _proof(lines)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _proof(lines: tuple[bytes, ...]) -> Proof:
    return Proof(steps=len(lines) - 1, sha256=evidence_module.digest(lines))


def link(entry: Entry | None) -> Mapping[str, str]:
    """Return what an event tells the collector of its place in the chain."""
    if entry is None:
        return {}
    return {"id": str(entry.id), "hash": entry.hash[:HASH_CHARS]}
