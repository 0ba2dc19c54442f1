"""The web application: API, stream, metrics, page. Answers; changes nothing."""

from __future__ import annotations

import hashlib
import http
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route

from jaga_server.adapters import clock
from jaga_server.errors import StoreError
from jaga_server.web import metrics as prometheus
from jaga_server.web import openapi, schema, static, views
from jaga_server.web.guard import Guard
from jaga_server.web.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from jaga_server.core.model import Site, Thresholds
    from jaga_server.store.reader import Reader
    from jaga_server.web.board import Board
    from jaga_server.web.metrics import Metrics

HOUR_MS = 3_600_000
DETAIL_EVENTS = 50
BOOTS_LISTED = 50
_JSON = msgspec.json.Encoder()


class Api:
    """The handlers; `openapi.ROUTES` says where each one is."""

    def __init__(
        self,
        *,
        board: Board,
        reader: Reader,
        thresholds: Thresholds,
        metrics: Metrics,
        outlines: bytes | None,
        healthy: Callable[[], str | None],
    ) -> None:
        """`healthy()` returns None, or what is wrong with the collector."""
        self._board = board
        self._reader = reader
        self._thresholds = thresholds
        self._metrics = metrics
        self._outlines = outlines
        self._healthy = healthy
        self._openapi = openapi.text()

    async def summary(self, _request: Request) -> Response:
        return _answer(self._board.summary())

    async def sites(self, _request: Request) -> Response:
        return _answer(self._board.site_list())

    async def site(self, request: Request) -> Response:
        site = self._site(request.path_params["site"])
        state = self._board.states.get(site.site, views.NEVER)
        beat, birth = state.beat, state.birth
        boot = birth.boot if birth else beat.boot if beat else None
        events = await run_in_threadpool(self._reader.events, DETAIL_EVENTS, site.site)
        tally = None
        if boot is not None:
            tally = await run_in_threadpool(self._reader.tally, site.site, boot)
        return _answer(
            schema.SiteDetail(
                site=self._board.view(site.site),
                host=views.host_view(beat.host) if beat else None,
                mode=beat.mode.value if beat else None,
                version=birth.version or None if birth else None,
                config_hash=birth.config_hash or None if birth else None,
                clock_confirmed=beat.clock_confirmed if beat else None,
                heartbeats=tally.heartbeats if tally else 0,
                lost=tally.lost if tally else 0,
                events=tuple(views.event_view(event) for event in events),
                last_seq=tally.last_seq if tally else None,
                missing=tally.missing if tally else 0,
            )
        )

    async def boots(self, request: Request) -> Response:
        site = self._site(request.path_params["site"]).site
        boots = await run_in_threadpool(self._reader.boots, site, BOOTS_LISTED)
        return _answer(schema.SiteBoots(site, tuple(map(views.boot_view, boots))))

    async def series(self, request: Request) -> Response:
        site = self._site(request.path_params["site"])
        to_ms = _number(request, "to_ms", clock.wall_ms())
        from_ms = _number(request, "from_ms", to_ms - HOUR_MS)
        if not 0 <= from_ms < to_ms:
            raise HTTPException(400, "from_ms must be before to_ms")
        if to_ms - from_ms > openapi.SERIES_DAYS * 24 * HOUR_MS:
            raise HTTPException(400, f"at most {openapi.SERIES_DAYS} days at once")
        samples = await run_in_threadpool(
            self._reader.samples, site.site, from_ms, to_ms
        )
        state = self._board.states.get(site.site, views.NEVER)
        return _answer(
            await run_in_threadpool(
                views.series_view,
                site,
                state,
                samples,
                from_ms=from_ms,
                to_ms=to_ms,
                thresholds=self._thresholds,
            )
        )

    async def events(self, request: Request) -> Response:
        name = request.query_params.get("site")
        site = self._site(name).site if name is not None else None
        limit = _number(request, "limit", 100)
        if not 1 <= limit <= openapi.EVENTS_LIMIT:
            raise HTTPException(400, f"limit must be 1 to {openapi.EVENTS_LIMIT}")
        events = await run_in_threadpool(self._reader.events, limit, site)
        return _answer(
            schema.EventList(tuple(views.event_view(event) for event in events))
        )

    async def kecamatan(self, request: Request) -> Response:
        if self._outlines is None:
            raise HTTPException(404, "no outlines here: set [collector] kecamatan")
        # Weak: gzip changes the bytes, not the content.
        tag = f'W/"{hashlib.sha256(self._outlines).hexdigest()[:32]}"'
        headers = {"etag": tag, "cache-control": "no-cache"}
        asked = request.headers.get("if-none-match", "")
        if tag in (part.strip() for part in asked.split(",")):
            return Response(None, 304, headers)
        return Response(
            self._outlines, headers=headers, media_type="application/geo+json"
        )

    async def stream(self, _request: Request) -> EventStream:
        return EventStream(self._board)

    async def openapi(self, _request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def metrics(self, _request: Request) -> Response:
        return Response(
            self._metrics.render(),
            headers={"content-type": prometheus.CONTENT_TYPE},
        )

    async def healthz(self, _request: Request) -> Response:
        wrong = self._healthy()
        if wrong is not None:
            raise HTTPException(503, wrong)
        return Response("ok\n", media_type="text/plain")

    def _site(self, name: str) -> Site:
        try:
            return self._board.sites[name]
        except KeyError:
            message = f"site {name[:80]!r} is not on the list and was never heard"
            raise HTTPException(404, message) from None


def build(api: Api, page_root: Path) -> Starlette:
    """Return the ASGI application."""
    page = static.Page(page_root)
    return Starlette(
        routes=[
            *(Route(route.path, getattr(api, route.name)) for route in openapi.ROUTES),
            Route("/metrics", api.metrics),
            Route("/healthz", api.healthz),
            Route("/", page.index),
            Route("/site/{site:path}", page.index),
            Route("/{path:path}", page.file),
        ],
        middleware=[
            Middleware(Guard),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
        ],
        exception_handlers={
            HTTPException: _problem,
            StoreError: _store_problem,
            Exception: _unexpected,
        },
    )


def _answer(value: msgspec.Struct) -> Response:
    return Response(
        _JSON.encode(value),
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # The store's integers have 64 bits; Python's have no end.
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise HTTPException(400, f"{name} must be a whole number of at most 15 digits")
    return int(text)


def _say(status: int, detail: str, headers: Any = None) -> Response:
    problem = schema.Problem(http.HTTPStatus(status).phrase, status, detail)
    return Response(_JSON.encode(problem), status, headers, "application/problem+json")


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (Starlette's registration promises it)
    return _say(error.status_code, error.detail, error.headers)


async def _store_problem(_request: Request, error: Exception) -> Response:
    return _say(503, str(error))


async def _unexpected(_request: Request, _error: Exception) -> Response:
    return _say(500, "a fault of the collector; its log says more")
