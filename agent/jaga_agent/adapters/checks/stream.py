"""One TCP connection through one device: timed, bounded, its bytes counted.

How many IP bytes it took is the kernel's count (TCP_INFO) of segments and payload both
ways, retransmissions included, with 20 bytes of IP and 20 of TCP header for each
segment, 12 more where both sides use timestamps (RFC 7323), and 60 bytes for a SYN
(maximum segment size, SACK permitted, timestamps, window scale).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Self, TypeVar

from jaga_agent.adapters.checks import bound
from jaga_agent.adapters.checks.outcome import CheckFailure
from jaga_agent.core.events import CheckVerdict

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from jaga_agent.adapters.checks.outcome import Measure, Phase

T = TypeVar("T")

RECEIVE_BYTES: Final = 4096

# struct tcp_info (linux/tcp.h): the kernel only ever adds at its end.
_TCP_INFO_BYTES = 232
_STATE = struct.Struct("=B")
_OPTIONS = struct.Struct("=B")
_RECEIVED = struct.Struct("=Q")
_SEGMENTS = struct.Struct("=II")
_SENT = struct.Struct("=Q")
_STATE_AT, _OPTIONS_AT, _RECEIVED_AT, _SEGMENTS_AT, _SENT_AT = 0, 5, 128, 136, 200
_TIMESTAMPS = 1
_HEADERS = 40
_TIMESTAMPS_BYTES = 12
_SYN_BYTES = 60
_CONNECTED = frozenset({1, 4, 5, 8})
"""States in which an abort sends a reset: established, FIN wait 1 and 2, close wait."""

# So that it cannot leave what it did not ask for to be paid: a server fills the window
# whether or not we read on. The kernel doubles the value for its own book-keeping.
_SMALL_WINDOW_BYTES = 4096


class Stream:
    """Use as a context: leaving it closes the socket and adds its bytes up."""

    def __init__(self, measure: Measure, *, small_window: bool = False) -> None:
        """Open the socket; raises CheckFailure when the device cannot be used."""
        self._measure = measure
        self._loop = asyncio.get_running_loop()
        self._sock = bound.open_socket(measure.device, socket.SOCK_STREAM)
        if small_window:
            self._sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW_BYTES
            )
        self._connected = False
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._finished:
            # A FIN would be sent again for minutes on a path that is dead.
            self._sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._measure.wire_bytes += self._wire_bytes()
        self._sock.close()

    async def connect(self, address: str, port: int, phase: Phase) -> None:
        """Connect; raises CheckFailure."""
        bound.connect_now(self._sock, address, port)
        await self._within(self._writable(), phase)
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            error = OSError(code, os.strerror(code))
            raise bound.failure(self._sock, self._measure.device, error)
        self._connected = True

    async def send(self, content: bytes, phase: Phase) -> None:
        """Send all; raises CheckFailure."""
        await self._within(self._loop.sock_sendall(self._sock, content), phase)

    async def receive(self, phase: Phase) -> bytes:
        """Return what came, b"" at the end of the stream; raises CheckFailure."""
        return await self._within(
            self._loop.sock_recv(self._sock, RECEIVE_BYTES), phase
        )

    async def finish(self, cap_s: float, last: bytes = b"") -> None:
        """End politely: what is known is known, so nothing here is a failure."""
        try:
            async with asyncio.timeout(cap_s):
                if last:
                    await self._loop.sock_sendall(self._sock, last)
                self._sock.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(self._sock, RECEIVE_BYTES):
                    pass
        except OSError:
            # Also a timeout: the other side may keep its half open, or reset it.
            return
        self._finished = True

    async def _within(self, work: Awaitable[T], phase: Phase) -> T:
        try:
            async with asyncio.timeout_at(phase.end):
                return await work
        except OSError as error:
            if not isinstance(error, TimeoutError):
                raise bound.failure(self._sock, self._measure.device, error) from error
            detail = f"no answer to {phase.what} in {phase.cap_s:g} s"
            raise CheckFailure(CheckVerdict.TIMEOUT, detail) from error

    async def _writable(self) -> None:
        done = self._loop.create_future()

        def ready() -> None:
            if not done.done():
                done.set_result(None)

        self._loop.add_writer(self._sock, ready)
        try:
            await done
        finally:
            self._loop.remove_writer(self._sock)

    def _wire_bytes(self) -> int:
        known = self._sock.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES
        )
        (state,) = _STATE.unpack_from(known, _STATE_AT)
        (options,) = _OPTIONS.unpack_from(known, _OPTIONS_AT)
        (received,) = _RECEIVED.unpack_from(known, _RECEIVED_AT)
        segments_out, segments_in = _SEGMENTS.unpack_from(known, _SEGMENTS_AT)
        (sent,) = _SENT.unpack_from(known, _SENT_AT)
        if not self._finished and state in _CONNECTED:
            # The reset that closing sends.
            segments_out += 1
        header = _HEADERS + (_TIMESTAMPS_BYTES if options & _TIMESTAMPS else 0)
        syns = 2 if self._connected else segments_out
        headers = (segments_out + segments_in) * header
        return int(sent + received + headers + syns * (_SYN_BYTES - header))
