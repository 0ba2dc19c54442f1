"""What the runtime asks of the adapters: shapes and promises, no code.

Each adapter raises only its own error from `errors`. Values are plain; decisions are
the core's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from jaga_agent.core.routes import Link as Link  # noqa: PLC0414, TC001  re-exported
from jaga_agent.core.stamps import Stamp as Stamp  # noqa: PLC0414, TC001  re-exported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from jaga_agent.core.clock_sample import ClockSample
    from jaga_agent.core.events import CheckVerdict
    from jaga_agent.core.firewall import Ruleset
    from jaga_agent.core.model import Instant, UplinkName
    from jaga_agent.core.one_way import OneWayCounts
    from jaga_agent.core.routes import RoutingState, RoutingStep
    from jaga_agent.core.usage import Usage
    from jaga_agent.targets import ProbeTarget
    from jaga_agent.wire.evidence import LostRange, Watermark


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

    def stamp(self) -> Stamp:
        """Return this moment on both clocks, for round-trip times."""
        ...


class ProbeListener(Protocol):
    """Where the prober tells what became of a probe.

    Called on the event loop, never from within `Prober.send`. A probe that nothing is
    said of was not answered (yet): the prober has no timeout, lateness is the core's.
    """

    def answered(self, probe_id: int, rtt_s: float) -> None: ...
    def refused(self, probe_id: int, reason: str) -> None:
        """Tell that an ICMP error came back for the probe."""
        ...

    def not_sent(self, probe_id: int, reason: str) -> None:
        """Tell that nothing was put on the wire."""
        ...


class Prober(Protocol):
    """Sends echo requests, each bound to one device."""

    def send(self, probe_id: int, device: str, address: str) -> None:
        """Send one echo request to an address. Never raises.

        ICMP takes a numeric IPv4 address, udp-echo "address:port".
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Phases:
    """How long each part of a check took, in seconds; None: not needed, not reached.

    Resolution is never inside a connection's time.
    """

    dns_s: float | None = None
    """To the first usable answer; None also if resolution failed."""
    connect_s: float | None = None
    """From the TCP SYN to the SYN/ACK: one round trip."""
    tls_s: float | None = None
    """The TLS handshake, certificate judged."""
    first_byte_s: float | None = None
    """From the HTTP request sent to the answer's first byte."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one check."""

    verdict: CheckVerdict
    detail: str
    """One line for the technician; "" when there is nothing to say."""
    phases: Phases
    wire_bytes: int
    """IP bytes both ways, headers included: what a provider's meter counts."""


class CheckListener(Protocol):
    """Where the checker tells what became of a check."""

    def checked(self, check_id: int, outcome: Checked) -> None:
        """Tell the outcome, once for each check; on the event loop, never from `send`."""
        ...


class Checker(Protocol):
    """Asks targets for the real thing, each time through one device."""

    def send(self, check_id: int, device: str, target: ProbeTarget) -> None:
        """Begin a check of a target that is no pulse. Never raises.

        The outcome comes within the sum of the phases' caps (`Caps` of the adapter).
        """
        ...

    def close(self) -> None:
        """Drop the checks under way; nothing more is told."""
        ...


@dataclass(frozen=True, slots=True)
class EchoSample:
    """What an answer of the collector's reflector says beyond "answered"."""

    device: str
    address: str
    """As it was asked for."""
    rtt_s: float
    """Without the time that the reflector held it."""
    clock: ClockSample
    began: tuple[int, int]
    """Names the count that `counts` are totals of: flow, and how often it began."""
    counts: OneWayCounts | None
    """None while the reflector does not count (its first answer in a row)."""


class EchoListener(ProbeListener, Protocol):
    """The udp-echo prober's listener; each sample comes just before its `answered`."""

    def echoed(self, sample: EchoSample) -> None: ...


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


class Resolver(Protocol):
    """The LAN's DNS. Raises ResolverError."""

    def load(self, servers: str) -> bool:
        """Use these `server=` lines; return whether it had to be told of them."""
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
class Device:
    """A device now, read cheaply enough to do it 20 times a second."""

    index: int
    """The kernel's ifindex; a new one means that its counters began at 0 again."""
    carrier: bool
    """It has carrier now, and is administratively up."""
    counters: Counters


