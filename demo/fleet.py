"""The rest of the district: every listed site as one real MQTT 5 connection.

    python -m demo.fleet --sites CSV --exclude tps-… --socket PATH

Each site has its own client id, last will, retained presence and numbered records, as
its Pi would. One process and one thread drive them all from an asyncio loop. What the
sites measured is `demo.district`'s, how they tell it `demo.publisher`'s. Standard
output is one JSON line every few seconds; the last one has `"done": true`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import secrets
import signal
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.district import SimulatedSite, weather
from demo.publisher import Broker, Publisher, Tally
from jaga_server import site_list
from jaga_server.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_server.core.model import Site

CLOSE_WITHIN_S = 5.0
REPORT_CONNECTING_S = 0.5
FILES_BESIDE_SITES = 64


def _phase(site: str) -> float:
    """Return the site's place in the interval, 0…1: the same in every run."""
    return zlib.crc32(site.encode()) / 2**32


def _raise_open_files(connections: int) -> None:
    """One descriptor for each site; the usual soft limit is 1,024."""
    needed = connections + FILES_BESIDE_SITES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard < needed:
        sys.exit(
            f"fleet: {connections} sites need {needed} open files, the limit is {hard};"
            f" raise it (ulimit -Hn {needed}) or use --limit {hard - FILES_BESIDE_SITES}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def run(sites: Sequence[Site], options: argparse.Namespace) -> int:
    """Run the fleet until SIGTERM or SIGINT; return the process's exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    broken: list[str] = []

    def on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A callback that raised is a bug in here: show it and end, do not limp on.
        loop.default_exception_handler(context)
        broken.append(context["message"])
        stop.set()

    loop.set_exception_handler(on_exception)
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)

    tally = Tally(sites=len(sites))
    broker = Broker(options.socket, options.host, options.port)
    over_district = weather(sites, options.seed)
    publishers = [
        Publisher(
            loop=loop,
            site=SimulatedSite(
                listed=listed,
                seed=options.seed,
                boot=secrets.token_bytes(8),
                weather=over_district,
                interval_s=options.interval,
            ),
            region=options.region,
            broker=broker,
            will_delay_s=options.will_delay,
            tally=tally,
        )
        for listed in sites
    ]
    for number, publisher in enumerate(publishers):
        connect_in_s = options.connect_within * number / max(1, len(publishers))
        phase = _phase(publisher.site.listed.site)
        publisher.start(connect_in_s, connect_in_s + phase * options.interval)

    while not stop.is_set():
        # Whoever waits for the fleet to be up should not wait for a report.
        whole = tally.connected == tally.sites
        try:
            async with asyncio.timeout(
                options.report if whole else REPORT_CONNECTING_S
            ):
                await stop.wait()
        except TimeoutError:
            _report(tally)
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await asyncio.gather(*(publisher.close() for publisher in publishers))
    except TimeoutError:
        broken.append(f"{tally.connected} sites did not disconnect in time")
    _report(tally, done=True)
    for message in broken:
        print(f"fleet: {message}", file=sys.stderr)
    return 1 if broken else 0


def _report(tally: Tally, *, done: bool = False) -> None:
    waiting = tally.made - tally.acknowledged - tally.dropped
    line = {**asdict(tally), "waiting": waiting, "done": done}
    print(json.dumps(line), flush=True)


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.fleet",
        description="Simulate the polling sites of a list, one connection for each.",
    )
    parser.add_argument("--sites", type=Path, required=True, help="site list (CSV)")
    parser.add_argument(
        "--exclude", action="append", default=[], help="a site that runs for real"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", help="the broker's Unix socket")
    where.add_argument("--host", default="", help="the broker's address")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--region", default="6408", help="Kemendagri code, no dots")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first so many sites")
    parser.add_argument(
        "--will-delay", type=int, default=30, help="seconds until a will is sent"
    )
    parser.add_argument(
        "--connect-within", type=float, default=5.0, help="seconds to spread dialling"
    )
    parser.add_argument("--report", type=float, default=5.0, help="seconds")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    try:
        listed = site_list.read(options.sites)
    except ConfigError as error:
        sys.exit(f"fleet: {error}")
    sites = [site for site in listed if site.site not in options.exclude]
    sites = sites[: options.limit]
    _raise_open_files(len(sites))
    return asyncio.run(run(sites, options))


if __name__ == "__main__":
    raise SystemExit(main())
