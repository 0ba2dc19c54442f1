"""One connection to the broker: one paho client, one thread, one life.

It is dialled once, lives, ends, and is thrown away. Everything that may block (DNS,
TCP, TLS) is on its thread; paho's callbacks only hand over to the event loop, where the
rest of this class runs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from jaga_agent.adapters.mqtt.endings import (
    CERTIFICATE_REFUSED,
    REFUSALS,
    Ended,
    explain,
)
from jaga_agent.ports import Message

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from jaga_agent.adapters.mqtt.settings import Settings
    from jaga_agent.ports import BrokerListener, Will

_log = logging.getLogger(__name__)

_KEEP_ALIVE_TIMEOUT: Final = 0x8D
# A keep-alive is checked at this interval; a publish wakes the thread at once.
_LOOP_S: Final = 1.0
_PACKET_BYTES: Final = 64 * 1024
"""No message to a site is larger: the broker must not hand one on to us."""
_HARD_CLOSE: Final = struct.pack("ii", 1, 0)


class _Client(Client):
    """paho's client, whose sockets are made by us."""

    def __init__(self, settings: Settings, dial: Callable[[], socket.socket]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTv5,
            transport=settings.transport,
            reconnect_on_failure=False,
        )
        self._dial = dial

    def _create_socket_connection(self) -> socket.socket:
        return self._dial()

    def _create_unix_socket_connection(self) -> socket.socket:
        return self._dial()

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # As paho's own, but closes the socket when the handshake fails.
        assert self._ssl_context is not None  # noqa: S101 (asked for only with TLS)
        sock = self._ssl_context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        try:
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


