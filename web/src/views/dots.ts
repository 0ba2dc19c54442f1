/**
 * Sites as marks on one canvas over a Leaflet map: ten thousand cost no DOM node.
 *
 * Shape and sign tell the condition as well as the colour; the worst are drawn last,
 * on top. Knows Leaflet and nothing of the page's state.
 */
import L from "leaflet";
import type { Condition, SiteView } from "../api";
import { severity } from "../sites";

export interface DotColours {
  fill: Record<Condition, string>;
  sign: string;
  edge: string;
  label: string;
  halo: string;
}

export interface AreaLabel {
  text: string;
  at: L.LatLngExpression;
}

interface Dot {
  site: SiteView;
  at: L.LatLng;
}

const RADIUS: Record<Condition, number> = { fine: 3, degraded: 6, offline: 6.5, unknown: 3.5 };

export class SiteDots extends L.Layer {
  #canvas = document.createElement("canvas");
  #map: L.Map | null = null;
  #dots: Dot[] = [];
  #labels: readonly AreaLabel[] = [];
  #chosen: string | null = null;
  #frame = 0;

  constructor(
    private colours: DotColours,
    /** Marks grow with the screen they are read from. */
    private scale: number,
  ) {
    super();
    this.#canvas.className = "site-dots";
  }

  override onAdd(map: L.Map): this {
    this.#map = map;
    map.getContainer().appendChild(this.#canvas);
    map.on("move zoom resize viewreset", this.redraw, this);
    this.redraw();
    return this;
  }

  override onRemove(map: L.Map): this {
    map.off("move zoom resize viewreset", this.redraw, this);
    cancelAnimationFrame(this.#frame);
    this.#canvas.remove();
    this.#map = null;
    return this;
  }

  show(sites: readonly SiteView[]): void {
    const placed: Dot[] = [];
    for (const site of sites) {
      if (site.lat !== null && site.lon !== null) {
        placed.push({ site, at: L.latLng(site.lat, site.lon) });
      }
    }
    placed.sort((a, b) => severity(b.site.condition) - severity(a.site.condition));
    this.#dots = placed;
    this.redraw();
  }

  setLabels(labels: readonly AreaLabel[]): void {
    this.#labels = labels;
    this.redraw();
  }

  setColours(colours: DotColours): void {
    this.colours = colours;
    this.redraw();
  }

  choose(site: string | null): void {
    if (site === this.#chosen) return;
    this.#chosen = site;
    this.redraw();
  }

  /** How much a label in `bounds` would hide; a troubled site weighs as fifty calm ones. */
  crowd(bounds: L.Bounds): number {
    const map = this.#map;
    if (!map) return 0;
    let weight = 0;
    for (const dot of this.#dots) {
      if (bounds.contains(map.latLngToContainerPoint(dot.at))) {
        weight += severity(dot.site.condition) < severity("unknown") ? 10 : 0.2;
      }
    }
    return weight;
  }

  /** The site under a point of the map's container, the worst of those within reach. */
  at(point: L.Point): SiteView | null {
    const map = this.#map;
    if (!map) return null;
    let best: Dot | null = null;
    let bestDistance = Infinity;
    for (const dot of this.#dots) {
      const distance = map.latLngToContainerPoint(dot.at).distanceTo(point);
      const reach = RADIUS[dot.site.condition] * this.scale + 5;
      // Later dots lie on top: an equal distance is theirs.
      if (distance <= reach && distance <= bestDistance + 0.5) {
        best = dot;
        bestDistance = distance;
      }
    }
    return best?.site ?? null;
  }

  redraw = (): void => {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#draw());
  };

  #draw(): void {
    const map = this.#map;
    const context = this.#canvas.getContext("2d");
    if (!map || !context) return;
    const size = map.getSize();
    const ratio = devicePixelRatio || 1;
    if (this.#canvas.width !== size.x * ratio || this.#canvas.height !== size.y * ratio) {
      this.#canvas.width = size.x * ratio;
      this.#canvas.height = size.y * ratio;
      this.#canvas.style.width = `${size.x}px`;
      this.#canvas.style.height = `${size.y}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size.x, size.y);
    const zoomed = Math.min(1.6, 1 + Math.max(0, map.getZoom() - 9) * 0.12);
    for (const dot of this.#dots) {
      const point = map.latLngToContainerPoint(dot.at);
      if (point.x < -20 || point.y < -20 || point.x > size.x + 20 || point.y > size.y + 20) {
        continue;
      }
      const radius = RADIUS[dot.site.condition] * this.scale * zoomed;
      this.#mark(context, dot.site.condition, point, radius);
    }
    this.#drawLabels(context, map);
    this.#drawChosen(context, map);
  }

  #mark(context: CanvasRenderingContext2D, condition: Condition, at: L.Point, r: number): void {
    const { x, y } = at;
    context.beginPath();
    if (condition === "degraded") {
      context.moveTo(x, y - r * 1.15);
      context.lineTo(x + r * 1.1, y + r * 0.8);
      context.lineTo(x - r * 1.1, y + r * 0.8);
      context.closePath();
    } else if (condition === "offline") {
      context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
    } else {
      context.arc(x, y, r, 0, Math.PI * 2);
    }
    context.lineJoin = "round";
    if (condition === "unknown") {
      context.lineWidth = r * 0.5;
      context.strokeStyle = this.colours.fill.unknown;
      context.stroke();
      return;
    }
    context.lineWidth = Math.max(1, r * 0.25);
    context.strokeStyle = this.colours.edge;
    context.stroke();
    context.fillStyle = this.colours.fill[condition];
    context.fill();
    if (condition === "fine") return;
    context.strokeStyle = this.colours.sign;
    context.lineCap = "round";
    context.lineWidth = r * 0.28;
    context.beginPath();
    if (condition === "degraded") {
      context.moveTo(x, y - r * 0.45);
      context.lineTo(x, y + r * 0.15);
      context.moveTo(x, y + r * 0.5);
      context.lineTo(x, y + r * 0.51);
    } else {
      context.moveTo(x - r * 0.42, y - r * 0.42);
      context.lineTo(x + r * 0.42, y + r * 0.42);
      context.moveTo(x + r * 0.42, y - r * 0.42);
      context.lineTo(x - r * 0.42, y + r * 0.42);
    }
    context.stroke();
  }

  #drawLabels(context: CanvasRenderingContext2D, map: L.Map): void {
    context.font = `600 ${11 * this.scale}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3 * this.scale;
    context.lineJoin = "round";
    for (const label of this.#labels) {
      const point = map.latLngToContainerPoint(label.at);
      context.strokeStyle = this.colours.halo;
      context.strokeText(label.text, point.x, point.y);
      context.fillStyle = this.colours.label;
      context.fillText(label.text, point.x, point.y);
    }
  }

  #drawChosen(context: CanvasRenderingContext2D, map: L.Map): void {
    const chosen = this.#dots.find((dot) => dot.site.site === this.#chosen);
    if (!chosen) return;
    const point = map.latLngToContainerPoint(chosen.at);
    context.beginPath();
    context.arc(point.x, point.y, 11 * this.scale, 0, Math.PI * 2);
    context.lineWidth = 2.5 * this.scale;
    context.strokeStyle = this.colours.label;
    context.stroke();
  }
}
