/** The district: outlines shaded by trouble, sites as marks. No tiles, no internet. */
import L from "leaflet";
import "leaflet/dist/leaflet.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { effect } from "@preact/signals";
import { getKecamatan, type KecamatanOutlines, type SiteView } from "../api";
import { formatNumber } from "../format";
import { countByKecamatan, filterSites, CONDITIONS } from "../sites";
import {
  language,
  navigate,
  route,
  siteList,
  sites,
  summary,
  theme,
  words,
} from "../store";
import { labelPoint } from "./outline";
import { SiteDots, type AreaLabel, type DotColours } from "./dots";
import { ConditionMark } from "./marks";

function readColours(): DotColours {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return {
    fill: {
      fine: read("--fine"),
      degraded: read("--degraded"),
      offline: read("--offline"),
      unknown: read("--unknown"),
    },
    sign: read("--sign"),
    edge: read("--panel"),
    label: read("--text"),
    halo: read("--panel"),
  };
}

/** Share of troubled sites → how much of the alarm colour the land takes, at most. */
const DEEPEST = 0.55;

/** Mixed here, not by opacity: the sea behind must not change the shade. */
function mix(from: string, to: string, amount: number): string {
  const channel = (colour: string, at: number) => parseInt(colour.slice(at, at + 2), 16);
  const mixed = [1, 3, 5].map((at) =>
    Math.round(channel(from, at) + (channel(to, at) - channel(from, at)) * amount),
  );
  return `rgb(${mixed.join(",")})`;
}

/** Where a name may move, in pixels, to hide fewer sites. */
const LABEL_SHIFTS = [0, -14, 14, -28, 28].flatMap((y) =>
  [0, -22, 22].map((x) => L.point(x, y)),
);

interface Hover {
  x: number;
  y: number;
  title: string;
  lines: string[];
  site: SiteView | null;
}

