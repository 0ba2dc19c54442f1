/** Every site: searched, filtered, sorted; only the rows in sight are in the document. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Condition, SiteView } from "../api";
import { formatAgo, formatDuration, formatNumber } from "../format";
import { uplinkLabel } from "../narrate";
import { NO_FILTER } from "../route";
import { CONDITIONS, activeUplink, filterSites, sortSites, SORT_KEYS, type SortKey } from "../sites";
import { language, navigate, route, serverNow, siteList, summary, words } from "../store";
import type { Key } from "../i18n";
import { ActiveName, UplinkChip } from "./chip";
import { Link } from "./link";
import { ConditionBadge } from "./marks";

/** Pixels; rows of one height make the arithmetic of the window exact. */
const ROW_WIDE = 54;
const ROW_NARROW = 116;
const OVERSCAN = 8;
const narrow = matchMedia("(max-width: 760px)");

const SORT_LABEL: Record<SortKey, Key> = {
  worst: "table.sort_worst",
  name: "table.site",
  kecamatan: "table.kecamatan",
  active: "table.active",
  rtt: "table.sort_rtt",
  loss: "table.sort_loss",
  seen: "table.seen",
};

function setFilter(change: Partial<typeof NO_FILTER>): void {
  navigate({ filter: { ...route.value.filter, ...change } }, "replace");
}

function SortHeader({ column, label }: { column: SortKey; label: string }) {
  const t = words.value;
  const { sort, descending } = route.value;
  const chosen = sort === column;
  return (
    <th scope="col" aria-sort={chosen ? (descending ? "descending" : "ascending") : "none"}>
      <button
        type="button"
        class="plain sort"
        title={t("table.sort_by", { column: label })}
        onClick={() =>
          navigate({ sort: column, descending: chosen ? !descending : false }, "replace")
        }
      >
        {label}
        <span class="arrow" aria-hidden="true">
          {chosen ? (descending ? "▼" : "▲") : ""}
        </span>
      </button>
    </th>
  );
}

function Row({ site, index }: { site: SiteView; index: number }) {
  const t = words.value;
  const active = activeUplink(site);
  const since =
    site.since_ms !== null && site.condition !== "fine" && site.condition !== "unknown"
      ? formatDuration(serverNow.value - site.since_ms, t)
      : null;
  return (
    <tr
      class={`row row-${site.condition} presence-${site.presence}`}
      data-testid={`site-row-${site.site}`}
      aria-rowindex={index + 2}
      onClick={(click) => {
        // The whole row opens the site, but a selection of text is left alone.
        if ((click.target as HTMLElement).closest("a")) return;
        if (getSelection()?.toString()) return;
        navigate({ site: site.site });
        scrollTo(0, 0);
      }}
    >
      <td class="cell-condition">
        <ConditionBadge condition={site.condition} />
        {since && <small>{since}</small>}
      </td>
      <td class="cell-name">
        <Link to={{ site: site.site }} title={site.name}>
          {site.name}
        </Link>
        <small>{site.site}</small>
      </td>
      <td class="cell-kecamatan">
        <span>{site.kecamatan}</span>
        {site.desa && <small>{site.desa}</small>}
      </td>
      <td class="cell-active">
        {site.active === null ? (
          <span class="missing" data-testid={`site-active-${site.site}`}>
            {t("table.no_active")}
          </span>
        ) : (
          <ActiveName
            name={site.active}
            provider={active?.provider ?? null}
            testId={`site-active-${site.site}`}
          />
        )}
      </td>
      <td class="cell-uplinks">
        <span class="chips">
          {site.uplinks.map((uplink) => (
            <UplinkChip
              key={uplink.name}
              uplink={uplink}
              label={uplinkLabel(site, uplink.name)}
              old={site.presence === "offline"}
            />
          ))}
        </span>
      </td>
      <td class="cell-seen">{formatAgo(site.last_seen_ms, serverNow.value, t)}</td>
    </tr>
  );
}

