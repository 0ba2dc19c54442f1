"""What each order does. It is told that an order is to be obeyed, and never judges that.

`refusal` says beforehand why a deed is impossible now; `do` does it and says what came
of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, assert_never

from jaga_agent.core import choice
from jaga_agent.core.events import HoldOrdered, RaceOrdered, SwitchOrdered
from jaga_agent.core.orders import (
    ApplyConfiguration,
    Held,
    Hold,
    ProbeNow,
    RebootModem,
    SendDiagnostics,
    SetMode,
    Staged,
    SwitchTo,
)
from jaga_agent.core.reason import because
from jaga_agent.core.state import USABLE
from jaga_agent.errors import JagaError, KeptError, ModemError
from jaga_agent.runtime import diagnostics
from jaga_agent.runtime.orders import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from jaga_agent.config import Config
    from jaga_agent.core.actions import SelectUplink
    from jaga_agent.core.model import Mode, UplinkName
    from jaga_agent.core.orders import Asked, Memory, Task
    from jaga_agent.core.reason import Reason
    from jaga_agent.core.state import Probe, State
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver

    Remember = Callable[[Callable[[Memory], Memory]], Coroutine[Any, Any, None]]

RACE_S: Final = 5.0
"""A race is over by then: two volleys, the longest timeout, a known gap."""
MOVE_S: Final = 10.0
MODEM_S: Final = 90.0
"""A stick that begins anew is back by then; it registers with its network in 20 to 60."""
POLL_S: Final = 0.05


class Deeds:
    """Used on the event loop only."""

    remember: Remember
    """Set by who keeps the memory."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        driver: Driver,
        present: Callable[[str], bool],
        status: Callable[[], dict[str, Any]],
        set_mode: Callable[[Mode], None],
    ) -> None:
        """`present`: whether a device exists and has an address and a gateway."""
        self._config = config
        self._clock = doors.clock
        self._boot = doors.spool.boot
        self._modems = doors.modems
        self._proving = doors.proving
        self._warnings = doors.warnings
        self._driver = driver
        self._present = present
        self._status = status
        self._set_mode = set_mode
        self._moves: dict[UplinkName, asyncio.Future[float | None]] = {}

    def begin(self, memory: Memory, config_hash: str) -> None:
        """Take up what was ordered before this start and still holds."""
        staged, held = memory.staged, memory.held
        if staged is not None and staged.config_hash == config_hash:
            self._set_mode(staged.mode)
        if held is not None and held.boot == self._boot.hex():
            left_s = held.until_ms / 1000 - self._clock.now()
            if left_s > 0:
                self._driver.feed(HoldOrdered(left_s))

    def moved(self, action: SelectUplink, switched_s: float | None) -> None:
        """Take note that the kernel has a move; None: it refused."""
        waiting = self._moves.pop(action.uplink, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(switched_s)

    def refusal(self, task: Task) -> Reason | None:
        """Return why this cannot be done now; None: it can."""
        match task:
            case SwitchTo(uplink=uplink):
                return choice.unfit(self._driver.state, uplink)
            case RebootModem(uplink=uplink):
                return self._modem_refusal(uplink)
            case ApplyConfiguration(toml=toml):
                said = self._configuration_refusal(toml)
                return (
                    None if said is None else because("order.impossible", detail=said)
                )
            case _:
                return None

    async def do(self, task: Task, asked: Asked) -> Done:  # noqa: PLR0911 - one case for each task
        """Do it, and return what came of it; raises nothing on purpose."""
        match task:
            case ProbeNow():
                return await self._probe()
            case SwitchTo(uplink=uplink):
                return await self._switch(uplink, asked.operator)
            case Hold(for_s=for_s):
                return await self._hold(for_s)
            case SetMode(mode=mode):
                return await self._mode(mode)
            case SendDiagnostics():
                return self._diagnostics()
            case RebootModem(uplink=uplink):
                return await self._reboot(uplink)
            case ApplyConfiguration(toml=toml):
                return await self._apply(asked, toml)
            case _:
                assert_never(task)

    # probe-now

    async def _probe(self) -> Done:
        before = self._clock.now()
        self._driver.feed(RaceOrdered())
        volley = {
            p.probe_id
            for p in self._driver.state.outstanding
            if p.racing and p.sent_at >= before
        }
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RACE_S):
                while _awaited(self._driver.state, volley):  # noqa: ASYNC110 - the engine tells nobody of a single probe
                    await asyncio.sleep(POLL_S)
        told = [self._told(name) for name in self._config.devices]
        return Done(True, "; ".join(told))

    def _told(self, name: UplinkName) -> str:
        state = self._driver.state
        per = state.of(name)
        srtt_s = per.overall.srtt_s
        if per.health not in USABLE or srtt_s is None:
            return f"{name} {per.health.value} ({per.reason})"
        answered = sum(path.misses == 0 for path in per.paths)
        lost = f"{answered} of {len(per.paths)} targets"
        return f"{name} {per.health.value}, {srtt_s * 1000:.0f} ms, {lost}"

    # switch-to

    async def _switch(self, uplink: UplinkName, operator: str) -> Done:
        before = self._driver.state.active
        if before == uplink:
            self._driver.feed(SwitchOrdered(uplink, operator))
            return Done(True, f"{uplink} carries the site already, and keeps it")
        told = asyncio.get_running_loop().create_future()
        self._moves[uplink] = told
        self._driver.feed(SwitchOrdered(uplink, operator))
        try:
            if self._driver.state.active != uplink:
                return Done(False, str(choice.unfit(self._driver.state, uplink)))
            switched_s = await asyncio.wait_for(told, MOVE_S)
        except TimeoutError:
            return Done(False, f"the kernel has not moved within {MOVE_S:g} s")
        finally:
            self._moves.pop(uplink, None)
        if switched_s is None:
            return Done(False, "the kernel refused the move; see the agent's log")
        whence = before or "no uplink"
        moved = f"moved from {whence} to {uplink} in {switched_s * 1000:.0f} ms"
        return Done(True, moved)

    # hold, set-mode

    async def _hold(self, for_s: int) -> Done:
        self._driver.feed(HoldOrdered(float(for_s)))
        until_ms = round((self._clock.now() + for_s) * 1000)
        held = Held(self._boot.hex(), until_ms) if for_s else None
        kept = await self._kept(lambda memory: replace(memory, held=held))
        if not for_s:
            return Done(True, f"as usual again{kept}")
        stays = self._driver.state.active or "no uplink"
        return Done(True, f"stays on {stays} for {for_s} s while that works{kept}")

    async def _mode(self, mode: Mode) -> Done:
        self._set_mode(mode)
        staged = Staged(mode, self._proving.snapshot()["hash"])
        kept = await self._kept(lambda memory: replace(memory, staged=staged))
        return Done(True, f"the stage is {mode.value} now{kept}")

    async def _kept(self, change: Callable[[Memory], Memory]) -> str:
        try:
            await self.remember(change)
        except KeptError as error:
            return f", but not after a restart: {error}"
        return ""

    # send-diagnostics

    def _diagnostics(self) -> Done:
        content = diagnostics.packed(
            self._status(), self._config, self._warnings.lines()
        )
        return Done(True, f"{len(content)} bytes of diagnostics", content)

    # reboot-modem

    def _modem_refusal(self, uplink: UplinkName) -> Reason | None:
        state = self._driver.state
        usable = [
            each.name
            for each, per in zip(state.policy.uplinks, state.per, strict=True)
            if per.linked and per.health in USABLE
        ]
        if usable == [uplink]:
            detail = (
                f"{uplink} is the only uplink that works: the site would be cut off"
            )
            return because("order.impossible", detail=detail)
        try:
            self._modems.find(self._config.devices[uplink])
        except ModemError as error:
            return because("order.impossible", detail=f"{uplink}: {error}")
        return None

    async def _reboot(self, uplink: UplinkName) -> Done:
        device = self._config.devices[uplink]
        try:
            await self._modems.restart(self._modems.find(device))
        except ModemError as error:
            return Done(False, str(error))
        began = self._clock.now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MODEM_S):
                while not self._present(device):  # noqa: ASYNC110 - what is asked is the routes' picture of the kernel
                    await asyncio.sleep(POLL_S)
        took_s = self._clock.now() - began
        if not self._present(device):
            detail = f"{device} has no address and gateway again after {took_s:.0f} s"
            return Done(False, detail)
        return Done(True, f"{device} is back after {took_s:.0f} s")

    # apply-configuration

    def _configuration_refusal(self, toml: str) -> str | None:
        if self._proving.order is not None:
            return "another configuration is on trial"
        if self._proving.is_in_force(toml):
            return "this is the configuration in force already"
        try:
            new = self._proving.check(toml)
        except JagaError as error:
            return str(error)
        old = self._config
        fixed = {
            "site.id": (old.site.id, new.site.id),
            "site.region": (old.site.region, new.site.region),
            # What was applied, and the counters of orders, are found by these.
            "state.directory": (old.state.directory, new.state.directory),
            "state.socket": (old.state.socket, new.state.socket),
            # Or no order could ever mend it.
            "commands": (old.commands, new.commands),
        }
        for key, (was, would_be) in fixed.items():
            if was != would_be:
                return f"{key} may not be changed from afar"
        return None

    async def _apply(self, asked: Asked, toml: str) -> Done:
        try:
            await self._proving.propose(asked.id.hex(), toml)
        except KeptError as error:
            return Done(False, str(error))
        return Done(True, "", pending=True)


def _awaited(state: State, volley: set[int]) -> list[Probe]:
    return [p for p in state.outstanding if p.probe_id in volley and not p.overdue]
