"""MQTT 5 request and response: commands out, replies in. Decides nothing.

A throw-away session of the operator's own account. paho's thread only hands over: what
comes is read from a queue.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from jaga_server.adapters import asking, clock
from jaga_server.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import paho.mqtt.client as paho
    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from jaga_server.config import Mqtt

CONNECT_S: Final = 15.0
KEEPALIVE_S: Final = 30


@dataclass(frozen=True, slots=True)
class Request:
    """One message out."""

    topic: str
    payload: bytes
    response_topic: str
    correlation: bytes
    expiry_s: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came on a response topic."""

    topic: str
    payload: bytes
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What the broker said to a request."""

    correlation: bytes
    refusal: str | None


@dataclass(frozen=True, slots=True)
class _Up:
    pass


@dataclass(frozen=True, slots=True)
class _Ended:
    reason: str


class Requester:
    """One connection; `with` opens and ends it. Raises BrokerError."""

    def __init__(self, settings: Mqtt, name: str, topics: Sequence[str]) -> None:
        """Connect as `name` and listen to the response topics."""
        self._settings = settings
        self._topics = topics
        self._told: queue.Queue[Answer | Taken | _Up | _Ended] = queue.Queue()
        self._sent: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._client = asking.client(settings, f"{name}-{secrets.token_hex(4)}")
        self._client.connect_timeout = CONNECT_S
        self._client.max_inflight_messages_set(1000)

    def __enter__(self) -> Self:
        client, settings = self._client, self._settings
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        try:
            client.connect(
                *asking.place(settings), keepalive=KEEPALIVE_S, clean_start=True
            )
        except (OSError, ValueError) as error:
            message = f"the broker at {settings.address} cannot be reached: {error}"
            raise BrokerError(message) from error
        client.loop_start()
        try:
            self._await_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, request: Request) -> None:
        """Hand one request over; the broker's word on it comes from `next`."""
        more = _properties(PacketTypes.PUBLISH)
        more.ResponseTopic = request.response_topic
        more.CorrelationData = request.correlation
        more.MessageExpiryInterval = request.expiry_s
        with self._lock:
            sent = self._client.publish(
                request.topic, request.payload, qos=1, properties=more
            )
            self._sent[sent.mid] = request.correlation

    def next(self, within_s: float) -> Answer | Taken | None:
        """Return what comes next; None if nothing does in that time."""
        try:
            told = self._told.get(timeout=max(0.0, within_s))
        except queue.Empty:
            return None
        if isinstance(told, _Ended):
            message = f"the broker at {self._settings.address}: {told.reason}"
            raise BrokerError(message)
        return None if isinstance(told, _Up) else told

    def _await_up(self) -> None:
        deadline_s = clock.monotonic_s() + CONNECT_S
        while (left_s := deadline_s - clock.monotonic_s()) > 0:
            with contextlib.suppress(queue.Empty):
                told = self._told.get(timeout=left_s)
                if isinstance(told, _Up):
                    return
                if isinstance(told, _Ended):
                    message = f"the broker at {self._settings.address}: {told.reason}"
                    raise BrokerError(message)
        message = f"the broker at {self._settings.address} does not answer"
        raise BrokerError(message)

    # On paho's thread. They only hand over.

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._told.put(_Ended(f"refused: {reason}"))
            return
        client.subscribe([(t, SubscribeOptions(qos=1)) for t in self._topics])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = next((str(r) for r in reasons if r.is_failure), None)
        up = _Up() if refused is None else _Ended(f"may not read replies: {refused}")
        self._told.put(up)

    def _on_message(
        self, _client: paho.Client, _userdata: object, message: MQTTMessage
    ) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        self._told.put(Answer(topic, bytes(message.payload), correlation))

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        with self._lock:  # It may come before `send` has noted the number.
            correlation = self._sent.get(mid)
        if correlation is not None and reason.value != 0:
            self._told.put(Taken(correlation, str(reason)))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._told.put(_Ended(f"connection lost: {reason}"))


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves it untyped
