"""Sockets bound to one device, and what the kernel says when they fail.

`SO_BINDTODEVICE` needs no capability the first time (Linux 5.7). With `IP_RECVERR` an
ICMP error ends a connection at once (EHOSTUNREACH and the like) instead of after the
kernel's own patience, and the error queue tells which router sent it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Final

from jaga_agent.adapters.checks.outcome import CheckFailure, NotSent
from jaga_agent.core.events import CheckVerdict

# linux/in.h, linux/errqueue.h, linux/sockios.h, linux/if.h.
IP_RECVERR: Final = 11
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_FROM_ICMP = 2
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP = 0x1
_IFF_RUNNING = 0x40

_DEVICE_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENETDOWN})
_UNREACHABLE = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    }
)
"""What the kernel makes of ICMP errors (net/ipv4/icmp.c, icmp_err_convert)."""

_VERDICTS = {
    **dict.fromkeys(_UNREACHABLE, CheckVerdict.UNREACHABLE),
    errno.ECONNREFUSED: CheckVerdict.REFUSED,
    errno.ECONNRESET: CheckVerdict.RESET,
    errno.EPIPE: CheckVerdict.RESET,
    errno.ECONNABORTED: CheckVerdict.RESET,
    errno.ETIMEDOUT: CheckVerdict.TIMEOUT,
}


def open_socket(device: str, kind: socket.SocketKind) -> socket.socket:
    """Return a non-blocking IPv4 socket on the device; raises CheckFailure."""
    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(socket.socket(socket.AF_INET, kind))
        try:
            sock.setblocking(False)
            name = device.encode() + b"\0"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            reason = _idle_reason(sock, device)
        except OSError as error:
            gone = error.errno in _DEVICE_GONE
            reason = f"{device} is gone" if gone else f"{device}: {text(error)}"
        if reason is not None:
            raise NotSent(reason)
        opened.pop_all()
        return sock


def _idle_reason(sock: socket.socket, device: str) -> str | None:
    """Return why the device carries nothing now, or None; raises OSError if gone."""
    request = struct.pack("16sH14x", device.encode(), 0)
    (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
    if not flags & _IFF_UP:
        return f"{device} is down"
    if not flags & _IFF_RUNNING:
        return f"{device} has no carrier"
    try:
        fcntl.ioctl(sock, _SIOCGIFADDR, request)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        # The kernel would send all the same, with another device's address.
        return f"{device} has no IPv4 address"
    return None


def connect_now(sock: socket.socket, address: str, port: int) -> None:
    """Begin to connect (TCP) or fix the peer (UDP); raises CheckFailure.

    What the kernel refuses on the spot was never on the wire. No route is no refusal:
    with the device given, the kernel takes every address for a neighbour and asks ARP.
    """
    code = sock.connect_ex((address, port))
    if code not in {0, errno.EINPROGRESS}:
        detail = f"the kernel would not send: {os.strerror(code).lower()}"
        raise NotSent(detail)


def failure(sock: socket.socket, device: str, error: OSError) -> CheckFailure:
    """Return what an error on a socket means."""
    code = error.errno
    if code in _DEVICE_GONE:
        return NotSent(f"{device} is gone or down")
    said = text(error)
    if code in _UNREACHABLE or code == errno.ECONNREFUSED:
        # A firewall rejects with a TCP reset or with ICMP's "port unreachable".
        router = _icmp_sender(sock)
        if router is not None:
            return CheckFailure(CheckVerdict.UNREACHABLE, f"{said} ({router})")
    verdict = _VERDICTS.get(code or 0)
    return (
        NotSent(f"{device}: {said}")
        if verdict is None
        else (CheckFailure(verdict, said))
    )


def _icmp_sender(sock: socket.socket) -> str | None:
    """Return the ICMP error's kind and sender, if the queue has one."""
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    except OSError:
        # An empty queue: the kernel itself said so (no answer to ARP).
        return None
    for level, kind, content in ancillary:
        if (level, kind) != (socket.IPPROTO_IP, IP_RECVERR):
            continue
        _, origin, icmp_type, code, _, _ = _EXTENDED_ERROR.unpack_from(content)
        if origin == _FROM_ICMP:
            router = socket.inet_ntoa(content[_EXTENDED_ERROR.size + 4 :][:4])
            if router == sock.getsockname()[0]:
                # Our own kernel, after three unanswered requests.
                return "the next hop does not answer ARP"
            return f"ICMP {icmp_type}/{code} from {router}"
    return None


def text(error: OSError) -> str:
    """Return what an error says, for the middle of a line."""
    return (error.strerror or str(error)).lower()
