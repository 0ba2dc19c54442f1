"""Some slim sites in a process of its own, told what to do line by line.

    python -m support.slim_fleet CONFIG…

Each site beats every ten seconds. `beat` records one more at each, `return` lets all dial
at once, `end` ends it.
Every fifth of a second it writes one JSON line: how many are connected, how many records
no watermark covers, and each site's boot with its newest seq. (A process takes some 250
sites at most: paho waits with select(), which knows no descriptor above 1,023.)
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import sys
from pathlib import Path

from support.slim_site import SlimSite

TELL_S = 0.2
BEAT_S = 10.0


async def main(paths: list[str]) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    sites = [SlimSite(Path(path), boot=secrets.token_bytes(8)) for path in paths]
    for site in sites:
        site.presence.start()
    work = [loop.create_task(tell(sites)), *(loop.create_task(beat(s)) for s in sites)]
    while (line := (await lines.readline()).decode().strip()) not in {"", "end"}:
        for site in sites:
            if line == "beat":
                site.beat()
            else:
                site.presence.reconnect_now("the district's power is back")
    for task in work:
        task.cancel()
    await asyncio.gather(*(site.presence.close() for site in sites))


async def beat(site: SlimSite) -> None:
    await asyncio.sleep(random.uniform(0, BEAT_S))  # noqa: S311 - guards nothing
    while True:
        site.beat()
        await asyncio.sleep(BEAT_S)


async def tell(sites: list[SlimSite]) -> None:
    while True:
        said = {
            "connected": sum(site.presence.is_connected for site in sites),
            "uncovered": sum(site.spool.depth() for site in sites),
            "newest": {s.spool.boot.hex(): s.spool.next_seq() - 1 for s in sites},
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        await asyncio.sleep(TELL_S)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(main(sys.argv[1:]))
