"""udp-echo probes to the collector's own reflector, bound to one device each.

The same promises as the ICMP prober, and more: a reflector counts what it receives, so
loss on the way up is told from loss on the way down, and stamps its clock. `answered` only
for an authentic answer to the very request, from the address asked, on the device asked.
There is no timeout here: what is late or lost is for the core to say.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core import clock_sample
from jaga_agent.core.one_way import OneWayTally
from jaga_agent.core.stamps import round_trip_s
from jaga_agent.device_socket import (
    DEVICE_GONE,
    DeviceSockets,
    bind_to_device,
    kernel_stamp_ns,
    missing,
    refusal,
    said,
    tell_stamps_and_errors,
)
from jaga_agent.ports import EchoSample
from jaga_agent.wire import echo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaga_agent.ports import Clock, EchoListener, Stamp
    from jaga_agent.wire.echo import Answer, SiteState

OUTSTANDING: Final = 256
"""Probes remembered for each device; an answer to an older one is not recognised."""
NO_REFLECTOR: Final = "the host answers, but no reflector listens there"

_FLOWS = 16
"""For each device: more than the configuration can name; the oldest go when a target's
address keeps changing."""
# Datagrams handled at one wakeup, so that a flood cannot keep the loop from the rest.
_READ_BATCH = 64
_RECEIVE_BYTES = 512

_Peer = tuple[str, int]


@dataclass(slots=True)
class _Flow:
    """What was sent to one reflector through one device."""

    number: int = field(default_factory=lambda: secrets.randbits(64))
    seq: int = 0
    token: int = 0
    newest: int = 0
    """Highest sequence answered: its token is the one to use."""
    tally: OneWayTally = field(default_factory=OneWayTally)


@dataclass(slots=True)
class _Outstanding:
    probe_id: int
    asked: str
    flow: _Flow
    request: bytes
    stamp: Stamp


class _Path:
    """One device's socket and what was sent through it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.index = socket.if_nametoindex(device)
        self.sock = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        )
        self.flows: OrderedDict[_Peer, _Flow] = OrderedDict()
        self.outstanding: OrderedDict[tuple[_Peer, int], _Outstanding] = OrderedDict()
        try:
            bind_to_device(self.sock, device)
            tell_stamps_and_errors(self.sock)
            self.sock.setblocking(False)
        except BaseException:
            self.sock.close()
            raise

    def close(self) -> None:
        self.sock.close()

    def flow(self, peer: _Peer) -> _Flow:
        flow = self.flows.get(peer)
        # A sequence never comes twice in a flow; after 2³² of them it is another flow.
        if flow is None or flow.seq == 0xFFFF_FFFF:
            flow = self.flows[peer] = _Flow()
        self.flows.move_to_end(peer)
        while len(self.flows) > _FLOWS:
            self.flows.popitem(last=False)
        return flow

    def remember(self, peer: _Peer, seq: int, probe: _Outstanding) -> None:
        self.outstanding[peer, seq] = probe
        while len(self.outstanding) > OUTSTANDING:
            self.outstanding.popitem(last=False)


