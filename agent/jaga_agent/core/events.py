"""What may happen to the engine: values, so that a field outage can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jaga_agent.core.model import UplinkName


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """The kernel's view of an uplink's device, each time it changes."""

    uplink: UplinkName
    present: bool
    """The device exists."""
    carrier: bool
    """The device has carrier (IFLA_CARRIER) and is administratively up."""
    routed: bool
    """It has an IPv4 address and a gateway is known."""


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """A reply came; `rtt_s` from kernel timestamps, in seconds."""

    probe_id: int
    rtt_s: float


@dataclass(frozen=True, slots=True)
class ProbeRefused:
    """An ICMP error came back for the probe: the path says no, at once."""

    probe_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeNotSent:
    """The kernel would not send it. Not loss: nothing was on the wire."""

    probe_id: int
    reason: str


class CheckVerdict(Enum):
    """What became of a check of the real thing."""

    OK = "ok"
    DNS_FAILED = "dns-failed"
    """No answer, a server failure, or an answer that cannot be true."""
    REFUSED = "refused"
    """TCP reset at connect."""
    UNREACHABLE = "unreachable"
    """An ICMP error."""
    TIMEOUT = "timeout"
    RESET = "reset"
    """Connected, then reset or closed before the answer: quota, SNI block."""
    CERTIFICATE = "certificate"
    """Not the right server."""
    REDIRECTED = "redirected"
    """HTTP sends us to another host: a portal."""
    UNEXPECTED = "unexpected"
    """Status or body not as wanted."""
    NOT_SENT = "not-sent"
    """The kernel would not; says nothing of the path."""


@dataclass(frozen=True, slots=True)
class CheckDone:
    """A check ended, one way or the other."""

    check_id: int
    verdict: CheckVerdict
    detail: str
    wire_bytes: int
    """IP bytes both ways."""


@dataclass(frozen=True, slots=True)
class TrafficSeen:
    """A device's counters since it appeared, sampled. Evidence that costs no data.

    They run backwards when the device was re-created.
    """

    uplink: UplinkName
    rx_packets: int
    tx_packets: int
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FlowsSeen:
    """What flows asked for and got by an uplink: packets since the rules were loaded.

    Of the site's devices and the Pi's own, retransmissions counted again; ICMP in none.
    They run backwards when the rules were loaded anew.
    """

    uplink: UplinkName
    syn_out: int
    """TCP connections asked for."""
    synack_in: int
    rst_in: int
    """TCP resets that came in: the far end's, or a box's on the way (quota, block)."""
    dns_out: int
    """DNS queries by UDP."""
    dns_in: int


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """What an uplink has carried in its quota period, both ways, in bytes."""

    uplink: UplinkName
    used_bytes: int
    probe_bytes: int = 0
    """Of the agent's own pulses in the last 24 hours, both ways."""


@dataclass(frozen=True, slots=True)
class SwitchOrdered:
    """An operator wants this uplink to carry the site.

    Nothing happens if it cannot: see `choice.unfit`.
    """

    uplink: UplinkName
    operator: str


@dataclass(frozen=True, slots=True)
class HoldOrdered:
    """An operator wants the site to stay where it works; 0 s: as usual again."""

    for_s: float


@dataclass(frozen=True, slots=True)
class RaceOrdered:
    """An operator wants every uplink raced now."""


@dataclass(frozen=True, slots=True)
class PaceOrdered:
    """The site's stage has changed: how much may be probed from here on."""

    probe_interval_s: float
    allowance_bytes: int
    """Of pulses in a day, for each uplink, both ways."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: send when `next_deadline` has come."""


Event = (
    LinkSeen
    | ProbeAnswered
    | ProbeRefused
    | ProbeNotSent
    | CheckDone
    | TrafficSeen
    | FlowsSeen
    | UsageSeen
    | SwitchOrdered
    | HoldOrdered
    | RaceOrdered
    | PaceOrdered
    | Tick
)