class Connection:
    """A connection from its dialling to its end. Made and used on the event loop."""

    accepted: asyncio.Future[bool]
    """Done when the broker accepts us: whether it had a session of ours."""
    ended: asyncio.Future[Ended]
    """Done when it is over, or given up: nothing is told of it after that."""
    stopped: asyncio.Future[None]
    """Done when its thread is gone, which may take longer than `ended`."""
    acknowledgement: asyncio.Event
    """Set at each PUBACK."""

    def __init__(
        self,
        settings: Settings,
        will: Will,
        listener: BrokerListener,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self.accepted = self._loop.create_future()
        self.ended = self._loop.create_future()
        self.stopped = self._loop.create_future()
        self.acknowledgement = asyncio.Event()
        self._window = settings.max_inflight
        self._tokens: dict[int, int | None] = {}
        self._early: list[Message] | None = []
        """What came before the listener knew of this connection."""
        # Shared with the thread: a second descriptor of its socket, to end it by.
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._given_up = False
        # The thread's alone.
        self._verdict: Ended | None = None
        self._trouble = ""
        self._client: _Client | None = self._make_client(will)
        self._thread = threading.Thread(
            target=self._thread_main, args=(self._client,), name="mqtt", daemon=True
        )

    def start(self) -> None:
        """Dial."""
        self._thread.start()

    def listen(self) -> None:
        """Tell the listener of messages from now on, on the loop's next turn."""
        early, self._early = self._early or [], None
        for message in early:
            self._loop.call_soon(self._listener.message, message)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        token: int | None,
        retain: bool,
        correlation: bytes | None = None,
    ) -> bool:
        """Send one QoS 1 message; False if the window is full or the connection over.

        A negative token can be asked for by `holds`, but nobody is told of it.
        """
        if self.ended.done() or self._client is None:
            return False
        if len(self._tokens) >= self._window:
            return False
        more = _properties(PacketTypes.PUBLISH)
        if correlation is not None:
            more.CorrelationData = correlation
        sent = self._client.publish(
            topic, payload, qos=1, retain=retain, properties=more
        )
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        self._tokens[sent.mid] = token
        return True

    def holds(self, token: int) -> bool:
        """Tell whether a message awaits its acknowledgement."""
        return token in self._tokens.values()

    def disconnect(self) -> None:
        """Leave cleanly: the broker throws our will away. `ended` follows."""
        if self._client is not None:
            self._client.disconnect()

    def give_up(self, reason: str) -> None:
        """End it now, wherever it hangs; the thread follows when it can."""
        if not self.ended.done():
            self.ended.set_result(Ended(reason))
        with self._lock:
            self._given_up = True
            if self._handle is None:
                return
            try:
                # Nothing is to be sent any more, not even what the kernel still holds.
                self._handle.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _HARD_CLOSE
                )
                # Wakes the thread from connect, from the handshake or from select.
                self._handle.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _log.debug("the socket was closed already: %s", error)

    # ---- on the event loop, handed over by the thread

    def _accept(self, session_present: bool, receive_maximum: int) -> None:
        self._window = min(self._settings.max_inflight, receive_maximum)
        if not self.ended.done() and not self.accepted.done():
            self.accepted.set_result(session_present)

    def _puback(self, mid: int, failure: str | None) -> None:
        token = self._tokens.pop(mid, None)
        self.acknowledgement.set()
        if self.ended.done() or token is None or token < 0:
            return
        if failure is None:
            self._listener.acknowledged(token)
        else:
            self._listener.rejected(token, failure)

    def _arrive(self, message: Message) -> None:
        if self.ended.done():
            return
        if self._early is None:
            self._listener.message(message)
        else:
            self._early.append(message)

    def _finish(self, ended: Ended) -> None:
        # Unties the client from us, so that it and its sockets go now, not when the
        # garbage collector comes round.
        if self._client is not None:
            self._client.on_connect = self._client.on_disconnect = None
            self._client.on_publish = self._client.on_log = None
            self._client.on_message = self._client.on_subscribe = None
            self._client = None
        self._tokens.clear()
        self.acknowledgement.set()
        if not self.ended.done():
            self.ended.set_result(ended)
        # Its last act was to hand this over.
        self._thread.join()
        self.stopped.set_result(None)

    # ---- on the thread

    def _thread_main(self, client: _Client) -> None:
        ended = Ended("the MQTT client stopped")
        try:
            ended = self._live(client)
        except OSError as error:
            ended = self._verdict or Ended(explain(error, self._settings))
        except Exception as error:  # noqa: BLE001 (paho raises whatever a strange broker provokes; it must end this connection, not the thread in silence)
            _log.exception("the MQTT client failed")
            ended = Ended(f"the MQTT client failed: {error!r}")
        finally:
            with self._lock:
                if self._handle is not None:
                    self._handle.close()
                    self._handle = None
            self._hand_over(self._finish, ended)

    def _live(self, client: _Client) -> Ended:
        session = _properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = self._settings.session_expiry_s
        session.MaximumPacketSize = _PACKET_BYTES
        client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=False,
            properties=session,
        )
        while client.loop(_LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
        if self._verdict is not None and self._verdict.refused:
            return self._verdict
        if CERTIFICATE_REFUSED.search(self._trouble):
            text = f"the broker refuses this site's certificate: {self._trouble}"
            return Ended(text, refused=True)
        return self._verdict or Ended(
            f"connection lost: {self._trouble or 'the other side closed it'}"
        )

    def _make_client(self, will: Will) -> _Client:
        client = _Client(self._settings, self._dial)
        client.connect_timeout = self._settings.connect_timeout_s
        client.max_inflight_messages_set(self._settings.max_inflight)
        client.max_queued_messages_set(self._settings.max_inflight)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._settings.password)
        if self._settings.tls is not None:
            client.tls_set_context(self._settings.tls)
        delay = _properties(PacketTypes.WILLMESSAGE)
        delay.WillDelayInterval = will.delay_s
        client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        # Told that somebody else watches the socket, paho writes on our thread alone
        # and not from within publish: two writers would tear packets apart.
        client.on_socket_register_write = _elsewhere
        return client

    def _dial(self) -> socket.socket:
        settings = self._settings
        if settings.transport == "unix":
            return self._connect(socket.AF_UNIX, settings.host)
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )
        # Uplinks are IPv4: an address of the other family only if there is no other.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, _, _, _, address in found:
            try:
                return self._connect(family, address)
            except OSError as error:
                failure = error
        raise failure

    def _connect(self, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family != socket.AF_UNIX:
                timeout_ms = round(self._settings.unacknowledged_s * 1000)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(sock)
            sock.settimeout(self._settings.connect_timeout_s)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _watch(self, sock: socket.socket) -> None:
        with self._lock:
            if self._given_up:
                raise OSError(errno.ECANCELED, "given up")
            if self._handle is not None:
                self._handle.close()
            self._handle = sock.dup()

    def _on_connect(
        self,
        client: Client,
        _userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            known = REFUSALS.get(reason.value)
            self._verdict = Ended(
                f"the broker refused us: {known or reason}", refused=known is not None
            )
            return
        # MQTT 5, 3.2.2.3.3: absent means 65,535.
        maximum = getattr(properties, "ReceiveMaximum", 65_535)
        self._hand_over(self._accept, flags.session_present, maximum)
        if self._settings.subscriptions:
            options = SubscribeOptions(qos=1)
            client.subscribe([(t, options) for t in self._settings.subscriptions])

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._verdict is None:
            if flags.is_disconnect_packet_from_server:
                self._verdict = Ended(f"the broker ended the connection: {reason}")
            elif not self._trouble and reason.value == _KEEP_ALIVE_TIMEOUT:
                self._trouble = f"silent for {self._settings.keepalive_s} s"

    def _on_publish(
        self,
        _client: Client,
        _userdata: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._hand_over(self._puback, mid, str(reason) if reason.is_failure else None)

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for topic, reason in zip(self._settings.subscriptions, reasons, strict=False):
            if reason.is_failure:
                _log.warning("the broker does not let us read %s: %s", topic, reason)

    def _on_message(self, _client: Client, _userdata: Any, came: MQTTMessage) -> None:
        # An exception here would end paho's thread, and with it the connection.
        try:
            more = came.properties
            message = Message(
                came.topic,
                bytes(came.payload),
                correlation=getattr(more, "CorrelationData", None),
                response_topic=getattr(more, "ResponseTopic", None),
                expiry_s=getattr(more, "MessageExpiryInterval", None),
            )
        except (UnicodeDecodeError, ValueError, TypeError) as error:
            _log.warning("a message that cannot be read was dropped: %s", error)
            return
        self._hand_over(self._arrive, message)

    def _on_log(
        self, _client: Client, _userdata: Any, level: int, message: str
    ) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            # The only place where paho says which error it met.
            self._trouble = message.rpartition("socket: ")[2]

    def _hand_over(self, work: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(work, *args)
        except RuntimeError as error:
            # The loop is closed: nobody is left to be told.
            _log.debug("nobody listens any more: %s", error)


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves it untyped


def _elsewhere(_client: Client, _userdata: Any, _sock: Any) -> None:
    pass
