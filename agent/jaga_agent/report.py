"""From what the agent knows to what it says: heartbeats, events, presence. Pure.

It builds wire messages from values and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.core.histogram import HEALTHS
from jaga_agent.core.model import Health, Mode
from jaga_agent.wire import evidence
from jaga_agent.wire import messages as wire
from jaga_agent.wire.echo import MAX_UPLINKS, SiteState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.config import Config
    from jaga_agent.core.actions import (
        ReportBusy,
        ReportCheck,
        ReportGap,
        ReportHealth,
        ReportTarget,
        ReportThrift,
        SelectUplink,
    )
    from jaga_agent.core.histogram import Period
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.state import State
    from jaga_agent.core.tally import Measured
    from jaga_agent.ports import Counters, HostReading

HEALTH_CODE = {
    Health.UNKNOWN: wire.HealthCode.UNKNOWN,
    Health.UP: wire.HealthCode.UP,
    Health.DEGRADED: wire.HealthCode.DEGRADED,
    Health.DOWN: wire.HealthCode.DOWN,
}
MODE_CODE = {
    Mode.DORMANT: wire.ModeCode.DORMANT,
    Mode.READY: wire.ModeCode.READY,
    Mode.POLLING_DAY: wire.ModeCode.POLLING_DAY,
}
REASON_CHARS = 512
"""The wire's bound on a text."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a record was made, by every clock the Pi has."""

    boot: bytes
    seq: int
    at_ms: int
    wall_ms: int
    clock_age_s: int


def heartbeat(
    stamp: Stamp,
    config: Config,
    state: State,
    *,
    measured: Mapping[UplinkName, Measured],
    traffic: Mapping[str, tuple[int, int] | None],
    host: HostReading,
) -> wire.Heartbeat:
    """Return the state now. `traffic`: rx and tx bytes since the last one, by device."""
    beats = []
    for uplink, ranked, per in zip(
        config.by_preference, config.policy.uplinks, state.per, strict=True
    ):
        of = measured[ranked.name]
        moved = traffic.get(uplink.device)
        beats.append(
            wire.UplinkBeat(
                name=uplink.name,
                health=HEALTH_CODE[per.health],
                sent=of.sent,
                lost=of.lost,
                not_sent=of.not_sent,
                rtt_min_us=_us(of.rtt_min_s),
                rtt_mean_us=_us(of.rtt_mean_s),
                rtt_max_us=_us(of.rtt_max_s),
                rx_bytes=None if moved is None else moved[0],
                tx_bytes=None if moved is None else moved[1],
            )
        )
    return wire.Heartbeat(
        boot=stamp.boot,
        seq=stamp.seq,
        at_ms=stamp.at_ms,
        wall_ms=stamp.wall_ms,
        clock_age_s=stamp.clock_age_s,
        mode=MODE_CODE[config.site.mode],
        active=state.active,
        uplinks=tuple(beats),
        host=wire.HostBeat(
            uptime_s=int(host.uptime_s),
            cpu_permille=_permille(host.cpu_ratio),
            memory_permille=_permille(host.memory_ratio),
            disk_permille=_permille(host.disk_ratio),
            temperature_decidegc=(
                None if host.temperature_c is None else round(host.temperature_c * 10)
            ),
        ),
    )


def histogram(stamp: Stamp, period: Period) -> evidence.Histogram:
    """Return a period's sums, closed at the stamp's time."""
    return evidence.Histogram(
        boot=stamp.boot,
        seq=stamp.seq,
        at_ms=stamp.at_ms,
        wall_ms=stamp.wall_ms,
        clock_age_s=stamp.clock_age_s,
        begin_ms=period.begin_ms,
        uplinks=tuple(
            evidence.UplinkHistogram(
                name=name,
                sent=of.sent,
                lost=of.lost,
                not_sent=of.not_sent,
                first=of.rtt.first,
                counts=of.rtt.dense(),
                sum_us=of.rtt.sum_us,
                rx_bytes=of.rx_bytes,
                tx_bytes=of.tx_bytes,
                healths_ms=tuple(of.healths_ms.get(h, 0) for h in HEALTHS),
            )
            for name, of in period.uplinks.items()
        ),
    )


def moved(
    before: Mapping[str, Counters], after: Mapping[str, Counters]
) -> dict[str, tuple[int, int] | None]:
    """Return rx and tx bytes between two readings; None for a device that is gone.

    A device that was re-created counts from 0 again: what it shows is all it moved.
    """
    out: dict[str, tuple[int, int] | None] = dict.fromkeys(before)
    for device, now in after.items():
        then = before.get(device)
        if then is None or now.rx_bytes < then.rx_bytes or now.tx_bytes < then.tx_bytes:
            out[device] = (now.rx_bytes, now.tx_bytes)
        else:
            out[device] = (now.rx_bytes - then.rx_bytes, now.tx_bytes - then.tx_bytes)
    return out


def lifecycle(stamp: Stamp, kind: str, reason: str) -> wire.Event:
    """Return the event of a start or stop."""
    return _event(stamp, kind, reason)


