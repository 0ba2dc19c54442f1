"""Measure a switch on a real kernel: `python tests/agent/kernel/measure.py` as root.

Prints milliseconds: the route replaced, the flush, and how long after the cable was
pulled the agent heard of it and had read the links again.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Site

ROUNDS = 200
PULLS = 10
LINKWATCH_S = 1.1
"""The kernel tells of a second carrier loss within a second only at its end."""


def row(name, values):
    values = sorted(values)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    sys.stdout.write(
        f"{name:<28} n={len(values):<4} median {statistics.median(values):6.2f} ms"
        f"   p99 {p99:6.2f} ms   max {values[-1]:6.2f} ms\n"
    )


def main():
    site = Site()
    try:
        site.build()
        agent, phone = site.agent(), site.client()
        agent.sync(active="first")
        names = ("first", "second")
        reports = []
        for n in range(ROUNDS):
            phone.connect(key=f"flow{n}")
            reports.append(agent.switch(active=names[1 - n % 2], previous=names[n % 2]))
        row("route replaced", [r["route_ms"] for r in reports])
        row("flows flushed", [r["flush_ms"] for r in reports])
        row("both", [r["route_ms"] + r["flush_ms"] for r in reports])

        agent.watch()
        heard, read = [], []
        for _ in range(PULLS):
            time.sleep(LINKWATCH_S)
            seen = len(agent.events_since(count=0))
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            site.carrier(0, "down")
            (kind, at), *_ = agent.events_since(count=seen)
            before = time.clock_gettime(time.CLOCK_BOOTTIME)
            assert (kind, agent.observe()["wan0"]["carrier"]) == ("link", False)
            heard.append((at - began) * 1000)
            read.append((time.clock_gettime(time.CLOCK_BOOTTIME) - before) * 1000)
            time.sleep(LINKWATCH_S)
            site.carrier(0, "up")
        row("carrier loss heard", heard)
        row("links read again", read)
    finally:
        site.demolish()


main()