class Devices(Protocol):
    """Reads the uplinks' devices without netlink. Raises DevicesError."""

    def read(self) -> Mapping[str, Device]:
        """Return those devices that exist."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Flows:
    """Packets counted at an uplink since the ruleset was loaded; `core.firewall`."""

    syn_out: int
    synack_in: int
    rst_in: int
    dns_out: int
    dns_in: int


class FlowCounters(Protocol):
    """The named counters of our nftables table. Raises FlowCountersError."""

    def read(self) -> Mapping[UplinkName, Flows] | None:
        """Return the totals of each uplink; None while our table is not there."""
        ...

    def close(self) -> None: ...


class Ledger(Protocol):
    """Where the bytes carried in the quota period are kept. Raises LedgerError."""

    @property
    def boot(self) -> str:
        """The kernel's id of this boot."""
        ...

    def load(self) -> tuple[Mapping[str, Usage], bool]:
        """Return what was kept, by uplink, and whether at a clean end."""
        ...

    def save(self, usages: Mapping[str, Usage], *, clean: bool) -> None:
        """Keep these; may take as long as the card takes to sync. Any thread."""
        ...


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host now; None where it cannot be read. Ratios are 0…1."""

    uptime_s: float
    cpu_ratio: float | None
    memory_ratio: float | None
    disk_ratio: float | None
    temperature_c: float | None


class Host(Protocol):
    """Reads the Pi itself."""

    def read(self) -> HostReading:
        """Return the host's state; CPU is the mean since the last call."""
        ...


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """One kept record. The payload carries its own boot and seq."""

    token: int
    """Names the record in this spool for ever, across boots; rises with age."""
    boot: bytes
    """8 bytes, as in the payload."""
    seq: int
    leaf: str
    """Its kind: "heartbeat", "event", "histogram" or "digest" (`wire.evidence.CODE_OF`)."""
    payload: bytes


class Spool(Protocol):
    """The site's records, until the collector has them and for some days beyond.

    All raise SpoolError. Nothing waits for the card: what `append` was given is in RAM
    when it returns, and survives SIGKILL; a thread puts it on the card, where it
    survives power loss.
    """

    @property
    def boot(self) -> bytes:
        """8 bytes that name this boot of this spool."""
        ...

    @property
    def dropped(self) -> int:
        """How many records that the collector lacked had to go because it was full."""
        ...

    def next_seq(self) -> int:
        """Return the number the next appended record must carry, from 1 each boot."""
        ...

    def next_connection(self) -> int:
        """Count one more connection of this boot (`Status.connection`) and return it."""
        ...

    def append(self, seq: int, leaf: str, payload: bytes) -> SpooledRecord:
        """Keep the record before it is published. `seq` is `next_seq()`."""
        ...

    def cover(self, mark: Watermark) -> None:
        """Take what the collector says it has for good.

        A mark may go back (a restored backup, another store): what it does not cover is
        pending again, if it is still kept.
        """
        ...

    def pending(self, limit: int, *, after: int = 0) -> Sequence[SpooledRecord]:
        """Return at most `limit` records not covered, with tokens above `after`.

        Oldest first; earlier boots' records are among them.
        """
        ...

    def select(self, boot: bytes, first: int, last: int) -> Sequence[SpooledRecord]:
        """Return what is kept of a boot's records first…last, covered or not."""
        ...

    def depth(self) -> int:
        """Return how many kept records are not covered."""
        ...

    def lost(self) -> Sequence[LostRange]:
        """Return what is gone for good and not covered: merged, oldest first, at most 64."""
        ...

    def last_digest(self) -> SpooledRecord | None:
        """Return the newest record of leaf "digest", of any boot: the chain's head.

        It is kept whatever else must go.
        """
        ...

    def boots(self) -> Sequence[tuple[bytes, int]]:
        """Return the boots known, oldest first, each with its highest seq (0: none)."""
        ...

    def close(self) -> None:
        """Put everything on the card."""
        ...


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says of us when we fall silent."""

    topic: str
    payload: bytes
    delay_s: int


@dataclass(frozen=True, slots=True)
class Message:
    """What came on a topic that we subscribe to, with MQTT 5's properties as values."""

    topic: str
    payload: bytes
    correlation: bytes | None = None
    response_topic: str | None = None
    expiry_s: int | None = None
    """How long it would still have been kept, when the broker sent it."""


class BrokerListener(Protocol):
    """Where the broker adapter tells what happened. Called on the event loop."""

    def connected(self, session_present: bool) -> None:
        """Tell that the broker accepted us. Nothing published before is in flight."""
        ...

    def disconnected(self, reason: str) -> None:
        """Tell why there is no connection: once for each cycle, not for each attempt.

        Said again within a cycle only if the broker begins to refuse us for good.
        """
        ...

    def acknowledged(self, token: int) -> None:
        """Tell that the broker has the message published with `token`."""
        ...

    def rejected(self, token: int, reason: str) -> None:
        """Tell that the broker answered `token` with an error: it does not have it."""
        ...

    def message(self, message: Message) -> None:
        """Tell what came; always after this connection's `connected`.

        It is acknowledged already: what must not be lost is asked for again by whoever
        sent it.
        """
        ...


class Broker(Protocol):
    """One MQTT 5 connection that reconnects by itself, with full jitter.

    Each connection subscribes anew (QoS 1) to what it was made to listen to, so that a
    retained message comes each time.
    """

    def start(self) -> None:
        """Begin to dial, on the running event loop."""
        ...

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        token: int | None,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> bool:
        """Hand over one QoS 1 message; False when it was not taken.

        That is when not connected, or when as many messages as the window holds await
        their acknowledgement: try again after the next `acknowledged`. Nothing is
        queued beyond that, and nothing survives the connection.
        """
        ...

    def reconnect_now(self, reason: str) -> None:
        """Drop the connection and dial again at once: the path under it is dead."""
        ...

    async def close(self, *, last_topic: str, last_payload: bytes) -> None:
        """Publish a last retained message if connected, then disconnect cleanly.

        Takes a few seconds at most, whatever the network does.
        """
        ...
