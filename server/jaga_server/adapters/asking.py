"""What a broker is asked for, from the configuration; and what its refusals mean."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from jaga_agent.wire import topics
from jaga_server.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Collection

    from jaga_server.config import Mqtt


def filters(region: str, share: str | None, leaves: Collection[str]) -> tuple[str, ...]:
    """Return what to subscribe to.

    Statuses are never shared: retained messages are not sent to a shared subscription
    (MQTT 5.0, 4.8.2), and each collector needs to know who is online.
    """
    shared = topics.subscription(region, share=share)
    own = topics.subscription(region)
    return tuple(
        own[n] if leaf == "status" else shared[n]
        for n, leaf in enumerate(topics.CONSUMED)
        if leaf in leaves
    )


def tls(settings: Mqtt) -> ssl.SSLContext:
    """Return the TLS context; raises BrokerError if a file is not what it should be."""
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert is not None:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        message = (
            f"mqtt.ca, mqtt.cert or mqtt.key cannot be used: {error}; "
            "they must be PEM files, and the key must belong to the certificate"
        )
        raise BrokerError(message) from error
    return context


def client(settings: Mqtt, client_id: str, *, manual_ack: bool = False) -> paho.Client:
    """Return a client that is told who it is, and not yet whom to call."""
    made = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=paho.MQTTv5,
        transport="unix" if settings.socket else "tcp",
        reconnect_on_failure=False,
        manual_ack=manual_ack,
    )
    if settings.username:
        made.username_pw_set(settings.username, settings.password)
    if settings.tls:
        made.tls_set_context(tls(settings))
    return made


def place(settings: Mqtt) -> tuple[str, int]:
    """Return what paho is to connect to: of a socket its path, and a port all the same."""
    if settings.socket:
        return str(settings.socket), 1883
    return settings.host or "", settings.port


def advice(reason: str) -> str:
    """Return what to do about a reason code, for those that a person can mend."""
    return {
        "Not authorized": "; check [mqtt] username, password or the certificate",
        "Bad user name or password": "; check [mqtt] username and password",
        "Client identifier not valid": "; choose another [mqtt] client_id",
        "Session taken over": "; another collector runs with this [mqtt] client_id",
    }.get(reason, "")
