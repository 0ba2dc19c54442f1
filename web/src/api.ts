/**
 * The collector's JSON API, version 1, as TypeScript types, and the calls.
 *
 * Follows server/jaga_server/web/schema.py field by field. Instants are Unix
 * milliseconds, ratios 0…1, missing is null and never 0.
 */

export type Presence = "online" | "overdue" | "offline" | "never";
export type Condition = "fine" | "degraded" | "offline" | "unknown";
export type Health = "unknown" | "up" | "degraded" | "down";

export interface UplinkView {
  name: string;
  provider: string;
  device: string | null;
  health: Health;
  active: boolean;
  rtt_ms: number | null;
  loss_ratio: number | null;
  sent: number;
  lost: number;
}

export interface LastResortView {
  at_ms: number;
  through: string | null;
  active: string | null;
  uplinks: readonly Health[];
  waiting: number;
  silent_s: number;
}

export interface SiteView {
  site: string;
  name: string;
  kind: string;
  desa: string | null;
  kecamatan: string;
  lat: number | null;
  lon: number | null;
  presence: Presence;
  condition: Condition;
  since_ms: number | null;
  last_seen_ms: number | null;
  active: string | null;
  uplinks: readonly UplinkView[];
  last_resort: LastResortView | null;
}

export interface HostView {
  uptime_s: number;
  cpu_ratio: number | null;
  memory_ratio: number | null;
  disk_ratio: number | null;
  temperature_c: number | null;
}

export interface EventView {
  site: string;
  seq: number;
  at_ms: number;
  kind: string;
  rule: string | null;
  uplink: string | null;
  old: string | null;
  new: string | null;
  reason: string;
  detected_ms: number | null;
  switched_ms: number | null;
  evidence: Readonly<Record<string, string>>;
}

export interface SiteDetail {
  site: SiteView;
  host: HostView | null;
  mode: string | null;
  version: string | null;
  config_hash: string | null;
  clock_confirmed: boolean | null;
  heartbeats: number;
  /** Records that the site said it will never send. */
  lost: number;
  /** Records in gaps: asked for again. */
  missing: number;
  events: readonly EventView[];
}

export interface ConditionCounts {
  total: number;
  fine: number;
  degraded: number;
  offline: number;
  unknown: number;
}

export interface ProviderTrouble {
  kecamatan: string;
  uplinks: number;
  down: number;
  degraded: number;
}

export interface ProviderSummary {
  provider: string;
  uplinks: number;
  up: number;
  degraded: number;
  down: number;
  unknown: number;
  active: number;
  rtt_median_ms: number | null;
  troubles: readonly ProviderTrouble[];
}

export interface Summary {
  district: string;
  now_ms: number;
  sites: ConditionCounts;
  online: number;
  providers: readonly ProviderSummary[];
  broker_connected: boolean;
  last_message_ms: number | null;
}

export interface EventList {
  events: readonly EventView[];
}

type Column = readonly (number | null)[];

export interface UplinkSeries {
  name: string;
  provider: string;
  t_s: readonly number[];
  rtt_mean_ms: Column;
  rtt_min_ms: Column;
  rtt_max_ms: Column;
  loss_ratio: Column;
  active: readonly boolean[];
}

export interface Series {
  site: string;
  from_ms: number;
  to_ms: number;
  bucket_s: number;
  uplinks: readonly UplinkSeries[];
}

export interface StreamUpdate {
  revision: number;
  summary: Summary;
  sites: readonly SiteView[];
  events: readonly EventView[];
}

/** An outline of a kecamatan; `name` is as in the site list. */
export interface KecamatanOutlines {
  type: "FeatureCollection";
  features: readonly {
    type: "Feature";
    properties: { code: string; name: string };
    geometry: GeoJSON.Polygon | GeoJSON.MultiPolygon;
  }[];
}

/** The collector answered, but not with what was asked. */
export class ApiProblem extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = "ApiProblem";
  }
}

async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(path, {
    headers: { Accept: "application/json" },
    ...(signal ? { signal } : {}),
  });
  if (!answer.ok) {
    // RFC 9457 says `detail`; a proxy in between may answer with anything.
    const problem = (await answer.json().catch(() => null)) as {
      detail?: unknown;
    } | null;
    const detail = problem?.detail;
    throw new ApiProblem(
      answer.status,
      typeof detail === "string" ? detail : answer.statusText,
    );
  }
  return (await answer.json()) as T;
}

export function getSite(site: string, signal?: AbortSignal): Promise<SiteDetail> {
  return getJson(`/api/1/sites/${encodeURIComponent(site)}`, signal);
}

export function getSeries(
  site: string,
  fromMs: number,
  toMs: number,
  signal?: AbortSignal,
): Promise<Series> {
  const range = `from_ms=${Math.round(fromMs)}&to_ms=${Math.round(toMs)}`;
  return getJson(`/api/1/sites/${encodeURIComponent(site)}/series?${range}`, signal);
}

export function getEvents(limit: number): Promise<EventList> {
  return getJson(`/api/1/events?limit=${limit}`);
}

export function getKecamatan(): Promise<KecamatanOutlines> {
  return getJson("/api/1/kecamatan.geojson");
}