function Tools({ shown, total }: { shown: number; total: number }) {
  const t = words.value;
  const { filter, sort, descending } = route.value;
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.key === "/" && !target.closest("input, textarea, select")) {
        event.preventDefault();
        search.current?.focus();
        search.current?.select();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const kecamatan = useMemo(
    () => [...new Set(siteList.value.map((site) => site.kecamatan))].sort(),
    [siteList.value],
  );
  const providers = (summary.value?.providers ?? []).map((provider) => provider.provider);
  const filtered =
    filter.text !== "" ||
    filter.conditions.length > 0 ||
    filter.kecamatan !== null ||
    filter.provider !== null;
  // A link may name what the list does not have (yet): it stays to be seen and cleared.
  const options = (list: readonly string[], chosen: string | null) =>
    chosen !== null && !list.includes(chosen) ? [...list, chosen] : list;
  return (
    <div class="table-tools">
      <label class="search">
        <span class="only-read">{t("table.search")}</span>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zm5 11.500L21 21" />
        </svg>
        <input
          ref={search}
          type="search"
          value={filter.text}
          placeholder={t("table.search")}
          data-testid="search"
          onInput={(event) => setFilter({ text: event.currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key !== "Escape") return;
            setFilter({ text: "" });
            event.currentTarget.blur();
          }}
        />
        <kbd aria-hidden="true" title={t("table.search_key")}>
          /
        </kbd>
      </label>
      <select
        aria-label={t("table.condition")}
        value={filter.conditions.length === 1 ? filter.conditions[0] : ""}
        onChange={(event) => {
          const value = event.currentTarget.value as Condition | "";
          setFilter({ conditions: value === "" ? [] : [value] });
        }}
      >
        <option value="">{t("table.condition_all")}</option>
        {CONDITIONS.map((condition) => (
          <option key={condition} value={condition}>
            {t(`condition.${condition}`)}
          </option>
        ))}
      </select>
      <select
        aria-label={t("table.kecamatan")}
        value={filter.kecamatan ?? ""}
        data-testid="filter-kecamatan"
        onChange={(event) => setFilter({ kecamatan: event.currentTarget.value || null })}
      >
        <option value="">{t("table.kecamatan_all")}</option>
        {options(kecamatan, filter.kecamatan).map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <select
        aria-label={t("table.provider")}
        value={filter.provider ?? ""}
        data-testid="filter-provider"
        onChange={(event) => setFilter({ provider: event.currentTarget.value || null })}
      >
        <option value="">{t("table.provider_all")}</option>
        {options(providers, filter.provider).map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <select
        class="sort-select"
        aria-label={t("table.sort")}
        value={sort}
        onChange={(event) => navigate({ sort: event.currentTarget.value as SortKey, descending: false }, "replace")}
      >
        {SORT_KEYS.map((key) => (
          <option key={key} value={key}>
            {t(SORT_LABEL[key])}
          </option>
        ))}
      </select>
      <button
        type="button"
        class="tool"
        aria-pressed={descending}
        title={t("table.sort_direction")}
        aria-label={t("table.sort_direction")}
        onClick={() => navigate({ descending: !descending }, "replace")}
      >
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M8 4v16m0 0-4-4m4 4 4-4M16 20V4m0 0-4 4m4-4 4 4" />
        </svg>
      </button>
      <span class="shown" role="status" data-testid="shown">
        {t("table.shown", {
          shown: formatNumber(shown, language.value),
          total: formatNumber(total, language.value),
        })}
      </span>
      {filtered && (
        <button
          type="button"
          class="clear"
          data-testid="clear-filters"
          onClick={() => navigate({ filter: NO_FILTER })}
        >
          {t("table.clear")}
        </button>
      )}
    </div>
  );
}

/** The rows in sight, from the scroll position of the window. */
function useWindow(count: number, row: number) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [range, setRange] = useState({ first: 0, last: 30 });
  useLayoutEffect(() => {
    const measure = () => {
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / row) - OVERSCAN);
      const last = Math.min(count, Math.ceil((innerHeight - top) / row) + OVERSCAN);
      setRange((old) => (old.first === first && old.last === last ? old : { first, last }));
    };
    measure();
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure);
    const watch = new ResizeObserver(measure);
    watch.observe(document.body);
    return () => {
      removeEventListener("scroll", measure);
      removeEventListener("resize", measure);
      watch.disconnect();
    };
  }, [count, row]);
  return { body, ...range };
}

export function SiteTable() {
  const t = words.value;
  const { filter, sort, descending } = route.value;
  const list = siteList.value;
  const rows = useMemo(
    () => sortSites(filterSites(list, filter), sort, descending, filter.provider),
    [list, filter, sort, descending],
  );
  const [isNarrow, setNarrow] = useState(narrow.matches);
  useEffect(() => {
    const change = () => setNarrow(narrow.matches);
    narrow.addEventListener?.("change", change);
    return () => narrow.removeEventListener?.("change", change);
  }, []);
  const height = isNarrow ? ROW_NARROW : ROW_WIDE;
  const { body, first, last } = useWindow(rows.length, height);
  const from = Math.min(first, Math.max(0, rows.length - 1));
  const seen = rows.slice(from, Math.max(last, from + 1));
  const above = from * height;
  const below = Math.max(0, rows.length - from - seen.length) * height;
  return (
    <section class="panel table-panel" aria-labelledby="table-title" id="sites" tabIndex={-1}>
      <h2 id="table-title">{t("table.title")}</h2>
      <Tools shown={rows.length} total={list.length} />
      <table aria-rowcount={rows.length + 1} style={{ "--row": `${height}px` }}>
        <thead>
          <tr>
            <SortHeader column="worst" label={t("table.condition")} />
            <SortHeader column="name" label={t("table.site")} />
            <SortHeader column="kecamatan" label={t("table.kecamatan")} />
            <SortHeader column="active" label={t("table.active_short")} />
            <SortHeader column="loss" label={t("table.uplinks")} />
            <SortHeader column="seen" label={t("table.seen")} />
          </tr>
        </thead>
        <tbody ref={body}>
          {above > 0 && (
            <tr aria-hidden="true" class="spacer" key="above">
              <td colSpan={6} style={{ height: `${above}px` }} />
            </tr>
          )}
          {seen.map((site, index) => (
            <Row key={site.site} site={site} index={from + index} />
          ))}
          {below > 0 && (
            <tr aria-hidden="true" class="spacer" key="below">
              <td colSpan={6} style={{ height: `${below}px` }} />
            </tr>
          )}
        </tbody>
      </table>
      {rows.length === 0 && (
        <p class="empty">{t(list.length === 0 ? "table.waiting" : "table.none")}</p>
      )}
    </section>
  );
}
