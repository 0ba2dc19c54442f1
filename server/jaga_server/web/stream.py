"""Server-sent events (WHATWG HTML, 9.2) from the board's listeners. Only carries bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from jaga_server.web.board import Board, Listener

PING_S = 5.0
"""A comment this often keeps proxies and NATs from closing a quiet stream, and tells the
page, which gives up after 15 s without a byte, that we live."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
"""`X-Accel-Buffering: no`: nginx would hold events back otherwise."""


class EventStream:
    """An ASGI response that lasts until the page, the board or the collector ends it."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        listener = self._board.listen()
        ends = [
            asyncio.create_task(_gone(receive)),
            asyncio.create_task(listener.dropped.wait()),
            asyncio.create_task(_carry(listener, send)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._board.drop(listener)
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        # The last chunk lets a listener that is only dropped see the end at once; one
        # whose buffer is full must not hold us.
        try:
            await asyncio.wait_for(
                send({"type": "http.response.body", "body": b"", "more_body": False}), 1
            )
        except (TimeoutError, OSError):
            return


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _carry(listener: Listener, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    while True:
        try:
            frame = await asyncio.wait_for(listener.queue.get(), PING_S)
        except TimeoutError:
            frame = b": ping\n\n"
        await send({"type": "http.response.body", "body": frame, "more_body": True})
