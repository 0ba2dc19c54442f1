"""The broker, by paho-mqtt: a connection that comes back by itself.

Each connection (`connection.py`) knows nothing of the one before: what was in flight
when one ended is forgotten here, and sent again from the spool by whoever fills it. The
broker keeps our session by the client id. An attempt that hangs on a dead uplink is
abandoned, not waited for. Nothing here decides what is sent, or when.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal

from tenacity import AsyncRetrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from jaga_agent.adapters.mqtt.connection import Connection
from jaga_agent.adapters.mqtt.endings import Ended
from jaga_agent.adapters.mqtt.settings import Settings
from jaga_agent.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tenacity import RetryCallState

    from jaga_agent.ports import BrokerListener, Will

__all__ = ["MqttBroker", "Settings", "tls_context"]

_log = logging.getLogger(__name__)

# After a failover the new path is known to work: only enough to part two sites that
# lost the same carrier.
HURRY_S: Final = 0.2
# A connection that ends sooner lets the backoff grow: no tight loop of being accepted
# and dropped.
STABLE_S: Final = 30.0
# Attempts given up whose thread still hangs, in the resolver mostly, which nothing can
# interrupt. Beyond that the next attempt waits for one of them.
ABANDONED: Final = 8
# How long `close` waits for the last acknowledgement, and again for the clean end.
CLOSE_S: Final = 2.0

_LAST = -1
"""The token of the last message, of which the listener is not told."""

_jitter = random.SystemRandom()


class _Failed(Exception):  # noqa: N818 (an outcome for tenacity, never leaves here)
    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.ended = ended


class _Hurried(Exception):  # noqa: N818 (a signal, never leaves here)
    """`reconnect_now` was called: begin anew."""


def tls_context(
    ca: Path, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return a TLS 1.3 client context; raises BrokerError naming the file at fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:
        msg = f"mqtt.ca: {ca} is not a readable PEM certificate: {error}"
        raise BrokerError(msg) from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            msg = f"mqtt.cert and mqtt.key: {cert} with {key} cannot be used: {error}"
            raise BrokerError(msg) from error
    return context


class MqttBroker:
    """The broker as `ports.Broker`."""

    def __init__(
        self,
        settings: Settings,
        listener: BrokerListener,
        next_will: Callable[[], Will],
    ) -> None:
        """Prepare; `start` dials.

        `next_will` is asked once for each attempt, on the event loop: a will says which
        connection it belongs to.
        """
        self._settings = settings
        self._listener = listener
        self._next_will = next_will
        self._connection: Connection | None = None
        self._threads: set[Connection] = set()
        self._thread_gone = asyncio.Event()
        self._hurry = asyncio.Event()
        self._backoff = wait_random_exponential(
            multiplier=settings.backoff_s, max=settings.backoff_cap_s
        )
        # What the listener knows.
        self._state: Literal["new", "up", "down", "refused"] = "new"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to dial, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mqtt")

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        token: int | None,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> bool:
        """Hand over one QoS 1 message; False when it was not taken."""
        if self._state != "up" or self._connection is None:
            return False
        return self._connection.publish(
            topic, payload, token=token, retain=retain, correlation=correlation
        )

    def reconnect_now(self, reason: str) -> None:
        """Drop the connection or attempt, and dial again at once."""
        self._hurry.set()
        if self._connection is not None:
            self._connection.give_up(reason)

    async def close(self, *, last_topic: str, last_payload: bytes) -> None:
        """Publish a last retained message if connected, then disconnect cleanly."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        connection = self._connection
        if connection is not None and self._state == "up":
            try:
                async with asyncio.timeout(CLOSE_S):
                    await _say_last(connection, last_topic, last_payload)
            except TimeoutError:
                _log.warning("the broker did not acknowledge our last message")
            connection.disconnect()
            await asyncio.wait([connection.stopped], timeout=CLOSE_S)
        self._state = "down"
        self._connection = None
        for thread in list(self._threads):
            thread.give_up("the agent stops")
        if self._threads:
            await asyncio.wait([t.stopped for t in self._threads], timeout=CLOSE_S)

    async def _run(self) -> None:
        short_lived = 0
        while True:
            try:
                connection = await self._dial_until_accepted()
                lasted_s = await self._attend(connection)
                short_lived = 0 if lasted_s >= STABLE_S else min(short_lived + 1, 10)
                window_s = self._settings.backoff_s * 2**short_lived
                await self._pause(
                    _jitter.uniform(0, min(window_s, self._settings.backoff_cap_s))
                )
            except _Hurried:
                await asyncio.sleep(_jitter.uniform(0, HURRY_S))
            except Exception:  # noqa: BLE001 (a bug, or a will that cannot be made: the site must be heard again)
                _log.exception("the MQTT connection failed")
                self._down(Ended("the agent failed: see its log"))
                await asyncio.sleep(self._settings.backoff_cap_s)

    async def _dial_until_accepted(self) -> Connection:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_Failed), wait=self._wait, sleep=self._pause
        ):
            with attempt:
                return await self._dial()
        raise AssertionError  # it retries for ever

    async def _dial(self) -> Connection:
        """Return an accepted connection; raises _Failed or _Hurried."""
        while len(self._threads) > ABANDONED:
            self._thread_gone.clear()
            await self._thread_gone.wait()
        self._hurry.clear()
        connection = Connection(
            self._settings,
            self._next_will(),
            self._listener,
        )
        self._connection = connection
        self._threads.add(connection)
        connection.stopped.add_done_callback(lambda _: self._forget(connection))
        connection.start()
        outcomes: list[asyncio.Future[Any]] = [connection.accepted, connection.ended]
        await asyncio.wait(
            outcomes,
            timeout=self._settings.attempt_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not connection.accepted.done() or connection.ended.done():
            connection.give_up(
                f"no answer from the broker within {self._settings.attempt_timeout_s:g} s"
            )
            ended = connection.ended.result()
            if self._hurry.is_set():
                raise _Hurried
            self._down(ended)
            raise _Failed(ended)
        return connection

    async def _attend(self, connection: Connection) -> float:
        """Return how long it lasted, in seconds, when it has ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._state = "up"
        _log.info("connected to %s", self._settings.host)
        # Listeners are called by the loop, not by us: one that raises must not end the
        # dialling.
        loop.call_soon(self._listener.connected, connection.accepted.result())
        connection.listen()
        await asyncio.wait([connection.ended])
        self._down(connection.ended.result())
        if self._hurry.is_set():
            raise _Hurried
        return loop.time() - began

    def _down(self, ended: Ended) -> None:
        """Tell once for each cycle, and once more when it turns into a refusal."""
        old = self._state
        if ended.refused:
            self._state = "refused"
        elif old != "refused":
            self._state = "down"
        if self._state == old:
            _log.debug("still no broker: %s", ended.reason)
            return
        _log.warning("no broker: %s", ended.reason)
        asyncio.get_running_loop().call_soon(self._listener.disconnected, ended.reason)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, _Failed) and error.ended.refused:
            return _jitter.uniform(*self._settings.refused_s)
        return self._backoff(state)

    async def _pause(self, seconds: float) -> None:
        """Wait; raises _Hurried as soon as `reconnect_now` is called."""
        try:
            await asyncio.wait_for(self._hurry.wait(), seconds)
        except TimeoutError:
            return
        raise _Hurried

    def _forget(self, connection: Connection) -> None:
        self._threads.discard(connection)
        self._thread_gone.set()


async def _say_last(connection: Connection, topic: str, payload: bytes) -> None:
    """Publish the last message when the window lets it, and await its PUBACK."""
    while not connection.ended.done():
        connection.acknowledgement.clear()
        if connection.publish(topic, payload, token=_LAST, retain=True):
            break
        await connection.acknowledgement.wait()
    while not connection.ended.done() and connection.holds(_LAST):
        connection.acknowledgement.clear()
        await connection.acknowledgement.wait()
