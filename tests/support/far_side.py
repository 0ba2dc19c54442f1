"""The other side of a wire: real DNS, TCP, HTTP and TLS servers in a namespace."""

from __future__ import annotations

import asyncio
import ctypes
import ssl
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from support.certificates import Issued

CLONE_NEWNET = 0x40000000
OK = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\n"
    b"Strict-Transport-Security: max-age=31536000\r\nConnection: close\r\n"
    b"Content-Length: 22\r\n\r\n"
)
BODY = b"<title>Sirekap</title>"


class FarSide:
    """A thread with an event loop in a namespace; its servers end with it."""

    def __init__(self, netns: str) -> None:
        self.requests: list[bytes] = []
        """Of HTTP, whole, as they came."""
        self.questions: list[tuple[str, str]] = []
        """Of DNS: the server's address and the name."""
        self._netns = netns
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[asyncio.Server] = []
        self._datagrams: list[asyncio.DatagramTransport] = []
        self._streams: set[asyncio.Transport] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        assert self._loop is not None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def tcp(self, address: str, port: int) -> None:
        """Accept, and wait for the client to go."""
        self._call(self._serve(address, port, self._mute, None))

    def raw(self, address: str, port: int, content: bytes) -> None:
        """Answer this to whatever is said first."""

        async def handle(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read(1)
            writer.write(content)

        self._call(self._serve(address, port, handle, None))

    def web(
        self,
        address: str,
        port: int,
        *,
        answer: bytes | Callable[[bytes], bytes] = OK,
        cert: Issued | None = None,
        tls12: bool = False,
    ) -> None:
        """Serve HTTP; with a certificate, HTTPS."""
        context = None
        if cert is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert.chain, cert.key)
            if tls12:
                context.maximum_version = ssl.TLSVersion.TLSv1_2

        async def handle(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            content = answer(request) if callable(answer) else answer
            if content is OK and not request.startswith(b"HEAD"):
                content += BODY
            writer.write(content)
            await writer.drain()

        self._call(self._serve(address, port, handle, context))

    def dns(
        self,
        address: str,
        names: dict[str, str],
        *,
        before: Callable[[bytes], list[bytes]] = lambda _: [],
        rcode: int = 0,
    ) -> None:
        """Answer with these addresses; `before` makes datagrams that come first."""
        self._call(self._serve_dns(address, names, before, rcode))

    # -- in the thread

    def _live(self) -> None:
        with Path(f"/run/netns/{self._netns}").open() as ns:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.setns(ns.fileno(), CLONE_NEWNET) == 0
        # Ends what is left of the handlers, too.
        asyncio.run(self._serve_until_ended())

    async def _serve_until_ended(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._ready.set()
        await self._ended.wait()
        for server in self._servers:
            server.close()
        # Also of connections whose handler has not begun: its task, cancelled before its
        # first step, closes nothing.
        for transport in (*self._datagrams, *self._streams):
            transport.abort()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(
        self, address: str, port: int, handle: Any, context: ssl.SSLContext | None
    ) -> None:
        async def guarded(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            try:
                if context is not None:
                    # Not by start_server: of a handshake that the test's end meets it
                    # would leave the socket open, with nobody to close it.
                    await writer.start_tls(context)
                await handle(reader, writer)
                writer.close()
                await writer.wait_closed()
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                # The client went away, or the test is over.
                writer.transport.abort()

        known = self._streams

        class Protocol(asyncio.StreamReaderProtocol):
            def connection_made(self, transport: Any) -> None:
                known.add(transport)
                super().connection_made(transport)

        assert self._loop is not None
        self._servers.append(
            await self._loop.create_server(
                lambda: Protocol(asyncio.StreamReader(), guarded), address, port
            )
        )

    async def _mute(
        self, reader: asyncio.StreamReader, _: asyncio.StreamWriter
    ) -> None:
        await reader.read()

    async def _serve_dns(
        self,
        address: str,
        names: dict[str, str],
        before: Callable[[bytes], list[bytes]],
        rcode: int,
    ) -> None:
        far = self

        class Server(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, question: bytes, source: Any) -> None:
                name = _asked(question)
                far.questions.append((address, name))
                for datagram in before(question):
                    self.transport.sendto(datagram, source)
                self.transport.sendto(
                    dns_answer(question, names.get(name), rcode), source
                )

        assert self._loop is not None
        transport, _ = await self._loop.create_datagram_endpoint(
            Server, local_addr=(address, 53)
        )
        self._datagrams.append(transport)


def _asked(question: bytes) -> str:
    labels = []
    at = 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels)


def dns_answer(question: bytes, address: str | None, rcode: int = 0) -> bytes:
    """Return the answer to a question: one address, or none."""
    found = address is not None and rcode == 0
    head = question[:2] + struct.pack("!5H", 0x8180 | rcode, 1, int(found), 0, 0)
    if not found or address is None:
        return head + question[12:]
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4)
    return head + question[12:] + record + bytes(map(int, address.split(".")))
