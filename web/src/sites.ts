/** Filtering, searching, sorting and counting of sites. Pure. */
import type { Condition, SiteView, UplinkView } from "./api";

export const CONDITIONS: readonly Condition[] = ["fine", "degraded", "offline", "unknown"];

export type SortKey = "worst" | "name" | "kecamatan" | "active" | "rtt" | "loss" | "seen";
export const SORT_KEYS: readonly SortKey[] = [
  "worst",
  "name",
  "kecamatan",
  "active",
  "rtt",
  "loss",
  "seen",
];

export interface SiteFilter {
  text: string;
  /** Empty: all. */
  conditions: readonly Condition[];
  kecamatan: string | null;
  provider: string | null;
}

/** Lower is worse. A site never heard is a gap in what we know: before the fine ones. */
const SEVERITY: Record<Condition, number> = { offline: 0, degraded: 1, unknown: 2, fine: 3 };

export function severity(condition: Condition): number {
  return SEVERITY[condition];
}

/** Case and accents do not matter, and every word must be found somewhere. */
function fold(text: string): string {
  return text
    .normalize("NFD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase();
}

const haystacks = new WeakMap<SiteView, string>();

function haystack(site: SiteView): string {
  let text = haystacks.get(site);
  if (text === undefined) {
    const parts = [site.name, site.site, site.desa ?? "", site.kecamatan];
    for (const uplink of site.uplinks) parts.push(uplink.provider, uplink.name);
    text = fold(parts.join("\n"));
    haystacks.set(site, text);
  }
  return text;
}

/** With a provider chosen, a condition is asked of that provider's uplinks too. */
export function filterSites(sites: readonly SiteView[], filter: SiteFilter): SiteView[] {
  const words = fold(filter.text).split(/\s+/).filter(Boolean);
  return sites.filter((site) => {
    if (filter.conditions.length > 0 && !filter.conditions.includes(site.condition)) {
      return false;
    }
    if (filter.kecamatan !== null && site.kecamatan !== filter.kecamatan) return false;
    if (
      filter.provider !== null &&
      !site.uplinks.some((uplink) => uplink.provider === filter.provider)
    ) {
      return false;
    }
    const text = haystack(site);
    return words.every((word) => text.includes(word));
  });
}

export function activeUplink(site: SiteView): UplinkView | null {
  return site.uplinks.find((uplink) => uplink.name === site.active) ?? null;
}

function troubled(site: SiteView, provider: string | null): number {
  let weight = 0;
  for (const uplink of site.uplinks) {
    const own = provider === null || uplink.provider === provider;
    if (!own) continue;
    if (uplink.health === "down") weight += 2;
    else if (uplink.health === "degraded") weight += 1;
  }
  return weight;
}

/** Missing values go last in either direction: they are not small, they are unknown. */
function compareNullable(a: number | null, b: number | null, sign: number): number {
  if (a === null) return b === null ? 0 : 1;
  if (b === null) return -1;
  return sign * (a - b);
}

export function worstLoss(site: SiteView): number | null {
  let worst: number | null = null;
  for (const uplink of site.uplinks) {
    if (uplink.loss_ratio !== null && (worst === null || uplink.loss_ratio > worst)) {
      worst = uplink.loss_ratio;
    }
  }
  return worst;
}

const collator = new Intl.Collator("id", { numeric: true });

/** The order in which `sortSites` wants its input: "TPS 2" before "TPS 10". */
export function byName(a: SiteView, b: SiteView): number {
  return collator.compare(a.name, b.name) || collator.compare(a.site, b.site);
}

/**
 * A sorted copy. `sites` must come in the order of `byName`, which then decides between
 * equals for nothing: comparing names is what costs with 10,000 sites. `worst` puts the gravest condition first, then the site with most of
 * its uplinks gone (of `provider` only, if one is chosen), then the newest trouble.
 */
export function sortSites(
  sites: readonly SiteView[],
  key: SortKey,
  descending: boolean,
  provider: string | null = null,
): SiteView[] {
  const sign = descending ? -1 : 1;
  const compare: Record<Exclude<SortKey, "name">, (a: SiteView, b: SiteView) => number> = {
    worst: (a, b) =>
      sign *
      (SEVERITY[a.condition] - SEVERITY[b.condition] ||
        troubled(b, provider) - troubled(a, provider) ||
        (a.condition === "fine" ? 0 : (b.since_ms ?? 0) - (a.since_ms ?? 0))),
    kecamatan: (a, b) => sign * collator.compare(a.kecamatan, b.kecamatan),
    active: (a, b) =>
      a.active === null || b.active === null
        ? Number(a.active === null) - Number(b.active === null)
        : sign * collator.compare(a.active, b.active),
    rtt: (a, b) =>
      compareNullable(activeUplink(a)?.rtt_ms ?? null, activeUplink(b)?.rtt_ms ?? null, sign),
    loss: (a, b) => compareNullable(worstLoss(a), worstLoss(b), sign),
    seen: (a, b) => compareNullable(a.last_seen_ms, b.last_seen_ms, sign),
  };
  if (key === "name") return descending ? [...sites].reverse() : [...sites];
  return [...sites].sort(compare[key]);
}

export interface KecamatanCount {
  total: number;
  troubled: number;
  worst: Condition;
}

/** Sites that are heard of and in trouble, for each kecamatan. */
export function countByKecamatan(sites: Iterable<SiteView>): Map<string, KecamatanCount> {
  const counts = new Map<string, KecamatanCount>();
  for (const site of sites) {
    let count = counts.get(site.kecamatan);
    if (!count) {
      count = { total: 0, troubled: 0, worst: "fine" };
      counts.set(site.kecamatan, count);
    }
    count.total += 1;
    if (site.condition === "degraded" || site.condition === "offline") count.troubled += 1;
    if (SEVERITY[site.condition] < SEVERITY[count.worst]) count.worst = site.condition;
  }
  return counts;
}
