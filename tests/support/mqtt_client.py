"""A client of the field's broker that keeps what it is told, and a bare one."""

import re
import socket
from dataclasses import dataclass, field

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from lab.field import Files
from support.waiting import until

NOT_AUTHORIZED = ReasonCode(PacketTypes.PUBACK, "Not authorized")
NO_SUBSCRIBER = ReasonCode(PacketTypes.PUBACK, "No matching subscribers")


def topic(site, leaf):
    return f"jaga/1/6408/{site}/{leaf}"


@dataclass
class Client:
    """A paho client that keeps what it is told."""

    files: Files
    client_id: str = ""
    will: str | None = None
    connected: list = field(default_factory=list)
    acknowledged: dict = field(default_factory=dict)
    subscribed: list = field(default_factory=list)
    heard: list = field(default_factory=list)
    gone: list = field(default_factory=list)

    def __post_init__(self):
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self.paho.tls_set_context(self.files.context())
        self.paho.on_connect = lambda c, u, f, reason, p: self.connected.append(reason)
        self.paho.on_publish = lambda c, u, mid, reason, p: self.acknowledged.update(
            {mid: reason}
        )
        self.paho.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.append(
            reasons
        )
        self.paho.on_message = lambda c, u, m: self.heard.append((m.topic, m.payload))
        self.paho.on_disconnect = lambda c, u, f, reason, p: self.gone.append(reason)
        if self.will:
            self.paho.will_set(self.will, b"forged", qos=1)

    def connect(self, where, *, session_s=0):
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_s
        self.paho.connect(where.address, where.port, 450, properties=properties)
        self.paho.loop_start()
        until(lambda: self.connected)
        assert not self.connected[0].is_failure
        return self

    def publish(self, name, payload=b"x", *, retain=False):
        """Return the reason with which the broker acknowledges it."""
        mid = self.paho.publish(name, payload, qos=1, retain=retain).mid
        return until(lambda: self.acknowledged.get(mid), f"{name} is acknowledged")

    def subscribe(self, *names):
        before = len(self.subscribed)
        self.paho.subscribe([(name, SubscribeOptions(qos=1)) for name in names])
        until(lambda: len(self.subscribed) > before)
        return self

    def drop(self):
        """Go as in a power cut: without a word."""
        self.paho.loop_stop()
        if (sock := self.paho.socket()) is not None:
            sock.close()

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def raw(place, context=None, session=None, *, speak=True):
    """Connect, send a CONNECT, and return what the broker answers, if anything.

    Not to `speak` lets an alert be read that comes after our half of the handshake.
    """
    sock = socket.create_connection((place.address, place.port), 10)
    try:
        if context is not None:
            sock = context.wrap_socket(
                sock, server_hostname=place.address, session=session
            )
        if speak:  # MQTT 5, clean start, client id "x"
            sock.sendall(bytes.fromhex("100e 0004 4d515454 05 02 0000 00 0001") + b"x")
        try:
            answer = sock.recv(64)
        except ConnectionResetError:
            answer = b""
        if context is None:
            return answer, None, None
        return answer, sock.session_reused, sock.session
    finally:
        sock.close()


def lines_since(place, offset, pattern):
    """Wait for a line of the broker's log; return all that match."""
    return until(
        lambda: re.findall(pattern, place.broker.log()[offset:], re.MULTILINE), pattern
    )
