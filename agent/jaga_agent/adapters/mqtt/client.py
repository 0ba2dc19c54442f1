"""paho's client on sockets of ours, with TLS sessions taken up again.

A TLS handshake is most of what a reconnection costs; with a ticket of the connection
before (TLS 1.3's resumption, RFC 8446, 2.2) neither side sends its certificates. A
ticket is used once (C.4 there) and only towards the host it came from. One that the
broker does not take costs nothing: the same handshake goes on in full. If a broker
breaks off over it, the full handshake is made at once on a new socket.
"""

from __future__ import annotations

import logging
import ssl
import threading
from typing import TYPE_CHECKING

from paho.mqtt.client import Client, MQTTv5, time_func
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from jaga_agent import tls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from jaga_agent.adapters.mqtt.settings import Settings

_log = logging.getLogger(__name__)


class Tickets:
    """The TLS session of the last connection that the broker accepted; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: ssl.SSLSession | None = None
        self._peer: tuple[str, int] | None = None

    def keep(self, peer: tuple[str, int], session: ssl.SSLSession | None) -> None:
        """Keep a session for the next connection to this host and port."""
        if session is not None and session.has_ticket:
            with self._lock:
                self._session, self._peer = session, peer

    def take(self, peer: tuple[str, int]) -> ssl.SSLSession | None:
        """Return the kept session, once, if it is this host's."""
        with self._lock:
            session, self._session = self._session, None
            return session if peer == self._peer else None


class SocketClient(Client):
    """paho's client, whose sockets are made by us."""

    def __init__(
        self,
        settings: Settings,
        dial: Callable[[], socket.socket],
        tickets: Tickets,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTv5,
            transport=settings.transport,
            reconnect_on_failure=False,
        )
        self._dial = dial
        self._tickets = tickets
        self._certificate_time = settings.certificate_time
        self._peer = (settings.host, settings.port)

    def keep_ticket(self) -> None:
        """Keep the TLS session; its ticket has come, as the broker has answered."""
        sock = self.socket()
        if isinstance(sock, ssl.SSLSocket):
            self._tickets.keep(self._peer, sock.session)

    def _packet_write(self) -> MQTTErrorCode:
        # As paho's own, which forgets to take note of what it wrote when it wrote all
        # there was (2.2.0): it would send a ping each keep-alive, whatever else is sent.
        wanted = self.want_write()
        outcome = super()._packet_write()
        if wanted and outcome == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self._msgtime_mutex:
                self._last_msg_out = time_func()
        return outcome

    def _create_socket_connection(self) -> socket.socket:
        return self._dial()

    def _create_unix_socket_connection(self) -> socket.socket:
        return self._dial()

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        session = self._tickets.take(self._peer)
        try:
            sock = self._handshake(tcp_sock, session)
        except ssl.SSLError as error:
            if session is None:
                raise
            _log.info("TLS was not taken up again (%s): anew", error.reason or error)
            sock = self._handshake(self._dial(), None)
        _log.debug("TLS session taken up again: %s", sock.session_reused)
        return sock

    def _handshake(
        self, tcp_sock: socket.socket, session: ssl.SSLSession | None
    ) -> ssl.SSLSocket:
        # As paho's own, but closes the socket when the handshake fails, and judges the
        # broker's certificate by the time that is known.
        assert self._ssl_context is not None  # noqa: S101 (asked for only with TLS)
        when = self._certificate_time()
        with tls.dated(self._ssl_context, when):
            sock = self._ssl_context.wrap_socket(
                tcp_sock,
                server_hostname=self._host,
                do_handshake_on_connect=False,
                session=session,
            )
        try:
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
            tls.judge(sock, when)
        except BaseException:
            sock.close()
            raise
        return sock
