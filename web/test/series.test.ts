import { describe, expect, it } from "vitest";
import type { Series, UplinkSeries } from "../src/api";
import { activeSpans, alignSeries, gapThreshold, inSiteOrder } from "../src/series";

function column(name: string, t_s: number[], change: Partial<UplinkSeries> = {}): UplinkSeries {
  return {
    name,
    provider: name,
    t_s,
    rtt_mean_ms: t_s.map(() => 40),
    rtt_min_ms: t_s.map(() => 30),
    rtt_max_ms: t_s.map(() => 50),
    loss_ratio: t_s.map(() => 0),
    active: t_s.map(() => false),
    ...change,
  };
}

function series(uplinks: UplinkSeries[], bucket_s = 0): Series {
  return { site: "s", from_ms: 0, to_ms: 100_000, bucket_s, uplinks };
}

describe("align", () => {
  it("keeps a shared axis as it is, and missing values as gaps", () => {
    const columns = alignSeries(
      series([
        column("a", [10, 20, 30], { rtt_mean_ms: [41, null, 43], loss_ratio: [0, 1, 0.5] }),
        column("b", [10, 20, 30]),
      ]),
    );
    expect(columns.t_s).toEqual([10, 20, 30]);
    expect(columns.uplinks[0]!.mean).toEqual([41, null, 43]);
    expect(columns.uplinks[0]!.loss).toEqual([0, 100, 50]);
  });

  it("breaks the line where nothing came in for long", () => {
    const columns = alignSeries(series([column("a", [10, 20, 30, 90, 100])]));
    expect(columns.t_s).toEqual([10, 20, 30, 47.5, 90, 100]);
    expect(columns.uplinks[0]!.mean).toEqual([40, 40, 40, null, 40, 40]);
  });

  it("does not break one uplink's line for another's instants", () => {
    const columns = alignSeries(series([column("a", [10, 20, 30]), column("b", [15, 25])]));
    expect(columns.t_s).toEqual([10, 15, 20, 25, 30]);
    expect(columns.uplinks[0]!.mean).toEqual([40, undefined, 40, undefined, 40]);
    expect(columns.uplinks[1]!.mean).toEqual([undefined, 40, undefined, 40, undefined]);
  });

  it("has nothing to draw without samples", () => {
    expect(alignSeries(series([column("a", [])])).t_s).toEqual([]);
    expect(alignSeries(series([])).uplinks).toEqual([]);
  });
});

it("takes the bucket's width, or the usual step, as the measure of a gap", () => {
  expect(gapThreshold([0, 60, 120], 60)).toBe(150);
  expect(gapThreshold([0, 10, 20, 30], 0)).toBe(35);
  expect(gapThreshold([0, 1, 2], 0)).toBe(25);
  expect(gapThreshold([], 0)).toBe(35);
});

it("tells which uplink carried the site when, and not across a gap", () => {
  const spans = activeSpans(
    series([
      column("a", [10, 20, 30, 200, 210], { active: [true, true, false, false, true] }),
      column("b", [10, 20, 30, 200, 210], { active: [false, false, true, true, false] }),
    ]),
  );
  expect(spans).toEqual([
    { uplink: 0, from_s: 10, to_s: 30 },
    { uplink: 1, from_s: 30, to_s: 30 },
    { uplink: 1, from_s: 200, to_s: 210 },
    { uplink: 0, from_s: 210, to_s: 210 },
  ]);
});

it("uplinks stand in the site's order, so that colours agree with the cards", () => {
  const given = series([column("a", [1]), column("b", [1]), column("c", [1])]);
  const names = inSiteOrder(given, ["c", "a"]).uplinks.map((uplink) => uplink.name);
  expect(names).toEqual(["c", "a", "b"]);
  expect(given.uplinks.map((uplink) => uplink.name)).toEqual(["a", "b", "c"]);
});
