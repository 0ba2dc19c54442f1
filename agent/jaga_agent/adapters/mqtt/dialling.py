"""The way to the broker: names, addresses and sockets of one connection.

Used on the connection's thread, where it may block; `give_up` ends it from any other.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jaga_agent.adapters.mqtt.settings import Settings

_log = logging.getLogger(__name__)

_HARD_CLOSE: Final = struct.pack("ii", 1, 0)


class Dialling:
    """Opens sockets to the broker, one after the other; keeps a hand on the last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        # A second descriptor of the thread's socket, to end it by.
        self._handle: socket.socket | None = None
        self._given_up = False

    def dial(self) -> socket.socket:
        """Return a connected socket; raises OSError."""
        settings = self._settings
        if settings.transport == "unix":
            return self._connect(socket.AF_UNIX, settings.host)
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )
        # Uplinks are IPv4: an address of the other family only if there is no other.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, _, _, _, address in found:
            try:
                return self._connect(family, address)
            except OSError as error:
                failure = error
        raise failure

    def give_up(self) -> None:
        """End the socket now, wherever its thread hangs, and open none any more."""
        with self._lock:
            self._given_up = True
            if self._handle is None:
                return
            try:
                # Nothing is to be sent any more, not even what the kernel still holds.
                self._handle.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _HARD_CLOSE
                )
                # Wakes the thread from connect, from the handshake or from select.
                self._handle.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _log.debug("the socket was closed already: %s", error)

    def close(self) -> None:
        """Let go of the socket, which its thread has closed."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def _connect(self, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family != socket.AF_UNIX:
                timeout_ms = round(self._settings.unacknowledged_s * 1000)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(sock)
            sock.settimeout(self._settings.connect_timeout_s)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _watch(self, sock: socket.socket) -> None:
        with self._lock:
            if self._given_up:
                raise OSError(errno.ECANCELED, "given up")
            if self._handle is not None:
                self._handle.close()
            self._handle = sock.dup()
