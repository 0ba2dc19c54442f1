"""The bytes carried in the quota period, kept in one small file. Decides nothing.

Written whole, synced, then put in place: a power cut leaves the old count or the new
one. How often is the caller's affair (an SD card wears).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_agent import whole_file
from jaga_agent.core.usage import Usage
from jaga_agent.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME: Final = "usage.json"
"""In the state directory."""


class _File(msgspec.Struct, frozen=True):
    clean: bool
    """Kept by an agent that ended: nothing was carried uncounted until then."""
    uplinks: dict[str, Usage]


_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_DECODER = msgspec.json.Decoder(_File)


class FileLedger:
    """`ports.Ledger` on a file."""

    def __init__(self, path: Path) -> None:
        """Keep the count at `path`; raises LedgerError."""
        self._path = path
        # The last save, at the end, may come while one in a thread still syncs.
        self._lock = threading.Lock()
        try:
            self.boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError as error:
            msg = f"{_BOOT_ID}: {error.strerror}; is /proc mounted?"
            raise LedgerError(msg) from error

    def load(self) -> tuple[Mapping[str, Usage], bool]:
        """Return what was kept, by uplink, and whether by an agent that ended cleanly.

        Raises:
            LedgerError: the file cannot be read, or is none of ours.

        """
        try:
            kept = _DECODER.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}, True
        except OSError as error:
            msg = f"{self._path}: cannot be read: {error.strerror}"
            raise LedgerError(msg) from error
        except msgspec.DecodeError as error:
            msg = (
                f"{self._path}: not a count of bytes ({error}); remove it, then tell "
                "what is used up: jaga-agent quota reset UPLINK --used-mb N"
            )
            raise LedgerError(msg) from error
        return kept.uplinks, kept.clean

    def save(self, usages: Mapping[str, Usage], *, clean: bool) -> None:
        """Keep these; raises LedgerError. Takes as long as the card takes to sync."""
        content = msgspec.json.encode(_File(clean, dict(usages)))
        try:
            with self._lock:
                # Of `sudo jaga-agent quota reset` while no agent runs: the agent must be
                # able to read the file when it does.
                whole_file.put(self._path, content, mode=0o666, parents_owner=True)
        except OSError as error:
            msg = f"{self._path}: cannot be written: {error.strerror}"
            raise LedgerError(msg) from error
