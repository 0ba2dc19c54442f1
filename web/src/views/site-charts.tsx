/** Fetches a site's columns, keeps them fresh, and hands them to the charts. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { getSeries, type EventView, type Series, type SiteView } from "../api";
import { formatDuration } from "../format";
import { uplinkLabel } from "../narrate";
import { RANGES, RANGE_MS, type Range } from "../route";
import { activeSpans, alignSeries, inSiteOrder } from "../series";
import { language, navigate, route, serverNow, theme, words } from "../store";
import type { ChartInput, SiteChart } from "./charts";

/** How often the columns are asked for anew: a longer range changes more slowly. */
const REFRESH_MS: Record<Range, number> = { "1h": 5_000, "6h": 30_000, "24h": 60_000 };

function useSeries(site: string, range: Range): { series: Series | null; failed: string | null } {
  const [series, setSeries] = useState<Series | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async () => {
      const to = serverNow.peek();
      try {
        const fresh = await getSeries(site, to - RANGE_MS[range], to, stop.signal);
        setSeries(fresh);
        setFailed(null);
      } catch (reason) {
        if (stop.signal.aborted) return;
        setFailed(reason instanceof Error ? reason.message : String(reason));
      }
      timer = setTimeout(() => void load(), REFRESH_MS[range]);
    };
    void load();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [site, range]);
  return { series, failed };
}

function Chart({ kind, input }: { kind: "rtt" | "loss"; input: ChartInput }) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<SiteChart | null>(null);
  const latest = useRef(input);
  latest.current = input;
  // uPlot fixes its series and words when it is made: these make it anew.
  const shape = `${input.labels.join("|")}/${input.language}/${theme.value}`;
  useEffect(() => {
    let gone = false;
    let watch: ResizeObserver | undefined;
    void import("./charts").then(({ SiteChart, readPalette }) => {
      if (gone || !box.current) return;
      const made = new SiteChart(box.current, kind, latest.current, readPalette());
      chart.current = made;
      watch = new ResizeObserver(() => made.resize());
      watch.observe(box.current);
    });
    return () => {
      gone = true;
      watch?.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [shape, kind]);
  useEffect(() => chart.current?.update(input), [input]);
  return <div ref={box} class={`chart chart-${kind}`} data-testid={`${kind}-chart`} />;
}

export function SiteCharts({ site, events }: { site: SiteView; events: readonly EventView[] }) {
  const t = words.value;
  const range = route.value.range;
  const { series: fetched, failed } = useSeries(site.site, range);
  const words_ = language.value;
  const order = site.uplinks.map((uplink) => uplink.name).join("\n");
  const input = useMemo<ChartInput | null>(() => {
    if (!fetched) return null;
    const series = inSiteOrder(fetched, order.split("\n"));
    return {
      columns: alignSeries(series),
      spans: activeSpans(series),
      decisions: events.filter((event) => event.kind === "decision"),
      fromS: series.from_ms / 1000,
      toS: series.to_ms / 1000,
      labels: series.uplinks.map((uplink) => uplinkLabel(site, uplink.name)),
      language: words_,
    };
  }, [fetched, order, events, words_]);
  const nothing = input !== null && input.columns.t_s.length === 0;
  return (
    <section class="panel charts" aria-labelledby="charts-title">
      <div class="panel-head">
        <h2 id="charts-title">{t("site.chart_rtt")}</h2>
        <div class="switch" role="group" aria-label={t("site.range")}>
          {RANGES.map((one) => (
            <button
              key={one}
              type="button"
              aria-pressed={range === one}
              data-testid={`range-${one}`}
              onClick={() => navigate({ range: one }, "replace")}
            >
              {t(`site.range_${one}`)}
            </button>
          ))}
        </div>
      </div>
      {failed && <p class="warning">{t("site.failed", { reason: failed })}</p>}
      {input && !nothing && <Chart kind="rtt" input={input} />}
      {nothing && <p class="empty">{t("site.chart_none")}</p>}
      {input && !nothing && (
        <>
          <h2>{t("site.chart_loss")}</h2>
          <Chart kind="loss" input={input} />
          <p class="chart-notes">
            <span>{t("site.chart_active")}</span>
            <span>{t("site.chart_mark")}</span>
            <span>{t("site.chart_gap")}</span>
            <span>
              {fetched && fetched.bucket_s > 0
                ? t("site.chart_bucket", { duration: formatDuration(fetched.bucket_s * 1000, t) })
                : t("site.chart_raw")}
            </span>
          </p>
        </>
      )}
    </section>
  );
}