class UdpEchoProber:
    """Sends udp-echo requests through devices, as `ports.Prober`."""

    def __init__(
        self,
        listener: EchoListener,
        clock: Clock,
        *,
        site: str,
        key: bytes,
        places: Mapping[str, int],
        state: Callable[[], SiteState | None] = lambda: None,
        resolve: Callable[[str, str], str | None] = lambda _device, _host: None,
    ) -> None:
        """Make a prober on the running event loop.

        `places`: each device's place among the site's uplinks, as its `Status` has them.
        `state` returns the last-resort heartbeat, None while MQTT is connected.
        `resolve(device, host)` returns the address that is known of a name through that
        device now, None if none is. It must not block.
        """
        self._listener = listener
        self._clock = clock
        self._tag = echo.site_tag(site)
        self._key = key
        self._places = places
        self._state = state
        self._resolve = resolve
        self._loop = asyncio.get_running_loop()
        self._paths = DeviceSockets(self._loop, _Path, self._readable)
        self._closed = False

    def send(self, probe_id: int, device: str, address: str) -> None:
        """Send one request to "host:port" now. Never raises; see `ports.ProbeListener`."""
        try:
            reason = self._send(probe_id, device, address)
        except OSError as error:
            reason = said(error, device)
        if reason is not None:
            self._tell_later(self._listener.not_sent, probe_id, reason)

    def close(self) -> None:
        """Close every socket. Nothing more is reported."""
        self._closed = True
        self._paths.close()

    def _send(self, probe_id: int, device: str, address: str) -> str | None:
        """Return why nothing was sent, or None; raises OSError."""
        peer = self._peer(device, address)
        if isinstance(peer, str):
            return peer
        if self._closed:
            return "the prober is closed"
        path = self._paths.of(device)
        reason = missing(path.sock, device)
        if reason is not None:
            return reason
        flow = path.flow(peer)
        flow.seq += 1
        request = echo.encode_request(
            echo.Request(
                self._tag,
                flow.number,
                flow.seq,
                flow.token,
                self._places.get(device, 0),
                self._state(),
            ),
            self._key,
        )
        try:
            try:
                stamp = self._clock.stamp()
                path.sock.sendto(request, peer)
            except OSError:
                # An ICMP error of an earlier probe is handed to the next call, whichever
                # it is. Take it from the queue, then what is left is this probe's own.
                self._read_errors(path)
                path.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                stamp = self._clock.stamp()
                path.sock.sendto(request, peer)
        except OSError:
            # It was not on the wire: its number must not count as lost there.
            flow.seq -= 1
            raise
        path.remember(
            peer, flow.seq, _Outstanding(probe_id, address, flow, request, stamp)
        )
        return None

    def _peer(self, device: str, address: str) -> _Peer | str:
        """Return where to send, or why that is not known."""
        host, _, port = address.rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            return f"{address!r} is not an address and a port"
        try:
            return str(ipaddress.IPv4Address(host)), int(port)
        except ValueError:
            found = self._resolve(device, host)
        if found is None:
            return f"{device}: no address of {host} is known through it yet"
        return found, int(port)

    def _readable(self, path: _Path) -> None:
        self._read_errors(path)
        self._read_answers(path)

    def _read_answers(self, path: _Path) -> None:
        for _ in range(_READ_BATCH):
            try:
                datagram, ancillary, _, source = path.sock.recvmsg(_RECEIVE_BYTES, 256)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, *DEVICE_GONE):
                    raise
                # The pending error of an earlier probe: it is in the error queue too.
                self._read_errors(path)
                continue
            received = self._clock.stamp()
            try:
                seq = echo.seq_of_answer(datagram)
                probe = path.outstanding.get((source, seq))
                if probe is None:
                    continue
                answer = echo.decode_answer(datagram, probe.request, self._key)
            except echo.DatagramError:
                continue  # not from the reflector: anybody may send to a UDP port
            del path.outstanding[source, seq]
            rtt_s = round_trip_s(probe.stamp, received, kernel_stamp_ns(ancillary))
            self._answered(path.device, probe, answer, rtt_s)

    def _answered(
        self, device: str, probe: _Outstanding, answer: Answer, rtt_s: float
    ) -> None:
        flow = probe.flow
        if answer.seq > flow.newest:
            flow.newest, flow.token = answer.seq, answer.token
        flow.tally.answered(answer.seq, answer.received)
        sent_ns = probe.stamp.boot_ns
        sample = EchoSample(
            device=device,
            address=probe.asked,
            rtt_s=max(0.0, rtt_s - answer.hold_ns / 1e9),
            clock=clock_sample.sample(
                sent_ns,
                sent_ns + round(rtt_s * 1e9),
                receive_ns=answer.receive_ns,
                hold_ns=answer.hold_ns,
                error_s=answer.error_s,
                synchronised=answer.synchronised,
            ),
            began=(flow.number, flow.tally.began),
            counts=flow.tally.counts,
        )
        self._loop.call_soon(self._listener.echoed, sample)
        self._tell_later(self._listener.answered, probe.probe_id, sample.rtt_s)

    def _read_errors(self, path: _Path) -> None:
        for _ in range(_READ_BATCH):
            try:
                head, ancillary, _, peer = path.sock.recvmsg(
                    _RECEIVE_BYTES, 512, socket.MSG_ERRQUEUE
                )
            except BlockingIOError:
                return
            reason = refusal(ancillary)
            key = None if reason is None else _refused(path, peer, head)
            if reason is None or key is None:
                continue
            probe = path.outstanding.pop(key)
            if reason.startswith("port unreachable"):
                reason = f"{reason}: {NO_REFLECTOR}"
            self._tell_later(self._listener.refused, probe.probe_id, reason)

    def _tell_later(
        self, tell: Callable[[int, Any], None], probe_id: int, verdict: float | str
    ) -> None:
        # Not from within send (the engine would be re-entered), and so that whatever
        # the listener raises reaches the loop's exception handler, not our reader.
        self._loop.call_soon(tell, probe_id, verdict)


def _refused(path: _Path, peer: _Peer, head: bytes) -> tuple[_Peer, int] | None:
    """Return which outstanding probe an ICMP error is about.

    The queue has whom it was sent to, and what the router quoted of it. A router need
    quote no more than the UDP header (RFC 792): then it is the newest sent there.
    """
    seq = echo.seq_of_request(head)
    if seq is not None:
        probe = path.outstanding.get((peer, seq))
        return (
            (peer, seq)
            if probe and probe.request.startswith(head[: echo.DATAGRAM_BYTES])
            else None
        )
    return next((key for key in reversed(path.outstanding) if key[0] == peer), None)
