"""What `jaga-agent status` shows: the agent's state as plain JSON values. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaga_agent.core import choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaga_agent.config import Config
    from jaga_agent.core.model import Instant
    from jaga_agent.core.routes import Link
    from jaga_agent.core.state import State


def uplinks(
    config: Config, state: State, links: Mapping[str, Link], now: Instant
) -> list[dict[str, Any]]:
    """Return each uplink's row, the preferred first; durations in seconds."""
    rows = []
    for index, uplink in enumerate(config.by_preference):
        per = state.per[index]
        link = links.get(uplink.device)
        back_at = choice.back_at(state.policy, per, state.hold_until, state.chosen)
        srtt_s = per.overall.srtt_s
        rows.append(
            {
                "name": uplink.name,
                "provider": uplink.provider or uplink.name,
                "device": uplink.device,
                "present": link is not None,
                "carrier": link is not None and link.carrier,
                "address": None if link is None else link.address,
                "gateway": None if link is None else link.gateway,
                "health": per.health.value,
                "reason": str(per.reason),
                "health_for_s": None if per.since is None else now - per.since,
                "active": uplink.name == state.active,
                "rtt_ms": None if srtt_s is None else srtt_s * 1000,
                "heard_ago_s": None if per.heard_at is None else now - per.heard_at,
                "racing": None if per.race is None else str(per.race.cause),
                "busy": per.busy,
                "failback_in_s": (
                    max(0.0, back_at - now)
                    if back_at is not None
                    and state.active is not None
                    and index < state.index(state.active)
                    else None
                ),
            }
        )
    return rows


def status(
    config: Config,
    state: State,
    links: Mapping[str, Link],
    now: Instant,
    *,
    version: str,
    config_hash: str,
    running_s: float,
    decisions: Sequence[Mapping[str, Any]],
    broker: Mapping[str, Any],
    records: Mapping[str, Any],
    clock_age_s: int,
    clock: Mapping[str, Any],
    troubles: Sequence[str],
    one_way: Mapping[str, Mapping[str, int]],
    clock_offset: Mapping[str, Any] | None,
    configuration: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the whole answer."""
    return {
        "site": config.site.id,
        "region": config.site.region,
        "mode": config.site.mode.value,
        "version": version,
        "config_hash": config_hash,
        "configuration": dict(configuration),
        "held_for_s": (
            None if state.hold_until is None else max(0.0, state.hold_until - now)
        ),
        "chosen": None if state.chosen is None else state.chosen.uplink,
        "running_s": running_s,
        "active": state.active,
        "uplinks": uplinks(config, state, links, now),
        "faulty_targets": sorted(state.faulty_targets),
        "decisions": list(decisions),
        "broker": dict(broker),
        "records": dict(records),
        "clock_age_s": clock_age_s,
        "clock": dict(clock),
        "clock_offset": None if clock_offset is None else dict(clock_offset),
        "one_way": {name: dict(counts) for name, counts in one_way.items()},
        "troubles": list(troubles),
    }
