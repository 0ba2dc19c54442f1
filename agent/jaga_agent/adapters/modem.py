"""USB modems by sysfs: the device behind a network device, and how it begins anew.

Writing 0 and then 1 into a USB device's `authorized` has the kernel forget it and find
it again, as if it were plugged in anew. Decides nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from jaga_agent.errors import ModemError

SYS: Final = Path("/sys")
OFF_S: Final = 2.0
"""How long it is away: a HiLink stick needs a second to see that the host has gone."""


class UsbModems:
    """`ports.Modems` by sysfs."""

    def __init__(self, sys: Path = SYS, *, off_s: float = OFF_S) -> None:
        self._sys = sys
        self._off_s = off_s

    def find(self, device: str) -> Path:
        """Return the USB device behind a network device.

        Raises:
            ModemError: there is none, with what there is instead.

        """
        at = self._sys / "class" / "net" / device
        if not at.exists():
            msg = f"device {device} does not exist: is its modem plugged in?"
            raise ModemError(msg)
        behind = at / "device"
        if not behind.exists():
            msg = f"{device} is no USB device, but made by software"
            raise ModemError(msg)
        place = behind.resolve()
        for part in (place, *place.parents):
            # An interface of a USB device has `authorized` too, but no vendor.
            if (part / "idVendor").is_file() and (part / "authorized").is_file():
                return part
        msg = f"{device} is no USB device, but {_bus(behind)}"
        raise ModemError(msg)

    async def restart(self, usb: Path) -> None:
        """Take a USB device away and give it back; takes seconds.

        Raises:
            ModemError: the kernel did not let us.

        """
        switch = usb / "authorized"
        await asyncio.to_thread(_write, switch, "0")
        try:
            await asyncio.sleep(self._off_s)
        finally:
            # Also when cancelled: the modem must not stay away.
            _write(switch, "1")


def _bus(behind: Path) -> str:
    subsystem = behind / "subsystem"
    return f"on {subsystem.resolve().name}" if subsystem.exists() else "something else"


def _write(switch: Path, value: str) -> None:
    try:
        switch.write_text(value, encoding="ascii")
    except PermissionError as error:
        msg = (
            f"no permission to write {switch}: install deploy/udev/60-jaga-modem.rules,"
            " then plug the modem in anew"
        )
        raise ModemError(msg) from error
    except OSError as error:
        msg = f"{switch}: {error.strerror}"
        raise ModemError(msg) from error
