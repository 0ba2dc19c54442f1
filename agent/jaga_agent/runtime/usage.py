"""What each uplink has carried in its quota period: counted always, kept seldom.

Kept every five minutes and at the end: an SD card wears, so a power cut may cost the
count of the minutes since. That is told (`power_losses`), never hidden.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.config import quota_since_ms
from jaga_agent.core import usage
from jaga_agent.core.events import UsageSeen
from jaga_agent.core.model import UplinkName
from jaga_agent.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jaga_agent.config import Config
    from jaga_agent.ports import Device
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.driver import Driver
    from jaga_agent.runtime.troubles import Troubles

KEEP_S: Final = 300.0


class Usages:
    """Each uplink's count; used on the event loop only."""

    def __init__(
        self, config: Config, *, doors: Doors, driver: Driver, troubles: Troubles
    ) -> None:
        self._config = config
        self._ledger = doors.ledger
        self._clock = doors.clock
        self._driver = driver
        self._troubles = troubles
        self._of: dict[UplinkName, usage.Usage] = {}
        self._others: dict[str, usage.Usage] = {}
        """Uplinks that the configuration does not name now: kept, they may come back."""
        self._may_keep = False

    def begin(self) -> None:
        """Take up the count where it was left."""
        kept: dict[str, usage.Usage] = {}
        try:
            found, clean = self._ledger.load()
            self._may_keep = True
        except LedgerError as error:
            self._troubles.tell("usage", str(error))
        else:
            boot = self._ledger.boot
            kept = {
                n: of if clean else usage.cut_off(of, boot) for n, of in found.items()
            }
        now_ms = self._clock.wall_ms()
        for uplink in self._config.uplink:
            fresh = usage.Usage(since_ms=now_ms)
            self._of[UplinkName(uplink.name)] = kept.pop(uplink.name, fresh)
        self._others = kept
        self._renew()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does."""
        return [self._keep_regularly()]

    def carried(self, uplink: UplinkName, device: Device) -> None:
        """Count what a device shows now."""
        self._of[uplink] = usage.after(
            self._of[uplink],
            usage.Reading(
                boot=self._ledger.boot,
                index=device.index,
                rx_bytes=device.counters.rx_bytes,
                tx_bytes=device.counters.tx_bytes,
            ),
        )

    def feed(self) -> None:
        """Tell the core how much each uplink has carried."""
        self._renew()
        for name, of in self._of.items():
            self._driver.feed(UsageSeen(name, of.used_bytes))

    def reset(self, uplink: str, used_bytes: int) -> None:
        """Begin a new period now.

        Raises:
            ConfigError: no uplink has that name.
            LedgerError: it could not be kept; it is counted from here all the same.

        """
        name = UplinkName(uplink)
        if name not in self._of:
            msg = f"no uplink is named {uplink!r}; there are: {', '.join(self._of)}"
            raise ConfigError(msg)
        self._of[name] = usage.reset(self._of[name], self._clock.wall_ms(), used_bytes)
        self._ledger.save(self._all(), clean=False)
        self._may_keep = True
        self._troubles.over("usage")
        self._driver.feed(UsageSeen(name, used_bytes))

    def snapshot(self) -> dict[str, usage.Usage]:
        """Return each configured uplink's count, by name."""
        return {str(name): of for name, of in self._of.items()}

    def close(self) -> None:
        """Keep the count for the last time."""
        if not self._may_keep:
            return
        try:
            self._ledger.save(self._all(), clean=True)
        except LedgerError as error:
            self._troubles.tell("usage", str(error))

    async def _keep_regularly(self) -> None:
        while True:
            # At once: a run that was cut off must be known as such to the next.
            await self._keep()
            await asyncio.sleep(KEEP_S)

    async def _keep(self) -> None:
        if not self._may_keep:
            return
        try:
            # A card may take a second to sync, and the site must be watched meanwhile.
            await asyncio.to_thread(self._ledger.save, self._all(), clean=False)
        except LedgerError as error:
            self._troubles.tell("usage", str(error))
        else:
            self._troubles.over("usage")

    def _all(self) -> dict[str, usage.Usage]:
        return self._others | self.snapshot()

    def _renew(self) -> None:
        if self._clock.age_s() < 0:
            return  # A clock that nobody confirmed begins no period.
        now_ms = self._clock.wall_ms()
        for uplink in self._config.uplink:
            name = UplinkName(uplink.name)
            since_ms = quota_since_ms(uplink)
            self._of[name] = usage.renewed(self._of[name], since_ms, now_ms)
