/** The top line: where, what time it is there, whether the numbers are live. */
import { formatAgo, formatDay, formatDuration, formatNumber, formatTime } from "../format";
import { NO_FILTER } from "../route";
import {
  QUIET_MS,
  STALE_MS,
  connected,
  language,
  navigate,
  route,
  serverNow,
  setLanguage,
  setTheme,
  silentMs,
  summary,
  theme,
  words,
} from "../store";
import { Link } from "./link";

function Clock() {
  const now = serverNow.value;
  return (
    <div class="clock">
      <time dateTime={new Date(now).toISOString()}>
        {formatTime(now, language.value)} <small>{words.value("clock.wita")}</small>
      </time>
      <span class="day">{formatDay(now, language.value)}</span>
    </div>
  );
}

function Live() {
  const t = words.value;
  const state = summary.value;
  const live = connected.value && silentMs.value <= STALE_MS;
  const last = state?.last_message_ms ?? null;
  return (
    <div class={live ? "live live-ok" : "live"}>
      <span class="live-dot" aria-hidden="true" />
      <span class="live-text">
        <strong>{t(live ? "live.ok" : "live.connecting")}</strong>
        {state && (
          <small>
            {last === null
              ? t("live.no_message")
              : t("live.last_message", {
                  ago: formatAgo(last, serverNow.value, t),
                })}
          </small>
        )}
      </span>
    </div>
  );
}

export function Header() {
  const t = words.value;
  const state = summary.value;
  const wall = route.value.wall;
  const nextTheme = theme.value === "dark" ? "light" : "dark";
  return (
    <header class="top">
      <Link
        to={{ site: null, filter: NO_FILTER }}
        class="brand"
        label={`${state?.district ?? "Jaga"}: ${t("app.home")}`}
      >
        <img src="/favicon.svg" alt="" width="36" height="36" />
        <span>
          <strong>{state?.district ?? "Jaga"}</strong>
          <small>Jaga · {t("app.control_room")}</small>
        </span>
      </Link>
      {state && (
        <p class="online" data-testid="count-online">
          {t("count.online", {
            online: formatNumber(state.online, language.value),
            total: formatNumber(state.sites.total, language.value),
          })}
        </p>
      )}
      <Live />
      <Clock />
      <nav class="tools">
        <button
          type="button"
          class="tool tool-wall"
          onClick={() => navigate({ wall: !wall, site: null, filter: NO_FILTER })}
          title={t(wall ? "app.wall_leave" : "app.wall")}
          aria-label={t(wall ? "app.wall_leave" : "app.wall")}
        >
          <svg viewBox="0 0 24 24" aria-hidden="true">
            {wall ? (
              <path d="m6 6 12 12m0-12L6 18" />
            ) : (
              <path d="M3 5h18v11H3zm6 15h6m-3-4v4" />
            )}
          </svg>
        </button>
        <button
          type="button"
          class="tool"
          onClick={() => setTheme(nextTheme)}
          title={t(nextTheme === "dark" ? "app.theme_to_dark" : "app.theme_to_light")}
          aria-label={t(nextTheme === "dark" ? "app.theme_to_dark" : "app.theme_to_light")}
          data-testid="theme-toggle"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true">
            {nextTheme === "dark" ? (
              <path d="M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z" />
            ) : (
              <path d="M12 7.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.400 1.400m11.200 11.200L19 19m0-14-1.400 1.400M6.400 17.600 5 19" />
            )}
          </svg>
        </button>
        <button
          type="button"
          class="tool tool-text"
          onClick={() => setLanguage(language.value === "id" ? "en" : "id")}
          aria-label={t("app.switch_language")}
          title={t("app.switch_language")}
          data-testid="lang-toggle"
        >
          {t("app.other_language")}
        </button>
      </nav>
    </header>
  );
}

/** Says loudly when the numbers below are not the present. */
export function StaleBanner() {
  const t = words.value;
  const state = summary.value;
  let title: string | null = null;
  let next = "";
  if (silentMs.value > STALE_MS) {
    title = t("stale.silent", { duration: formatDuration(silentMs.value, t) });
    next = t("stale.silent.next");
  } else if (state && !state.broker_connected) {
    const last = state.last_message_ms;
    title =
      last === null
        ? t("stale.broker.never")
        : t("stale.broker", { duration: formatDuration(serverNow.value - last, t) });
    next = t("stale.broker.next");
  } else if (state?.last_message_ms && serverNow.value - state.last_message_ms > QUIET_MS) {
    title = t("stale.quiet", {
      duration: formatDuration(serverNow.value - state.last_message_ms, t),
    });
    next = t("stale.quiet.next");
  }
  if (title === null) return null;
  return (
    <div class="stale" role="alert" data-testid="stale-banner">
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M12 2.500 22.500 21h-21zM12 9.500v5.500m0 2.700v.300" />
      </svg>
      <div>
        <strong>{title}</strong>
        <p>{next}</p>
      </div>
    </div>
  );
}
