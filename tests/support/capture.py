"""Counts what goes over this machine's loopback, from captured packets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

ETH_P_IP = 0x0800
ETHERNET_BYTES = 14
TCP = 6


class Capture:
    """IP bytes to and from one TCP port of loopback, by direction; `with` ends it.

    Needs root. A tap for one protocol sees what comes in, and on loopback everything
    does, once.
    """

    def __init__(self, port: int, *, but: int) -> None:
        """Leave the connections from the port `but` out: the other side's client."""
        self._port, self._but = port, but
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP)
        )
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.settimeout(0.1)
        self._ending = threading.Event()
        self.to_port = self.from_port = self.packets = 0
        self._thread = threading.Thread(target=self._run)

    @property
    def total(self) -> int:
        return self.to_port + self.from_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                self._count(self._socket.recv(65_535)[ETHERNET_BYTES:])

    def _count(self, packet: bytes) -> None:
        if packet[9] != TCP:
            return
        header = (packet[0] & 15) * 4
        source, target = struct.unpack_from("!HH", packet, header)
        # Not len(): a checksum left to the device may pad nothing, but be exact.
        (length,) = struct.unpack_from("!H", packet, 2)
        if self._but in (source, target):
            return
        if target == self._port:
            self.to_port += length
        elif source == self._port:
            self.from_port += length
        else:
            return
        self.packets += 1
