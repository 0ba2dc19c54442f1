"""The carrier links: one process that carries packets between TUN devices.

    python3 -m lab.relay CONTROL_SOCKET LINKS_JSON

LINKS_JSON: a list of {"name", "near": [namespace, device], "far": [namespace, device],
"up": shape, "down": shape}; `up` is near → far, `down` far → near. Prints `ready` once
all devices exist; addresses are put on them by whoever started it. Ends when its
standard input closes, so it never outlives the lab, and its devices end with it.

Control, JSON lines on a Unix socket, one reply for each request:
  {"op": "shape", "set": [[link, "up" | "down", shape], …]}
      → {"ok": true, "at_s": CLOCK_BOOTTIME of the change}   all at one instant
  {"op": "counters"} → {"ok": true, "links": {link: {"up": …, "down": …}}}
An error is {"ok": false, "error": text}.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.clock import boottime_s
from lab.wire import Shape, Wire

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000
PACKET_BYTES = 65536
BURST = 64
"""Packets read from one device before the others get their turn."""


def enter(namespace: str) -> None:
    """Move this process into a named network namespace (setns(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(descriptor)


def open_tun(namespace: str, device: str) -> int:
    """Make a TUN device in a namespace; it lives as long as the descriptor."""
    enter(namespace)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    return descriptor


@dataclass(slots=True)
class Direction:
    """One wire between the device that is read and the device that is written."""

    source: int
    sink: int
    wire: Wire
    refused: int = 0
    """Arrivals that the far device did not take (it is down, or has no room)."""

    def read(self) -> None:
        """Offer what the kernel has for us to the wire."""
        now_s = boottime_s()
        for _ in range(BURST):
            try:
                packet = os.read(self.source, PACKET_BYTES)
            except BlockingIOError:
                return
            self.wire.offer(packet, now_s)

    def write(self, now_s: float) -> None:
        """Hand over what has arrived at the far end."""
        for packet in self.wire.due(now_s):
            try:
                os.write(self.sink, packet)
            except OSError:
                self.refused += 1


@dataclass(slots=True)
class Relay:
    """All directions, and the control socket's clients."""

    directions: dict[tuple[str, str], Direction]
    control: socket.socket
    clients: dict[int, tuple[socket.socket, bytearray]] = field(default_factory=dict)

    def run(self) -> None:
        """Carry packets until standard input closes."""
        by_source = {way.source: way for way in self.directions.values()}
        while True:
            deadlines = [
                next_s
                for way in self.directions.values()
                if (next_s := way.wire.next_s()) is not None
            ]
            wait_s = max(0.0, min(deadlines) - boottime_s()) if deadlines else None
            # select(2) and not epoll: it waits to the microsecond, epoll_wait in
            # whole milliseconds, and our descriptors are a dozen.
            readable, _, _ = select.select(
                [0, self.control.fileno(), *by_source, *self.clients], [], [], wait_s
            )
            for descriptor in readable:
                if descriptor in by_source:
                    by_source[descriptor].read()
                elif descriptor == 0:
                    if not os.read(0, 4096):
                        return
                elif descriptor in self.clients:
                    self._listen(descriptor)
                else:
                    client, _ = self.control.accept()
                    self.clients[client.fileno()] = (client, bytearray())
            now_s = boottime_s()
            for way in self.directions.values():
                way.write(now_s)

    def _listen(self, descriptor: int) -> None:
        client, buffer = self.clients[descriptor]
        try:
            received = client.recv(65536)
        except ConnectionResetError:
            received = b""
        if not received:
            del self.clients[descriptor]
            client.close()
            return
        buffer += received
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            try:
                client.sendall(json.dumps(self._obey(line)).encode() + b"\n")
            except BrokenPipeError:
                return  # gone before its answer; the next read tells so and closes

    def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if request["op"] == "counters":
                return {"ok": True, "links": self._counters()}
            if request["op"] != "shape":
                msg = f"unknown op {request['op']!r}: shape or counters"
                raise ValueError(msg)  # noqa: TRY301 - one place answers all faults
            changes = [
                (self.directions[link, way], Shape(**shape))
                for link, way, shape in request["set"]
            ]
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}
        except KeyError as error:
            return {"ok": False, "error": f"unknown or missing: {error}"}
        for direction, shape in changes:
            direction.wire.reshape(shape)
        return {"ok": True, "at_s": boottime_s()}

    def _counters(self) -> dict[str, dict[str, dict[str, int]]]:
        links: dict[str, dict[str, dict[str, int]]] = {}
        for (link, way), direction in self.directions.items():
            counters = asdict(direction.wire.counters) | {"refused": direction.refused}
            links.setdefault(link, {})[way] = counters
        return links


def main() -> None:
    path, links = Path(sys.argv[1]), json.loads(sys.argv[2])
    directions: dict[tuple[str, str], Direction] = {}
    for link in links:
        near, far = open_tun(*link["near"]), open_tun(*link["far"])
        # A seed for each: a run's losses can be had again from the same packets.
        for way, source, sink in (("up", near, far), ("down", far, near)):
            name = (link["name"], way)
            wire = Wire(Shape(**link[way]), random.Random("/".join(name)))  # noqa: S311 - no secret
            directions[name] = Direction(source, sink, wire)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.bind(str(path))
        control.listen()
        print("ready", flush=True)  # noqa: T201 - the starter waits for it
        Relay(directions, control).run()


if __name__ == "__main__":
    main()
