"""What the runtime asks of the adapters: shapes and promises, no code.

Each adapter raises only its own error from `errors`. Values are plain; decisions are
the core's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from jaga_agent.core.routes import Link as Link  # noqa: PLC0414, TC001  re-exported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from jaga_agent.core.firewall import Ruleset
    from jaga_agent.core.model import Instant
    from jaga_agent.core.routes import RoutingState, RoutingStep


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


class KernelEvent(Enum):
    """Something changed: a reason to read again, never the reading itself."""

    LINK = "link"
    """A device came, went, or changed carrier: react at once."""
    ROUTING = "routing"
    """An address, route or rule changed: may be debounced."""
    EVENTS_LOST = "events-lost"
    """The kernel dropped events, or the socket was reopened: read everything again."""


@dataclass(frozen=True, slots=True)
class KernelView:
    """The kernel's links and what it holds of ours, read in one go."""

    links: Mapping[str, Link]
    """By device; a device that does not exist is absent."""
    ours: RoutingState


class Kernel(Protocol):
    """Links, routes and rules of this network namespace. Raises NetlinkError."""

    async def observe(self, devices: Collection[str]) -> KernelView:
        """Read these devices and all routes and rules of our protocol and ranges."""
        ...

    async def links(self, devices: Collection[str]) -> Mapping[str, Link]:
        """Read these devices only."""
        ...

    async def apply(self, step: RoutingStep) -> None:
        """Carry out one step. What is already so is no error."""
        ...

    def watch(self) -> AsyncGenerator[KernelEvent, None]:
        """Yield until closed (aclosing); starts with EVENTS_LOST once it listens."""
        ...


class Conntrack(Protocol):
    """The table of tracked connections. Raises NetlinkError."""

    async def flush_mark(self, mark: int, mask: int) -> None:
        """Forget every connection whose mark within `mask` is `mark`."""
        ...


class Firewall(Protocol):
    """Our one nftables table. Raises FirewallError."""

    async def ensure(self, ruleset: Ruleset) -> bool:
        """Load it unless it is what stands there; return whether it was loaded."""
        ...

    async def remove(self) -> bool:
        """Remove our table; return whether there was one."""
        ...


class KernelSettings(Protocol):
    """Sysctls of this network namespace. Raises SettingError."""

    def ensure(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        """Write those that differ and exist; return "path: old -> new" of each."""
        ...


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
