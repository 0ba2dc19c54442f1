"""Uvicorn under our own signals: binds first, so that a taken port is said in a line."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import uvicorn

from jaga_server.errors import WebError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

GRACE_S = 2
"""For answers under way when the collector stops; streams are ended by the board."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises WebError."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = (
                f"port {port} is taken; choose another with [web] port, or stop the "
                f"program that has it (ss -ltnp 'sport = :{port}' names it)"
            )
        else:
            message = (
                f"cannot serve on {host} port {port}: {error.strerror or error}; "
                "check [web] host and port"
            )
        raise WebError(message) from error
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the runtime stops it when its time comes."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
