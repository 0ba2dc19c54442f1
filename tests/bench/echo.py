"""Measures the udp-echo reflector: packets a second, answered, on one core.

    .venv/bin/python tests/bench/echo.py [SECONDS]

The reflector runs in a process of its own, as the collector runs it: kernel stamps, both
codes, counting, 702 sites' keys. A second process keeps 128 requests of 702 sites on
their way over loopback, so the machine needs two cores for an honest figure. Requests
are made beforehand; their answers are checked afterwards, a sample of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import select
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from jaga_agent.wire import echo
from jaga_server.adapters.echo import EchoServer
from jaga_server.ingest.reflector import Reflector

MASTER = bytes(range(32))
SITES = [f"tps-64080{n:05}-{n % 20:03}" for n in range(702)]
KEYS = {site: echo.site_key(MASTER, site) for site in SITES}
WAITING = 128
clock = time.perf_counter


def reflect(pipe):
    """Run the reflector until the pipe says so; then tell its counters."""

    async def main():
        reflector = Reflector(MASTER, SITES, run_secret=secrets.token_bytes(32))
        server = EchoServer(reflector, lambda *_: None)
        server.bind("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        server.start(loop)
        end = asyncio.Event()
        loop.add_reader(pipe.fileno(), end.set)
        pipe.send(server.address)
        await end.wait()
        server.close()
        counters = reflector.counters
        pipe.send((counters.received, counters.counted, dict(counters.dropped)))

    asyncio.run(main())


def exchange(sock, requests, wanted_s):
    """Send the requests in turn, WAITING of them on their way; return the answers."""
    answers = []
    sent = 0
    end_s = clock() + wanted_s
    while clock() < end_s and (sent < len(requests) or len(answers) < sent):
        while sent < len(requests) and sent - len(answers) < WAITING:
            sock.send(requests[sent])
            sent += 1
        if not select.select([sock], [], [], 1)[0]:
            break
        try:
            while True:
                answers.append(sock.recv(64))
        except BlockingIOError:
            continue
    return sent, answers


def ask(site, seq, token):
    request = echo.Request(echo.site_tag(site), 1, seq, token, 0)
    return echo.encode_request(request, KEYS[site])


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=reflect, args=(theirs,))
    process.start()
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Room for every answer: one dropped here would count against the reflector.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.connect(ours.recv())
        sock.setblocking(False)
        tokens = {}
        for site in SITES:
            request = ask(site, 1, 0)
            _, (answer,) = exchange(sock, [request], 5)
            tokens[site] = echo.decode_answer(answer, request, KEYS[site]).token
        rounds = int(seconds * 60_000 / len(SITES)) + 1
        requests = [
            ask(site, seq, tokens[site])
            for seq in range(2, 2 + rounds)
            for site in SITES
        ]
        meter = psutil.Process(process.pid)
        cpu, began = meter.cpu_times(), clock()
        sent, answers = exchange(sock, requests, seconds)
        passed_s, spent = clock() - began, meter.cpu_times()
        used_s = spent.user + spent.system - cpu.user - cpu.system
        for request, answer in list(zip(requests, answers, strict=False))[::997]:
            site = SITES[requests.index(request) % len(SITES)]
            assert echo.decode_answer(answer, request, KEYS[site]).received is not None
        print(
            f"reflector: {len(answers)} of {sent} requests answered in {passed_s:.1f} s ="
            f" {len(answers) / passed_s:.0f}/s at {100 * used_s / passed_s:.0f} % of a"
            f" core, {1e6 * used_s / len(answers):.1f} µs of CPU each;"
            f" RSS {meter.memory_info().rss / 2**20:.0f} MiB"
        )
        assert len(answers) / passed_s >= 5000
        ours.send("end")
        received, counted, dropped = ours.recv()
        assert received == sent + len(SITES)
        assert counted == sent
        assert dropped == {}
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()


if __name__ == "__main__":
    main()
