"""Kernel settings below /proc/sys of the current network namespace. Decides nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from jaga_agent.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADVICE = {
    errno.EACCES: "no permission: run as root or by the systemd unit",
    errno.EPERM: "no permission: run as root or by the systemd unit",
    errno.EROFS: "/proc/sys is read-only here: the systemd unit needs "
    "ProtectKernelTunables=no",
}


class ProcSettings:
    """`ports.KernelSettings` on /proc/sys."""

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def ensure(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        """Write what differs, in the order given.

        A setting that does not exist is passed over: its device or kernel module is
        not there (any more), and the next call finds it when it is.

        Raises:
            SettingError: the kernel refused.

        """
        changed = []
        for name, value in settings.items():
            path = self._root / name
            try:
                old = path.read_text(encoding="utf-8").strip()
                if old != value:
                    path.write_text(value, encoding="utf-8")
                    changed.append(f"{name}: {old} -> {value}")
            except FileNotFoundError:
                continue
            except OSError as error:
                code = error.errno or 0
                advice = _ADVICE.get(code, error.strerror)
                msg = f"cannot set {name} to {value}: {advice}"
                raise SettingError(msg) from error
        return tuple(changed)
