"""A pretended district for working on the page: sites, their uplinks, their troubles.

Uses the real site list and the API's own shapes, so that the page under development
meets what the collector sends. Never part of what ships; measures nothing.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from jaga_server.web.schema import (
    ConditionCounts,
    EventView,
    HostView,
    ProviderSummary,
    ProviderTrouble,
    SiteDetail,
    SiteView,
    Summary,
    UplinkView,
)

if TYPE_CHECKING:
    from pathlib import Path

BEAT_MS = 10_000
LOSS_PROBES = 30
RTT_MS = {"Telkomsel": 42, "Indosat": 55, "XL": 51, "Telkom": 18, "Starlink": 38}
DEVICES = ("wan0", "wan1", "wan2")


class Trouble(msgspec.Struct, frozen=True):
    """One provider in one kecamatan, between two instants."""

    provider: str
    kecamatan: str
    from_ms: int
    to_ms: int
    health: str


class Site(msgspec.Struct):
    """What the fixture knows of one site."""

    view: SiteView
    phase_ms: int
    silent_from_ms: int | None = None
    heard: bool = True
    seq: int = 0


class World:
    """Every site, at an instant that only `advance` moves."""

    def __init__(self, sites_csv: Path, now_ms: int, seed: int = 6408) -> None:
        self.random = random.Random(seed)
        self.now_ms = now_ms
        self.broker_connected = True
        self.events: list[EventView] = []
        self.troubles: list[Trouble] = []
        self.sites: dict[str, Site] = {}
        with sites_csv.open(encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                self.sites[row["site_id"]] = self._site(row)
        self._lame()
        self.fail("Telkomsel", "Sangkulirang", now_ms - 460_000, 3_600_000)
        self.fail("Indosat", "Busang", now_ms - 1_500_000, 7_200_000, "degraded")
        self.fail("XL", "Telen", now_ms - 2_400_000, 300_000)

    def fail(
        self,
        provider: str,
        kecamatan: str,
        from_ms: int,
        duration_ms: int,
        health: str = "down",
    ) -> None:
        """Break a provider in a kecamatan, now or in the past."""
        self.troubles.append(
            Trouble(provider, kecamatan, from_ms, from_ms + duration_ms, health)
        )

    def _site(self, row: dict[str, str]) -> Site:
        names = [row[key] for key in ("uplink1", "uplink2", "uplink3") if row[key]]
        uplinks = tuple(
            UplinkView(
                name=name.lower(),
                provider=name,
                device=DEVICES[index],
                health="up",
                active=index == 0,
                rtt_ms=self._rtt(name),
                loss_ratio=0.0,
                sent=LOSS_PROBES,
                lost=0,
            )
            for index, name in enumerate(names)
        )
        view = SiteView(
            site=row["site_id"],
            name=row["name"],
            kind=row["kind"],
            desa=row["desa"] or None,
            kecamatan=row["kecamatan"],
            lat=float(row["lat"]) if row["lat"] else None,
            lon=float(row["lon"]) if row["lon"] else None,
            presence="online",
            condition="fine",
            since_ms=self.now_ms - self.random.randrange(3_600_000, 20_000_000),
            last_seen_ms=self.now_ms - self.random.randrange(BEAT_MS),
            active=uplinks[0].name,
            uplinks=uplinks,
        )
        return Site(view, phase_ms=self.random.randrange(BEAT_MS))

    def _rtt(self, provider: str) -> float:
        return round(RTT_MS.get(provider, 60) * self.random.lognormvariate(0, 0.25), 1)

    def _lame(self) -> None:
        """Nine sites that nobody heard of yet, seven that fell silent."""
        ids = [site for site in self.sites if not site.endswith("901")]
        chosen = self.random.sample([i for i in ids if i != "kpu-kutim"], 16)
        for site_id in chosen[:9]:
            site = self.sites[site_id]
            site.heard = False
            site.view = msgspec.structs.replace(
                site.view,
                presence="never",
                condition="unknown",
                since_ms=None,
                last_seen_ms=None,
                active=None,
                uplinks=(),
            )
        for index, site_id in enumerate(chosen[9:]):
            site = self.sites[site_id]
            silent_ms = self.now_ms - 200_000 * (index + 1) ** 2
            site.silent_from_ms = silent_ms
            site.view = msgspec.structs.replace(
                site.view,
                presence="offline",
                condition="offline",
                since_ms=silent_ms + 30_000,
                last_seen_ms=silent_ms,
            )

    def health(self, site: SiteView, provider: str, at_ms: int) -> str:
        for trouble in self.troubles:
            if (
                trouble.provider == provider
                and trouble.kecamatan == site.kecamatan
                and trouble.from_ms <= at_ms < trouble.to_ms
            ):
                return trouble.health
        return "up"

    def advance(
        self, now_ms: int, *, everyone: bool = False
    ) -> tuple[list[SiteView], list[EventView]]:
        """Move to `now_ms`; returns the changed sites and the new events."""
        before, self.now_ms = self.now_ms, now_ms
        changed: list[SiteView] = []
        fresh: list[EventView] = []
        for site in self.sites.values():
            if not site.heard or site.silent_from_ms is not None:
                continue
            beats = (now_ms - site.phase_ms) // BEAT_MS
            if not everyone and beats == (before - site.phase_ms) // BEAT_MS:
                continue
            self._beat(site, fresh)
            changed.append(site.view)
        self.events = sorted(
            [*fresh, *self.events], key=lambda event: event.at_ms, reverse=True
        )[:1000]
        return changed, fresh

    def _beat(self, site: Site, fresh: list[EventView]) -> None:
        old = site.view
        uplinks = [self._measure(old, uplink, site, fresh) for uplink in old.uplinks]
        usable = [uplink for uplink in uplinks if uplink.health != "down"]
        active = usable[0].name if usable else old.active
        if active != old.active:
            fresh.append(self._decision(site, old, active))
        uplinks = [
            msgspec.structs.replace(one, active=one.name == active) for one in uplinks
        ]
        fine = all(uplink.health == "up" for uplink in uplinks)
        condition = "fine" if fine else "degraded"
        site.seq += 1
        site.view = msgspec.structs.replace(
            old,
            presence="online",
            condition=condition,
            since_ms=old.since_ms if condition == old.condition else self._since(old),
            last_seen_ms=self.now_ms,
            active=active,
            uplinks=tuple(uplinks),
        )

    def _since(self, site: SiteView) -> int:
        """When the present trouble began: past ones are told as of then."""
        starts = [
            trouble.from_ms
            for trouble in self.troubles
            if trouble.kecamatan == site.kecamatan
            and trouble.from_ms <= self.now_ms < trouble.to_ms
        ]
        return max(starts, default=self.now_ms)

    def _measure(
        self, site: SiteView, uplink: UplinkView, of: Site, fresh: list[EventView]
    ) -> UplinkView:
        health: Any = self.health(site, uplink.provider, self.now_ms)
        if health != uplink.health:
            of.seq += 1
            fresh.append(
                EventView(
                    site=site.site,
                    seq=of.seq,
                    at_ms=self._since(site) + self.random.randrange(4_000),
                    kind="health",
                    rule=None,
                    uplink=uplink.name,
                    old=uplink.health,
                    new=health,
                    reason={
                        "down": "3 of 3 targets silent for 900 ms, others answer",
                        "degraded": "smoothed RTT 912 ms above 800 ms for 5 s",
                        "up": "3 answered probes in a row",
                    }[health],
                    detected_ms=None,
                    switched_ms=None,
                    evidence={},
                )
            )
        lost = {"down": LOSS_PROBES, "degraded": self.random.randrange(2, 8)}.get(
            health, int(self.random.random() < 0.03)
        )
        rtt = self._rtt(uplink.provider)
        return msgspec.structs.replace(
            uplink,
            health=health,
            rtt_ms={"down": None, "degraded": rtt * 9}.get(health, rtt),
            loss_ratio=lost / LOSS_PROBES,
            lost=lost,
        )

    def _decision(self, site: Site, old: SiteView, active: str | None) -> EventView:
        site.seq += 1
        preferred = [uplink.name for uplink in old.uplinks]
        returning = preferred.index(active or "") < preferred.index(old.active or "")
        return EventView(
            site=old.site,
            seq=site.seq,
            at_ms=self._since(old) + self.random.randrange(1_000, 5_000),
            kind="decision",
            rule="failback" if returning else "failover",
            uplink=active,
            old=old.active,
            new=active,
            reason=f"{old.active} up again, hold-down of 60 s over"
            if returning
            else f"{old.active} silent to 3 targets, {active} answers them",
            detected_ms=self.random.randrange(420, 1_400),
            switched_ms=self.random.randrange(3, 24),
            evidence={
                f"candidate {uplink.name}": f"{uplink.health}, "
                + (f"srtt {uplink.rtt_ms:.0f} ms" if uplink.rtt_ms else "no reply")
                for uplink in old.uplinks
            },
        )

    def summary(self, last_message_ms: int | None) -> Summary:
        views = [site.view for site in self.sites.values()]
        count: dict[str, int] = defaultdict(int)
        for view in views:
            count[view.condition] += 1
        by_provider: dict[str, list[tuple[SiteView, UplinkView]]] = defaultdict(list)
        for view in views:
            for uplink in view.uplinks:
                by_provider[uplink.provider].append((view, uplink))
        return Summary(
            district="Kabupaten Kutai Timur",
            now_ms=self.now_ms,
            sites=ConditionCounts(
                total=len(views),
                fine=count["fine"],
                degraded=count["degraded"],
                offline=count["offline"],
                unknown=count["unknown"],
            ),
            online=sum(view.presence == "online" for view in views),
            providers=tuple(
                self._provider(name, pairs)
                for name, pairs in sorted(by_provider.items())
            ),
            broker_connected=self.broker_connected,
            last_message_ms=last_message_ms,
        )

    def _provider(
        self, name: str, pairs: list[tuple[SiteView, UplinkView]]
    ) -> ProviderSummary:
        healths = [uplink.health for _, uplink in pairs]
        rtts = [uplink.rtt_ms for _, uplink in pairs if uplink.rtt_ms is not None]
        areas: dict[str, list[str]] = defaultdict(list)
        for site, uplink in pairs:
            areas[site.kecamatan].append(uplink.health)
        troubles = [
            ProviderTrouble(kecamatan, len(of), of.count("down"), of.count("degraded"))
            for kecamatan, of in areas.items()
            if "down" in of or "degraded" in of
        ]
        troubles.sort(key=lambda trouble: (-trouble.down, -trouble.degraded))
        return ProviderSummary(
            provider=name,
            uplinks=len(pairs),
            up=healths.count("up"),
            degraded=healths.count("degraded"),
            down=healths.count("down"),
            unknown=healths.count("unknown"),
            active=sum(uplink.active for _, uplink in pairs),
            rtt_median_ms=median(rtts) if rtts else None,
            troubles=tuple(troubles),
        )

    def detail(self, site_id: str) -> SiteDetail:
        site = self.sites[site_id]
        heard = site.heard
        return SiteDetail(
            site=site.view,
            host=HostView(431_220, 0.062, 0.31, 0.18, 61.4) if heard else None,
            mode="polling-day" if heard else None,
            version="0.1.0" if heard else None,
            config_hash="9f2c61d0b7aa4e15" if heard else None,
            clock_confirmed=True if heard else None,
            heartbeats=4_312 + site.seq if heard else 0,
            lost=0,
            events=tuple(e for e in self.events if e.site == site_id)[:50],
        )
