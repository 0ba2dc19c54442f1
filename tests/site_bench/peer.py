"""A peer on the Pi: really pings (or fetches) by each device, really moves the route.

    python3 -m site_bench.peer PLAN_JSON      (in the Pi's namespace; prints `ready`)

PLAN_JSON: {"kind": "pfsense" | "opnsense" | "mwan3" | "networkmanager", "uplinks":
[{"device", "gateway", "monitor", "mark", "payload_bytes"}, …] in order of preference, "check": [address,
port, path], "first_check_s"}. The verdicts are `models`' work. A move is one `ip route
replace`, metric 1 of table 100; what it prints afterwards is for people. Ends when its
standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from jaga_agent.adapters.conntrack import NetlinkConntrack
from lab.clock import boottime_s
from lab.namespace import command
from site_bench import gateway, models

ECHO_REQUEST, ECHO_REPLY = 8, 0
MWAN3_INTERVAL_S = 10.0
MWAN3_TIMEOUT_S = 4.0
CARRIER_LOOK_S = 0.05
HISTORY_AFTER = 3
"""Replies by which the round trip of the filled-in history is judged."""


@dataclass(slots=True)
class Way:
    """One uplink as the peer knows it."""

    device: str
    gateway: str
    monitor: str
    mark: int
    payload_bytes: int
    sock: socket.socket | None = None
    sent_s: dict[int, float] = field(default_factory=dict)
    waiting: dict[int, asyncio.Future[float]] = field(default_factory=dict)

    def open(self) -> socket.socket | None:
        """Return its raw socket, bound to the device; None while that is gone."""
        if self.sock is None:
            sock = socket.socket(
                socket.AF_INET,
                socket.SOCK_RAW | socket.SOCK_NONBLOCK,
                socket.IPPROTO_ICMP,
            )
            try:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device.encode()
                )
            except OSError:
                sock.close()
                return None
            self.sock = sock
            asyncio.get_running_loop().add_reader(sock.fileno(), self._read)
        return self.sock

    def ping(self, number: int) -> asyncio.Future[float]:
        """Send one echo request; its round trip, when a reply comes."""
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.sent_s[number] = boottime_s()
        self.waiting[number] = answer
        sock = self.open()
        if sock is not None:
            try:
                sock.sendto(
                    _echo(self.mark, number, self.payload_bytes), (self.monitor, 0)
                )
            except OSError:
                # Not sent is a ping without a reply here, as the originals count it.
                self._close(sock)
        return answer

    def carrier(self) -> bool:
        """Return whether the device is there and has carrier."""
        try:
            return Path(f"/sys/class/net/{self.device}/carrier").read_text()[0] == "1"
        except (OSError, IndexError):
            return False

    def _close(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock.fileno())
        sock.close()
        self.sock = None

    def _read(self) -> None:
        sock = self.sock
        if sock is None:
            return
        try:
            packet = sock.recv(2048)
        except OSError:
            self._close(sock)
            return
        icmp = packet[(packet[0] & 15) * 4 :]
        kind, _, _, who, number = struct.unpack("!BBHHH", icmp[:8])
        source = socket.inet_ntoa(packet[12:16])
        if (kind, who, source) != (ECHO_REPLY, self.mark, self.monitor):
            return  # every raw socket sees everybody's replies
        answer = self.waiting.pop(number, None)
        sent_s = self.sent_s.pop(number, None)
        if answer is not None and sent_s is not None and not answer.done():
            answer.set_result(boottime_s() - sent_s)


def _echo(who: int, number: int, payload_bytes: int) -> bytes:
    """Return an echo request whose payload is zeros: they leave the checksum alone."""
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, who, number & 0xFFFF)
    total = sum(struct.unpack("!4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~total & 0xFFFF)
    return head[:2] + checksum + head[4:] + bytes(payload_bytes)


class Peer:
    """What all of them share: ways in order, and which one carries."""

    def __init__(self, ways: list[Way], *, kill_states: bool) -> None:
        self.ways = ways
        self.current = 0
        self._kill_states = kill_states

    async def decide(self, down: list[bool]) -> None:
        """Use the first that is not down; kill the old one's states if it does so."""
        wanted = models.first_usable(down, self.current)
        if wanted == self.current:
            return
        old, way = self.ways[self.current], self.ways[wanted]
        command(["ip", *gateway.default(way.device, way.gateway).split()])
        self.current = wanted
        print(f"moved {old.device} → {way.device}", flush=True)
        if self._kill_states:
            await NetlinkConntrack().flush_mark(old.mark, gateway.MARK_MASK)


async def dpinger(peer: Peer, settings: models.DpingerSettings) -> None:
    """One dpinger for each gateway, and a watcher that looks every second."""
    pingers = [models.Dpinger(settings) for _ in peer.ways]
    async with asyncio.TaskGroup() as group:
        for way, pinger in zip(peer.ways, pingers, strict=True):
            group.create_task(_dpinger_sends(way, pinger))
        while True:
            await asyncio.sleep(settings.alert_interval_s)
            now_s = boottime_s()
            await peer.decide([pinger.alarm(now_s) for pinger in pingers])


