"""The time that is held, kept over a restart of the agent within one boot of the kernel.

A small file in RAM (/run/jaga), written whole and then put in place. UTC minus
CLOCK_BOOTTIME is true within one boot only, so the kernel's boot id is in it. Decides
nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

import msgspec

from jaga_agent.core.timekeeping import Held
from jaga_agent.errors import ClockError

FILE_NAME: Final = "clock.json"
"""Beside the agent's socket."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class _File(msgspec.Struct, frozen=True):
    boot: str
    held: Held


_DECODER = msgspec.json.Decoder(_File)


class FileKeptTime:
    """`ports.KeptTime` on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, socket: Path) -> Self:
        """Return the one in the directory of the agent's socket, which is in RAM."""
        return cls(socket.with_name(FILE_NAME))

    def load(self) -> Held | None:
        """Return what was held in this boot, if anything; raises ClockError."""
        try:
            kept = _DECODER.decode(self._path.read_bytes())
            return kept.held if kept.boot == _boot() else None
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"{self._path}: cannot be read: {error.strerror}"
            raise ClockError(msg) from error
        except msgspec.DecodeError as error:
            msg = f"{self._path}: not a kept time ({error}); it will be written anew"
            raise ClockError(msg) from error

    def save(self, held: Held) -> None:
        """Keep it; raises ClockError."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            fresh.write_bytes(msgspec.json.encode(_File(_boot(), held)))
            fresh.replace(self._path)
        except OSError as error:
            msg = f"{self._path}: cannot be written: {error.strerror}"
            raise ClockError(msg) from error


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
