"""The consumer: MQTT 5, manual acknowledgement, one persistent session. Decides nothing.

One thread of ours drives paho's external loop (`loop_read`, `loop_write`, `loop_misc`):
it alone touches the client, so acknowledgements need no lock, an exception ends one
connection and not the thread, and there is no paho thread that could die unseen while
`is_connected()` stays true.

Packet identifiers belong to one connection. Each message carries the generation of its
connection, and an acknowledgement of an older generation is dropped (MQTT 5.0, 4.4: the
broker delivers that message again; the database knows it already).
"""

from __future__ import annotations

import collections
import contextlib
import logging
import queue
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import tenacity
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from jaga_agent.wire import topics
from jaga_server.adapters import asking, clock
from jaga_server.adapters.outbox import Outbox
from jaga_server.ingest.received import Received, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from paho.mqtt.client import (
        ConnectFlags,
        DisconnectFlags,
        MQTTMessage,
        SocketLike,
    )
    from paho.mqtt.reasoncodes import ReasonCode

    from jaga_server.config import Mqtt
    from jaga_server.ingest.counters import Counters

log = logging.getLogger(__name__)

KEEPALIVE_S = 20
CONNECT_TIMEOUT_S = 5.0
BACKOFF = tenacity.wait_random_exponential(multiplier=0.1, max=2)
"""There is one of us, and a broker without its subscriber drops what sites send."""
MAXIMUM_PACKET_BYTES = 262_144
"""The broker discards anything larger unseen; a heartbeat is near 120 bytes."""
PUBLISH_WINDOW = 20
"""Publishes without the broker's word at most; paho's own window, so that it queues none:
what waits here is replaced by what is newer."""
TURN_S = 0.5
"""Longest wait of the loop without traffic."""


REFUSALS = ("refused: ", "subscription refused: ")
"""How a reason begins that is about this session, and not about the broker at all."""


class _ConnectionEndedError(Exception):
    """Says why a connection is over."""


