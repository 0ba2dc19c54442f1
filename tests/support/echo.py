"""The agent's udp-echo prober and the collector's reflector, for tests to join."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.udp_echo import UdpEchoProber
from jaga_agent.wire import echo
from jaga_server.adapters.echo import EchoServer
from jaga_server.ingest.reflector import Reflector

SITE = "tps-6408052001-901"
MASTER = bytes(range(32))
PORT = 7007


class Heard:
    """A listener that keeps every verdict and lets the test wait for them."""

    def __init__(self):
        self.verdicts = []
        self.samples = []
        self._more = asyncio.Event()

    def echoed(self, sample):
        self.samples.append(sample)

    def answered(self, probe_id, rtt_s):
        self._keep("answered", probe_id, rtt_s)

    def refused(self, probe_id, reason):
        self._keep("refused", probe_id, reason)

    def not_sent(self, probe_id, reason):
        self._keep("not sent", probe_id, reason)

    def _keep(self, *verdict):
        self.verdicts.append(verdict)
        self._more.set()

    async def next(self, within_s=10.0):
        async with asyncio.timeout(within_s):
            while not self.verdicts:
                self._more.clear()
                await self._more.wait()
        return self.verdicts.pop(0)

    async def nothing(self, for_s=0.3):
        with pytest.raises(TimeoutError):
            await self.next(within_s=for_s)


@contextlib.asynccontextmanager
async def probing(key=None, **options):
    heard = Heard()
    prober = UdpEchoProber(
        heard,
        BoottimeClock(),
        site=SITE,
        key=key or echo.site_key(MASTER, SITE),
        places={"wan0": 0, "wan1": 1, "lo": 0},
        **options,
    )
    try:
        yield prober, heard
    finally:
        prober.close()


class Far:
    """The reflector, on a loop of its own in the namespace `there`."""

    def __init__(self, listen="0.0.0.0", port=PORT):  # noqa: S104 (a namespace of the test's own)
        self.reflector = Reflector(MASTER, [SITE], run_secret=secrets.token_bytes(32))
        self.states = []
        self._server = EchoServer(
            self.reflector, lambda *told: self.states.append(told)
        )
        self._address = (listen, port)
        self._ready = threading.Event()
        self.failure = None
        self.loop = self._stop = None

    async def main(self):
        try:
            self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._server.bind(*self._address)
            self._server.start(self.loop)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._ready.set()
        await self._stop.wait()
        self._server.close()

    @contextlib.contextmanager
    def running(self, run):
        thread = threading.Thread(target=run, args=(self.main,))
        thread.start()
        try:
            assert self._ready.wait(10)
            assert self.failure is None
            yield self
        finally:
            if self.loop is not None and self.failure is None:
                self.loop.call_soon_threadsafe(self._stop.set)
            thread.join()
