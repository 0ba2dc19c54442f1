"""Operators' commands: taken in, verified, judged, remembered, carried out, answered.

The order of things is the safety: an order's counter is on the card before anything of
it is done, and its outcome before it is told. What is not signed by an operator's key
costs a line in the log and an event, up to a rate: whoever floods a site with forgeries
must not fill its card.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import report
from jaga_agent.core import orders as core
from jaga_agent.core.flood import Flood
from jaga_agent.core.model import UplinkName
from jaga_agent.core.reason import Reason, because
from jaga_agent.errors import KeptError, SigningError
from jaga_agent.runtime.decisions import link
from jaga_agent.wire.base import MalformedMessage, decode, encode
from jaga_agent.wire.orders import (
    ORDER_ID_BYTES,
    Command,
    Order,
    Reply,
    ReplyCode,
    order_to_sign,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from jaga_agent.config import Config
    from jaga_agent.core.orders import Asked, Memory, Past, Task
    from jaga_agent.runtime.decisions import Decisions
    from jaga_agent.runtime.deeds import Deeds
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.recorder import Recorder
    from jaga_agent.runtime.troubles import Troubles

_log = logging.getLogger(__name__)

WAITING: Final = 8
"""Commands not yet looked at; more than that are dropped, and counted."""
PAUSE_S: Final = 0.1
"""After a command that was refused: forgeries must not take the processor."""
DETAIL_CHARS: Final = 512
"""The wire's bound on a text."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a task."""

    ok: bool
    detail: str
    """One sentence for the operator."""
    content: bytes = b""
    pending: bool = False
    """Its end comes later, by `finish`: the agent restarts for it."""


