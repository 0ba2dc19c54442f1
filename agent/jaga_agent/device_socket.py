"""Sockets bound to one device each: how they are opened, kept, and what they tell.

What the probers share: the bind, the kernel's stamps, its error queue, and a socket that
is opened anew when the device is another one now. Sends and decides nothing.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

# linux/in.h, asm-generic/socket.h: not in Python's socket module.
IP_RECVERR: Final = 11
SO_TIMESTAMPNS_NEW: Final = 64

# linux/sockios.h, linux/if.h.
SIOCGIFFLAGS: Final = 0x8913
IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40

DEVICE_GONE: Final = (errno.ENODEV, errno.ENXIO)
"""What the kernel says of a device that does not exist (any more)."""

# struct __kernel_timespec, on 32-bit kernels as well.
_TIMESPEC = struct.Struct("=qq")
# struct sock_extended_err (linux/errqueue.h).
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_FROM_ICMP = 2

# ICMP types that say the path does not work (RFC 792): destination unreachable, time
# exceeded, parameter problem. "Fragmentation needed" cannot be meant for a probe's size.
_REFUSALS = {3: "unreachable", 11: "time exceeded", 12: "parameter problem"}
_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}


def bind_to_device(sock: socket.socket, device: str) -> None:
    """Let the socket use this device only; raises OSError.

    The first bind of a socket needs no capability (Linux 5.7).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")


def tell_stamps_and_errors(sock: socket.socket) -> None:
    """Let the kernel stamp what comes in, and keep ICMP errors in the error queue."""
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)


def missing(sock: socket.socket, device: str) -> str | None:
    """Return why the device carries nothing now, or None; raises OSError."""
    request = struct.pack("16sH14x", device.encode(), 0)
    answer = fcntl.ioctl(sock, SIOCGIFFLAGS, request)
    (flags,) = struct.unpack_from("H", answer, 16)
    if not flags & IFF_UP:
        return f"{device} is down"
    # IFF_RUNNING follows a lost carrier within a second; until then the device's
    # queue refuses (ENOBUFS, because of IP_RECVERR), which is not sent as well.
    return None if flags & IFF_RUNNING else f"{device} has no carrier"


def kernel_stamp_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Return when the kernel received the packet, by CLOCK_REALTIME."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS_NEW:
            seconds, nanoseconds = _TIMESPEC.unpack_from(content)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def refusal(ancillary: Iterable[tuple[int, int, bytes]]) -> str | None:
    """Return what an ICMP error says and who says it; None for any other error."""
    for level, kind, content in ancillary:
        if level != socket.IPPROTO_IP or kind != IP_RECVERR:
            continue
        _, origin, icmp_type, code, _, _ = _EXTENDED_ERROR.unpack_from(content)
        if origin != _FROM_ICMP or icmp_type not in _REFUSALS:
            continue
        said = _REFUSALS[icmp_type]
        if icmp_type == 3:
            said = _UNREACHABLE.get(code, said)
        # The router's sockaddr_in follows: family, port, address.
        router = socket.inet_ntoa(content[_EXTENDED_ERROR.size + 4 :][:4])
        return f"{said} (ICMP {icmp_type}/{code} from {router})"
    return None


def said(error: OSError, device: str) -> str:
    """Return why a device's socket could not be used, for people."""
    if error.errno in DEVICE_GONE:
        return f"{device} is gone"
    return f"{device}: {(error.strerror or str(error)).lower()}"


class DeviceSocket(Protocol):
    """What is kept for one device."""

    @property
    def device(self) -> str: ...
    @property
    def index(self) -> int:
        """The device's ifindex when it was opened."""
        ...

    @property
    def sock(self) -> socket.socket: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=DeviceSocket)


class DeviceSockets(Generic[S]):
    """One socket for each device, read by the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[str], S],
        readable: Callable[[S], None],
    ) -> None:
        """`readable` is called by the loop; it may raise OSError: of no more use."""
        self._loop = loop
        self._make = make
        self._on_readable = readable
        self._open: dict[str, S] = {}

    def __contains__(self, device: str) -> bool:
        return device in self._open

    def of(self, device: str) -> S:
        """Return the device's socket, a new one if the device is another one now.

        Raises OSError.
        """
        known = self._open.get(device)
        if known is not None:
            try:
                if socket.if_nametoindex(device) == known.index:
                    return known
            except OSError:
                self.drop(device)
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
            _log.info("device %s came back as another one: new probe socket", device)
            self.drop(device)
        try:
            made = self._make(device)
        except OSError as error:
            # if_nametoindex knows no errno for a name that does not exist.
            if error.errno is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
            raise
        self._open[device] = made
        self._loop.add_reader(made.sock, self._readable, made)
        return made

    def drop(self, device: str) -> None:
        """Close the device's socket."""
        one = self._open.pop(device)
        self._loop.remove_reader(one.sock)
        one.close()

    def close(self) -> None:
        """Close them all."""
        for device in list(self._open):
            self.drop(device)

    def _readable(self, one: S) -> None:
        try:
            self._on_readable(one)
        except OSError as error:
            # The socket is of no more use, e.g. its device was removed. The next send
            # opens another one, or says why it cannot.
            _log.debug("probe socket of %s closed: %s", one.device, error)
            if self._open.get(one.device) is one:
                self.drop(one.device)
