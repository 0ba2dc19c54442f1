"""What a broker is asked for, from the configuration; and what its refusals mean."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from jaga_agent.wire import topics
from jaga_server.errors import BrokerError

if TYPE_CHECKING:
    from jaga_server.config import Mqtt


def filters(region: str, share: str | None) -> tuple[str, ...]:
    """Return what to subscribe to.

    Statuses are never shared: retained messages are not sent to a shared subscription
    (MQTT 5.0, 4.8.2), and each collector needs to know who is online.
    """
    shared = topics.subscription(region, share=share)
    own = topics.subscription(region)
    return tuple(
        own[n] if leaf == "status" else shared[n]
        for n, leaf in enumerate(topics.CONSUMED)
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


def advice(reason: str) -> str:
    """Return what to do about a reason code, for those that a person can mend."""
    return {
        "Not authorized": "; check [mqtt] username, password or the certificate",
        "Bad user name or password": "; check [mqtt] username and password",
        "Client identifier not valid": "; choose another [mqtt] client_id",
        "Session taken over": "; another collector runs with this [mqtt] client_id",
    }.get(reason, "")
