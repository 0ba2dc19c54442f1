"""Presence and condition of a site, from facts and never from earlier verdicts.

Rules, in this order:
1. nothing ever heard → never;
2. a will that stands → offline. A will of another boot, or of an older connection than
   the last birth, never gets to stand (`district.report`);
3. silence on the hearing clock ≥ `offline_missed` intervals → offline;
4. … ≥ `overdue_missed` intervals → overdue;
5. otherwise online.

What 1 to 3 call never or offline is overdue while the site is heard by its last resort
(udp-echo): it lives and some uplink carries packets, only its heartbeats do not come. That
is judged by the wall clock: the reflector hears whether or not the broker does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_server.core.model import Condition, Health, Mode, Presence

if TYPE_CHECKING:
    from jaga_server.core.model import SiteState, Thresholds


def presence(
    state: SiteState, heard_now: int, thresholds: Thresholds, now_ms: int
) -> Presence:
    """Return whether the site is heard, `now_ms` being Unix milliseconds."""
    by_mqtt = heartbeats(state, heard_now, thresholds)
    last = state.last_resort
    if last is None or by_mqtt in {Presence.ONLINE, Presence.OVERDUE}:
        return by_mqtt
    if now_ms - last.arrival_ms < thresholds.last_resort_s * 1000:
        return Presence.OVERDUE
    return Presence.OFFLINE


def heartbeats(state: SiteState, heard_now: int, thresholds: Thresholds) -> Presence:
    """Return whether the site is heard by MQTT.

    `heard_now` is the hearing clock's reading. A site that has told no mode yet is held
    to the longest interval: its first heartbeat will tell.
    """
    if state.fallen:
        return Presence.OFFLINE
    if state.heard_at is None:
        return Presence.NEVER
    mode = state.beat.mode if state.beat else Mode.DORMANT
    missed = (heard_now - state.heard_at) / thresholds.interval_ms(mode)
    if missed >= thresholds.offline_missed:
        return Presence.OFFLINE
    if missed >= thresholds.overdue_missed:
        return Presence.OVERDUE
    return Presence.ONLINE


def condition(state: SiteState, present: Presence) -> Condition:
    """Return what an operator counts.

    Fine must be proven: an uplink of unknown health, or no active uplink, is not fine.
    A site that is online but has not told of its uplinks yet is unknown.
    """
    match present:
        case Presence.NEVER:
            return Condition.UNKNOWN
        case Presence.OFFLINE:
            return Condition.OFFLINE
        case Presence.OVERDUE:
            return Condition.DEGRADED
        case Presence.ONLINE:
            if state.beat is None:
                return Condition.UNKNOWN
            readings = state.beat.uplinks
            proven = (
                bool(readings)
                and all(r.health is Health.UP for r in readings)
                and state.beat.active is not None
            )
            return Condition.FINE if proven else Condition.DEGRADED
