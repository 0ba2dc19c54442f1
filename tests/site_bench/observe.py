"""What the kernel itself says on the Pi: the route's moves, the uplinks' bytes."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

import psutil

from lab.clock import boottime_s
from lab.namespace import end
from lab.topology import BROKER_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Lab, UplinkPlan
    from lab.namespace import Namespace

_ACTIVE = re.compile(r"^default via \S+ dev (\S+) table 100 .*\bmetric 1\b")
MQTT, OTHER = "mqtt", "other"


class RouteWatch:
    """Follows the site's default route (metric 1 of table 100), as it is replaced."""

    def __init__(self, pi: Namespace) -> None:
        self._pi = pi
        self._seen: list[tuple[float, str]] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._process = self._pi.popen(
            ["ip", "-o", "monitor", "route"], stdout=subprocess.PIPE, text=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._thread.join(5)
            end([self._process])

    def moves(self, from_s: float, to_s: float) -> list[float]:
        """Return when the route went to another device within the window."""
        return moves(list(self._seen), from_s, to_s)

    def _follow(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        for line in process.stdout:
            found = _ACTIVE.match(line)
            if found:
                self._seen.append((boottime_s(), found[1]))


def moves(seen: Sequence[tuple[float, str]], from_s: float, to_s: float) -> list[float]:
    """Return the instants at which the device changed, within the window. Pure."""
    found = []
    device: str | None = None
    for at_s, now in seen:
        if device is not None and now != device and from_s <= at_s <= to_s:
            found.append(at_s)
        device = now
    return found


class ByteCount:
    """Counts the IP bytes of each uplink on the Pi, MQTT apart."""

    def __init__(self, lab: Lab) -> None:
        self._pi = lab.pi
        self._plans = lab.plans

    def start(self) -> None:
        """Load the counters, at zero."""
        self._pi.nft(count_nft(self._plans))

    def read(self) -> dict[str, dict[str, int]]:
        """Return bytes, both ways, by uplink's name and by `mqtt` or `other`."""
        argv = ["nft", "-j", "list", "counters", "table", "inet", "bench_bytes"]
        shown = json.loads(self._pi.run(argv).stdout)
        totals = {plan.name: {MQTT: 0, OTHER: 0} for plan in self._plans}
        for entry in shown["nftables"]:
            if "counter" in entry:
                device, what = entry["counter"]["name"].split("_")
                name = next(p.name for p in self._plans if p.device == device)
                totals[name][what] += entry["counter"]["bytes"]
        return totals

    def stop(self) -> None:
        """Remove the counters."""
        self._pi.nft("delete table inet bench_bytes")


def count_nft(plans: Sequence[UplinkPlan]) -> str:
    """Return the counters, in front of and behind all other rules."""
    counters, come, go = [], [], []
    for plan in plans:
        device = plan.device
        counters += [f"counter {device}_{what} {{ }}" for what in (MQTT, OTHER)]
        for rules, direction, port in ((come, "iif", "sport"), (go, "oif", "dport")):
            chosen = f'{direction}name "{device}"'
            mqtt = f"tcp {port} {BROKER_PORT}"
            rules.append(f'{chosen} {mqtt} counter name "{device}_{MQTT}" return')
            rules.append(f'{chosen} counter name "{device}_{OTHER}"')
    lines = ["table inet bench_bytes {", *counters]
    for name, hook, priority, rules in (
        ("come", "prerouting", -400, come),
        ("go", "postrouting", 400, go),
    ):
        lines += [
            f"chain {name} {{",
            f"type filter hook {hook} priority {priority}; policy accept;",
            *rules,
            "}",
        ]
    return "\n".join([*lines, "}", ""])


class Cost:
    """Processor time and memory of one process, over a time."""

    def __init__(self, process: subprocess.Popen[Any] | None) -> None:
        self._process = None if process is None else psutil.Process(process.pid)
        self._at_s = boottime_s()
        self._spent_s = self._spent()

    def cpu_ratio(self) -> float | None:
        """Return its share of one core since it was made; None: no process."""
        spent_s = self._spent()
        if spent_s is None or self._spent_s is None:
            return None
        return (spent_s - self._spent_s) / (boottime_s() - self._at_s)

    def rss_bytes(self) -> int | None:
        """Return its resident memory."""
        if self._process is None:
            return None
        try:
            return int(self._process.memory_info().rss)
        except psutil.NoSuchProcess:
            return None

    def _spent(self) -> float | None:
        if self._process is None:
            return None
        try:
            times = self._process.cpu_times()
        except psutil.NoSuchProcess:
            return None
        # What it started and waited for is its cost too.
        return times.user + times.system + times.children_user + times.children_system
