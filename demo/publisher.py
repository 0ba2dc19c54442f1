"""One simulated site's MQTT 5 connection, driven by the event loop of the whole fleet.

It dials, says online, sends what the site measured, dials again. What that is, is
`demo.district`'s; how many there are, `demo.fleet`'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from demo.district import Moment, SimulatedSite
from jaga_agent.wire.messages import Event, encode
from jaga_agent.wire.topics import Topic

if TYPE_CHECKING:
    from paho.mqtt.client import DisconnectFlags, SocketLike
    from paho.mqtt.reasoncodes import ReasonCode

KEEPALIVE_S = 60
SESSION_EXPIRY_S = 3_600
"""Longer than any will delay: a session's end would fire the will at once (MQTT 5,
3.1.2.5)."""
WAITING_MAX = 1_000
"""Records a site keeps while the broker is away: nearly three hours at 10 s."""
BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 30.0


@dataclass(slots=True)
class Tally:
    """What the whole fleet has done so far."""

    sites: int = 0
    connected: int = 0
    connections: int = 0
    dials_failed: int = 0
    """Nobody listened, or the broker refused."""
    made: int = 0
    """Records given a number: heartbeats and events."""
    acknowledged: int = 0
    """Records the broker answered for."""
    dropped: int = 0
    """Records lost because a site already kept WAITING_MAX."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens: a Unix socket's path, or host and port."""

    socket: str | None
    host: str
    port: int


@dataclass(slots=True)
class Publisher:
    """One site's connection: dials, says online, sends each beat, dials again."""

    loop: asyncio.AbstractEventLoop
    site: SimulatedSite
    region: str
    broker: Broker
    will_delay_s: int
    tally: Tally
    _client: Client = field(init=False)
    _connection: int = 0
    _attempts: int = 0
    _connected: bool = False
    _closing: bool = False
    _records: set[int] = field(default_factory=set)
    """Message ids of records the broker has not answered for."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.site.listed.site,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport="tcp" if self.broker.socket is None else "unix",
            reconnect_on_failure=False,
        )
        client.max_queued_messages_set(WAITING_MAX)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_wrote

    def start(self, connect_in_s: float, beat_in_s: float) -> None:
        """Dial and beat for the first time after these delays."""
        self._later("dial", self.loop.time() + connect_in_s, self._dial)
        due = self.loop.time() + beat_in_s
        self._later("beat", due, self._beat, due)

    async def close(self) -> None:
        """Say offline and disconnect cleanly, so that no will is sent."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        if not self._connected:
            return
        self._client.publish(
            self._topic("status"), self._status(online=False), qos=1, retain=True
        )
        self._client.disconnect()
        await self._closed.wait()

    # -- the connection ------------------------------------------------------------

    def _dial(self) -> None:
        self._connection += 1
        self._attempts += 1
        will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho has no types here
        will.WillDelayInterval = self.will_delay_s
        self._client.will_set(
            self._topic("status"),
            self._status(online=False),
            qos=1,
            retain=True,
            properties=will,
        )
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        try:
            # The port is not used on a Unix socket, but paho wants one.
            self._client.connect(
                self.broker.socket or self.broker.host,
                self.broker.port or 1883,
                keepalive=KEEPALIVE_S,
                # Never clean, not even first: Mosquitto 2.0.11 keeps no session over
                # its restart that began clean, whatever its expiry.
                clean_start=False,
                properties=properties,
            )
        except OSError:
            # Nobody listens, or not yet: counted, and tried again.
            self.tally.dials_failed += 1
            self._dial_later()

    def _dial_later(self) -> None:
        """Full jitter: 701 sites must not return in one second (as the agent does)."""
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(self._attempts, 10))
        delay_s = random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, no secret
        self._later("dial", self.loop.time() + delay_s, self._dial)

    def _on_connect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            # The broker closes the connection next, and _on_disconnect dials again.
            self.tally.dials_failed += 1
            return
        self._attempts = 0
        self._connected = True
        self.tally.connected += 1
        self.tally.connections += 1
        self._client.publish(
            self._topic("status"), self._status(online=True), qos=1, retain=True
        )

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._connected:
            self._connected = False
            self.tally.connected -= 1
        if self._closing:
            self._closed.set()
        else:
            self._dial_later()

    # -- records -------------------------------------------------------------------

    def _beat(self, due: float) -> None:
        interval_s = self.site.interval_s
        self._client.loop_misc()
        for record in self.site.advance(_now()):
            leaf = "event" if isinstance(record, Event) else "heartbeat"
            info = self._client.publish(self._topic(leaf), encode(record), qos=1)
            self.tally.made += 1
            if info.rc is MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                self.tally.dropped += 1
            else:
                self._records.add(info.mid)
        # From the time planned, not from now: the rhythm must not drift. A process that
        # was stopped for long does not make up for the beats it missed.
        due = max(due + interval_s, self.loop.time())
        self._later("beat", due, self._beat, due)

    def _on_publish(
        self,
        _client: Client,
        _userdata: Any,
        mid: int,
        _reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        if mid in self._records:
            self._records.remove(mid)
            self.tally.acknowledged += 1

    # -- the event loop ------------------------------------------------------------

    def _on_socket_open(
        self, _client: Client, _userdata: Any, sock: SocketLike
    ) -> None:
        self.loop.add_reader(sock.fileno(), self._client.loop_read)

    def _on_socket_close(
        self, _client: Client, _userdata: Any, sock: SocketLike
    ) -> None:
        self.loop.remove_reader(sock.fileno())
        self.loop.remove_writer(sock.fileno())

    def _on_want_write(self, _client: Client, _userdata: Any, sock: SocketLike) -> None:
        self.loop.add_writer(sock.fileno(), self._client.loop_write)

    def _on_wrote(self, _client: Client, _userdata: Any, sock: SocketLike) -> None:
        self.loop.remove_writer(sock.fileno())

    def _later(self, name: str, due: float, callback: Any, *arguments: Any) -> None:
        self._timers[name] = self.loop.call_at(due, callback, *arguments)

    def _topic(self, leaf: str) -> str:
        return str(Topic(self.region, self.site.listed.site, leaf))

    def _status(self, *, online: bool) -> bytes:
        return encode(self.site.status(online=online, connection=self._connection))


def _now() -> Moment:
    """Read the two clocks a Pi stamps its records with."""
    return Moment(
        at_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,
        wall_ms=time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000,
    )
