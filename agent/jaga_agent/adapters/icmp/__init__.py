"""Echo probes bound to one device each, timed by the kernel.

icmplib builds and parses the packets; the I/O is ours, because its own takes the wall
clock, matches replies without their source, cannot bind a device and is blind to ICMP
errors. There is no timeout here: a reply is reported whenever it comes, and what is
late or lost is for the core to say.

What is promised of a probe: `answered` only for a reply from the address asked, on the
device asked, with the probe's own sequence number and nonce; at most one verdict each.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import logging
import os
import secrets
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.adapters.icmp.echo_socket import (
    ICMP_HEADER_BYTES,
    kernel_stamp_ns,
    open_socket,
    refusal,
)
from jaga_agent.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.ports import Clock, ProbeListener, Stamp

_log = logging.getLogger(__name__)

# linux/sockios.h, linux/if.h.
SIOCGIFFLAGS: Final = 0x8913
IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40

OUTSTANDING: Final = 256
"""Probes remembered for each device; a reply to an older one is not recognised."""

# A request is 32 bytes of IP, and data is dear here. A forger who does not see the request
# must also hit the address asked, 16 bits of identifier and 16 of sequence number within
# the seconds that it is waited for; these 32 bits on top make one hit in 4 thousand
# million tries. They are there for replies gone astray more than for forgers: of a former
# round of the sequence, of another program with our identifier.
_NONCE_BYTES = 4
# Datagrams handled at one wakeup, so that a flood cannot keep the loop from the rest.
_READ_BATCH = 64
_RECEIVE_BYTES = 512

# The realtime clock may be slewed by 500 ppm at most (adjtimex(2)); more than twice
# that, beyond the noise of reading two clocks, is a step.
_SLEW_RATIO = 0.001
_STEP_NS = 200_000

NO_PERMISSION: Final = (
    "no ICMP socket is allowed: needs net.ipv4.ping_group_range to include this group"
    " (sysctl net.ipv4.ping_group_range='0 2147483647') or CAP_NET_RAW"
    " (AmbientCapabilities=CAP_NET_RAW in the unit)"
)

_DEVICE_GONE = (errno.ENODEV, errno.ENXIO)


@dataclass(slots=True)
class _Outstanding:
    probe_id: int
    address: str
    payload: bytes
    stamp: Stamp


class _Path:
    """One device's socket and what was sent through it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.index = socket.if_nametoindex(device)
        self.echo = open_socket(device)
        self.sock: socket.socket = self.echo.sock
        self.identifier = self.echo.identifier()
        self.sequence = secrets.randbelow(0x10000)
        self.outstanding: OrderedDict[int, _Outstanding] = OrderedDict()

    def next_sequence(self) -> int:
        self.sequence = (self.sequence + 1) & 0xFFFF
        return self.sequence

    def remember(self, sequence: int, probe: _Outstanding) -> None:
        self.outstanding[sequence] = probe
        while len(self.outstanding) > OUTSTANDING:
            self.outstanding.popitem(last=False)

    def missing(self) -> str | None:
        """Return why the device carries nothing now, or None."""
        request = struct.pack("16sH14x", self.device.encode(), 0)
        answer = fcntl.ioctl(self.sock, SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", answer, 16)
        if not flags & IFF_UP:
            return f"{self.device} is down"
        # IFF_RUNNING follows a lost carrier within a second; until then the device's
        # queue refuses (ENOBUFS, because of IP_RECVERR), which is not sent as well.
        return None if flags & IFF_RUNNING else f"{self.device} has no carrier"


class IcmpProber:
    """Sends echo requests through devices, as `ports.Prober`."""

    def __init__(self, listener: ProbeListener, clock: Clock) -> None:
        """Make a prober on the running event loop; raises ProbeError.

        The error is for the operator: this process may not send ICMP at all.
        """
        self._listener = listener
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._paths: dict[str, _Path] = {}
        self._closed = False
        try:
            open_socket(None).close()
        except PermissionError as error:
            raise ProbeError(NO_PERMISSION) from error
        except OSError as error:
            msg = f"no ICMP socket can be opened: {error.strerror}"
            raise ProbeError(msg) from error

    def send(self, probe_id: int, device: str, address: str) -> None:
        """Send one echo request now. Never raises; see `ports.ProbeListener`."""
        try:
            reason = self._send(probe_id, device, address)
        except OSError as error:
            if error.errno in _DEVICE_GONE:
                reason = f"{device} is gone"
            elif isinstance(error, PermissionError) and device not in self._paths:
                reason = NO_PERMISSION
            else:
                reason = f"{device}: {_text(error)}"
        if reason is not None:
            self._tell_later(self._listener.not_sent, probe_id, reason)

    def close(self) -> None:
        """Close every socket. Nothing more is reported."""
        self._closed = True
        for device in list(self._paths):
            self._drop(device)

    def _send(self, probe_id: int, device: str, address: str) -> str | None:
        """Return why nothing was sent, or None; raises OSError."""
        try:
            # sendto would resolve a name, and stop the loop while it does.
            ipaddress.IPv4Address(address)
        except ValueError:
            return f"{address!r} is not an IPv4 address"
        if self._closed:
            return "the prober is closed"
        path = self._path(device)
        reason = path.missing()
        if reason is not None:
            return reason
        sequence = path.next_sequence()
        payload = secrets.token_bytes(_NONCE_BYTES)
        packet = path.echo.request(path.identifier, sequence, payload)
        try:
            stamp = self._clock.stamp()
            path.sock.sendto(packet, (address, 0))
        except OSError:
            # An ICMP error of an earlier probe is handed to the next call, whichever
            # it is. Take it from the queue, then what is left is this probe's own.
            self._read_errors(path)
            path.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            stamp = self._clock.stamp()
            path.sock.sendto(packet, (address, 0))
        path.remember(sequence, _Outstanding(probe_id, address, payload, stamp))
        return None

    def _path(self, device: str) -> _Path:
        """Return the device's socket, a new one if the device is another one now."""
        path = self._paths.get(device)
        if path is not None:
            try:
                if socket.if_nametoindex(device) == path.index:
                    return path
            except OSError:
                self._drop(device)
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
            _log.info("device %s came back as another one: new probe socket", device)
            self._drop(device)
        try:
            path = _Path(device)
        except OSError as error:
            # if_nametoindex knows no errno for a name that does not exist.
            if error.errno is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
            raise
        self._paths[device] = path
        self._loop.add_reader(path.sock, self._readable, path)
        return path

    def _drop(self, device: str) -> None:
        path = self._paths.pop(device)
        self._loop.remove_reader(path.sock)
        path.echo.close()

    def _readable(self, path: _Path) -> None:
        try:
            self._read_errors(path)
            self._read_replies(path)
        except OSError as error:
            # The socket is of no more use, e.g. its device was removed. The next send
            # opens another one, or says why it cannot.
            _log.debug("probe socket of %s closed: %s", path.device, error)
            if self._paths.get(path.device) is path:
                self._drop(path.device)

    def _read_replies(self, path: _Path) -> None:
        for _ in range(_READ_BATCH):
            try:
                packet, ancillary, _, (source, _) = path.sock.recvmsg(
                    _RECEIVE_BYTES, 256
                )
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, *_DEVICE_GONE):
                    raise
                # The pending error of an earlier probe: it is in the error queue too.
                self._read_errors(path)
                continue
            received = self._clock.stamp()
            matched = path.echo.reply(packet, source)
            if matched is None or matched[0] != path.identifier:
                continue
            probe = path.outstanding.get(matched[1])
            if (
                probe is None
                or probe.address != source
                or packet[path.echo.header_bytes :] != probe.payload
            ):
                continue
            del path.outstanding[matched[1]]
            rtt_s = round_trip_s(probe.stamp, received, kernel_stamp_ns(ancillary))
            self._tell_later(self._listener.answered, probe.probe_id, rtt_s)

    def _read_errors(self, path: _Path) -> None:
        for _ in range(_READ_BATCH):
            try:
                packet, ancillary, _, _ = path.sock.recvmsg(
                    _RECEIVE_BYTES, 512, socket.MSG_ERRQUEUE
                )
            except BlockingIOError:
                return
            reason = refusal(ancillary)
            # The queue returns the request as it was sent, ICMP header first.
            if reason is None or len(packet) < ICMP_HEADER_BYTES:
                continue
            identifier, sequence = struct.unpack_from("!HH", packet, 4)
            # A raw socket is told of errors of everybody's requests.
            if identifier != path.identifier or sequence not in path.outstanding:
                continue
            probe = path.outstanding.pop(sequence)
            self._tell_later(self._listener.refused, probe.probe_id, reason)

    def _tell_later(
        self, tell: Callable[[int, Any], None], probe_id: int, verdict: float | str
    ) -> None:
        # Not from within send (the engine would be re-entered), and so that whatever
        # the listener raises reaches the loop's exception handler, not our reader.
        self._loop.call_soon(tell, probe_id, verdict)


def round_trip_s(sent: Stamp, received: Stamp, kernel_ns: int | None) -> float:
    """Return the round-trip time in seconds, never negative.

    By the kernel's receive stamp, which a busy event loop cannot delay, unless the
    realtime clock was stepped between `sent` and `received`: then by CLOCK_BOOTTIME.
    """
    elapsed_ns = received.boot_ns - sent.boot_ns
    moved_ns = (received.wall_ns - sent.wall_ns) - elapsed_ns
    if kernel_ns is not None and abs(moved_ns) <= _STEP_NS + elapsed_ns * _SLEW_RATIO:
        rtt_ns = kernel_ns - sent.wall_ns
        if 0 <= rtt_ns <= elapsed_ns + abs(moved_ns) + _STEP_NS:
            return rtt_ns / 1e9
    return max(elapsed_ns, 0) / 1e9


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
