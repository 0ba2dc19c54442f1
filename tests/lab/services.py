"""The internet's services: the Sirekap stand-in, an upload sink, the quota portal.

    python3 -m lab.services TLS_DIRECTORY   (in the internet's namespace; prints `ready`)

* 203.0.113.10:443 speaks TLS (certificate of the lab's own CA) to those who begin with
  a TLS handshake, and the same in plain to all others. Inside, HTTP requests get an
  HTTP answer, and every other line is answered with JSON: {"seen": client address,
  "line": …}. The address is the carrier NAT's, so it tells which provider carried.
* 203.0.113.10:80 sends HTTP to HTTPS, but answers `/check_network_status.txt` as
  NetworkManager's connectivity check wants it, and `/generate_204` with 204.
* 203.0.113.10:8443 counts the bytes of each connection and acknowledges every chunk
  with a JSON line {"seen", "total_bytes"}.
* 203.0.113.90:80 is the carrier's portal: `/beli-kuota` is its page, and any other
  request is redirected to that page.

It knows nothing of faults. Ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.topology import PORTAL, SINK_PORT, SIREKAP, SIREKAP_PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TLS_HANDSHAKE = b"\x16"
"""First byte of a TLS record that carries a handshake (RFC 8446, 5.1)."""
HELLO_WITHIN_S = 30.0
BACKLOG = 512
METHODS = ("GET ", "HEAD ", "POST ")
NM_ONLINE = b"NetworkManager is online\n"
PORTAL_PAGE = (
    b"<!doctype html><html lang=id><title>Kuota habis</title>"
    b"<h1>Kuota internet Anda habis</h1><p>Beli paket untuk melanjutkan.</p></html>\n"
)


def _answer(writer: asyncio.StreamWriter, **values: str | int) -> None:
    seen = writer.get_extra_info("peername")[0]
    writer.write(json.dumps({"seen": seen, **values}).encode() + b"\n")


def http_answer(status: str, body: bytes = b"", **fields: str) -> bytes:
    """Return an HTTP/1.1 answer that closes the connection; `_` in a field is `-`."""
    head = [f"HTTP/1.1 {status}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    head += [f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def _request_path(reader: asyncio.StreamReader, first: str) -> str:
    while (await reader.readline()).strip():
        pass
    words = first.split()
    return words[1] if len(words) > 1 else "/"


async def sirekap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every line, until the client closes; one HTTP request as HTTP."""
    while line := await reader.readline():
        text = line.decode(errors="replace")
        if text.startswith(METHODS):
            await _request_path(reader, text)
            page = b"<!doctype html><title>Sirekap</title>\n"
            writer.write(http_answer("200 OK", page, Content_Type="text/html"))
            await writer.drain()
            return
        _answer(writer, line=text.rstrip("\n"))
        await writer.drain()


async def plain_http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send everybody to HTTPS, but those who only check connectivity."""
    first = (await reader.readline()).decode(errors="replace")
    path = await _request_path(reader, first)
    if path == "/check_network_status.txt":
        answer = http_answer(
            "200 OK",
            NM_ONLINE,
            Content_Type="text/plain",
            X_NetworkManager_Status="online",
        )
    elif path == "/generate_204":
        answer = http_answer("204 No Content")
    else:
        answer = http_answer(
            "301 Moved Permanently", Location=f"https://sirekap-web.kpu.go.id{path}"
        )
    writer.write(answer)
    await writer.drain()


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Acknowledge every chunk with the connection's total."""
    total_bytes = 0
    while chunk := await reader.read(65536):
        total_bytes += len(chunk)
        _answer(writer, total_bytes=total_bytes)
        await writer.drain()


async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Show the page that sells quota, and send every other request there."""
    first = (await reader.readline()).decode(errors="replace")
    path = await _request_path(reader, first)
    if path == "/beli-kuota":
        answer = http_answer("200 OK", PORTAL_PAGE, Content_Type="text/html")
    else:
        answer = http_answer(
            "302 Found", PORTAL_PAGE, Location="http://portal.invalid/beli-kuota"
        )
    writer.write(answer)
    await writer.drain()


def _closing(serve: Serve) -> Serve:
    """Close the connection after `serve`; a client that goes away is no news."""

    async def served(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # reset, timed out, or a line beyond the reader's limit
        finally:
            writer.close()

    return served


class EitherServer:
    """Serves TLS and plain text on one port, by the connection's first byte."""

    def __init__(self, serve: Serve, context: ssl.SSLContext) -> None:
        self._serve = _closing(serve)
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, address: str, port: int) -> None:
        """Accept until the program ends."""
        listener = socket.create_server((address, port), backlog=BACKLOG)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._take(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                first = await _peek(loop, connection)
            if not first:
                connection.close()
                return
            reader = asyncio.StreamReader()
            # A handshake that is reset midway is the client's to complain about.
            await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, self._serve),
                connection,
                ssl=self._context if first == TLS_HANDSHAKE else None,
            )
        except (OSError, TimeoutError):
            connection.close()


async def _peek(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """Return the first byte without taking it; empty when the client closed."""
    readable: asyncio.Future[None] = loop.create_future()
    number = connection.fileno()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(number, wake)
    try:
        await readable
    finally:
        loop.remove_reader(number)
    return connection.recv(1, socket.MSG_PEEK)


async def main() -> None:
    tls = Path(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "sirekap.crt", tls / "sirekap.key")
    loop = asyncio.get_running_loop()
    lifeline = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lifeline), sys.stdin
    )
    for serve, address, port in (
        (plain_http, SIREKAP, 80),
        (sink, SIREKAP, SINK_PORT),
        (portal, PORTAL, 80),
    ):
        await asyncio.start_server(_closing(serve), address, port, backlog=BACKLOG)
    either = asyncio.create_task(
        EitherServer(sirekap, context).listen(SIREKAP, SIREKAP_PORT)
    )
    # One turn of the loop, and it listens.
    await asyncio.sleep(0)
    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    await lifeline.read()
    either.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await either


if __name__ == "__main__":
    asyncio.run(main())
