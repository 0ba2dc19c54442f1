"""The lab's side of the relay: change a carrier link's shape, read its counters.

Decides nothing about faults; see faults.py.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from lab.errors import LabError
from lab.namespace import Namespace, ready_line
from lab.wire import Counters, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.topology import UplinkPlan

Way = Literal["up", "down"]


def initial(plan: UplinkPlan) -> Shape:
    """Return the shape of a healthy link, the same in both directions."""
    return Shape(delay_ms=plan.one_way_ms, jitter_ms=plan.jitter_ms)


class RelayClient:
    """The running relay. Thread-safe: one request at a time."""

    def __init__(self, process: subprocess.Popen[bytes], control: Path) -> None:
        self.process = process
        self._control = control
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @classmethod
    def start(
        cls,
        home: Namespace,
        control: Path,
        plans: tuple[UplinkPlan, ...],
        namespaces: Mapping[str, Namespace],
    ) -> RelayClient:
        """Start the relay; its devices exist once `wait_ready` returns."""
        links = [
            {
                "name": plan.name,
                "near": [namespaces[plan.modem].name, "car0"],
                "far": [namespaces["carrier"].name, plan.tun],
                "up": asdict(initial(plan)),
                "down": asdict(initial(plan)),
            }
            for plan in plans
        ]
        process = home.python(
            "lab.relay",
            str(control),
            json.dumps(links),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return cls(process, control)

    def wait_ready(self) -> None:
        """Wait until all TUN devices exist."""
        ready_line(self.process, "the relay of the carrier links")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(5)
        self._socket.connect(str(self._control))

    def shape(self, changes: list[tuple[str, Way, Shape]]) -> float:
        """Apply all changes at one instant; return it (CLOCK_BOOTTIME seconds)."""
        wanted = [[link, way, asdict(shape)] for link, way, shape in changes]
        return float(self._ask({"op": "shape", "set": wanted})["at_s"])

    def counters(self, link: str) -> dict[Way, Counters]:
        """Return what became of the link's packets, by direction."""
        ways = self._ask({"op": "counters"})["links"][link]
        for values in ways.values():
            values.pop("refused")
        return {way: Counters(**values) for way, values in ways.items()}

    def close(self) -> None:
        """Close the control connection; the process is ended by its namespace."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._socket is None:
                msg = "the lab is closed: its links can no longer be changed"
                raise LabError(msg)
            try:
                self._socket.sendall(json.dumps(request).encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    received = self._socket.recv(65536)
                    if not received:
                        break
                    answer += received
            except OSError as error:
                msg = f"the relay of the carrier links does not answer: {error}"
                raise LabError(msg) from error
        if not answer:
            msg = "the relay of the carrier links has ended: build a new lab"
            raise LabError(msg)
        reply: dict[str, Any] = json.loads(answer)
        if not reply["ok"]:
            msg = f"the relay refused {request['op']}: {reply['error']}"
            raise LabError(msg)
        return reply
