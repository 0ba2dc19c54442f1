"""One ICMP socket of one device, and what comes out of it. Sends and decides nothing.

icmplib builds and parses the packets; the kernel's stamps and its error queue, which
icmplib does not know, are `device_socket`'s.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from typing import Final

from icmplib.exceptions import ICMPLibError
from icmplib.sockets import ICMPv4Socket

from jaga_agent.device_socket import bind_to_device, tell_stamps_and_errors

# linux/icmp.h: not in Python's socket module.
SOL_RAW: Final = 255
ICMP_FILTER: Final = 1

ICMP_HEADER_BYTES: Final = 8
_ECHO_REPLY = 0
_IP_HEADER_BYTES = 20


class EchoSocket(ICMPv4Socket):  # type: ignore[misc]  # icmplib is not typed
    """icmplib's socket, bound to a device (None: not bound), and its packets."""

    def __init__(self, device: str | None, *, privileged: bool) -> None:
        self._device = device
        super().__init__(privileged=privileged)

    def _create_socket(self, type: int) -> socket.socket:  # noqa: A002 (icmplib's name)
        sock: socket.socket = super()._create_socket(type)
        try:
            if self._device is not None:
                bind_to_device(sock, self._device)
            tell_stamps_and_errors(sock)
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
