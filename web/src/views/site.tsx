/** One site's page: where it stands, why, and what it decided. */
import { useEffect, useState } from "preact/hooks";
import { ApiProblem, getSite, type EventView, type HostView, type SiteDetail, type SiteView } from "../api";
import {
  formatAgo,
  formatDuration,
  formatInstant,
  formatLoss,
  formatLossInterval,
  formatNumber,
  formatRatio,
  formatRtt,
} from "../format";
import { isKey } from "../i18n";
import { eventKey, healthReason, mergeEvents, narrate, uplinkLabel } from "../narrate";
import { events, language, serverNow, sites, words } from "../store";
import { ActiveName } from "./chip";
import { Latencies, Why } from "./feed";
import { Link } from "./link";
import { DistrictMap } from "./map";
import { ConditionBadge, HealthMark } from "./marks";
import { SiteCharts } from "./site-charts";

const REFRESH_MS = 10_000;

function useDetail(site: string): { detail: SiteDetail | null; problem: unknown } {
  const [detail, setDetail] = useState<SiteDetail | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    setDetail(null);
    setProblem(null);
    const load = async () => {
      try {
        setDetail(await getSite(site, stop.signal));
        setProblem(null);
      } catch (reason) {
        if (stop.signal.aborted) return;
        setProblem(reason);
      }
      timer = setTimeout(() => void load(), REFRESH_MS);
    };
    void load();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [site]);
  return { detail, problem };
}

function Uplinks({ site, history }: { site: SiteView; history: readonly EventView[] }) {
  const t = words.value;
  return (
    <section class="uplinks" aria-label={t("site.uplinks")}>
      {site.uplinks.map((uplink, index) => {
        const reason = healthReason(history, uplink.name, uplink.health);
        const lossy = uplink.sent > 0;
        return (
          <article
            key={uplink.name}
            class={`panel uplink uplink-${uplink.health}`}
            data-testid={`uplink-${uplink.name}`}
          >
            <header>
              <span class={`swatch swatch-${(index % 5) + 1}`} aria-hidden="true" />
              <h3>{uplinkLabel(site, uplink.name)}</h3>
              <span class={uplink.active ? "role role-active" : "role"}>
                {t(uplink.active ? "site.carries" : "site.standby")}
              </span>
            </header>
            <p class="uplink-health">
              <HealthMark health={uplink.health} />
              <strong>{t(`health.${uplink.health}`)}</strong>
              <small>
                {uplink.name}
                {uplink.device ? ` · ${t("site.device", { device: uplink.device })}` : ""}
              </small>
            </p>
            <dl>
              <div>
                <dt>{t("site.rtt")}</dt>
                <dd>{formatRtt(uplink.rtt_ms, language.value)}</dd>
              </div>
              <div>
                <dt>{t("site.loss")}</dt>
                <dd>
                  {formatLoss(uplink.lost, uplink.sent, t, language.value)}
                  {lossy && (
                    <small>{formatLossInterval(uplink.lost, uplink.sent, t, language.value)}</small>
                  )}
                </dd>
              </div>
            </dl>
            {site.presence === "offline" && <p class="reason">{t("uplink.old")}</p>}
            {reason && <p class="reason">{t("site.why", { reason })}</p>}
          </article>
        );
      })}
    </section>
  );
}

function Meter({ label, ratio, high }: { label: string; ratio: number | null; high: number }) {
  const text = formatRatio(ratio, language.value);
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        {text}
        {ratio !== null && (
          <span class={ratio > high ? "meter meter-high" : "meter"} aria-hidden="true">
            <span style={{ width: `${Math.min(100, ratio * 100)}%` }} />
          </span>
        )}
      </dd>
    </div>
  );
}

/** The Pi slows itself down from 80 °C on (Raspberry Pi documentation, thermal limits). */
const HOT_C = 80;

function Device({ detail, host }: { detail: SiteDetail; host: HostView | null }) {
  const t = words.value;
  const mode = detail.mode === null ? null : `mode.${detail.mode}`;
  const n = (value: number) => formatNumber(value, language.value);
  return (
    <section class="panel device" aria-labelledby="device-title">
      <h2 id="device-title">{t("site.host")}</h2>
      {host === null ? (
        <p class="empty">{t("site.host_none")}</p>
      ) : (
        <dl class="facts">
          <div>
            <dt>{t("site.temperature")}</dt>
            <dd class={host.temperature_c !== null && host.temperature_c >= HOT_C ? "alarm" : ""}>
              {host.temperature_c === null
                ? "–"
                : `${formatNumber(host.temperature_c, language.value, 1)} °C`}
            </dd>
          </div>
          <Meter label={t("site.cpu")} ratio={host.cpu_ratio} high={0.9} />
          <Meter label={t("site.memory")} ratio={host.memory_ratio} high={0.9} />
          <Meter label={t("site.disk")} ratio={host.disk_ratio} high={0.9} />
          <div>
            <dt>{t("site.uptime")}</dt>
            <dd>{formatDuration(host.uptime_s * 1000, t)}</dd>
          </div>
        </dl>
      )}
      <dl class="facts">
        <div>
          <dt>{t("site.heartbeats")}</dt>
          <dd data-testid="heartbeats-stored">{n(detail.heartbeats)}</dd>
        </div>
        <div>
          <dt>{t("site.lost")}</dt>
          <dd class={detail.lost > 0 ? "alarm" : ""} data-testid="heartbeats-lost">
            {n(detail.lost)}
          </dd>
        </div>
        <div>
          <dt>{t("site.missing")}</dt>
          <dd data-testid="records-missing">{n(detail.missing)}</dd>
        </div>
        {detail.mode && (
          <div>
            <dt>{t("site.mode")}</dt>
            <dd>{mode !== null && isKey(mode) ? t(mode) : detail.mode}</dd>
          </div>
        )}
        {detail.clock_confirmed !== null && (
          <div>
            <dt>{t("site.clock")}</dt>
            <dd>{t(detail.clock_confirmed ? "site.clock_confirmed" : "site.clock_unconfirmed")}</dd>
          </div>
        )}
        {detail.version && (
          <div>
            <dt>{t("site.version")}</dt>
            <dd>{detail.version}</dd>
          </div>
        )}
        {detail.config_hash && (
          <div>
            <dt>{t("site.config")}</dt>
            <dd>
              <code>{detail.config_hash.slice(0, 12)}</code>
            </dd>
          </div>
        )}
      </dl>
    </section>
  );
}