class Orders:
    """The one door for commands; used on the event loop only."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        deeds: Deeds,
        decisions: Decisions,
        recorder: Recorder,
        troubles: Troubles,
        reply: Callable[[bytes, bytes], None],
    ) -> None:
        """`reply` is given a payload and its correlation data."""
        self._config = config
        self._verify = doors.verify
        self._file = doors.orders
        self._clock = doors.clock
        self._boot = doors.spool.boot
        self._deeds = deeds
        self._decisions = decisions
        self._recorder = recorder
        self._troubles = troubles
        self._reply = reply
        self._queue: asyncio.Queue[tuple[bytes, bytes | None]] = asyncio.Queue(WAITING)
        self._flood = Flood()
        self._saving = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._memory: Memory | None = None
        """None: damaged, and the time is not known."""
        self._damage = ""

    # For the agent

    def begin(self) -> Memory:
        """Take up what was remembered; return it, empty if it is damaged."""
        try:
            self._memory = self._file.load() or core.Memory()
        except KeptError as error:
            self._damage = str(error)
            self._troubles.tell("orders", self._damage)
            self._recall()
        return self._memory or core.Memory()

    def received(self, payload: bytes, correlation: bytes | None) -> None:
        """Take one command; it is looked at in its turn."""
        try:
            self._queue.put_nowait((payload, correlation))
        except asyncio.QueueFull:
            self._flood.missed()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._obey()]

    async def close(self) -> None:
        """End what is under way; what it was is remembered as not ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def end_of(self, order: str, *, ok: bool, detail: str) -> None:
        """Tell the end of an order that outlived an agent (`order` hexadecimal)."""
        past = self._past(order)
        await self._end(past, Done(ok, detail))

    async def end_forsaken(self, *, but: str | None) -> None:
        """Tell of each order that the last agent began and did not end."""
        for past in () if self._memory is None else self._memory.recent:
            if past.code == ReplyCode.ACCEPTED and past.id != but:
                detail = "the agent ended while it was being done"
                await self._end(past, Done(False, detail))

    async def remember(self, change: Callable[[Memory], Memory]) -> None:
        """Put a change of the memory on the card; raises KeptError."""
        async with self._saving:
            if self._memory is None:
                return
            memory = change(self._memory)
            await asyncio.to_thread(self._file.save, memory)
            # Only now: what is not on the card does not count.
            self._memory = memory
            self._troubles.over("orders")

    # One command

    async def _obey(self) -> None:
        while True:
            wait_s = self._flood.due_s(self._clock.now())
            try:
                payload, correlation = await asyncio.wait_for(self._queue.get(), wait_s)
            except TimeoutError:
                if count := self._flood.tally(self._clock.now()):
                    self._tell("refused", because("order.many", count=count), {}, None)
                continue
            if not await self._take(payload, correlation):
                await asyncio.sleep(PAUSE_S)

    async def _take(self, payload: bytes, correlation: bytes | None) -> bool:
        """Look at one command; return whether it is obeyed."""
        try:
            command = decode(payload, Command)
            asked = _asked(decode(command.body, Order))
        except MalformedMessage as error:
            # Whoever sent it may be waiting all the same.
            known = correlation is not None and len(correlation) == ORDER_ID_BYTES
            order_id = correlation if known else None
            self._refuse(None, because("order.malformed", detail=str(error)), order_id)
            return False
        doubt = await self._doubt(asked, command)
        if doubt is not None:
            self._refuse(asked, doubt, asked.id)
            return False
        past = None if self._memory is None else self._memory.of(asked.id)
        if past is not None:
            self._answer_again(asked, past)
            return False
        return await self._judge(asked)

    async def _doubt(self, asked: Asked, command: Command) -> Reason | None:
        """Return why this is not known to be the operator's order; None: it is."""
        key = self._key(asked.operator)
        if isinstance(key, Reason):
            return key
        try:
            signed = await self._verify(
                order_to_sign(command.body), command.signature, key
            )
        except SigningError as error:
            return because("order.key", operator=asked.operator, detail=str(error))
        return None if signed else because("order.forged", operator=asked.operator)

    def _key(self, operator: str) -> Path | Reason:
        """Return the file of an operator's key, read anew each time; or why not."""
        if self._config.commands is None:
            return because("order.no_keys", detail="[commands] is not configured")
        folder = Path(self._config.commands.keys)
        if not folder.is_dir():
            return because("order.no_keys", detail=f"there is no folder {folder}")
        key = folder / f"{operator}.pub.pem"
        if not core.OPERATOR.fullmatch(operator) or not key.is_file():
            return because("order.operator", operator=operator)
        return key

    async def _judge(self, asked: Asked) -> bool:
        memory = self._recall()
        if memory is None:
            detail = f"{self._damage}; wait until this site knows the time"
            self._refuse(asked, because("order.memory", detail=detail), asked.id)
            return False
        verdict = core.judge(asked, self._here(), memory, signed=True)
        outcome = verdict.outcome
        if not isinstance(outcome, Reason):
            outcome = self._deeds.refusal(outcome) or outcome
        if verdict.spends:
            outcome = await self._spend(asked, outcome)
        if isinstance(outcome, Reason):
            # What is new and signed no attacker can make: it is always told.
            self._refuse(asked, outcome, asked.id, always=verdict.spends)
            return False
        accepted = because(
            "order.accepted", action=asked.action, operator=asked.operator
        )
        self._tell("accepted", accepted, *_about(asked))
        self._answer(asked.id, ReplyCode.ACCEPTED, str(accepted))
        task = asyncio.get_running_loop().create_task(self._do(asked, outcome))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _spend(self, asked: Asked, outcome: Task | Reason) -> Task | Reason:
        """Use an order's counter up; return what to do then, or why nothing is done."""
        refused = isinstance(outcome, Reason)
        code = ReplyCode.REFUSED if refused else ReplyCode.ACCEPTED
        past = _past(asked, code, str(outcome) if refused else "")
        try:
            await self.remember(lambda memory: memory.spent(asked).with_past(past))
        except KeptError as error:
            self._troubles.tell("orders", str(error))
            return because("order.memory", detail=str(error))
        return outcome

    async def _do(self, asked: Asked, task: Task) -> None:
        past = _past(asked, ReplyCode.ACCEPTED, "")
        try:
            done = await self._deeds.do(task, asked)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end this order, and be told, not end the guard
            _log.exception("order %s failed", past.id)
            done = Done(False, f"a fault in the agent: {error!r}")
        if not done.pending:
            await self._end(past, done)

    async def _end(self, past: Past, done: Done) -> None:
        code = ReplyCode.DONE if done.ok else ReplyCode.FAILED
        detail = done.detail[:DETAIL_CHARS]
        ended = replace(past, code=int(code), detail=detail)
        try:
            await self.remember(lambda memory: memory.with_past(ended))
        except KeptError as error:
            self._troubles.tell("orders", str(error))
        word = "done" if done.ok else "failed"
        reason = because(f"order.{word}", action=past.action, detail=detail)
        told = {"order": past.id, "operator": past.operator, "action": past.action}
        self._tell(word, reason, told, None)
        self._answer(bytes.fromhex(past.id), code, detail, done.content)

    # What is told

    def _answer_again(self, asked: Asked, past: Past) -> None:
        """Answer a repeated delivery as the first one was, and do nothing."""
        if self._flood.admits(self._clock.now()):
            self._tell("refused", because("order.same"), *_about(asked))
        self._answer(asked.id, ReplyCode(past.code), past.detail)

    def _refuse(
        self,
        asked: Asked | None,
        reason: Reason,
        order_id: bytes | None,
        *,
        always: bool = False,
    ) -> None:
        if not always and not self._flood.admits(self._clock.now()):
            return
        told, uplink = ({}, None) if asked is None else _about(asked)
        self._tell("refused", reason, told, uplink)
        if order_id is not None:
            self._answer(order_id, ReplyCode.REFUSED, str(reason))

    def _tell(
        self, outcome: str, reason: Reason, told: dict[str, str], uplink: str | None
    ) -> None:
        """Log, enter into the chain, and record what became of an order."""
        known = uplink if uplink in self._config.devices else None
        _log.warning(
            "order %s operator=%s action=%s id=%s reason=%s",
            outcome,
            told.get("operator", "unknown"),
            told.get("action", "unknown"),
            told.get("order", "unknown"),
            reason,
        )
        full = Reason(reason.code, (*reason.values, *told.items()))
        if "operator" in dict(reason.values):
            more = ((k, v) for k, v in told.items() if k not in dict(reason.values))
            full = Reason(reason.code, (*reason.values, *more))
        entry = self._decisions.other("order", full, uplink=known, new=outcome)
        sentence = str(reason)
        self._recorder.record(
            lambda s: report.order(
                s, outcome, sentence, uplink=known, told={**told, **link(entry)}
            )
        )

    def _answer(
        self, order_id: bytes, code: ReplyCode, detail: str, content: bytes = b""
    ) -> None:
        reply = Reply(
            order=order_id,
            code=code,
            detail=detail[:DETAIL_CHARS],
            boot=self._boot,
            at_ms=round(self._clock.now() * 1000),
            wall_ms=self._clock.wall_ms(),
            clock_age_s=self._clock.age_s(),
            content=content,
        )
        self._reply(encode(reply), order_id)

    # What is known

    def _here(self) -> core.Here:
        known = self._clock.age_s() >= 0
        return core.Here(
            region=self._config.site.region,
            site=self._config.site.id,
            boot=self._boot,
            at_ms=round(self._clock.now() * 1000),
            wall_ms=self._clock.wall_ms() if known else None,
            uplinks=tuple(UplinkName(u.name) for u in self._config.by_preference),
        )

    def _recall(self) -> Memory | None:
        """Return the memory; after damage a new one, once the time is known."""
        if self._memory is None:
            self._memory = core.lost(self._here().wall_ms)
            if self._memory is not None:
                _log.warning(
                    "orders: %s; obeyed is what is issued from five minutes on",
                    self._damage,
                )
        return self._memory

    def _past(self, order: str) -> Past:
        found = None if self._memory is None else self._memory.of(bytes.fromhex(order))
        return found or core.Past(order, "unknown", "unknown", ReplyCode.ACCEPTED, "")


def _asked(order: Order) -> Asked:
    return core.Asked(
        **{name: getattr(order, name) for name in order.__struct_fields__}
    )


def _past(asked: Asked, code: ReplyCode, detail: str) -> Past:
    return core.Past(
        asked.id.hex(), asked.operator, asked.action[:32], int(code), detail
    )


def _about(asked: Asked) -> tuple[dict[str, str], str | None]:
    """Return what an event says of an order, and the uplink that it names."""
    printable = re.compile(r"[^\x20-\x7e]")
    told = {
        "order": asked.id.hex(),
        "operator": printable.sub("?", asked.operator),
        "action": printable.sub("?", asked.action),
    }
    return told, asked.arguments.get("uplink")
