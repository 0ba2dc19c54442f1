"""Puts the collector together and keeps it running. The only module that knows all.

Three threads: `mqtt` (the broker's connection), `writer` (decode, store, acknowledge),
and the main one (event loop: page, stream, udp-echo reflector, service manager). Messages go one way through
them; acknowledgements come back from the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
from typing import TYPE_CHECKING

from jaga_agent.sd_notify import NotifyError, ServiceNotifier
from jaga_server.adapters.echo import EchoServer
from jaga_server.adapters.mqtt import Consumer
from jaga_server.errors import ConfigError
from jaga_server.ingest import received
from jaga_server.ingest.counters import Counters
from jaga_server.ingest.reflector import Reflector
from jaga_server.ingest.watermarks import Watermarks
from jaga_server.ingest.writer import Writer
from jaga_server.store.reader import Reader
from jaga_server.store.sqlite import Store
from jaga_server.web import app, server, static
from jaga_server.web.board import Board
from jaga_server.web.metrics import Metrics

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jaga_agent.wire.echo import SiteState
    from jaga_server.config import Config
    from jaga_server.ingest.received import Token
    from jaga_server.ingest.update import Update

log = logging.getLogger(__name__)

SUPERVISE_S = 1.0
DRAIN_S = 15.0
"""For what is in hand when told to stop; the broker keeps what is not committed."""
CLOSE_S = 5.0


class Collector:
    """One run of `jaga-collector run`."""

    def __init__(self, config: Config) -> None:
        """Open what can fail: the port, the database; raises CollectorError."""
        self._config = config
        with contextlib.ExitStack() as undo:
            self._open(config, undo)
            undo.pop_all()

    def _open(self, config: Config, undo: contextlib.ExitStack) -> None:
        outlines = _outlines(config.kecamatan)
        self._listener: socket.socket = undo.enter_context(
            server.bind(config.web_host, config.web_port)
        )
        self._store = undo.enter_context(contextlib.closing(Store(config.store)))
        self._reader = undo.enter_context(contextlib.closing(Reader(config.store)))
        self._counters = Counters()
        self._board = Board(config.district, config.sites)
        self._echo, reflector = self._open_echo(config, undo)
        self._metrics = Metrics(self._counters, self._board, reflector)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = Writer(
            self._store,
            listed=frozenset(site.site for site in config.sites),
            thresholds=config.thresholds,
            counters=self._counters,
            acknowledge=self._acknowledge,
            publish=self._publish,
            commit_seconds=self._metrics.commit_seconds,
            watermarks=Watermarks(
                self._store, config.region, self._counters, self._tell_site
            ),
        )
        self._consumer = Consumer(
            config.mqtt,
            config.region,
            self._writer.inbox,
            self._counters,
            lambda connected: self._writer.hear(connected=connected),
        )
        self._server = server.Server(
            app.build(
                app.Api(
                    board=self._board,
                    reader=self._reader,
                    thresholds=config.thresholds,
                    metrics=self._metrics,
                    outlines=outlines,
                    healthy=self.fault,
                ),
                static.folder(),
            )
        )

    def _open_echo(
        self, config: Config, undo: contextlib.ExitStack
    ) -> tuple[EchoServer | None, Reflector | None]:
        """Return the reflector and what it counts, if it is wanted."""
        if config.echo is None:
            return None, None
        reflector = Reflector(
            config.echo.master,
            (site.site for site in config.sites),
            run_secret=secrets.token_bytes(32),
        )
        server = undo.enter_context(
            contextlib.closing(EchoServer(reflector, self._sighted))
        )
        server.bind(config.echo.listen, config.echo.port)
        return server, reflector

    def _sighted(
        self, site: str, state: SiteState, place: int, arrival_ms: int
    ) -> None:
        self._writer.see(site, received.last_resort(state, place, arrival_ms))

    def _acknowledge(self, tokens: Sequence[Token]) -> None:
        self._consumer.acknowledge(tokens)

    def _tell_site(self, topic: str, payload: bytes) -> None:
        self._consumer.publish(topic, payload)

    def _publish(self, update: Update) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._board.post, update)

    def fault(self) -> str | None:
        """Return what is wrong with this process, or None."""
        if not self._writer.alive:
            return "the writer has ended; see the log"
        if not self._consumer.alive:
            return "the broker's thread has ended; see the log"
        return None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        self._loop = asyncio.get_running_loop()
        try:
            notifier = ServiceNotifier()
        except NotifyError as error:
            raise ConfigError(str(error)) from error
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stop.set)
        # The first page asked for must show what was known, not an empty district.
        self._board.post(self._writer.known())
        self._writer.start()
        self._consumer.start()
        if self._echo is not None:
            self._echo.start(self._loop)
        board = asyncio.create_task(self._board.run())
        serving = asyncio.create_task(self._server.serve([self._listener]))
        echo = self._config.echo
        log.info(
            "collector runs page=http://%s:%d broker=%s echo=%s sites=%d store=%s",
            self._config.web_host,
            self._config.web_port,
            self._config.mqtt.address,
            "off" if echo is None else f"{echo.listen}:{echo.port}/udp",
            len(self._config.sites),
            self._config.store,
        )
        _tell(notifier.ready)
        try:
            fault = await self._supervise(stop, notifier, (board, serving))
        finally:
            _tell(notifier.stopping)
            complete = await self._stop(serving)
            board.cancel()
            await asyncio.gather(board, return_exceptions=True)
            notifier.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.remove_signal_handler(number)
        if fault is not None:
            log.error("collector ends: %s", fault)
            return 1
        log.info("collector stopped")
        return 0 if complete else 1

    async def _supervise(
        self,
        stop: asyncio.Event,
        notifier: ServiceNotifier,
        tasks: Sequence[asyncio.Task[None]],
    ) -> str | None:
        """Wait for the end; return what broke, or None if told to stop."""
        period_s = min(SUPERVISE_S, (notifier.watchdog_s or 2 * SUPERVISE_S) / 2)
        while not stop.is_set():
            fault = self.fault()
            for task in tasks:
                if task.done():
                    fault = "the page's server has ended; see the log"
                    if not task.cancelled() and (error := task.exception()):
                        log.error("page failed", exc_info=error)
            if fault is not None:
                return fault
            _tell(notifier.watchdog)
            try:
                await asyncio.wait_for(stop.wait(), period_s)
            except TimeoutError:
                continue
        return None

    async def _stop(self, serving: asyncio.Task[None]) -> bool:
        """Take no more, commit and acknowledge what is in hand, close; True if all was."""
        self._consumer.pause()
        if self._echo is not None:
            self._echo.close()
        complete = await asyncio.to_thread(self._writer.stop, DRAIN_S)
        await asyncio.to_thread(self._consumer.close, CLOSE_S)
        self._board.close()
        self._server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        self._listener.close()
        self._reader.close()
        if not self._writer.alive:
            self._store.close()
        return complete


def _tell(say: Callable[[], None]) -> None:
    """Say it; a manager that does not listen is no reason to stop the collector."""
    try:
        say()
    except NotifyError as error:
        log.warning("%s", error)


def _outlines(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"outlines {path}: {error.strerror}; check [collector] kecamatan"
        raise ConfigError(message) from error
