"""From what is known to what the page is shown (`web.schema`). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_server.core import coverage, loss, series, summary
from jaga_server.core.model import Condition, Health, SiteState
from jaga_server.web import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jaga_server.core.model import Host, Site, Thresholds, Transition
    from jaga_server.core.series import Sample
    from jaga_server.store.reader import BootHeld

_HEALTH: dict[Health, schema.Health] = {
    Health.UNKNOWN: "unknown",
    Health.UP: "up",
    Health.DEGRADED: "degraded",
    Health.DOWN: "down",
}
NEVER = SiteState()


def site_view(site: Site, state: SiteState) -> schema.SiteView:
    """Return a row of the table."""
    return schema.SiteView(
        site=site.site,
        name=site.name,
        kind=site.kind,
        desa=site.desa,
        kecamatan=site.kecamatan,
        lat=site.lat,
        lon=site.lon,
        presence=state.presence.value,
        condition=state.condition.value,
        since_ms=state.since_ms,
        last_seen_ms=_last_seen_ms(state),
        active=state.beat.active if state.beat else None,
        uplinks=_uplinks(site, state),
        last_resort=_last_resort(state),
    )


def _last_seen_ms(state: SiteState) -> int | None:
    last = state.last_resort
    if last is None:
        return state.last_heard_ms
    return max(last.arrival_ms, state.last_heard_ms or 0)


def _last_resort(state: SiteState) -> schema.LastResortView | None:
    last = state.last_resort
    if last is None or last.arrival_ms < (state.last_heard_ms or 0):
        return None
    names = [identity.name for identity in state.birth.uplinks] if state.birth else []

    def name(place: int | None) -> str | None:
        return None if place is None or place >= len(names) else names[place]

    return schema.LastResortView(
        at_ms=last.arrival_ms,
        through=name(last.place),
        active=name(last.active),
        uplinks=tuple(_HEALTH[health] for health in last.healths),
        waiting=last.waiting,
        silent_s=last.silent_s,
    )


def _uplinks(site: Site, state: SiteState) -> tuple[schema.UplinkView, ...]:
    """Return the uplinks: as the site told them, else as the list promises them."""
    identities = {i.name: i for i in state.birth.uplinks} if state.birth else {}
    readings = {r.name: r for r in state.beat.uplinks} if state.beat else {}
    if not identities and not readings:
        return tuple(
            schema.UplinkView(p, p, None, "unknown", False, None, None, 0, 0)
            for p in site.providers
        )
    views = []
    for name in dict.fromkeys((*identities, *readings)):
        identity, reading = identities.get(name), readings.get(name)
        memory = state.memory.get(name)
        counts = loss.total(memory.probes if memory else ())
        views.append(
            schema.UplinkView(
                name=name,
                provider=identity.provider if identity else _provider(site, name),
                device=identity.device if identity else None,
                health=_HEALTH[reading.health] if reading else "unknown",
                active=state.beat is not None and state.beat.active == name,
                rtt_ms=memory.rtt_ms if memory else None,
                loss_ratio=counts.ratio,
                sent=counts.sent,
                lost=counts.lost,
            )
        )
    return tuple(views)


def _provider(site: Site, name: str) -> str:
    """Return the listed provider whose name the uplink's name begins with, or the name."""
    for provider in site.providers:
        if name.casefold() == provider.casefold():
            return provider
    return name


def event_view(event: Transition) -> schema.EventView:
    """Return a line of the list of events."""
    return schema.EventView(
        site=event.site,
        seq=event.seq,
        at_ms=event.t_ms,
        kind=event.kind,
        rule=event.rule,
        uplink=event.uplink,
        old=event.old,
        new=event.new,
        reason=event.reason,
        detected_ms=event.detected_ms,
        switched_ms=event.switched_ms,
        evidence=event.evidence,
        dated=_dated(by_clock=event.by_clock),
    )


def _dated(*, by_clock: bool) -> schema.Dated:
    return "clock" if by_clock else "arrival"


