"""The collector's API for a pretended district: a tool to work on the page with.

    python web/dev/fixture.py [--port 8071] [--sites CSV] [--outlines GEOJSON]

Serves the built page too, under the policy that the collector sets. A test or a
developer makes trouble with POST /fixture/{fail,broker,silence}. Binds to loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from world import World

from jaga_server.web.schema import (
    EventList,
    EventView,
    Problem,
    Series,
    SiteList,
    SiteView,
    StreamUpdate,
    UplinkSeries,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "server/jaga_server/web/static"
SHARED = ROOT / "../shared/data"
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:"
)
STEP_S = 0.5
PING_S = 5.0
GAP_S = (1_500, 1_800)
"""Seconds before now in which every chart has a hole: gaps must be seen to be tested."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def answer(value: object, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value), status_code=status, media_type="application/json"
    )


class Fixture:
    """The world, its clock, and whoever listens."""

    def __init__(self, world: World, outlines: Path) -> None:
        self.world = world
        self.outlines = outlines
        self.revision = 1
        self.silent = False
        self.last_message_ms = now_ms()
        self.listeners: set[asyncio.Queue[bytes]] = set()
        world.advance(now_ms(), everyone=True)

    def update(self, sites: list[SiteView], events: list[EventView]) -> bytes:
        update = StreamUpdate(
            self.revision,
            self.world.summary(self.last_message_ms),
            tuple(sites),
            tuple(events),
        )
        return b"event: update\ndata: " + msgspec.json.encode(update) + b"\n\n"

    async def run(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            sites: list[SiteView] = []
            events: list[EventView] = []
            if self.world.broker_connected:
                sites, events = self.world.advance(now_ms())
                if sites:
                    self.last_message_ms = now_ms()
            else:
                self.world.now_ms = now_ms()
            self.revision += 1
            if not self.silent:
                chunk = self.update(sites, events)
                for listener in self.listeners:
                    listener.put_nowait(chunk)

    async def stream(self, _request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            self.listeners.add(queue)
            try:
                everyone = [site.view for site in self.world.sites.values()]
                yield self.update(everyone, [])
                while True:
                    yield await queue.get()
            finally:
                self.listeners.discard(queue)

        return StreamingResponse(
            chunks(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def summary(self, _request: Request) -> Response:
        return answer(self.world.summary(self.last_message_ms))

    async def sites(self, _request: Request) -> Response:
        views = tuple(site.view for site in self.world.sites.values())
        return answer(SiteList(self.revision, views))

    async def events(self, request: Request) -> Response:
        site = request.query_params.get("site")
        limit = int(request.query_params.get("limit", "100"))
        chosen = [e for e in self.world.events if site in (None, e.site)]
        return answer(EventList(tuple(chosen[:limit])))

    async def site(self, request: Request) -> Response:
        site_id = request.path_params["site"]
        if site_id not in self.world.sites:
            return answer(Problem("Not found", 404, f"no site {site_id}"), 404)
        return answer(self.world.detail(site_id))

    async def series(self, request: Request) -> Response:
        site_id = request.path_params["site"]
        if site_id not in self.world.sites:
            return answer(Problem("Not found", 404, f"no site {site_id}"), 404)
        to_ms = int(request.query_params.get("to_ms", now_ms()))
        from_ms = int(request.query_params.get("from_ms", to_ms - 3_600_000))
        return answer(columns(self.world, site_id, from_ms, to_ms))

    async def kecamatan(self, _request: Request) -> Response:
        return FileResponse(self.outlines, media_type="application/geo+json")

    async def trouble(self, request: Request) -> Response:
        """POST /fixture/fail?provider=&kecamatan=&duration_s=&health= breaks one."""
        query = request.query_params
        self.world.fail(
            query["provider"],
            query["kecamatan"],
            now_ms(),
            1000 * int(query.get("duration_s", "600")),
            query.get("health", "down"),
        )
        return Response(status_code=204)

    async def broker(self, request: Request) -> Response:
        self.world.broker_connected = request.query_params["connected"] == "1"
        return Response(status_code=204)

    async def silence(self, request: Request) -> Response:
        self.silent = request.query_params["on"] == "1"
        return Response(status_code=204)


def columns(world: World, site_id: str, from_ms: int, to_ms: int) -> Series:
    """Draw a site's past: the same for every call, with the world's troubles in it."""
    view = world.sites[site_id].view
    step_s = max(10, (to_ms - from_ms) // 1000 // 400 // 10 * 10)
    first = math.ceil(from_ms / 1000 / step_s) * step_s
    end = min(to_ms, view.last_seen_ms or 0) // 1000
    gap = (world.now_ms // 1000 - GAP_S[1], world.now_ms // 1000 - GAP_S[0])
    instants = [t for t in range(first, end, step_s) if not gap[0] <= t < gap[1]]
    uplinks = []
    healthy: dict[int, str] = {}
    for uplink in view.uplinks:
        means: list[float | None] = []
        lows: list[float | None] = []
        highs: list[float | None] = []
        losses: list[float | None] = []
        for t in instants:
            noise = random.Random(f"{site_id}/{uplink.name}/{t}")
            health = world.health(view, uplink.provider, t * 1000)
            if health != "down":
                healthy.setdefault(t, uplink.name)
            base = {"Telkom": 18, "Starlink": 38}.get(uplink.provider, 46)
            mean = base * (1 + 0.15 * math.sin(t / 700)) * noise.lognormvariate(0, 0.1)
            if health == "degraded":
                mean *= 6
            down = health == "down"
            means.append(None if down else round(mean, 1))
            lows.append(None if down else round(mean * 0.8, 1))
            highs.append(None if down else round(mean * noise.uniform(1.15, 1.7), 1))
            small = 1 / 3 if noise.random() < 0.015 else 0.0
            losses.append({"down": 1.0, "degraded": 0.2}.get(health, small))
        uplinks.append((uplink, means, lows, highs, losses))
    return Series(
        site_id,
        from_ms,
        to_ms,
        0 if step_s == 10 else step_s,
        tuple(
            UplinkSeries(
                name=uplink.name,
                provider=uplink.provider,
                t_s=tuple(float(t) for t in instants),
                rtt_mean_ms=tuple(means),
                rtt_min_ms=tuple(lows),
                rtt_max_ms=tuple(highs),
                loss_ratio=tuple(losses),
                active=tuple(healthy.get(t) == uplink.name for t in instants),
                by_clock=(True,) * len(instants),
            )
            for uplink, means, lows, highs, losses in uplinks
        ),
    )


class PolicyMiddleware:
    """Sets the collector's Content-Security-Policy on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)


def application(fixture: Fixture) -> Starlette:
    """Return the API, the fixture's levers, and the page under other addresses."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(fixture.run())
        yield
        running.cancel()

    async def page(_request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    return Starlette(
        routes=[
            Route("/api/1/summary", fixture.summary),
            Route("/api/1/sites", fixture.sites),
            Route("/api/1/sites/{site}", fixture.site),
            Route("/api/1/sites/{site}/series", fixture.series),
            Route("/api/1/events", fixture.events),
            Route("/api/1/kecamatan.geojson", fixture.kecamatan),
            Route("/api/1/stream", fixture.stream),
            Route("/fixture/fail", fixture.trouble, methods=["POST"]),
            Route("/fixture/broker", fixture.broker, methods=["POST"]),
            Route("/fixture/silence", fixture.silence, methods=["POST"]),
            Route("/", page),
            Route("/site/{site}", page),
            Mount("/", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(PolicyMiddleware), Middleware(GZipMiddleware)],
        lifespan=lifespan,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8071)
    parser.add_argument("--sites", type=Path, default=SHARED / "kutim-sites.csv")
    parser.add_argument(
        "--outlines", type=Path, default=SHARED / "kutim-kecamatan.geojson"
    )
    options = parser.parse_args()
    world = World(options.sites, now_ms())
    uvicorn.run(
        application(Fixture(world, options.outlines)),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
