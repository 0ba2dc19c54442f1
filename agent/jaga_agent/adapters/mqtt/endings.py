"""Why a connection is over, in one line for the operator: what failed, where to look.

Words only: nothing here connects, or decides what comes next.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jaga_agent.adapters.mqtt.settings import Settings

# CONNACK reason codes (MQTT 5, 3.2.2.2) that no waiting mends.
REFUSALS: Final = {
    0x84: "the broker does not speak MQTT 5",
    0x85: "the broker does not accept this client id",
    0x86: "bad user name or password",
    0x87: "not authorised: is this site's certificate or user known to the broker?",
    0x8A: "this site is banned",
    0x8C: "the broker wants another authentication method",
}
# TLS alerts by which a server rejects our certificate. With TLS 1.3 they come after the
# handshake, as an error of the first read.
CERTIFICATE_REFUSED: Final = re.compile(
    r"ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_\w+|ACCESS_DENIED)"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a connection, or the attempt to make one, is over."""

    reason: str
    refused: bool = False
    """For good: not by the network, but by a broker that does not want us."""


def explain(error: OSError, settings: Settings) -> str:
    """Return one line for the operator: what failed, and where to look."""
    where = settings.host
    if settings.transport == "tcp":
        where = f"{settings.host}:{settings.port}"
    if isinstance(error, socket.gaierror):
        return f"cannot resolve {settings.host}: {error.strerror}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {where} is not good: {error.verify_message}"
            " (is mqtt.ca its authority, and this clock right?)"
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS with {where} failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"no answer from {where} within {settings.connect_timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection: is the broker running there?"
    return f"cannot connect to {where}: {error.strerror or error}"