def boot_view(boot: BootHeld) -> schema.BootView:
    """Return what is stored of a boot."""
    covered = boot.coverage
    mark = covered.mark(coverage.SPANS)
    return schema.BootView(
        boot=boot.boot.hex(),
        began_ms=boot.began_ms,
        dated=_dated(by_clock=boot.began_ms is not None),
        first_arrival_ms=boot.first_arrival_ms,
        last_arrival_ms=boot.touched_ms,
        records=coverage.count(covered.held) - covered.lost_count,
        through=mark.through,
        highest=mark.highest,
        missing=coverage.count(mark.gaps),
        gaps=mark.gaps,
        lost=covered.lost,
    )


def host_view(host: Host) -> schema.HostView:
    """Return the Pi's own readings."""
    return schema.HostView(
        host.uptime_s,
        host.cpu_ratio,
        host.memory_ratio,
        host.disk_ratio,
        host.temperature_c,
    )


def summary_view(
    district: str,
    now_ms: int,
    sites: Iterable[tuple[SiteState, schema.SiteView]],
    *,
    broker_connected: bool,
    last_message_ms: int | None,
) -> schema.Summary:
    """Return the first screen's numbers."""
    totals = summary.summarise(
        summary.SiteNow(
            view.kecamatan,
            state.presence,
            state.condition,
            tuple(
                summary.UplinkNow(u.provider, Health(u.health), u.active, u.rtt_ms)
                for u in view.uplinks
            ),
        )
        for state, view in sites
    )
    counts = totals.conditions
    return schema.Summary(
        district=district,
        now_ms=now_ms,
        sites=schema.ConditionCounts(
            counts.total(),
            counts[Condition.FINE],
            counts[Condition.DEGRADED],
            counts[Condition.OFFLINE],
            counts[Condition.UNKNOWN],
        ),
        online=totals.online,
        providers=tuple(
            schema.ProviderSummary(
                provider=p.provider,
                uplinks=p.uplinks,
                up=p.health[Health.UP],
                degraded=p.health[Health.DEGRADED],
                down=p.health[Health.DOWN],
                unknown=p.health[Health.UNKNOWN],
                active=p.active,
                rtt_median_ms=p.rtt_median_ms,
                troubles=tuple(
                    schema.ProviderTrouble(t.kecamatan, t.uplinks, t.down, t.degraded)
                    for t in p.troubles
                ),
            )
            for p in totals.providers
        ),
        broker_connected=broker_connected,
        last_message_ms=last_message_ms,
    )


def series_view(
    site: Site,
    state: SiteState,
    samples: dict[str, list[Sample]],
    *,
    from_ms: int,
    to_ms: int,
    thresholds: Thresholds,
) -> schema.Series:
    """Return a site's chart: one bucket width for all of its uplinks."""
    width_s = series.bucket_s(
        from_ms, to_ms, max((len(rows) for rows in samples.values()), default=0)
    )
    providers = {u.name: u.provider for u in _uplinks(site, state)}
    return schema.Series(
        site=site.site,
        from_ms=from_ms,
        to_ms=to_ms,
        bucket_s=width_s,
        uplinks=tuple(
            _columns(
                name,
                providers.get(name) or _provider(site, name),
                series.points(samples[name], width_s, thresholds.interval_ms),
            )
            for name in sorted(samples, key=lambda n: (n not in providers, n))
        ),
    )


def _columns(
    name: str, provider: str, rows: Sequence[series.Point]
) -> schema.UplinkSeries:
    return schema.UplinkSeries(
        name=name,
        provider=provider,
        t_s=tuple(r.t_ms / 1000 for r in rows),
        rtt_mean_ms=tuple(r.rtt_mean_ms for r in rows),
        rtt_min_ms=tuple(r.rtt_min_ms for r in rows),
        rtt_max_ms=tuple(r.rtt_max_ms for r in rows),
        loss_ratio=tuple(r.loss_ratio for r in rows),
        active=tuple(r.active for r in rows),
        by_clock=tuple(r.by_clock for r in rows),
    )
