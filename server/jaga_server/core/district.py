"""How a report changes what is known of a site: pure steps from state to state.

A site's *current boot* is the one that its last birth named; without a birth, the boot
of the newest heartbeat. Records of another boot are history (a spool emptied late): they
are stored, but they do not change what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaga_server.core import loss, presence
from jaga_server.core.model import (
    NOWHERE,
    Condition,
    Health,
    Presence,
    Site,
    SiteState,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_server.core.model import (
        Beat,
        LastResort,
        Report,
        Thresholds,
        Transition,
    )

HEALTHS = frozenset(health.value for health in Health)
RECENT_UNLISTED_MS = 86_400_000
"""A site that is on no list is shown again after a restart if heard within a day."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on the two clocks that presence needs."""

    now_ms: int
    """Unix milliseconds."""
    heard: int
    """The hearing clock's reading."""


def unlisted(site: str) -> Site:
    """Return how a site is shown that is on no list."""
    return Site(site, site, "?", None, NOWHERE, None, None, (), listed=False)


def alive(state: SiteState, moment: Moment) -> SiteState:
    """Return the state after any sign of life: no will stands any more."""
    return replace(
        state, fallen=False, last_heard_ms=moment.now_ms, heard_at=moment.heard
    )


def heartbeat(state: SiteState, beat: Beat, moment: Moment) -> SiteState:
    """Return the state after a heartbeat that was not stored before."""
    state = alive(state, moment)
    current = state.birth.boot if state.birth else None
    if current is not None and beat.boot != current:
        return state
    last = state.beat
    if last is None or last.boot != beat.boot:
        if last is not None and current is None and beat.t_ms < last.t_ms:
            return state
        return replace(state, beat=beat, memory=loss.remember({}, beat, newest=True))
    newest = beat.seq > last.seq
    return replace(
        state,
        beat=beat if newest else last,
        memory=loss.remember(state.memory, beat, newest=newest),
    )


def late(state: SiteState, beat: Beat) -> SiteState:
    """Return the state after a heartbeat out of a history, not stored before.

    It tells nothing of now: neither that the site lives nor how it is. If it is of the
    last minutes, the loss figures get the probes that they missed.
    """
    last = state.beat
    if last is None or beat.boot != last.boot or beat.seq >= last.seq:
        return state
    return replace(state, memory=loss.remember(state.memory, beat, newest=False))


def transition(state: SiteState, event: Transition, moment: Moment) -> SiteState:
    """Return the state after an event that was not stored before.

    It tells at once what the next heartbeat would: a page that waited for it would show
    a dead uplink carrying the site for ten seconds more.
    """
    state = alive(state, moment)
    beat = state.beat
    if beat is None or event.boot != beat.boot or event.seq <= beat.seq:
        return state
    told = replace(beat, seq=event.seq, t_ms=event.t_ms)
    if event.kind == "decision" and event.new is not None:
        return replace(state, beat=replace(told, active=event.new))
    if event.kind == "health" and event.new in HEALTHS:
        uplinks = tuple(
            replace(reading, health=Health(event.new))
            if reading.name == event.uplink
            else reading
            for reading in beat.uplinks
        )
        return replace(state, beat=replace(told, uplinks=uplinks))
    return state


def report(state: SiteState, told: Report, moment: Moment) -> SiteState:
    """Return the state after a birth or a will."""
    return _birth(state, told, moment) if told.online else _will(state, told)


def _birth(state: SiteState, told: Report, moment: Moment) -> SiteState:
    """Take a birth.

    A retained one is of unknown age: it tells who the site is and that no will came
    after it, but that the site lives only heartbeats can tell. Its silence therefore
    counts from when the collector first saw it.
    """
    known = state.birth
    if known and told.boot == known.boot and told.connection < known.connection:
        return state
    if not told.retained:
        return replace(alive(state, moment), birth=told)
    will = state.will
    outlived = will is None or not (
        will.boot == told.boot and told.connection <= will.connection
    )
    revived = state.fallen and outlived
    first = state.heard_at is None
    return replace(
        state,
        birth=told,
        fallen=state.fallen and not outlived,
        heard_at=moment.heard if revived or first else state.heard_at,
    )


def _will(state: SiteState, told: Report) -> SiteState:
    """Take a will, if it is the one of the connection that is known.

    A will of an earlier connection comes late, when the site is back by itself; one that
    a heartbeat has answered is repeated by the broker, which retains it, at each of the
    collector's own reconnects. A connection dies once: neither takes the site down.
    """
    birth, will = state.birth, state.will
    if birth is not None:
        if told.boot != birth.boot or told.connection < birth.connection:
            return state
    elif state.beat is not None and told.boot != state.beat.boot:
        return state
    if will and (told.boot, told.connection) == (will.boot, will.connection):
        return state
    return replace(state, will=told, fallen=True)


def sighted(state: SiteState, sight: LastResort) -> SiteState:
    """Return the state after a last-resort heartbeat. A will that stands goes on to."""
    known = state.last_resort
    if known is not None and sight.arrival_ms < known.arrival_ms:
        return state
    return replace(state, last_resort=sight)


def judge(state: SiteState, moment: Moment, thresholds: Thresholds) -> SiteState:
    """Return the state with its presence and condition of now, and since when."""
    present = presence.presence(state, moment.heard, thresholds, moment.now_ms)
    verdict = presence.condition(state, present)
    if verdict is state.condition:
        return state if present is state.presence else replace(state, presence=present)
    since_ms: int | None = moment.now_ms
    if verdict is Condition.UNKNOWN:
        since_ms = None
    elif present is Presence.ONLINE and state.beat is not None:
        since_ms = min(moment.now_ms, max(state.beat.t_ms, state.since_ms or 0))
    return replace(state, presence=present, condition=verdict, since_ms=since_ms)


def due(
    states: Mapping[str, SiteState], moment: Moment, thresholds: Thresholds
) -> dict[str, SiteState]:
    """Return the sites that the passing of time alone has changed."""
    changed = {}
    for site, state in states.items():
        judged = judge(state, moment, thresholds)
        if judged is not state:
            changed[site] = judged
    return changed
