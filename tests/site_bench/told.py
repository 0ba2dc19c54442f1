"""The floor: this project's switch, told by the benchmark at the instant of the fault.

    python3 -m site_bench.told UPLINKS_JSON   (in the Pi's namespace; prints `ready`)

UPLINKS_JSON: [[name, device, index, preference], …]. Input, one JSON line each: [new,
old] switches (null for old: forgets nothing); [] puts the routes of re-plugged devices
right. Each is answered with a line of JSON. It detects nothing by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.conntrack import NetlinkConntrack
from jaga_agent.adapters.firewall import NftFirewall
from jaga_agent.adapters.netlink import NetlinkKernel
from jaga_agent.adapters.sysctl import ProcSettings
from jaga_agent.core.model import UplinkName
from jaga_agent.core.routes import RoutedUplink, RoutingConfig
from jaga_agent.reconcile import Reconciler


async def main() -> None:
    uplinks = [
        RoutedUplink(UplinkName(name), device, index, preference)
        for name, device, index, preference in json.loads(sys.argv[1])
    ]
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with NetlinkKernel() as kernel:
        reconciler = Reconciler(
            RoutingConfig(tuple(uplinks), ("lan0",)),
            kernel=kernel,
            conntrack=NetlinkConntrack(),
            firewall=NftFirewall(),
            settings=ProcSettings(),
            clock=BoottimeClock(),
        )
        await reconciler.sync(uplinks[0].name)
        print("ready", flush=True)
        while line := await reader.readline():
            match json.loads(line):
                case [new, old]:
                    previous = None if old is None else UplinkName(old)
                    report = await reconciler.switch(UplinkName(new), previous)
                    print(json.dumps({"route_ms": report.route_ms}), flush=True)
                case _:
                    synced = await reconciler.sync(None)
                    print(json.dumps({"changed": len(synced.changed)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
