"""Tells the service manager READY, WATCHDOG and STOPPING (sd_notify(3)).

Without systemd (no NOTIFY_SOCKET) every call does nothing. Decides nothing.
"""

from __future__ import annotations

import logging
import socket

log = logging.getLogger(__name__)


class ServiceManager:
    """The datagram socket that systemd names in NOTIFY_SOCKET."""

    def __init__(self, address: str | None, watchdog_usec: str = "") -> None:
        # "@" stands for the NUL of Linux's abstract namespace.
        self._address = address and (
            "\0" + address[1:] if address.startswith("@") else address
        )
        usec = int(watchdog_usec) if watchdog_usec.isdigit() else 0
        self.watchdog_s: float | None = usec / 1e6 if usec else None
        """How often systemd wants to hear WATCHDOG=1 at least; None: never."""

    def tell(self, state: str) -> None:
        """Send e.g. "READY=1". A manager that is not there is logged, never raised."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            log.warning("service manager unreachable reason=%s", error)
