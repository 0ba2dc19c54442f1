"""Measures the collector: how fast it stores, how much it weighs with a whole district.

    JAGA_SHARED_DATA=../shared/data .venv/bin/python tests/bench/ingest.py [MESSAGES]

1. Backlog: MESSAGES heartbeats (3 uplinks each) wait in a real Mosquitto; the collector
   starts and stores them with synchronous=FULL, acknowledging after each commit.
2. District: 702 sites, a heartbeat each 10 s for 30 s; CPU, memory and what a page gets.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collector_lab import (
    CollectorProcess,
    Publisher,
    ScriptedSite,
    Stream,
)
from lab import Broker
from support.places import shared_data
from support.waiting import until

DATA = shared_data()
clock = time.perf_counter


def sites():
    with (DATA / "kutim-sites.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            names = [row[f"uplink{n}"].lower() for n in (1, 2, 3) if row[f"uplink{n}"]]
            yield ScriptedSite(row["site_id"], uplinks=tuple(names))


def backlog(room, broker, district, count):
    room.start()
    room.wait_connected()
    room.stop()
    link = Publisher(broker.port)
    made = 0
    while made < count:
        part = [
            (one.topic("heartbeat"), one.heartbeat())
            for one in district[: count - made]
        ]
        link.all(part)
        made += len(part)
    link.close()
    room.start(ready=False)
    process = psutil.Process(room.process.pid)
    until(room._answers, "the collector answers")
    first = last = (clock(), room.metrics())
    while last[1]["jaga_received_total"] < made or last[1]["jaga_in_flight"]:
        time.sleep(0.05)
        last = (clock(), room.metrics())
    stored = last[1]['jaga_stored_total{leaf="heartbeat"}']
    before = first[1].get('jaga_stored_total{leaf="heartbeat"}', 0.0)
    cpu = process.cpu_times()
    mean = last[1]["jaga_commit_seconds_sum"] / last[1]["jaga_commit_seconds_count"]
    print(
        f"backlog: {stored - before:.0f} heartbeats in {last[0] - first[0]:.2f} s ="
        f" {(stored - before) / (last[0] - first[0]):.0f} /s;"
        f" {stored / last[1]['jaga_batches_total']:.0f} a batch, mean commit"
        f" {mean * 1000:.1f} ms; process CPU {cpu.user + cpu.system:.1f} s in all,"
        f" RSS {process.memory_info().rss / 2**20:.0f} MiB"
    )
    assert stored == made == len(set(room.records()))


def live(room, broker, district, seconds=30):
    stream = Stream(f"{room.url}/api/1/stream")
    link = Publisher(broker.port)
    process = psutil.Process(room.process.pid)
    began, cpu = clock(), process.cpu_times()
    sent = 0
    while (now := clock() - began) < seconds:
        while sent < now * len(district) / 10:
            one = district[sent % len(district)]
            link.send(one.topic("heartbeat"), one.heartbeat())
            sent += 1
        time.sleep(0.01)
    spent, passed = process.cpu_times(), clock() - began
    used = spent.user + spent.system - cpu.user - cpu.system
    print(
        f"district: {len(district)} sites, {sent / passed:.0f} heartbeats/s, one page:"
        f" CPU {100 * used / passed:.1f} % of a core,"
        f" RSS {process.memory_info().rss / 2**20:.0f} MiB,"
        f" {len(stream.updates) / passed:.1f} updates/s,"
        f" {sum(len(u['sites']) for u in stream.updates[1:]) / passed:.0f} rows/s"
    )
    stream.close()
    link.close()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(prefix="jaga-bench-") as folder:
        broker = Broker(Path(folder), options="max_queued_messages 0\n")
        room = CollectorProcess(
            Path(folder), broker.port, sites=DATA / "kutim-sites.csv"
        )
        try:
            broker.start()
            district = list(sites())
            backlog(room, broker, district, count)
            live(room, broker, district)
            assert room.stop() == 0
        finally:
            room.stop(9)
            broker.stop()


if __name__ == "__main__":
    main()
