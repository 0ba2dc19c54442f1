"""The internet's services: the Sirekap stand-in, an upload sink, the quota portal.

    python3 -m lab.services    (in the internet's namespace; prints `ready`)

* 203.0.113.10:443 answers each line with JSON: {"seen": client address, "line": …}.
  The address is the carrier NAT's, so it tells which provider carried the request.
* 203.0.113.10:8443 counts the bytes of each connection and acknowledges every chunk
  with a JSON line {"seen", "total_bytes"}.
* 203.0.113.90:80 answers any HTTP request with a redirect to the "buy quota" page.

Plain TCP; it knows nothing of faults. Ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from lab.topology import PORTAL, SINK_PORT, SIREKAP, SIREKAP_PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

REDIRECT = (
    b"HTTP/1.1 302 Found\r\nLocation: http://portal.invalid/beli-kuota\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def _answer(writer: asyncio.StreamWriter, **values: str | int) -> None:
    seen = writer.get_extra_info("peername")[0]
    writer.write(json.dumps({"seen": seen, **values}).encode() + b"\n")


async def sirekap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every line, until the client closes."""
    while line := await reader.readline():
        _answer(writer, line=line.decode(errors="replace").rstrip("\n"))
        await writer.drain()


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Acknowledge every chunk with the connection's total."""
    total_bytes = 0
    while chunk := await reader.read(65536):
        total_bytes += len(chunk)
        _answer(writer, total_bytes=total_bytes)
        await writer.drain()


async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirect whatever was asked for."""
    while (await reader.readline()).strip():
        pass
    writer.write(REDIRECT)
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


async def main() -> None:
    loop = asyncio.get_running_loop()
    lifeline = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lifeline), sys.stdin
    )
    for serve, address, port in (
        (sirekap, SIREKAP, SIREKAP_PORT),
        (sink, SIREKAP, SINK_PORT),
        (portal, PORTAL, 80),
    ):
        await asyncio.start_server(_closing(serve), address, port, backlog=512)
    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    await lifeline.read()


if __name__ == "__main__":
    asyncio.run(main())
