"""What the engine asks of the world. The adapters carry it out and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from jaga_agent.core.model import Health, TargetName, UplinkName


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Send one probe now, bound to the uplink's device."""

    probe_id: int
    uplink: UplinkName
    target: TargetName


@dataclass(frozen=True, slots=True)
class SendCheck:
    """Ask a target for the real thing now, through the uplink's device."""

    check_id: int
    uplink: UplinkName
    target: TargetName


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the engine held of one uplink when it decided."""

    uplink: UplinkName
    health: Health
    srtt_ms: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class SelectUplink:
    """Make this uplink carry the site: route, flush, resets."""

    uplink: UplinkName
    previous: UplinkName | None
    rule: str
    """Which rule fired: first | failover | switchover | failback."""
    reason: str
    detected_s: float | None
    """From the last sign of life on the old uplink to this decision."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class ReportHealth:
    """An uplink's health changed, and why."""

    uplink: UplinkName
    old: Health
    new: Health
    reason: str


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """A target fell silent on every uplink (or came back): the target's own fault."""

    target: TargetName
    answering: bool
    reason: str


Action = SendProbe | SelectUplink | ReportHealth | ReportTarget
