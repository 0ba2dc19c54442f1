/**
 * Numbers and instants as people read them. Pure: the language and "now" are arguments.
 *
 * A loss is never shown without its counts: 0 of 5 lost may be anything up to 43 %.
 */
import type { Language, Translate } from "./i18n";

/** The district's clock: WITA, UTC+8, whatever the viewer's computer thinks. */
const ZONE = "Asia/Makassar";
const LOCALE: Record<Language, string> = { id: "id-ID", en: "en-GB" };
const MISSING = "–";
const HOUR_MS = 3_600_000;

const numberFormats = new Map<string, Intl.NumberFormat>();

export function formatNumber(value: number, language: Language, digits = 0): string {
  const key = `${language}${digits}`;
  let format = numberFormats.get(key);
  if (!format) {
    format = new Intl.NumberFormat(LOCALE[language], {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
    numberFormats.set(key, format);
  }
  return format.format(value);
}

/** A ratio as a percentage; small ones keep a decimal, so that 0.2 % is not "0 %". */
export function formatRatio(ratio: number | null, language: Language): string {
  if (ratio === null) return MISSING;
  const percent = ratio * 100;
  const digits = percent > 0 && percent < 9.95 && !Number.isInteger(percent) ? 1 : 0;
  return `${formatNumber(percent, language, digits)}%`;
}

export function formatRtt(rttMs: number | null, language: Language): string {
  if (rttMs === null) return MISSING;
  return `${formatNumber(rttMs, language, rttMs < 9.95 ? 1 : 0)} ms`;
}

/**
 * The 95 % interval of a loss ratio (Wilson 1927): what `lost` of `sent` can mean.
 * Null when nothing was sent.
 */
export function wilson(lost: number, sent: number): { low: number; high: number } | null {
  if (sent <= 0) return null;
  const z = 1.959964;
  const p = lost / sent;
  const z2n = (z * z) / sent;
  const centre = p + z2n / 2;
  const margin = z * Math.sqrt((p * (1 - p)) / sent + z2n / (4 * sent));
  const low = (centre - margin) / (1 + z2n);
  const high = (centre + margin) / (1 + z2n);
  return { low: lost === 0 ? 0 : Math.max(0, low), high: lost === sent ? 1 : Math.min(1, high) };
}

/** "0 dari 5 hilang": the counts, always; the percentage only beside them. */
export function formatLoss(lost: number, sent: number, t: Translate, language: Language): string {
  if (sent <= 0) return t("loss.none_sent");
  const counts = {
    lost: formatNumber(lost, language),
    sent: formatNumber(sent, language),
  };
  if (lost === 0) return t("loss.counts", counts);
  return `${t("loss.counts", counts)} (${formatRatio(lost / sent, language)})`;
}

/** What the counts can mean at all: "kehilangan sebenarnya 0–43%". */
export function formatLossInterval(
  lost: number,
  sent: number,
  t: Translate,
  language: Language,
): string {
  const interval = wilson(lost, sent);
  if (!interval) return t("loss.none_sent");
  return t("loss.interval", {
    low: formatNumber(interval.low * 100, language),
    high: formatNumber(interval.high * 100, language),
  });
}

/** Two units at most: "45 dtk", "12 mnt", "3 j 20 mnt", "2 hr 4 j". */
export function formatDuration(milliseconds: number, t: Translate): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return t("duration.seconds", { n: seconds });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return t("duration.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) {
    const rest = minutes % 60;
    const head = t("duration.hours", { n: hours });
    return rest === 0 ? head : `${head} ${t("duration.minutes", { n: rest })}`;
  }
  const days = Math.floor(hours / 24);
  const rest = hours % 24;
  const head = t("duration.days", { n: days });
  return rest === 0 ? head : `${head} ${t("duration.hours", { n: rest })}`;
}

export function formatAgo(atMs: number | null, nowMs: number, t: Translate): string {
  if (atMs === null) return t("ago.never");
  const age = nowMs - atMs;
  if (age < 1000) return t("ago.now");
  // Of an old instant the largest unit says enough.
  const unit = age < HOUR_MS ? 1 : age < 24 * HOUR_MS ? HOUR_MS : 24 * HOUR_MS;
  return t("ago", { duration: formatDuration(Math.floor(age / unit) * unit, t) });
}

/** A latency of a decision: milliseconds below 1 s, else seconds. */
export function formatLatency(milliseconds: number | null, language: Language): string {
  if (milliseconds === null) return MISSING;
  if (milliseconds < 1000) return `${formatNumber(milliseconds, language)} ms`;
  const unit = language === "id" ? "dtk" : "s";
  return `${formatNumber(milliseconds / 1000, language, 1)} ${unit}`;
}

const instantFormats = new Map<string, Intl.DateTimeFormat>();

function instantFormat(key: string, language: Language, options: Intl.DateTimeFormatOptions) {
  const name = key + language;
  let format = instantFormats.get(name);
  if (!format) {
    format = new Intl.DateTimeFormat(LOCALE[language], { timeZone: ZONE, ...options });
    instantFormats.set(name, format);
  }
  return format;
}

/** "10.42.07" (Indonesian writes dots), in WITA. */
export function formatTime(atMs: number, language: Language): string {
  return instantFormat("time", language, {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  }).format(atMs);
}

export function formatMinute(atMs: number, language: Language): string {
  return instantFormat("minute", language, {
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  }).format(atMs);
}

/** "Rabu, 14 Februari 2029". */
export function formatDay(atMs: number, language: Language): string {
  return instantFormat("day", language, {
    weekday: "long",
    day: "numeric",
    month: "long",
    year: "numeric",
  }).format(atMs);
}

/** Time alone today, with day and month otherwise. */
export function formatInstant(atMs: number, nowMs: number, language: Language): string {
  const day = (ms: number) =>
    instantFormat("short", language, { day: "numeric", month: "short" }).format(ms);
  const time = formatTime(atMs, language);
  return day(atMs) === day(nowMs) ? time : `${day(atMs)} ${time}`;
}
