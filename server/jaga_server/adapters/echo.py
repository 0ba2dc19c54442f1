"""The reflector's UDP socket, on the event loop. Decides nothing (`ingest.reflector`).

Its own socket rather than asyncio's transport, because that knows neither the kernel's
receive stamp (the time a request waits for a busy loop must not look like the network's)
nor which of the host's addresses was asked (the answer must come from the same).
"""

from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING, Final

from jaga_server.adapters import clock
from jaga_server.errors import EchoError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from jaga_agent.wire.echo import SiteState
    from jaga_server.ingest.reflector import Reflector

log = logging.getLogger(__name__)

# linux/in.h, asm-generic/socket.h: not in Python's socket module (IP_PKTINFO from 3.14).
IP_PKTINFO: Final = 8
SO_TIMESTAMPNS_NEW: Final = 64

RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""More than a second of a whole district's probes while the loop is busy."""
BATCH: Final = 64
"""Datagrams handled at one wakeup; then the page gets its turn."""
CLOCK_EVERY_S: Final = 16.0
"""How often the clock's own error is read."""

_TIMESPEC = struct.Struct("=qq")
# struct in_pktinfo: interface index, local address, destination address.
_PKTINFO = struct.Struct("=i4s4s")
_RECEIVE_BYTES = 64


class EchoServer:
    """Answers requests from `open` until `close`."""

    def __init__(
        self,
        reflector: Reflector,
        on_state: Callable[[str, SiteState, int, int], None],
    ) -> None:
        """`on_state(site, state, place, arrival_ms)`: a last-resort heartbeat came."""
        self._reflector = reflector
        self._on_state = on_state
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error = clock.error()
        self._error_until_s = clock.monotonic_s() + CLOCK_EVERY_S

    def bind(self, listen: str, port: int) -> None:
        """Take the port; raises EchoError."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.setblocking(False)
            sock.bind((listen, port))
        except OSError as error:
            sock.close()
            message = (
                f"echo {listen}:{port}/udp: {error.strerror}; choose another [echo]"
                " listen or port, or stop what has it"
            )
            raise EchoError(message) from error
        self._sock = sock

    @property
    def address(self) -> tuple[str, int]:
        """Return where it listens; only between `bind` and `close`."""
        if self._sock is None:
            message = "the reflector has no socket"
            raise EchoError(message)
        name: tuple[str, int] = self._sock.getsockname()
        return name

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer."""
        if self._sock is not None:
            self._loop = loop
            loop.add_reader(self._sock, self._readable, self._sock)

    def close(self) -> None:
        """Answer no more."""
        if self._sock is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._sock)
        self._sock.close()
        self._sock = None

    def _readable(self, sock: socket.socket) -> None:
        now_s = clock.monotonic_s()
        if now_s >= self._error_until_s:
            self._error = clock.error()
            self._error_until_s = now_s + CLOCK_EVERY_S
        for _ in range(BATCH):
            try:
                datagram, ancillary, _, source = sock.recvmsg(_RECEIVE_BYTES, 128)
            except BlockingIOError:
                return
            except OSError as error:
                # An ICMP error about an earlier answer; that client's affair.
                log.debug("echo socket: %s", error)
                continue
            self._reflect(sock, datagram, ancillary, source, now_s)

    def _reflect(
        self,
        sock: socket.socket,
        datagram: bytes,
        ancillary: list[tuple[int, int, bytes]],
        source: tuple[str, int],
        now_s: float,
    ) -> None:
        taken = self._reflector.take(datagram, now_s)
        if taken is None:
            return
        stamp_ns, local = _read(ancillary)
        wall_ns = clock.wall_ns()
        receive_ns = wall_ns if stamp_ns is None else stamp_ns
        answer = taken.answer(
            receive_ns=receive_ns,
            hold_ns=wall_ns - receive_ns,
            error_s=self._error.error_s,
            synchronised=self._error.synchronised,
        )
        try:
            sock.sendmsg([answer], local, 0, source)
        except OSError as error:
            self._reflector.counters.unanswered += 1
            log.debug("echo not answered to=%s reason=%s", source[0], error)
        state = taken.request.state
        if state is not None and taken.received is not None:
            self._on_state(
                taken.site, state, taken.request.place, receive_ns // 1_000_000
            )


def _read(
    ancillary: list[tuple[int, int, bytes]],
) -> tuple[int | None, list[tuple[int, int, bytes]]]:
    """Return the kernel's receive stamp, and what makes the answer's source address."""
    stamp_ns: int | None = None
    local: list[tuple[int, int, bytes]] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS_NEW:
            seconds, nanoseconds = _TIMESPEC.unpack_from(content)
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
        elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, address, _ = _PKTINFO.unpack_from(content)
            packed = _PKTINFO.pack(0, address, bytes(4))
            local.append((socket.IPPROTO_IP, IP_PKTINFO, packed))
    return stamp_ns, local