async def _dpinger_sends(way: Way, pinger: models.Dpinger) -> None:
    early: deque[float] = deque()
    number, filled = 0, False
    while True:
        if not filled and len(early) >= HISTORY_AFTER:
            number = pinger.prefill(sum(early) / len(early), boottime_s())
            filled = True
        answer = way.ping(number)
        pinger.sent(number, boottime_s())

        def note(done: asyncio.Future[float], number: int = number) -> None:
            if not done.cancelled():
                early.append(done.result())
                pinger.answered(number, done.result())

        answer.add_done_callback(note)
        number = (number + 1) & 0xFFFF
        # Replies later than the window tell nobody anything.
        horizon_s = boottime_s() - pinger.settings.time_period_s
        for old in [n for n, sent_s in way.sent_s.items() if sent_s < horizon_s]:
            way.sent_s.pop(old)
            way.waiting.pop(old, None)
        await asyncio.sleep(pinger.settings.send_interval_s)


async def mwan3(peer: Peer) -> None:
    """One tracker for each interface; carrier loss is told by hotplug, at once."""
    trackers = [models.Mwan3() for _ in peer.ways]

    async def decide() -> None:
        down = [
            not (tracker.online and way.carrier())
            for tracker, way in zip(trackers, peer.ways, strict=True)
        ]
        await peer.decide(down)

    async def track(way: Way, tracker: models.Mwan3) -> None:
        number = 0
        # The trackers run on their own; a fault meets each at any point of its round.
        await asyncio.sleep(random.uniform(0, MWAN3_INTERVAL_S))
        while True:
            try:
                await asyncio.wait_for(way.ping(number), MWAN3_TIMEOUT_S)
                good = True
            except TimeoutError:
                good = False
            way.waiting.pop(number, None)
            way.sent_s.pop(number, None)
            number += 1
            tracker.round(good)
            await decide()
            await asyncio.sleep(MWAN3_INTERVAL_S)

    async with asyncio.TaskGroup() as group:
        for way, tracker in zip(peer.ways, trackers, strict=True):
            group.create_task(track(way, tracker))
        while True:
            await asyncio.sleep(CARRIER_LOOK_S)
            await decide()


async def networkmanager(
    peer: Peer, check: tuple[str, int, str], first_check_s: float
) -> None:
    """Fetch the URI by each device; one that is not FULL gets a worse metric.

    The metrics' order with the penalty is the order of preference among those FULL,
    then among the others: the same as moving one route to the first of that order.
    """
    await asyncio.sleep(first_check_s)
    while True:
        full = await asyncio.gather(*(_fetch(way, *check) for way in peer.ways))
        metric = [
            index + (0 if is_full else models.NM_PENALTY)
            for index, is_full in enumerate(full)
        ]
        best = min(range(len(metric)), key=metric.__getitem__)
        await peer.decide([index != best for index in range(len(metric))])
        await asyncio.sleep(models.NM_INTERVAL_S)


async def _fetch(way: Way, address: str, port: int, path: str) -> bool:
    loop = asyncio.get_running_loop()
    received = b""
    with socket.socket() as sock, contextlib.suppress(OSError, TimeoutError):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.device.encode())
        async with asyncio.timeout(models.NM_TIMEOUT_S):
            await loop.sock_connect(sock, (address, port))
            request = f"GET {path} HTTP/1.1\r\nHost: connectivity.lab.invalid\r\n"
            await loop.sock_sendall(
                sock, f"{request}Connection: close\r\n\r\n".encode()
            )
            while chunk := await loop.sock_recv(sock, 4096):
                received += chunk
    return models.nm_full(received)


async def main() -> None:
    plan = json.loads(sys.argv[1])
    ways = [Way(**uplink) for uplink in plan["uplinks"]]
    for way in ways:
        way.open()
    kind = plan["kind"]
    peer = Peer(ways, kill_states=kind in {"pfsense", "opnsense"})
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(0, over.set)
    print("ready", flush=True)
    match kind:
        case "pfsense":
            work = dpinger(peer, models.PFSENSE)
        case "opnsense":
            work = dpinger(peer, models.OPNSENSE)
        case "mwan3":
            work = mwan3(peer)
        case "networkmanager":
            work = networkmanager(peer, tuple(plan["check"]), plan["first_check_s"])
        case _:
            sys.exit(f"unknown kind {kind!r}")
    running = asyncio.create_task(work)
    ending = asyncio.create_task(over.wait())
    await asyncio.wait([running, ending], return_when=asyncio.FIRST_COMPLETED)
    for task in (running, ending):
        task.cancel()
    for result in await asyncio.gather(running, ending, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


if __name__ == "__main__":
    asyncio.run(main())