class Consumer:
    """Subscribes to a region's topics and hands each message over, in order."""

    def __init__(
        self,
        settings: Mqtt,
        region: str,
        inbox: queue.Queue[Received],
        counters: Counters,
        on_hearing: Callable[[bool], None],
        *,
        leaves: Collection[str] = topics.CONSUMED,
        lane: int = 0,
    ) -> None:
        """`on_hearing(connected)` is called on the consumer's thread.

        `lane` is in the token of each message: whose acknowledgement it is. Any but the
        first speaks of its connection only where the first one does not as well.
        """
        self._lane = lane
        self._settings = settings
        self._inbox = inbox
        self._counters = counters
        self._on_hearing = on_hearing
        self._filters = asking.filters(region, settings.share, leaves)
        self._generation = 0
        self._acks: collections.deque[Token] = collections.deque()
        self._outbox = Outbox()
        self._unconfirmed: set[int] = set()
        self._client = self._build()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._paused = threading.Event()
        self._closing = threading.Event()
        self._ended: str | None = None
        self._subscribed = False
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._main, name="mqtt", daemon=True)

    # Called from other threads.

    def start(self) -> None:
        self._thread.start()

    def acknowledge(self, tokens: Sequence[Token]) -> None:
        """Tell the broker that these are committed."""
        self._acks.extend(tokens)
        self._wake()

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, retained, QoS 1. What a lost connection leaves unsent is forgotten."""
        self._outbox.put(topic, payload)
        self._wake()

    def pause(self) -> None:
        """Take no more messages; the broker keeps them for the next start."""
        self._paused.set()

    def close(self, timeout_s: float) -> None:
        """Send the acknowledgements in hand, disconnect, end the thread."""
        self._paused.set()
        self._closing.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._wake_in.close()
            self._wake_out.close()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"\0")

    # Callbacks: on our own thread, from within loop_read. They never raise.

    def _build(self) -> paho.Client:
        settings = self._settings
        client = asking.client(settings, settings.client_id, manual_ack=True)
        client.connect_timeout = CONNECT_TIMEOUT_S
        # With it set, paho queues and leaves the writing to our loop.
        client.on_socket_register_write = lambda *_: None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.max_inflight_messages_set(PUBLISH_WINDOW)
        return client

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._ended = f"refused: {reason}{asking.advice(str(reason))}"
            return
        client.subscribe([(name, SubscribeOptions(qos=1)) for name in self._filters])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [
            f"{name} ({reason})"
            for name, reason in zip(self._filters, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            self._ended = (
                f"subscription refused: {', '.join(refused)}; "
                "let this account read these topics (the broker's ACL)"
            )
            return
        self._subscribed = True
        self._told.clear()
        # Whoever hears of this connection publishes all anew.
        self._outbox.clear()
        self._counters.connections += 1
        log.log(
            logging.DEBUG if self._lane else logging.INFO,
            "broker connected address=%s",
            self._settings.address,
        )
        self._on_hearing(True)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._ended is None:
            self._ended = f"disconnected: {reason}{asking.advice(str(reason))}"

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._unconfirmed.discard(mid)
        if not reason.is_failure:
            self._counters.watermarks += 1
            return
        self._counters.watermarks_refused += 1
        told = f"watermark: {reason}"
        if told not in self._told:
            self._told.add(told)
            log.warning(
                "watermark refused reason=%r; let this account write jaga/1/+/+/watermark"
                " (the broker's ACL): without it every site sends all again, for ever",
                str(reason),
            )

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: MQTTMessage
    ) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(not UTF-8)"
        received = Received(
            topic,
            bytes(message.payload),
            clock.wall_ms(),
            message.retain,
            Token(self._generation, message.mid, self._lane) if message.qos else None,
        )
        # A full queue waits here, and so does the broker (TCP). ReceiveMaximum keeps
        # QoS 1 under its capacity, so it is left-overs of an older connection that wait.
        self._counters.received += 1
        while not self._paused.is_set():
            try:
                self._inbox.put(received, timeout=TURN_S)
            except queue.Full:
                continue
            return
        self._counters.received -= 1

    # The thread.

    def _main(self) -> None:
        retrying = tenacity.Retrying(
            wait=self._pause_s,
            sleep=tenacity.sleep_using_event(self._closing),
            stop=tenacity.stop_when_event_set(self._closing),
            retry=tenacity.retry_if_exception_type(_ConnectionEndedError),
        )
        with contextlib.suppress(tenacity.RetryError):
            retrying(self._connect_once)

    def _pause_s(self, retry: tenacity.RetryCallState) -> float:
        """Return full jitter, which starts anew after a connection that worked."""
        if self._subscribed:
            retry.attempt_number = 1
        return BACKOFF(retry)

    def _connect_once(self) -> None:
        """Hold one connection until it ends; raises _ConnectionEndedError to try again."""
        self._generation += 1
        self._ended = None
        self._subscribed = False
        try:
            self._open()
            reason = self._serve()
        except (OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
        except Exception as error:
            # A fault of paho's must end one connection, not the collector.
            reason = f"unexpected {type(error).__name__}: {error}"
            log.exception("mqtt client failed")
        self._on_hearing(False)
        if self._closing.is_set():
            return
        if not self._subscribed:
            self._counters.connection_failures += 1
        # Each reason is told once in an outage, not at each attempt.
        if reason not in self._told:
            self._told.add(reason)
            log.log(
                logging.DEBUG
                if self._lane and not reason.startswith(REFUSALS)
                else logging.WARNING,
                "broker not connected address=%s reason=%r; trying again",
                self._settings.address,
                reason,
            )
        raise _ConnectionEndedError(reason)

    def _open(self) -> None:
        settings = self._settings
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
        properties.MaximumPacketSize = MAXIMUM_PACKET_BYTES
        self._client.connect(
            *asking.place(settings),
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=properties,
        )

    def _serve(self) -> str:
        """Turn the loop until this connection ends; return why."""
        client = self._client
        deadline_s = clock.monotonic_s() + CONNECT_TIMEOUT_S
        while self._ended is None:
            sock = client.socket()
            if sock is None:
                break
            if not self._subscribed and clock.monotonic_s() > deadline_s:
                self._ended = "no answer to CONNECT or SUBSCRIBE"
                break
            self._send_acks()
            self._send_outbox()
            if self._closing.is_set() and not self._acks:
                return self._disconnect()
            self._turn(sock)
        client.disconnect()
        with contextlib.suppress(OSError):
            client.loop_write()
        return self._ended or "connection lost"

    def _turn(self, sock: SocketLike) -> None:
        client = self._client
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        readable, writable, _ = select.select(
            [sock, self._wake_out],
            [sock] if client.want_write() else [],
            [],
            0 if pending else TURN_S,
        )
        if self._wake_out in readable:
            self._wake_out.recv(4096)
        if sock in readable or pending:
            code = client.loop_read()
            if code is not MQTTErrorCode.MQTT_ERR_SUCCESS and self._ended is None:
                self._ended = f"connection lost: {paho.error_string(code)}"
        if writable:
            client.loop_write()
        client.loop_misc()

    def _send_acks(self) -> None:
        while self._acks:
            token = self._acks.popleft()
            if token.generation == self._generation:
                self._client.ack(token.packet_id, 1)
            else:
                self._counters.late_acknowledgements += 1

    def _send_outbox(self) -> None:
        while self._subscribed and len(self._unconfirmed) < PUBLISH_WINDOW:
            waiting = self._outbox.take()
            if waiting is None:
                return
            topic, payload = waiting
            self._unconfirmed.add(
                self._client.publish(topic, payload, qos=1, retain=True).mid
            )

    def _disconnect(self) -> str:
        """Send what is queued, then DISCONNECT; the session stays at the broker."""
        client = self._client
        client.disconnect()
        deadline_s = clock.monotonic_s() + 2
        while client.want_write() and clock.monotonic_s() < deadline_s:
            sock = client.socket()
            if sock is None:
                break
            select.select([], [sock], [], 0.2)
            client.loop_write()
        return "closed"
