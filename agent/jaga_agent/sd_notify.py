"""Tell the service manager how we are: the sd_notify(3) protocol, without a library.

Does nothing where there is no service manager ($NOTIFY_SOCKET unset). Stands alone:
both programs use it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class NotifyError(Exception):
    """The service manager's notification socket refused a message."""


class ServiceNotifier:
    """Sends states to $NOTIFY_SOCKET; `status` is the line `systemctl status` shows.

    Every call raises NotifyError if refused.
    """

    watchdog_s: float | None
    """The service manager kills us if `watchdog` is silent for this long; None: no."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            msg = (
                f"NOTIFY_SOCKET={address!r} is neither a path nor an abstract socket;"
                " start this from its systemd unit, or unset it"
            )
            raise NotifyError(msg)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            )
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str = "") -> None:
        """Say that start-up is complete."""
        self._send("READY=1", status)

    def watchdog(self, status: str = "") -> None:
        """Say that we are alive: at least twice in each `watchdog_s`."""
        self._send("WATCHDOG=1", status)

    def stopping(self, status: str = "") -> None:
        """Say that the shutdown has begun."""
        self._send("STOPPING=1", status)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, assignment: str, status: str) -> None:
        if self._socket is None:
            return
        lines = [assignment]
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            msg = f"the service manager did not take {assignment!r}: {error.strerror}"
            raise NotifyError(msg) from error


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    # sd_watchdog_enabled(3): WATCHDOG_PID, if set, names whom the interval is for.
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 1e6
