"""The first screen's numbers: sites by condition, providers by health and kecamatan.

Only sites heard from count for a provider. What an offline site last said of its uplinks
is not evidence of their health now: they count as unknown, and as carrying nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from jaga_server.core.model import Condition, Health, Presence

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class UplinkNow:
    """One uplink as the summary needs it."""

    provider: str
    health: Health
    active: bool
    rtt_ms: float | None


@dataclass(frozen=True, slots=True)
class SiteNow:
    """One site as the summary needs it."""

    kecamatan: str
    presence: Presence
    condition: Condition
    uplinks: tuple[UplinkNow, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One provider in one kecamatan."""

    kecamatan: str
    uplinks: int
    down: int
    degraded: int


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider in the district."""

    provider: str
    health: Counter[Health]
    active: int
    rtt_median_ms: float | None
    troubles: tuple[Trouble, ...]
    """Kecamatan with an uplink down or degraded, worst first."""

    @property
    def uplinks(self) -> int:
        return self.health.total()


@dataclass(frozen=True, slots=True)
class Totals:
    """The district."""

    conditions: Counter[Condition]
    online: int
    providers: tuple[Provider, ...]
    """By name."""


def summarise(sites: Iterable[SiteNow]) -> Totals:
    """Return the totals of these sites."""
    conditions: Counter[Condition] = Counter()
    online = 0
    health: defaultdict[str, Counter[Health]] = defaultdict(Counter)
    places: defaultdict[str, defaultdict[str, Counter[Health]]]
    places = defaultdict(lambda: defaultdict(Counter))
    active: Counter[str] = Counter()
    rtts: defaultdict[str, list[float]] = defaultdict(list)
    for site in sites:
        conditions[site.condition] += 1
        online += site.presence is Presence.ONLINE
        if site.presence is Presence.NEVER:
            continue
        dark = site.presence is Presence.OFFLINE
        for uplink in site.uplinks:
            state = Health.UNKNOWN if dark else uplink.health
            health[uplink.provider][state] += 1
            places[uplink.provider][site.kecamatan][state] += 1
            if dark:
                continue
            active[uplink.provider] += uplink.active
            if uplink.rtt_ms is not None:
                rtts[uplink.provider].append(uplink.rtt_ms)
    return Totals(
        conditions,
        online,
        tuple(
            Provider(
                name,
                health[name],
                active[name],
                median(rtts[name]) if rtts[name] else None,
                _troubles(places[name]),
            )
            for name in sorted(health)
        ),
    )


def _troubles(places: dict[str, Counter[Health]]) -> tuple[Trouble, ...]:
    found = [
        Trouble(name, counts.total(), counts[Health.DOWN], counts[Health.DEGRADED])
        for name, counts in places.items()
        if counts[Health.DOWN] or counts[Health.DEGRADED]
    ]
    found.sort(key=lambda t: (-t.down, -t.degraded, t.kecamatan))
    return tuple(found)