def health(
    stamp: Stamp, action: ReportHealth, *, told: Mapping[str, str] | None = None
) -> wire.Event:
    """Return the event of an uplink's transition; `told`: its place in the chain."""
    return _event(
        stamp,
        "health",
        str(action.reason),
        uplink=action.uplink,
        old=action.old.value,
        new=action.new.value,
        evidence=dict(told or {}),
    )


def target(
    stamp: Stamp, action: ReportTarget, *, told: Mapping[str, str] | None = None
) -> wire.Event:
    """Return the event of a target that fell silent everywhere, or came back."""
    state = ("silent", "answering")
    return _event(
        stamp,
        "target",
        str(action.reason),
        old=state[not action.answering],
        new=state[action.answering],
        evidence={"target": action.target, **(told or {})},
    )


def check(stamp: Stamp, action: ReportCheck) -> wire.Event:
    """Return the event of a check that began to fail through an uplink, or works."""
    state = ("failing", "working")
    return _event(
        stamp,
        "check",
        str(action.reason),
        uplink=action.uplink,
        old=state[not action.ok],
        new=state[action.ok],
        evidence={"target": action.target},
    )


def busy(stamp: Stamp, action: ReportBusy) -> wire.Event:
    """Return the event of a queue that the site's own traffic fills, or no longer."""
    state = ("free", "busy")
    return _event(
        stamp,
        "busy",
        str(action.reason),
        uplink=action.uplink,
        old=state[not action.busy],
        new=state[action.busy],
    )


def thrift(stamp: Stamp, action: ReportThrift) -> wire.Event:
    """Return the event of the governor's new level."""
    return _event(
        stamp,
        "thrift",
        str(action.reason),
        uplink=action.uplink,
        new=action.level.name.lower().replace("_", "-"),
    )


def gap(stamp: Stamp, action: ReportGap) -> wire.Event:
    """Return the event of the first packet after a move: how long the site was cut."""
    gap_ms = _ms(action.gap_s)
    return _event(
        stamp,
        "gap",
        f"the site was cut for {gap_ms} ms",
        uplink=action.uplink,
        evidence={"gap_ms": str(gap_ms)},
    )


def decision(
    stamp: Stamp,
    action: SelectUplink,
    switched_s: float | None,
    *,
    told: Mapping[str, str] | None = None,
) -> wire.Event:
    """Return the event of a move, with what was known of each candidate."""
    evidence: dict[str, str] = {}
    for candidate in action.candidates:
        rtt = "no RTT" if candidate.srtt_ms is None else f"{candidate.srtt_ms:.0f} ms"
        evidence[candidate.uplink] = f"{candidate.health.value}, {rtt}"
    return _event(
        stamp,
        "decision",
        action.why,
        rule=action.rule,
        uplink=action.uplink,
        old=action.previous,
        new=action.uplink,
        detected_ms=_ms(action.detected_s),
        switched_ms=_ms(switched_s),
        evidence={**evidence, **(told or {})},
    )


def status(
    config: Config,
    config_hash: str,
    version: str,
    *,
    online: bool,
    boot: bytes,
    connection: int,
) -> wire.Status:
    """Return the retained presence; the same with `online=False` is the last will."""
    return wire.Status(
        online=online,
        boot=boot,
        connection=connection,
        version=version,
        config_hash=config_hash,
        uplinks=tuple(
            wire.UplinkIdentity(
                u.name, u.provider or u.name, u.device, config.preference_of(u)
            )
            for u in config.by_preference
        ),
    )


def last_resort(
    config: Config, state: State, *, waiting: int, silent_s: float
) -> SiteState:
    """Return what goes along with udp-echo probes while there is no MQTT."""
    active = None if state.active is None else state.index(state.active)
    return SiteState(
        active=active,
        healths=tuple(HEALTH_CODE[per.health] for per in state.per[:MAX_UPLINKS]),
        mode=MODE_CODE[config.site.mode],
        waiting=waiting,
        silent_s=int(silent_s),
    )


def _event(
    stamp: Stamp,
    kind: str,
    reason: str,
    *,
    rule: str | None = None,
    uplink: str | None = None,
    old: str | None = None,
    new: str | None = None,
    detected_ms: int | None = None,
    switched_ms: int | None = None,
    evidence: dict[str, str] | None = None,
) -> wire.Event:
    return wire.Event(
        boot=stamp.boot,
        seq=stamp.seq,
        at_ms=stamp.at_ms,
        wall_ms=stamp.wall_ms,
        clock_age_s=stamp.clock_age_s,
        kind=kind,
        rule=rule,
        uplink=uplink,
        old=old,
        new=new,
        reason=reason[:REASON_CHARS],
        detected_ms=detected_ms,
        switched_ms=switched_ms,
        evidence=evidence or {},
    )


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1e6))


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1e3))


def _permille(ratio: float | None) -> int | None:
    return None if ratio is None else min(1000, max(0, round(ratio * 1000)))
