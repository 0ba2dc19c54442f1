"""What the runtime asks of the adapters: shapes and promises, no code.

Each adapter raises only its own error from `errors`. Values are plain; decisions are
the core's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaga_agent.core.model import Instant


class Clock(Protocol):
    """The only door to time."""

    def now(self) -> Instant:
        """Return seconds since boot (CLOCK_BOOTTIME)."""
        ...

    def wall_ms(self) -> int:
        """Return Unix milliseconds by the Pi's own clock."""
        ...

    def age_s(self) -> int:
        """Return seconds since the wall clock was confirmed, -1 if never this boot."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """A device as the kernel shows it now."""

    device: str
    index: int
    admin_up: bool
    carrier: bool
    address: str | None
    """First global IPv4 address, or None."""
    subnet: str | None
    """The network of `address`, e.g. "192.168.8.0/24"."""
    gateway: str | None
    """Next hop of a default route that is not ours, in whichever table, or None."""


@dataclass(frozen=True, slots=True)
class Counters:
    """A device's totals since it appeared."""

    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host now; None where it cannot be read. Ratios are 0…1."""

    uptime_s: float
    cpu_ratio: float | None
    memory_ratio: float | None
    disk_ratio: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Spool(Protocol):
    """Records that are not yet acknowledged; survives SIGKILL."""

    boot: bytes
    """8 bytes: names this boot of this spool."""

    def next_seq(self) -> int:
        """Return the number the next appended record must carry."""
        ...

    def append(self, record: SpooledRecord) -> None:
        """Keep the record before it is published. `record.seq` is `next_seq()`."""
        ...

    def acknowledge(self, seq: int) -> None:
        """Forget the record: the broker has it."""
        ...

    def pending(self, limit: int) -> Sequence[SpooledRecord]:
        """Return at most `limit` kept records, lowest seq first."""
        ...

    def depth(self) -> int:
        """Return how many records wait."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says of us when we fall silent."""

    topic: str
    payload: bytes
    delay_s: int


class BrokerListener(Protocol):
    """Where the broker adapter tells what happened. Called on the event loop."""

    def connected(self, session_present: bool) -> None: ...
    def disconnected(self, reason: str) -> None: ...
    def acknowledged(self, token: int) -> None:
        """Tell that the broker has the message published with `token`."""
        ...


class Broker(Protocol):
    """One MQTT 5 connection that reconnects by itself, with full jitter."""

    def publish(
        self, topic: str, payload: bytes, *, token: int | None, retain: bool = False
    ) -> bool:
        """Hand over one QoS 1 message; False when not connected (nothing is queued)."""
        ...

    def reconnect_now(self, reason: str) -> None:
        """Drop the connection and dial again at once: the path under it is dead."""
        ...

    async def close(self, *, last_topic: str, last_payload: bytes) -> None:
        """Publish a last retained message if connected, then disconnect cleanly."""
        ...
