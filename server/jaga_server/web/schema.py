"""The JSON API's shapes, version 1. The OpenAPI document is generated from these.

The page's TypeScript types (`web/src/api.ts`) follow this file. Instants are Unix
milliseconds of event time (dated by the collector when the site's clock was not
confirmed), ratios 0…1, missing is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Presence = Literal["online", "overdue", "offline", "never"]
"""online: heard in time; overdue: missed heartbeats; offline: last will, or silence;
never: on the list, not heard yet."""

Condition = Literal["fine", "degraded", "offline", "unknown"]
"""What an operator counts. fine: online, every uplink up. degraded: online or overdue
with an uplink down or degraded, or overdue. offline: offline. unknown: never heard."""

Health = Literal["unknown", "up", "degraded", "down"]

Dated = Literal["clock", "arrival"]
"""By what an instant is known: the site's clock, confirmed at some time in that boot; or,
until that is so, its arrival here (provisional: it will be dated anew)."""


class UplinkView(msgspec.Struct, frozen=True):
    """One uplink of a site, as of its last heartbeat."""

    name: str
    provider: str
    """As in the site list: Telkomsel, Indosat, XL, Telkom, Starlink, or the name."""
    device: str | None
    health: Health
    active: bool
    rtt_ms: float | None
    """Mean of the last heartbeat that had an answered probe."""
    loss_ratio: float | None
    """Of the last five minutes' probes."""
    sent: int
    lost: int
    """The counts behind `loss_ratio`."""


class LastResortView(msgspec.Struct, frozen=True):
    """What a site without MQTT tells by udp-echo."""

    at_ms: int
    through: str | None
    """The uplink that it came through, if the site ever told their names."""
    active: str | None
    uplinks: tuple[Health, ...]
    """Their health, in the order of the site's uplinks."""
    waiting: int
    """At least so many records wait at the site."""
    silent_s: int
    """At least so long it has had no MQTT."""


class SiteView(msgspec.Struct, frozen=True):
    """A row of the table, a point on the map."""

    site: str
    name: str
    kind: str
    """umum | khusus | kantor"""
    desa: str | None
    kecamatan: str
    lat: float | None
    lon: float | None
    presence: Presence
    condition: Condition
    since_ms: int | None
    """Since when it is in this condition."""
    last_seen_ms: int | None
    active: str | None
    """Name of the uplink that carries the site."""
    uplinks: tuple[UplinkView, ...]
    last_resort: LastResortView | None = None
    """Set while it is newer than anything heard by MQTT."""


class HostView(msgspec.Struct, frozen=True):
    uptime_s: int
    cpu_ratio: float | None
    memory_ratio: float | None
    disk_ratio: float | None
    temperature_c: float | None


class EventView(msgspec.Struct, frozen=True):
    """A transition or decision, newest first in lists."""

    site: str
    seq: int
    at_ms: int
    kind: str
    rule: str | None
    uplink: str | None
    old: str | None
    new: str | None
    reason: str
    detected_ms: int | None
    switched_ms: int | None
    evidence: dict[str, str]
    dated: Dated = "clock"


class SiteDetail(msgspec.Struct, frozen=True):
    """GET /api/1/sites/{site}."""

    site: SiteView
    host: HostView | None
    mode: str | None
    version: str | None
    config_hash: str | None
    clock_confirmed: bool | None
    heartbeats: int
    """Stored from this site, of its current boot."""
    lost: int
    """Records of its current boot that it said it will never send."""
    events: tuple[EventView, ...]
    """The last 50."""
    last_seq: int | None = None
    """Highest sequence number stored of its current boot."""
    missing: int = 0
    """Records of its current boot that others came after: asked for again."""


class BootView(msgspec.Struct, frozen=True):
    """What is stored of one boot of a site. Ranges are first and last, both of it."""

    boot: str
    """Hexadecimal."""
    began_ms: int | None
    """null: no record of it had a confirmed clock yet, all are dated by their arrival."""
    dated: Dated
    first_arrival_ms: int
    last_arrival_ms: int
    """To the minute."""
    records: int
    """Stored."""
    through: int
    """Up to this one all are stored or known to be lost; 0: not even the first."""
    highest: int
    missing: int
    """Records in gaps."""
    gaps: tuple[tuple[int, int], ...]
    """Neither stored nor known to be lost: the watermark asks for them."""
    lost: tuple[tuple[int, int], ...]
    """The site said that it will never send them, and they never came."""


class SiteBoots(msgspec.Struct, frozen=True):
    """GET /api/1/sites/{site}/boots: the last 50, touched last first."""

    site: str
    boots: tuple[BootView, ...]


class ConditionCounts(msgspec.Struct, frozen=True):
    total: int
    fine: int
    degraded: int
    offline: int
    unknown: int


class ProviderTrouble(msgspec.Struct, frozen=True):
    """One provider in one kecamatan."""

    kecamatan: str
    uplinks: int
    down: int
    degraded: int


class ProviderSummary(msgspec.Struct, frozen=True):
    """One provider in the district. Only uplinks of sites heard from count."""

    provider: str
    uplinks: int
    up: int
    degraded: int
    down: int
    unknown: int
    active: int
    """Uplinks that carry their site now."""
    rtt_median_ms: float | None
    troubles: tuple[ProviderTrouble, ...]
    """Kecamatan with an uplink down or degraded, worst first."""


class Summary(msgspec.Struct, frozen=True):
    """GET /api/1/summary: the first screen's numbers."""

    district: str
    now_ms: int
    sites: ConditionCounts
    online: int
    """Sites whose presence is online."""
    providers: tuple[ProviderSummary, ...]
    broker_connected: bool
    last_message_ms: int | None
    """When the collector last heard anything: a silent collector must show."""


class SiteList(msgspec.Struct, frozen=True):
    """GET /api/1/sites."""

    revision: int
    """Grows with each change; the stream's events carry it."""
    sites: tuple[SiteView, ...]


class EventList(msgspec.Struct, frozen=True):
    """GET /api/1/events?site=&limit= (newest first)."""

    events: tuple[EventView, ...]


class UplinkSeries(msgspec.Struct, frozen=True):
    """Columns of equal length, for uPlot; null where nothing was measured."""

    name: str
    provider: str
    t_s: tuple[float, ...]
    """Unix seconds."""
    rtt_mean_ms: tuple[float | None, ...]
    rtt_min_ms: tuple[float | None, ...]
    rtt_max_ms: tuple[float | None, ...]
    loss_ratio: tuple[float | None, ...]
    active: tuple[bool, ...]
    by_clock: tuple[bool, ...]
    """false: some of it is dated by its arrival, until its boot has a confirmed clock."""


class Series(msgspec.Struct, frozen=True):
    """GET /api/1/sites/{site}/series?from_ms=&to_ms= (default: the last hour)."""

    site: str
    from_ms: int
    to_ms: int
    bucket_s: int
    """Samples are merged to this many seconds (0: raw heartbeats)."""
    uplinks: tuple[UplinkSeries, ...]


class StreamUpdate(msgspec.Struct, frozen=True):
    """One server-sent event `update` of GET /api/1/stream, at most 4 a second.

    On connecting, an `update` with every site comes first.
    """

    revision: int
    summary: Summary
    sites: tuple[SiteView, ...]
    """Only those that changed."""
    events: tuple[EventView, ...]
    """Only new ones."""


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457 problem details: what every error answers."""

    title: str
    status: int
    detail: str
