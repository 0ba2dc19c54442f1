/** The address bar is the page's state: what is filtered, shown and chosen. Pure. */
import type { Condition } from "./api";
import { isLanguage, type Language } from "./i18n";
import { CONDITIONS, SORT_KEYS, type SiteFilter, type SortKey } from "./sites";

export type Range = "1h" | "6h" | "24h";
export const RANGES: readonly Range[] = ["1h", "6h", "24h"];
export const RANGE_MS: Record<Range, number> = {
  "1h": 3_600_000,
  "6h": 21_600_000,
  "24h": 86_400_000,
};

export interface Route {
  /** Null: the first screen. */
  site: string | null;
  wall: boolean;
  filter: SiteFilter;
  sort: SortKey;
  descending: boolean;
  range: Range;
  /** Null: as remembered. */
  language: Language | null;
}

export const NO_FILTER: SiteFilter = {
  text: "",
  conditions: [],
  kecamatan: null,
  provider: null,
};

/** Unknown values fall back to the default: an old link must still open. */
export function parseRoute(pathname: string, search: string): Route {
  const query = new URLSearchParams(search);
  const match = /^\/site\/([^/]+)\/?$/.exec(pathname);
  let site: string | null = null;
  if (match?.[1]) {
    try {
      site = decodeURIComponent(match[1]);
    } catch {
      site = match[1]; // not percent-encoded at all: take it as it stands
    }
  }
  const sort = query.get("sort") as SortKey | null;
  const range = query.get("range") as Range | null;
  const language = query.get("lang");
  const conditions = (query.get("c") ?? "")
    .split(",")
    .filter((word): word is Condition => (CONDITIONS as readonly string[]).includes(word));
  return {
    site,
    wall: query.get("wall") === "1",
    filter: {
      text: query.get("q") ?? "",
      conditions,
      kecamatan: query.get("k") || null,
      provider: query.get("p") || null,
    },
    sort: sort !== null && SORT_KEYS.includes(sort) ? sort : "worst",
    descending: query.get("dir") === "desc",
    range: range !== null && RANGES.includes(range) ? range : "1h",
    language: isLanguage(language) ? language : null,
  };
}

/** The path and query of a route; defaults are left out. */
export function formatRoute(route: Route): string {
  const query = new URLSearchParams();
  if (route.wall) query.set("wall", "1");
  if (route.filter.text) query.set("q", route.filter.text);
  if (route.filter.conditions.length > 0) query.set("c", route.filter.conditions.join(","));
  if (route.filter.kecamatan) query.set("k", route.filter.kecamatan);
  if (route.filter.provider) query.set("p", route.filter.provider);
  if (route.sort !== "worst") query.set("sort", route.sort);
  if (route.descending) query.set("dir", "desc");
  if (route.range !== "1h") query.set("range", route.range);
  if (route.language) query.set("lang", route.language);
  const path = route.site === null ? "/" : `/site/${encodeURIComponent(route.site)}`;
  const text = query.toString().replace(/%2C/g, ",");
  return text ? `${path}?${text}` : path;
}
