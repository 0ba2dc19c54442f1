/** Events in plain words, and floods of equal ones as one line. Pure. */
import type { EventView, SiteView } from "./api";
import { isKey, type Translate } from "./i18n";

export type Tone = "bad" | "warn" | "good" | "plain";

export interface Narration {
  /** What the site did; follows the site's name in a sentence. */
  sentence: string;
  tone: Tone;
}

/** The provider people know; with the uplink's name only where two share a provider. */
export function uplinkLabel(site: SiteView | undefined, name: string | null): string {
  if (name === null) return "–";
  const uplink = site?.uplinks.find((candidate) => candidate.name === name);
  if (!site || !uplink) return name;
  const twins = site.uplinks.filter((other) => other.provider === uplink.provider);
  return twins.length > 1 ? `${uplink.provider} (${uplink.name})` : uplink.provider;
}

export function narrate(event: EventView, site: SiteView | undefined, t: Translate): Narration {
  const from = uplinkLabel(site, event.old);
  const to = uplinkLabel(site, event.new ?? event.uplink);
  switch (event.kind) {
    case "decision":
      // A move needs both ends; without the old one only the new fact can be told.
      if (event.old === null) {
        const key = event.rule === "first" ? "event.first" : "event.decision";
        return { sentence: t(key, { to }), tone: "plain" };
      }
      if (event.rule === "failover") {
        return { sentence: t("event.failover", { from, to }), tone: "warn" };
      }
      if (event.rule === "failback") {
        return { sentence: t("event.failback", { from, to }), tone: "good" };
      }
      if (event.rule === "switchover") {
        return { sentence: t("event.switchover", { from, to }), tone: "plain" };
      }
      return { sentence: t("event.decision", { to }), tone: "plain" };
    case "health": {
      const uplink = uplinkLabel(site, event.uplink);
      if (event.new === "down") {
        return { sentence: t("event.health.down", { uplink }), tone: "bad" };
      }
      if (event.new === "degraded") {
        return { sentence: t("event.health.degraded", { uplink }), tone: "warn" };
      }
      if (event.new === "up" && event.old === "unknown") {
        return { sentence: t("event.health.first", { uplink }), tone: "plain" };
      }
      if (event.new === "up") {
        return { sentence: t("event.health.up", { uplink }), tone: "good" };
      }
      return { sentence: t("event.health.unknown", { uplink }), tone: "plain" };
    }
    case "started":
      return { sentence: t("event.started"), tone: "plain" };
    case "stopped":
      return { sentence: t("event.stopped"), tone: "warn" };
    case "target": {
      const target = event.evidence["target"] ?? event.uplink ?? "";
      return event.new === "answering"
        ? { sentence: t("event.target.answering", { target }), tone: "good" }
        : { sentence: t("event.target.silent", { target }), tone: "warn" };
    }
    case "check": {
      const target = event.evidence["target"] ?? "";
      const uplink = uplinkLabel(site, event.uplink);
      return event.new === "working"
        ? { sentence: t("event.check.working", { target, uplink }), tone: "good" }
        : { sentence: t("event.check.failing", { target, uplink }), tone: "warn" };
    }
    case "busy": {
      // The site's own doing: worth knowing, and nothing for the officer to mend.
      const uplink = uplinkLabel(site, event.uplink);
      const key = event.new === "busy" ? "event.busy.busy" : "event.busy.free";
      return { sentence: t(key, { uplink }), tone: "plain" };
    }
    case "thrift": {
      const uplink = uplinkLabel(site, event.uplink);
      const key = `event.thrift.${event.new ?? ""}`;
      return isKey(key)
        ? { sentence: t(key, { uplink }), tone: event.new === "normal" ? "plain" : "warn" }
        : { sentence: t("event.thrift.other", { uplink, level: event.new ?? "–" }), tone: "plain" };
    }
    case "gap":
      // For how long it was cut is told like the other times (`gapMs`).
      return {
        sentence: t("event.gap", { uplink: uplinkLabel(site, event.uplink) }),
        tone: "plain",
      };
    default: {
      // A newer agent may say more than this page knows: show its own word.
      const key = `event.${event.kind}`;
      return {
        sentence: isKey(key) ? t(key) : t("event.other", { kind: event.kind }),
        tone: "plain",
      };
    }
  }
}

/** For how long the site was cut, as a gap's event tells it; null if it does not. */
export function gapMs(event: EventView): number | null {
  const told = event.kind === "gap" ? event.evidence["gap_ms"] : undefined;
  return told !== undefined && /^\d+$/.test(told) ? Number(told) : null;
}

/** Uplink names are unique within a site only; the same record may come twice. */
export function eventKey(event: EventView): string {
  return `${event.site}/${event.at_ms}/${event.seq}`;
}

/** Newest first, without repeats, at most `limit`. */
export function mergeEvents(
  known: readonly EventView[],
  fresh: readonly EventView[],
  limit: number,
): EventView[] {
  const merged = new Map<string, EventView>();
  for (const event of known) merged.set(eventKey(event), event);
  for (const event of fresh) merged.set(eventKey(event), event);
  return [...merged.values()]
    .sort((a, b) => b.at_ms - a.at_ms || b.seq - a.seq)
    .slice(0, limit);
}

export interface EventGroup {
  key: string;
  kecamatan: string | null;
  /** Newest first; one site each. */
  events: EventView[];
}

const GROUP_WINDOW_MS = 120_000;

/**
 * One provider's outage moves every site of a kecamatan within seconds: the officer
 * needs that as one line. Groups equal moves of sites in one kecamatan within two
 * minutes; a single event is a group of one.
 */
export function groupEvents(
  events: readonly EventView[],
  sites: ReadonlyMap<string, SiteView>,
): EventGroup[] {
  const groups: EventGroup[] = [];
  const open = new Map<string, EventGroup>();
  for (const event of events) {
    const site = sites.get(event.site);
    const kecamatan = site?.kecamatan ?? null;
    const same = [
      event.kind,
      event.rule,
      kecamatan,
      event.kind === "decision" ? uplinkLabel(site, event.new) : event.new,
      uplinkLabel(site, event.kind === "decision" ? event.old : event.uplink),
      event.evidence["target"],
    ].join("|");
    const group = open.get(same);
    const newest = group?.events[0];
    if (
      group &&
      newest &&
      kecamatan !== null &&
      newest.at_ms - event.at_ms <= GROUP_WINDOW_MS &&
      !group.events.some((other) => other.site === event.site)
    ) {
      group.events.push(event);
      continue;
    }
    const fresh = { key: eventKey(event), kecamatan, events: [event] };
    open.set(same, fresh);
    groups.push(fresh);
  }
  return groups;
}

/** Why an uplink is as it is: the reason of its latest change to that health. */
export function healthReason(
  events: readonly EventView[],
  uplink: string,
  health: string,
): string | null {
  const latest = events.find((event) => event.kind === "health" && event.uplink === uplink);
  return latest && latest.new === health ? latest.reason || null : null;
}
