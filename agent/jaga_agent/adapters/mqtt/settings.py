"""How to reach the broker, and how patiently. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the broker, and how patiently."""

    host: str
    """Name or address; with `transport` "unix" the path of a socket."""
    client_id: str
    """The site id: the broker keeps our session under it."""
    port: int = 8883
    transport: Literal["tcp", "unix"] = "tcp"
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    subscriptions: tuple[str, ...] = ()
    """Topics whose messages are told to the listener."""

    keepalive_s: int = 30
    session_expiry_s: int = 3600
    connect_timeout_s: float = 5.0
    """For one address, and for each step of the TLS handshake."""
    attempt_timeout_s: float = 20.0
    """For all of it: DNS, TCP, TLS, and the broker's answer."""
    unacknowledged_s: float = 20.0
    """TCP_USER_TIMEOUT: a connection whose segments are not acknowledged is dead."""
    max_inflight: int = 20

    backoff_s: float = 2.0
    """Full jitter: the n-th wait, from 0, is anywhere in 0…backoff_s·2ⁿ. After a
    broker's restart hundreds of sites must not return at once."""
    backoff_cap_s: float = 60.0
    refused_s: tuple[float, float] = (60.0, 300.0)
    """A refusal needs a person to mend something: look again seldom."""
