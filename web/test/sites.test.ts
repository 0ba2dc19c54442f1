import { describe, expect, it } from "vitest";
import type { Condition, SiteView } from "../src/api";
import { NO_FILTER } from "../src/route";
import { SORT_KEYS, byName, countByKecamatan, filterSites, sortSites, type SiteFilter } from "../src/sites";
import { site, uplink } from "./fixtures";

const down = uplink({ health: "down", active: false, rtt_ms: null, loss_ratio: 1, lost: 30 });
const sites: SiteView[] = [
  site({ site: "a", name: "TPS 10 Bengalon", kecamatan: "Bengalon", desa: "Sepaso" }),
  site({ site: "b", name: "TPS 2 Bengalon", kecamatan: "Bengalon", condition: "offline", presence: "offline", since_ms: 50 }),
  site({ site: "c", name: "TPS 1 Telen", kecamatan: "Telen", condition: "degraded", since_ms: 900, active: "xl",
    uplinks: [down, uplink({ name: "xl", provider: "XL", rtt_ms: 90 })] }),
  site({ site: "d", name: "TPS 3 Telen", kecamatan: "Telen", condition: "degraded", since_ms: 100,
    uplinks: [uplink({ rtt_ms: 12 }), uplink({ name: "indosat", provider: "Indosat", health: "degraded", active: false, loss_ratio: 0.2, lost: 6 })] }),
  site({ site: "e", name: "TPS 4 Telen", kecamatan: "Telen", condition: "unknown", presence: "never",
    active: null, uplinks: [], last_seen_ms: null, since_ms: null }),
];
const ids = (list: readonly SiteView[]) => list.map((one) => one.site).join("");

describe("filter", () => {
  it.each<[string, Partial<SiteFilter>, string]>([
    ["nothing asked", {}, "abcde"],
    ["a word of the name", { text: "telen" }, "cde"],
    ["every word must be found", { text: "tps 1 telen" }, "c"],
    ["the desa", { text: "SEPASO" }, "a"],
    ["the provider", { text: "indosat" }, "d"],
    ["no match", { text: "zzz" }, ""],
    ["one condition", { conditions: ["offline"] }, "b"],
    ["two conditions", { conditions: ["offline", "unknown"] }, "be"],
    ["a kecamatan", { kecamatan: "Bengalon" }, "ab"],
    ["a provider", { provider: "XL" }, "abc"],
    ["all of them", { text: "tps", conditions: ["degraded"], kecamatan: "Telen", provider: "Indosat" }, "d"],
  ])("%s", (_name, change, want) => {
    expect(ids(filterSites(sites, { ...NO_FILTER, ...change }))).toBe(want);
  });

  it("finds a site by its id, and by a part of it", () => {
    const one = site({ site: "tps-6408052001-901", name: "TPS", desa: null });
    for (const text of ["tps-6408052001-901", "2001-901"]) {
      expect(filterSites([one, ...sites], { ...NO_FILTER, text })).toEqual([one]);
    }
  });

  it("finds letters with accents by their plain ones", () => {
    const accented = site({ site: "x", name: "TPS Séntral" });
    expect(filterSites([accented], { ...NO_FILTER, text: "sentral" })).toHaveLength(1);
  });
});

const named = [...sites].sort(byName);

describe("sort", () => {
  it.each([
    // The gravest; then most uplinks gone; never-heard before fine.
    ["worst", false, "bcdea"],
    ["name", false, "cbdea"],
    ["name", true, "aedbc"],
    ["kecamatan", false, "bacde"],
    // Missing is last in both directions.
    ["rtt", false, "dbace"],
    ["rtt", true, "cbade"],
    ["loss", true, "cdbae"],
    ["seen", true, "cbdae"],
    ["active", false, "bdace"],
  ] as const)("by %s, descending %s", (key, descending, want) => {
    expect(ids(sortSites(named, key, descending))).toBe(want);
  });

  it("asks only the chosen provider's uplinks when one is chosen", () => {
    const both = named.filter((one) => one.site === "c" || one.site === "d");
    expect(ids(sortSites(both, "worst", false, "Indosat"))).toBe("dc");
    expect(ids(sortSites(both, "worst", false, "Telkomsel"))).toBe("cd");
  });

  it("puts the newest trouble first among equals", () => {
    const two = ["old", "new"].map((name, index) =>
      site({ site: name, condition: "offline", since_ms: index * 1000 }),
    );
    expect(sortSites(two, "worst", false).map((one) => one.site)).toEqual(["new", "old"]);
  });

  it("loses and doubles no site, and leaves its input alone", () => {
    const conditions: Condition[] = ["fine", "degraded", "offline", "unknown"];
    const many = Array.from({ length: 10_000 }, (_, n) =>
      site({ site: `s${n}`, name: `TPS ${(n * 7919) % 10_000}`, condition: conditions[n % 4]! }),
    );
    const before = many.map((one) => one.site);
    for (const key of SORT_KEYS) {
      expect(new Set(sortSites(many, key, false)).size).toBe(10_000);
    }
    expect(many.map((one) => one.site)).toEqual(before);
  });
});

it("counts the troubled of each kecamatan; never heard is not trouble", () => {
  expect(Object.fromEntries(countByKecamatan(sites))).toEqual({
    Bengalon: { total: 2, troubled: 1, worst: "offline" },
    Telen: { total: 3, troubled: 2, worst: "degraded" },
  });
});