function History({ site, history }: { site: SiteView; history: readonly EventView[] }) {
  const t = words.value;
  return (
    <section class="panel history" aria-labelledby="history-title">
      <h2 id="history-title">{t("site.decisions")}</h2>
      {history.length === 0 && <p class="empty">{t("site.decisions_none")}</p>}
      <ol data-testid="site-events">
        {history.map((event) => {
          const { sentence, tone } = narrate(event, site, t);
          const evidence = Object.entries(event.evidence);
          return (
            <li key={eventKey(event)} class={`event tone-${tone} kind-${event.kind}`}>
              <time dateTime={new Date(event.at_ms).toISOString()}>
                {formatInstant(event.at_ms, serverNow.value, language.value)}
              </time>
              <div>
                <strong class="sentence">{sentence}</strong>
                <Latencies event={event} />
                <Why event={event} />
                {evidence.length > 0 && (
                  <details>
                    <summary>{t("site.evidence")}</summary>
                    <dl class="evidence">
                      {evidence.map(([key, value]) => (
                        <div key={key}>
                          <dt>{key}</dt>
                          <dd>{value}</dd>
                        </div>
                      ))}
                    </dl>
                  </details>
                )}
              </div>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Problem({ site, problem }: { site: string; problem: unknown }) {
  const t = words.value;
  const unknown = problem instanceof ApiProblem && problem.status === 404;
  const reason = problem instanceof Error ? problem.message : String(problem);
  return (
    <section class="panel problem" role="alert">
      <strong>
        {unknown ? t("site.not_found", { site }) : t("site.failed", { reason })}
      </strong>
      {unknown && <p>{t("site.not_found.next")}</p>}
    </section>
  );
}

export function SitePage({ siteId }: { siteId: string }) {
  const t = words.value;
  const { detail, problem } = useDetail(siteId);
  // The stream's row is fresher than the detail that was fetched a while ago.
  const site = sites.value.get(siteId) ?? detail?.site ?? null;
  const own = events.value.filter((event) => event.site === siteId);
  const history = mergeEvents(detail?.events ?? [], own, 50);
  const kind = site === null ? null : `kind.${site.kind}`;
  return (
    <main class="site-page">
      <p class="crumbs">
        <Link to={{ site: null }}>← {t("site.back")}</Link>
      </p>
      {problem !== null && <Problem site={siteId} problem={problem} />}
      {site && (
        <>
          <section class="panel site-head">
            <div class="site-title">
              <h1>{site.name}</h1>
              <p>
                {kind !== null && isKey(kind) ? t(kind) : site.kind}
                {site.desa && ` · ${t("site.desa", { desa: site.desa })}`}
                {` · ${t("site.kecamatan", { kecamatan: site.kecamatan })}`}
                <code>{site.site}</code>
              </p>
            </div>
            <div class="site-state">
              <ConditionBadge condition={site.condition} testId="site-condition" />
              <p>
                {site.since_ms !== null && (
                  <span>
                    {t("site.since", {
                      instant: formatInstant(site.since_ms, serverNow.value, language.value),
                      duration: formatDuration(serverNow.value - site.since_ms, t),
                    })}
                  </span>
                )}
                <span>
                  {t("site.last_seen", { ago: formatAgo(site.last_seen_ms, serverNow.value, t) })}
                  {` · ${t(`presence.${site.presence}`)}`}
                </span>
                {site.last_resort !== null && (
                  <span data-testid="site-last-resort">
                    {t("site.last_resort", {
                      ago: formatAgo(site.last_resort.at_ms, serverNow.value, t),
                      uplink: site.last_resort.through ?? "?",
                    })}
                  </span>
                )}
              </p>
            </div>
            <div class="site-active">
              <small>{t("table.active")}</small>
              {site.active === null ? (
                <strong class="missing" data-testid={`site-active-${site.site}`}>
                  {t("table.no_active")}
                </strong>
              ) : (
                <strong>
                  <ActiveName
                    name={site.active}
                    provider={
                      site.uplinks.find((uplink) => uplink.name === site.active)?.provider ?? null
                    }
                    testId={`site-active-${site.site}`}
                  />
                </strong>
              )}
            </div>
          </section>
          <Uplinks site={site} history={history} />
          <div class="site-columns">
            <div>
              <SiteCharts site={site} events={history} />
              <History site={site} history={history} />
            </div>
            <div>
              {detail && <Device detail={detail} host={detail.host} />}
              {site.lat !== null && site.lon !== null && (
                <section class="panel site-map" aria-labelledby="place-title">
                  <h2 id="place-title">{t("site.on_map")}</h2>
                  <DistrictMap site={site} />
                  <p class="coordinates">
                    {t("site.coordinates")} <code>{site.lat.toFixed(5)}, {site.lon.toFixed(5)}</code>
                  </p>
                </section>
              )}
            </div>
          </div>
        </>
      )}
    </main>
  );
}
