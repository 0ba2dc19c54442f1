/**
 * RTT and loss over time with uPlot. Loaded only when a site is opened.
 *
 * Draws what it is given: gaps stay gaps, the y axis starts at zero.
 */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { EventView } from "../api";
import { formatMinute, formatNumber, formatTime } from "../format";
import type { Language } from "../i18n";
import type { ActiveSpan, ChartColumns } from "../series";

export interface ChartInput {
  columns: ChartColumns;
  spans: readonly ActiveSpan[];
  decisions: readonly EventView[];
  fromS: number;
  toS: number;
  labels: readonly string[];
  language: Language;
}

export interface Palette {
  text: string;
  grid: string;
  mark: string;
  uplinks: readonly string[];
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: read("--muted"),
    grid: read("--line"),
    mark: read("--text"),
    uplinks: [1, 2, 3, 4, 5].map((n) => read(`--uplink-${n}`)),
  };
}

const STRIP_PX = 5;

/** The strip of the active uplink, and an upright dashed line at each decision. */
function marks(input: () => ChartInput, palette: Palette, strip: boolean): uPlot.Plugin {
  return {
    hooks: {
      draw: (plot) => {
        const { spans, decisions } = input();
        const ratio = uPlot.pxRatio;
        const { left, top, width, height } = plot.bbox;
        const x = (s: number) =>
          Math.min(left + width, Math.max(left, plot.valToPos(s, "x", true)));
        const context = plot.ctx;
        context.save();
        if (strip) {
          for (const span of spans) {
            const from = x(span.from_s);
            const to = x(span.to_s);
            context.fillStyle = palette.uplinks[span.uplink % palette.uplinks.length]!;
            const y = top - (STRIP_PX + 3) * ratio;
            context.fillRect(from, y, Math.max(ratio, to - from), STRIP_PX * ratio);
          }
        }
        context.strokeStyle = palette.mark;
        context.globalAlpha = 0.65;
        context.lineWidth = ratio;
        context.setLineDash([4 * ratio, 3 * ratio]);
        for (const event of decisions) {
          const at = plot.valToPos(event.at_ms / 1000, "x", true);
          if (at < left || at > left + width) continue;
          context.beginPath();
          context.moveTo(at, top);
          context.lineTo(at, top + height);
          context.stroke();
        }
        context.restore();
      },
    },
  };
}

function timeAxis(language: Language, palette: Palette): uPlot.Axis {
  return {
    stroke: palette.text,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    size: 28,
    space: 70,
    values: (_plot, splits) => splits.map((s) => formatMinute(s * 1000, language)),
  };
}

const zoned = (s: number) => uPlot.tzDate(new Date(s * 1000), "Asia/Makassar");

export class SiteChart {
  #plot: uPlot;
  #input: ChartInput;

  constructor(
    private box: HTMLElement,
    private kind: "rtt" | "loss",
    input: ChartInput,
    palette: Palette,
  ) {
    this.#input = input;
    const { language, labels } = input;
    const value = (_plot: uPlot, raw: number | null) =>
      raw === null || raw === undefined
        ? "–"
        : kind === "rtt"
          ? `${formatNumber(raw, language, raw < 10 ? 1 : 0)} ms`
          : `${formatNumber(raw, language, raw > 0 && raw < 10 ? 1 : 0)}%`;
    const series: uPlot.Series[] = [
      {
        label: "WITA",
        value: (_plot, raw: number | null) =>
          raw === null || raw === undefined ? "–" : formatTime(raw * 1000, language),
      },
    ];
    const bands: uPlot.Band[] = [];
    input.columns.uplinks.forEach((_uplink, index) => {
      const colour = palette.uplinks[index % palette.uplinks.length]!;
      const label = labels[index] ?? "";
      if (kind === "rtt") {
        const base = series.length;
        series.push(
          { label, stroke: colour, width: 1.6, value, points: { show: false } },
          { label: `${label} max`, class: "hidden-series", stroke: "transparent", width: 0, points: { show: false } },
          { label: `${label} min`, class: "hidden-series", stroke: "transparent", width: 0, points: { show: false } },
        );
        bands.push({ series: [base + 1, base + 2], fill: `${colour}22` });
      } else {
        series.push({
          label,
          stroke: colour,
          fill: `${colour}22`,
          width: 1.6,
          value,
          points: { show: false },
          paths: uPlot.paths.stepped!({ align: -1 }),
        });
      }
    });
    this.#plot = new uPlot(
      {
        width: Math.max(200, box.clientWidth),
        height: kind === "rtt" ? 260 : 170,
        padding: [kind === "rtt" ? 14 : 8, 12, 0, 0],
        tzDate: zoned,
        cursor: { sync: { key: "site" }, drag: { x: false, y: false }, points: { size: 7 } },
        legend: { live: true, markers: { width: 0, fill: (_plot, index) => String(series[index]?.stroke ?? "") } },
        scales: {
          x: { time: true, range: () => [this.#input.fromS, this.#input.toS] },
          y:
            kind === "rtt"
              ? { range: (_plot, _low, high) => [0, Math.max(20, (high ?? 0) * 1.1)] }
              : { range: (_plot, _low, high) => [0, Math.min(100, Math.max(10, (high ?? 0) * 1.15))] },
        },
        axes: [
          timeAxis(language, palette),
          {
            stroke: palette.text,
            grid: { stroke: palette.grid, width: 1 },
            ticks: { show: false },
            size: 52,
            font: "12px system-ui, sans-serif",
            values: (_plot, splits) =>
              splits.map((v) => formatNumber(v, language) + (kind === "loss" ? "%" : "")),
          },
        ],
        series,
        bands,
        plugins: [marks(() => this.#input, palette, kind === "rtt")],
      },
      this.#columns(),
      box,
    );
  }

  #columns(): uPlot.AlignedData {
    const { t_s, uplinks } = this.#input.columns;
    const columns = uplinks.flatMap((uplink) =>
      this.kind === "rtt" ? [uplink.mean, uplink.max, uplink.min] : [uplink.loss],
    );
    return [t_s, ...columns] as uPlot.AlignedData;
  }

  update(input: ChartInput): void {
    this.#input = input;
    this.#plot.setData(this.#columns());
  }

  resize(): void {
    const width = Math.max(200, this.box.clientWidth);
    if (width !== this.#plot.width) this.#plot.setSize({ width, height: this.#plot.height });
  }

  destroy(): void {
    this.#plot.destroy();
  }
}
