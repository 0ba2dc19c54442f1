"""One ICMP socket of one device, and what comes out of it. Sends and decides nothing.

icmplib builds and parses the packets; the kernel's stamps and its error queue, which
icmplib does not know, are read here.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from typing import TYPE_CHECKING, Final

from icmplib.exceptions import ICMPLibError
from icmplib.sockets import ICMPv4Socket

if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/in.h, linux/icmp.h, asm-generic/socket.h: not in Python's socket module.
IP_RECVERR: Final = 11
SOL_RAW: Final = 255
ICMP_FILTER: Final = 1
SO_TIMESTAMPNS_NEW: Final = 64

ICMP_HEADER_BYTES: Final = 8
_ECHO_REPLY = 0
_IP_HEADER_BYTES = 20

# struct __kernel_timespec, on 32-bit kernels as well.
_TIMESPEC = struct.Struct("=qq")
# struct sock_extended_err (linux/errqueue.h).
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_FROM_ICMP = 2

# ICMP types that say the path does not work (RFC 792): destination unreachable, time
# exceeded, parameter problem. "Fragmentation needed" cannot be meant for 32 bytes.
_REFUSALS = {3: "unreachable", 11: "time exceeded", 12: "parameter problem"}
_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}


class EchoSocket(ICMPv4Socket):  # type: ignore[misc]  # icmplib is not typed
    """icmplib's socket, bound to a device (None: not bound), and its packets."""

    def __init__(self, device: str | None, *, privileged: bool) -> None:
        self._device = device
        super().__init__(privileged=privileged)

    def _create_socket(self, type: int) -> socket.socket:  # noqa: A002 (icmplib's name)
        sock: socket.socket = super()._create_socket(type)
        try:
            if self._device is not None:
                # The first bind of a socket needs no capability (Linux 5.7).
                sock.setsockopt(
                    socket.SOL_SOCKET,
                    socket.SO_BINDTODEVICE,
                    self._device.encode() + b"\0",
                )
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            if type == socket.SOCK_RAW:
                # A raw socket hears all ICMP of the host: let echo replies in alone.
                sock.setsockopt(
                    SOL_RAW,
                    ICMP_FILTER,
                    struct.pack("=I", ~(1 << _ECHO_REPLY) & 2**32 - 1),
                )
            else:
                # Makes the kernel choose the identifier now.
                sock.bind(("0.0.0.0", 0))  # noqa: S104 (an echo identifier, no port)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def identifier(self) -> int:
        """Return the echo identifier: a ping socket's is the kernel's choice."""
        if self._privileged:
            return secrets.randbelow(0x10000)
        name: tuple[str, int] = self._sock.getsockname()
        return name[1]

    def request(self, identifier: int, sequence: int, payload: bytes) -> bytes:
        """Return an echo request, ICMP header and payload."""
        packet: bytes = self._create_packet(identifier, sequence, payload)
        return packet

    def reply(self, packet: bytes, source: str) -> tuple[int, int] | None:
        """Return (identifier, sequence) if the packet is an echo reply."""
        parsed = self._parse_reply(packet, source, 0.0)
        if parsed is None or parsed.type != _ECHO_REPLY:
            return None
        return parsed.id, parsed.sequence

    @property
    def header_bytes(self) -> int:
        """What precedes the payload in a received packet."""
        return ICMP_HEADER_BYTES + (_IP_HEADER_BYTES if self._privileged else 0)


def open_socket(device: str | None) -> EchoSocket:
    """Return a ping socket, or a raw one where those are not allowed; raises OSError."""
    try:
        return _create(device, privileged=False)
    except PermissionError:
        return _create(device, privileged=True)


def _create(device: str | None, *, privileged: bool) -> EchoSocket:
    try:
        return EchoSocket(device, privileged=privileged)
    except ICMPLibError as error:
        # icmplib turns errors into text; the errno is in what it was handling.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(errno.EIO, str(error)) from error


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
