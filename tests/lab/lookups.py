"""A phone's name lookups: one each 50 ms, and the seconds in which they were bad.

    python3 -m lab.lookups LOG [--server 192.168.77.1] [--interval-ms 50]

Every lookup is of a name that nobody asked before, so no cache answers it, from a socket
of its own, and is asked once: a phone's repeat after seconds would hide the fault.
LOG gets JSON lines {"start_s", "duration_s", "address", "error"}, instants in
CLOCK_BOOTTIME seconds. Ends at SIGTERM or when its standard input closes; prints `ready`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.clock import boottime_s
from lab.namespace import end, ready_line
from lab.topology import PI

if TYPE_CHECKING:
    from typing import TextIO

    from lab.namespace import Namespace

DOMAIN = "sirekap-web.kpu.go.id"
PATIENCE_S = 2.0
SLOW_S = 0.3
"""A lookup that takes longer is as bad as none to someone who waits for a page."""


def question(number: int, name: str) -> bytes:
    """Return a query for the A record of `name` (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    header = number.to_bytes(2) + b"\x01\x00\x00\x01" + bytes(6)
    return header + labels + b"\x00\x00\x01\x00\x01"


def answer(number: int, packet: bytes) -> str:
    """Return the address of an answer's last record; ValueError says what it is else."""
    if packet[:2] != number.to_bytes(2):
        msg = "another's answer"
        raise ValueError(msg)
    code, records = packet[3] & 0x0F, int.from_bytes(packet[6:8])
    if code or not records:
        msg = f"rcode {code}, {records} records"
        raise ValueError(msg)
    return socket.inet_ntoa(packet[-4:])


class _Reply(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packet: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if not self.packet.done():
            self.packet.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.packet.done():
            self.packet.set_exception(error)


async def lookup(server: str, number: int, name: str) -> str:
    """Ask once; raises TimeoutError, OSError or ValueError."""
    loop = asyncio.get_running_loop()
    transport, reply = await loop.create_datagram_endpoint(
        _Reply, remote_addr=(server, 53)
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            transport.sendto(question(number, name))
            return answer(number, await reply.packet)
    finally:
        transport.close()


async def _noted(server: str, number: int, name: str, log: TextIO) -> None:
    start_s = boottime_s()
    address: str | None = None
    error: str | None = "unfinished"
    try:
        address = await lookup(server, number, name)
        error = None
    except (OSError, ValueError) as broken:
        error = f"{type(broken).__name__} {broken}".strip()
    finally:
        record = {
            "start_s": start_s,
            "duration_s": boottime_s() - start_s,
            "address": address,
            "error": error,
        }
        log.write(json.dumps(record) + "\n")
        log.flush()


async def _run(server: str, interval_s: float, log: TextIO) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_reader(0, over.set)
    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    tag = secrets.token_hex(3)
    started, number = loop.time(), 0
    under_way: set[asyncio.Task[None]] = set()
    while not over.is_set():
        number += 1
        name = f"n{number}-{tag}.{DOMAIN}"
        task = asyncio.create_task(_noted(server, number & 0xFFFF, name, log))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.sleep(max(0.0, started + number * interval_s - loop.time()))
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One lookup, as the phone noted it."""

    start_s: float
    duration_s: float
    address: str | None
    error: str | None

    @property
    def bad(self) -> bool:
        return self.error is not None or self.duration_s > SLOW_S


class Lookups:
    """A phone that looks names up, or has."""

    def __init__(self, phone: Namespace, log: Path, server: str = PI) -> None:
        self._log = log
        self._log.touch()
        self.process = phone.python(
            "lab.lookups",
            str(log),
            f"--server={server}",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        ready_line(self.process, "the phone's lookups")

    def all(self) -> list[Lookup]:
        """Return those that ended so far."""
        lines = self._log.read_text().splitlines()
        return [Lookup(**json.loads(line)) for line in lines if line.endswith("}")]

    def between(self, from_s: float, to_s: float) -> list[Lookup]:
        """Return those that began in a window and have ended."""
        return [each for each in self.all() if from_s <= each.start_s < to_s]

    def stop(self) -> list[Lookup]:
        """End it and return all. Repeatable."""
        end([self.process])
        return self.all()


def bad_seconds(lookups: list[Lookup], from_s: float) -> list[int]:
    """Return the seconds after `from_s` in which at least one lookup was bad."""
    return sorted({int(each.start_s - from_s) for each in lookups if each.bad})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m lab.lookups")
    parser.add_argument("log", type=Path)
    parser.add_argument("--server", default=PI)
    parser.add_argument("--interval-ms", type=float, default=50)
    options: Any = parser.parse_args()
    with options.log.open("a") as log:
        asyncio.run(_run(options.server, options.interval_ms / 1000, log))


if __name__ == "__main__":
    main()
