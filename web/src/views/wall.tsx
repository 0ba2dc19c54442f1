/** The wall screen: read at four metres, nothing scrolls, nothing needs a hand. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { formatDuration, formatMinute, formatNumber } from "../format";
import { groupEvents, narrate, uplinkLabel } from "../narrate";
import { sortSites } from "../sites";
import { events, language, serverNow, siteList, sites, words } from "../store";
import { Counters } from "./counters";
import { Link } from "./link";
import { DistrictMap } from "./map";
import { ConditionMark, HealthMark } from "./marks";
import { Providers } from "./providers";

/** The least height of a row, as in wall.css. */
const ROW_REM = 3.25;

/** How many rows fit, so that none is cut in half. */
function useFit(rows: number) {
  const list = useRef<HTMLOListElement>(null);
  const [fit, setFit] = useState(6);
  useLayoutEffect(() => {
    const box = list.current;
    if (!box) return undefined;
    const measure = () => {
      const unit = parseFloat(getComputedStyle(document.documentElement).fontSize);
      setFit(Math.max(1, Math.floor(box.clientHeight / (ROW_REM * unit))));
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

const MOVES_SHOWN = 3;

/** The last switches, one line each: nobody unfolds anything on a wall. */
function Moves() {
  const t = words.value;
  const decisions = events.value.filter((event) => event.kind === "decision");
  const groups = groupEvents(decisions, sites.value).slice(0, MOVES_SHOWN);
  return (
    <section class="panel wall-feed" aria-labelledby="moves-title">
      <h2 id="moves-title">{t("wall.feed")}</h2>
      {groups.length === 0 && <p class="empty">{t("feed.none")}</p>}
      <ol data-testid="event-feed">
        {groups.map(({ key, kecamatan, events: [head, ...others] }) => {
          if (!head) return null;
          const site = sites.value.get(head.site);
          const who =
            others.length > 0
              ? t("feed.group", {
                  n: formatNumber(others.length + 1, language.value),
                  kecamatan: kecamatan ?? "",
                })
              : (site?.name ?? head.site);
          return (
            <li key={key}>
              <time dateTime={new Date(head.at_ms).toISOString()}>
                {formatMinute(head.at_ms, language.value)}
              </time>
              <span>
                <strong>{who}</strong> {narrate(head, site, t).sentence}
              </span>
            </li>
          );
        })}
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
      <Moves />
      <Worst />
    </main>
  );
}
