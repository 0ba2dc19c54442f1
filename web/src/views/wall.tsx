/** The wall screen: read at four metres, nothing scrolls, nothing needs a hand. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { formatDuration, formatNumber } from "../format";
import { uplinkLabel } from "../narrate";
import { sortSites } from "../sites";
import { language, serverNow, siteList, words } from "../store";
import { Counters } from "./counters";
import { Link } from "./link";
import { DistrictMap } from "./map";
import { ConditionMark, HealthMark } from "./marks";
import { Providers } from "./providers";

/** How many rows fit: counted from the first row's height, never cut in half. */
function useFit(rows: number) {
  const list = useRef<HTMLOListElement>(null);
  const [fit, setFit] = useState(6);
  useLayoutEffect(() => {
    const box = list.current;
    if (!box) return undefined;
    const measure = () => {
      const row = box.firstElementChild?.getBoundingClientRect().height;
      if (row) setFit(Math.max(1, Math.floor(box.clientHeight / row)));
    };
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box);
    return () => watch.disconnect();
  }, [rows > 0]);
  return { list, fit };
}

function Worst() {
  const t = words.value;
  const troubled = sortSites(
    siteList.value.filter(
      (site) => site.condition === "offline" || site.condition === "degraded",
    ),
    "worst",
    false,
  );
  const { list, fit } = useFit(troubled.length);
  const more = troubled.length - fit;
  return (
    <section class="panel wall-worst" aria-labelledby="worst-title">
      <div class="panel-head">
        <h2 id="worst-title">{t("wall.worst")}</h2>
        {more > 0 && (
          <small>{t("wall.more", { n: formatNumber(more, language.value) })}</small>
        )}
      </div>
      {troubled.length === 0 && <p class="empty">{t("wall.worst_none")}</p>}
      <ol ref={list}>
        {troubled.slice(0, fit).map((site) => (
          <li key={site.site} data-testid={`site-row-${site.site}`}>
            <ConditionMark condition={site.condition} />
            <span class="wall-name">
              <Link to={{ site: site.site, wall: false }}>{site.name}</Link>
              <small>{site.kecamatan}</small>
            </span>
            <span class="wall-uplinks">
              {site.uplinks
                .filter((uplink) => uplink.health === "down" || uplink.health === "degraded")
                .map((uplink) => (
                  <span key={uplink.name}>
                    <HealthMark health={uplink.health} />
                    {uplinkLabel(site, uplink.name)}
                  </span>
                ))}
            </span>
            <span class="wall-since">
              {site.since_ms === null ? "" : formatDuration(serverNow.value - site.since_ms, t)}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

export function Wall() {
  // Marks grow with the page's unit, which follows the screen (see wall.css).
  const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  return (
    <main class="wall-page">
      <Counters />
      <div class="wall-map panel">
        <DistrictMap scale={Math.max(1, unit * 1.25)} />
      </div>
      <Providers />
      <Worst />
    </main>
  );
}
