/** Measured columns into what a chart draws: one time axis, and gaps that show. Pure. */
import type { Series, UplinkSeries } from "./api";

export type Value = number | null | undefined;

export interface ChartUplink {
  name: string;
  provider: string;
  mean: Value[];
  min: Value[];
  max: Value[];
  /** Percent. */
  loss: Value[];
  active: boolean[];
}

export interface ChartColumns {
  t_s: number[];
  uplinks: ChartUplink[];
}

/** Longer than this between two samples: nothing came in between. Seconds. */
export function gapThreshold(t_s: readonly number[], bucketS: number): number {
  if (bucketS > 0) return bucketS * 2.5;
  const steps: number[] = [];
  for (let i = 1; i < t_s.length; i += 1) steps.push(t_s[i]! - t_s[i - 1]!);
  steps.sort((a, b) => a - b);
  const median = steps[Math.floor(steps.length / 2)] ?? 10;
  return Math.max(25, median * 3.5);
}

/** Where a gap opens, the instants (one for each gap) that must draw as "nothing". */
export function gapInstants(t_s: readonly number[], threshold: number): number[] {
  const holes: number[] = [];
  for (let i = 1; i < t_s.length; i += 1) {
    const before = t_s[i - 1]!;
    if (t_s[i]! - before > threshold) holes.push(before + threshold / 2);
  }
  return holes;
}

/** The uplinks in the site's own order, so that each has one colour on the whole page. */
export function inSiteOrder(series: Series, names: readonly string[]): Series {
  const rank = (uplink: UplinkSeries) => {
    const at = names.indexOf(uplink.name);
    return at < 0 ? names.length : at;
  };
  return { ...series, uplinks: [...series.uplinks].sort((a, b) => rank(a) - rank(b)) };
}

/**
 * Puts every uplink on one axis. In the result null is "nothing was measured" and
 * breaks the line; undefined is "this uplink has no sample at this instant" and does not.
 */
export function alignSeries(series: Series): ChartColumns {
  const holes = series.uplinks.map(
    (uplink) => new Set(gapInstants(uplink.t_s, gapThreshold(uplink.t_s, series.bucket_s))),
  );
  const axis = new Set<number>();
  series.uplinks.forEach((uplink, index) => {
    for (const t of uplink.t_s) axis.add(t);
    for (const t of holes[index]!) axis.add(t);
  });
  const t_s = [...axis].sort((a, b) => a - b);
  const uplinks = series.uplinks.map((uplink, index) => onAxis(uplink, t_s, holes[index]!));
  return { t_s, uplinks };
}

function onAxis(uplink: UplinkSeries, t_s: number[], holes: ReadonlySet<number>): ChartUplink {
  const at = new Map<number, number>();
  uplink.t_s.forEach((t, index) => at.set(t, index));
  const column = (values: readonly (number | null)[], factor = 1): Value[] =>
    t_s.map((t) => {
      const index = at.get(t);
      if (index === undefined) return holes.has(t) ? null : undefined;
      const value = values[index] ?? null;
      return value === null ? null : value * factor;
    });
  return {
    name: uplink.name,
    provider: uplink.provider,
    mean: column(uplink.rtt_mean_ms),
    min: column(uplink.rtt_min_ms),
    max: column(uplink.rtt_max_ms),
    loss: column(uplink.loss_ratio, 100),
    active: t_s.map((t) => {
      const index = at.get(t);
      return index === undefined ? false : (uplink.active[index] ?? false);
    }),
  };
}

export interface ActiveSpan {
  uplink: number;
  from_s: number;
  to_s: number;
}

/** Which uplink carried the site when: spans for the strip above the chart. */
export function activeSpans(series: Series): ActiveSpan[] {
  const spans: ActiveSpan[] = [];
  series.uplinks.forEach((uplink, index) => {
    const threshold = gapThreshold(uplink.t_s, series.bucket_s);
    let span: ActiveSpan | null = null;
    uplink.t_s.forEach((t, i) => {
      const previous = uplink.t_s[i - 1];
      const gap = previous !== undefined && t - previous > threshold;
      if (span && (gap || !uplink.active[i])) {
        span.to_s = gap ? previous : t;
        span = null;
      }
      if (uplink.active[i]) {
        if (!span) {
          span = { uplink: index, from_s: t, to_s: t };
          spans.push(span);
        }
        span.to_s = t;
      }
    });
  });
  return spans.sort((a, b) => a.from_s - b.from_s);
}
