/**
 * What the page knows now, as signals: the stream writes, the views read.
 *
 * Instants of the collector and of this computer never mix: `serverNow` is this
 * computer's clock corrected by the collector's.
 */
import { computed, effect, signal } from "@preact/signals";
import { getEvents, type EventView, type SiteView, type StreamUpdate, type Summary } from "./api";
import { isLanguage, translator, type Language } from "./i18n";
import { mergeEvents } from "./narrate";
import { formatRoute, parseRoute, type Route } from "./route";
import { byName } from "./sites";
import { follow } from "./stream";

/** The banner's threshold: the stream must have said something within it. */
export const STALE_MS = 15_000;
/** Heartbeats of a dormant site come every 300 s; longer silence of all is trouble. */
export const QUIET_MS = 330_000;
const EVENTS_KEPT = 400;
/** A hidden tab gives its connection back: browsers share six for each host. */
const HIDDEN_MS = 60_000;

export type Theme = "light" | "dark";

export const summary = signal<Summary | null>(null);
export const sites = signal<ReadonlyMap<string, SiteView>>(new Map());
/** In the order of `byName`. */
export const siteList = computed(() => [...sites.value.values()]);
export const events = signal<readonly EventView[]>([]);
/** When the stream last said anything, on this computer's clock; null: never yet. */
export const heardAt = signal<number | null>(null);
export const connected = signal(false);
/** When the page began to wait, so that a dead collector shows from the first visit. */
const openedAt = signal(Date.now());
const offsetMs = signal(0);
const localNow = signal(Date.now());
export const serverNow = computed(() => localNow.value + offsetMs.value);
/** How long the stream has been silent, milliseconds. */
export const silentMs = computed(() =>
  Math.max(0, localNow.value - (heardAt.value ?? openedAt.value)),
);

export const route = signal<Route>(parseRoute(location.pathname, location.search));

function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage forbidden by the browser's policy: nothing is remembered
  }
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // as above: the choice holds for this visit only
  }
}

const rememberedLanguage = remembered("jaga.language");
const chosenLanguage = signal<Language>(
  isLanguage(rememberedLanguage) ? rememberedLanguage : "id",
);
export const language = computed<Language>(() => route.value.language ?? chosenLanguage.value);
export const words = computed(() => translator(language.value));

const darkPreferred = matchMedia("(prefers-color-scheme: dark)");
const rememberedTheme = remembered("jaga.theme");
const chosenTheme = signal<Theme | null>(
  rememberedTheme === "light" || rememberedTheme === "dark" ? rememberedTheme : null,
);
const systemTheme = signal<Theme>(darkPreferred.matches ? "dark" : "light");
darkPreferred.addEventListener?.("change", (change) => {
  systemTheme.value = change.matches ? "dark" : "light";
});
export const theme = computed<Theme>(() => chosenTheme.value ?? systemTheme.value);

export function setLanguage(next: Language): void {
  chosenLanguage.value = next;
  remember("jaga.language", next);
  navigate({ language: next }, "replace");
}

export function setTheme(next: Theme): void {
  chosenTheme.value = next;
  remember("jaga.theme", next);
}

/** Changes the address. `push` makes a step that the Back button undoes. */
export function navigate(change: Partial<Route>, how: "push" | "replace" = "push"): void {
  const next = { ...route.value, ...change };
  const path = formatRoute(next);
  if (path !== location.pathname + location.search) {
    if (how === "push") history.pushState(null, "", path);
    else history.replaceState(null, "", path);
  }
  route.value = next;
}

export function hrefOf(change: Partial<Route>): string {
  return formatRoute({ ...route.value, ...change });
}

function apply(update: StreamUpdate, fresh: boolean): void {
  offsetMs.value = update.summary.now_ms - Date.now();
  summary.value = update.summary;
  if (fresh || update.sites.length > 0) {
    // The first update of a connection is the whole list: what is not in it is gone.
    const known = fresh ? new Map<string, SiteView>() : sites.value;
    const next = new Map(known);
    for (const site of update.sites) next.set(site.site, site);
    // A known key keeps its place in a Map: the order by name holds until one is added.
    const renamed = update.sites.some((site) => known.get(site.site)?.name !== site.name);
    sites.value = renamed
      ? new Map([...next.values()].sort(byName).map((site) => [site.site, site]))
      : next;
  }
  if (update.events.length > 0) {
    events.value = mergeEvents(events.value, update.events, EVENTS_KEPT);
  }
}

function connect(): () => void {
  let fresh = true;
  return follow("/api/1/stream", {
    heard: () => {
      heardAt.value = Date.now();
      connected.value = true;
    },
    event: ({ event, data }) => {
      if (event !== "update") return;
      apply(JSON.parse(data) as StreamUpdate, fresh);
      if (fresh) {
        fresh = false;
        // The stream tells only new events; the feed starts with the last ones.
        getEvents(200).then(
          (list) => {
            events.value = mergeEvents(events.value, list.events, EVENTS_KEPT);
          },
          (reason: unknown) => console.warn("jaga: no event list:", reason),
        );
      }
    },
    lost: (reason) => {
      fresh = true;
      connected.value = false;
      console.warn("jaga: stream lost, retrying:", reason);
    },
  });
}

/** Starts the stream, the clock, and the address bar. Called once. */
export function start(): void {
  let disconnect: (() => void) | null = connect();
  let hiding: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => {
        disconnect?.();
        disconnect = null;
      }, HIDDEN_MS);
    } else if (!disconnect) {
      // Coming back is not the collector's silence: the wait starts anew.
      openedAt.value = Date.now();
      heardAt.value = null;
      disconnect = connect();
    }
  });
  setInterval(() => {
    localNow.value = Date.now();
  }, 1000);
  addEventListener("popstate", () => {
    route.value = parseRoute(location.pathname, location.search);
  });
  effect(() => {
    document.documentElement.lang = language.value;
    document.documentElement.dataset["theme"] = theme.value;
    document.documentElement.classList.toggle(
      "wall",
      route.value.wall && route.value.site === null,
    );
  });
}
