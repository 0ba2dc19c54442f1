"""What the engine asks of the world. The adapters carry it out and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from jaga_agent.core.governor import Level
from jaga_agent.core.model import Health, TargetName, UplinkName
from jaga_agent.core.reason import ORDERED, Reason


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Send one pulse now, bound to the uplink's device."""

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
    reason: Reason


@dataclass(frozen=True, slots=True)
class SelectUplink:
    """Make this uplink carry the site: route, flush, resets."""

    uplink: UplinkName
    previous: UplinkName | None
    rule: str
    """Which rule fired: first | failover | switchover | failback."""
    reason: Reason
    """Of failover and switchover: what is wrong with `previous`; or who ordered it."""
    detected_s: float | None
    """From the last sign of life on the old uplink to this decision."""
    candidates: tuple[Candidate, ...]

    @property
    def why(self) -> str:
        """The reason as a sentence that names the uplink it is about."""
        if self.reason.code == ORDERED:
            return f"{self.uplink}: {self.reason}"
        about = self.previous if self.rule in {"failover", "switchover"} else None
        return f"{about or self.uplink}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ReportHealth:
    """An uplink's health changed, and why."""

    uplink: UplinkName
    old: Health
    new: Health
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """A target failed on every uplink (or came back): the target's own fault."""

    target: TargetName
    answering: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReportCheck:
    """A check of the real thing began to fail on an uplink, or works again."""

    uplink: UplinkName
    target: TargetName
    ok: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReportBusy:
    """The site's own traffic fills (or no longer fills) an uplink's queue."""

    uplink: UplinkName
    busy: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReportThrift:
    """The governor measures an uplink less, or as usual again."""

    uplink: UplinkName
    level: Level
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReportGap:
    """The first packet came in by the new uplink: how long the site was cut."""

    uplink: UplinkName
    gap_s: float
    """From the old uplink's last sign of life, or from the move if it still worked."""


Action = (
    SendProbe
    | SendCheck
    | SelectUplink
    | ReportHealth
    | ReportTarget
    | ReportCheck
    | ReportBusy
    | ReportThrift
    | ReportGap
)