/** With `site` the map shows that one among its neighbours, and hovers stay. */
export function DistrictMap({ site, scale = 1 }: { site?: SiteView; scale?: number }) {
  const frame = useRef<HTMLDivElement>(null);
  const reset = useRef<() => void>(() => undefined);
  const [hover, setHover] = useState<Hover | null>(null);
  const [failed, setFailed] = useState(false);
  const siteId = site?.site ?? null;

  useEffect(() => {
    const box = frame.current;
    if (!box) return undefined;
    const map = L.map(box, {
      zoomControl: false,
      attributionControl: false,
      // The marks are redrawn at each step: a scaled picture in between would lie.
      zoomAnimation: false,
      zoomSnap: 0,
      zoomDelta: 0.5,
      minZoom: 6,
      maxZoom: 16,
      scrollWheelZoom: false,
      keyboard: true,
    });
    const dots = new SiteDots(readColours(), scale);
    let outlines: L.GeoJSON | null = null;
    let labels: AreaLabel[] = [];
    let homeBounds: L.LatLngBounds | null = null;
    let moved = false;
    let fitting = false;

    const fit = () => {
      fitting = true;
      if (site?.lat != null && site.lon != null) map.setView([site.lat, site.lon], 10.5);
      else if (homeBounds) map.fitBounds(homeBounds, { padding: [8, 8] });
      fitting = false;
    };
    const fitToSites = () => {
      const points = siteList
        .peek()
        .filter((one) => one.lat !== null && one.lon !== null)
        .map((one) => L.latLng(one.lat!, one.lon!));
      if (points.length > 0) homeBounds = L.latLngBounds(points).pad(0.05);
      fit();
    };
    reset.current = () => {
      moved = false;
      fit();
    };
    map.setView([0.9, 117.2], 8);
    map.on("movestart zoomstart", () => {
      if (!fitting) moved = true;
    });
    map.addLayer(dots);
    dots.choose(siteId);

    const paint = () => {
      if (!outlines) return;
      const style = getComputedStyle(document.documentElement);
      const counts = countByKecamatan(siteList.value);
      const chosen = route.value.filter.kecamatan;
      outlines.setStyle((feature) => {
        const name = (feature?.properties as { name: string } | undefined)?.name ?? "";
        const count = counts.get(name);
        const share = count && count.total > 0 ? count.troubled / count.total : 0;
        return {
          color: style.getPropertyValue(chosen === name ? "--text" : "--outline").trim(),
          weight: (chosen === name ? 2.5 : 1) * scale,
          fillColor: mix(
            style.getPropertyValue("--land").trim(),
            style.getPropertyValue("--offline").trim(),
            siteId === null ? share * DEEPEST : 0,
          ),
          fillOpacity: 1,
        };
      });
    };

    const showLabels = () => {
      // Names that would lie on one another are dropped, the smaller area's first.
      const kept: AreaLabel[] = [];
      if (siteId !== null) return;
      const boxes: L.Bounds[] = [];
      for (const label of labels) {
        const centre = map.latLngToContainerPoint(label.at);
        const half = L.point(label.text.length * 3.6 * scale, 9 * scale);
        let best: { cost: number; bounds: L.Bounds; at: L.Point } | null = null;
        for (const shift of LABEL_SHIFTS) {
          const at = centre.add(shift.multiplyBy(scale));
          const bounds = L.bounds(at.subtract(half), at.add(half));
          if (boxes.some((other) => other.overlaps(bounds))) continue;
          const cost = dots.crowd(bounds) + centre.distanceTo(at) / (4 * scale);
          if (best === null || cost < best.cost) best = { cost, bounds, at };
        }
        if (best === null) continue;
        boxes.push(best.bounds);
        kept.push({ text: label.text, at: map.containerPointToLatLng(best.at) });
      }
      dots.setLabels(kept);
    };
    map.on("zoomend moveend", showLabels);

    let gone = false;
    getKecamatan().then(
      (collection: KecamatanOutlines) => {
        if (gone) return;
        outlines = L.geoJSON(collection as unknown as GeoJSON.FeatureCollection, {
          interactive: true,
        }).addTo(map);
        labels = collection.features
          .map((feature) => ({ text: feature.properties.name, ...labelPoint(feature.geometry) }))
          .sort((a, b) => b.area - a.area);
        homeBounds = outlines.getBounds();
        paint();
        if (!moved) fit();
        showLabels();
      },
      (reason: unknown) => {
        if (gone) return;
        console.warn("jaga: no kecamatan outlines:", reason);
        setFailed(true);
        fitToSites();
      },
    );

    const areaAt = (point: L.LatLng): string | null => {
      let name: string | null = null;
      outlines?.eachLayer((layer) => {
        const polygon = layer as L.Polygon & { feature?: GeoJSON.Feature };
        if (!polygon.getBounds().contains(point)) return;
        const path = (polygon as unknown as { getElement(): SVGElement | undefined }).getElement();
        if (path instanceof SVGGeometryElement) {
          const layerPoint = map.latLngToLayerPoint(point);
          const at = new DOMPoint(layerPoint.x, layerPoint.y);
          if (path.isPointInFill(at)) {
            name = (polygon.feature?.properties as { name: string }).name;
          }
        }
      });
      return name;
    };

    map.on("mousemove", (move: L.LeafletMouseEvent) => {
      const t = words.peek();
      const found = dots.at(move.containerPoint);
      const { x, y } = move.containerPoint;
      dots.choose(found?.site ?? siteId);
      box.style.cursor = found ? "pointer" : "";
      if (found) {
        const uplinks = found.uplinks.map(
          (uplink) => `${uplink.provider}: ${t(`health.${uplink.health}`)}`,
        );
        setHover({
          x,
          y,
          title: found.name,
          lines: [`${t(`condition.${found.condition}`)} · ${found.kecamatan}`, ...uplinks],
          site: found,
        });
        return;
      }
      const area = areaAt(move.latlng);
      const count = area === null ? undefined : countByKecamatan(siteList.peek()).get(area);
      if (area === null || !count) {
        setHover(null);
        return;
      }
      const n = (value: number) => formatNumber(value, language.peek());
      setHover({
        x,
        y,
        title: area,
        lines: [t("map.share", { troubled: n(count.troubled), total: n(count.total) })],
        site: null,
      });
    });
    map.on("mouseout", () => {
      setHover(null);
      dots.choose(siteId);
    });
    map.on("click", (click: L.LeafletMouseEvent) => {
      const found = dots.at(click.containerPoint);
      if (found) {
        navigate({ site: found.site, wall: false });
        scrollTo(0, 0);
        return;
      }
      if (siteId !== null) return;
      const area = areaAt(click.latlng);
      const filter = route.peek().filter;
      if (area !== null) {
        navigate({
          filter: { ...filter, kecamatan: filter.kecamatan === area ? null : area },
        });
      }
    });
    // The wheel scrolls the page; with Ctrl it zooms, as the pinch of a touchpad does.
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const at = map.mouseEventToContainerPoint(event);
      map.setZoomAround(at, map.getZoom() - Math.sign(event.deltaY) * 0.5);
    };
    box.addEventListener("wheel", wheel, { passive: false });

    const unshow = effect(() => {
      const filter = route.value.filter;
      dots.show(siteId === null ? filterSites(siteList.value, filter) : siteList.value);
    });
    // The first list decides where names lie; later changes do not make them jump.
    let laid = false;
    const unlay = effect(() => {
      if (laid || siteList.value.length === 0) return;
      laid = true;
      showLabels();
    });
    const unpaint = effect(() => {
      void theme.value;
      // The theme's variables apply when the document carries it: next frame.
      requestAnimationFrame(() => {
        if (gone) return;
        dots.setColours(readColours());
        paint();
      });
      void sites.value;
      void route.value.filter.kecamatan;
    });
    const watch = new ResizeObserver(() => {
      map.invalidateSize({ pan: false });
      if (!moved) fit();
      showLabels();
    });
    watch.observe(box);
    fit();

    return () => {
      gone = true;
      unshow();
      unpaint();
      unlay();
      watch.disconnect();
      box.removeEventListener("wheel", wheel);
      map.remove();
    };
    // The map is built once for each site and scale; everything else flows by signals.
  }, [siteId, scale]);

  const t = words.value;
  const counts = summary.value?.sites;
  return (
    <div class="map-box">
      <div
        ref={frame}
        class="map"
        data-testid="map"
        role="application"
        aria-label={t("map.label", {
          district: summary.value?.district ?? "",
          total: counts?.total ?? 0,
        })}
      />
      <div class="map-tools">
        <button type="button" class="tool" title={t("map.reset")} aria-label={t("map.reset")} onClick={() => reset.current()}>
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M4 9V4h5M20 9V4h-5M4 15v5h5m11-5v5h-5" />
          </svg>
        </button>
      </div>
      {siteId === null && (
        <ul class="legend" aria-label={t("map.legend")}>
          {CONDITIONS.map((condition) => (
            <li key={condition}>
              <ConditionMark condition={condition} />
              {t(`condition.${condition}`)}
            </li>
          ))}
        </ul>
      )}
      {failed && <p class="map-note">{t("map.no_outlines")}</p>}
      {hover && <HoverCard hover={hover} frame={frame.current} />}
    </div>
  );
}

function HoverCard({ hover, frame }: { hover: Hover; frame: HTMLElement | null }) {
  const width = frame?.clientWidth ?? 0;
  const height = frame?.clientHeight ?? 0;
  // Away from the nearer edge, so that the card never leaves the map.
  const style: Record<string, string> = {
    ...(hover.x > width / 2
      ? { right: `${width - hover.x + 14}px` }
      : { left: `${hover.x + 14}px` }),
    ...(hover.y > height / 2
      ? { bottom: `${height - hover.y + 10}px` }
      : { top: `${hover.y + 10}px` }),
  };
  return (
    <div class="hover-card" style={style} aria-hidden="true">
      <strong>
        {hover.site && <ConditionMark condition={hover.site.condition} />}
        {hover.title}
      </strong>
      {hover.lines.map((line) => (
        <span key={line}>{line}</span>
      ))}
    </div>
  );
}
