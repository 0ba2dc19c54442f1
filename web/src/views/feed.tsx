/** What happened last, in plain words; a provider's outage is one line, not sixteen. */
import { useState } from "preact/hooks";
import type { EventView } from "../api";
import { formatInstant, formatLatency, formatNumber } from "../format";
import { gapMs, groupEvents, narrate, eventKey, type EventGroup } from "../narrate";
import { events, language, serverNow, sites, words } from "../store";
import { Link } from "./link";

const SHOWN = 30;

export function Latencies({ event }: { event: EventView }) {
  const t = words.value;
  const parts: string[] = [];
  if (event.detected_ms !== null) {
    parts.push(t("event.detected", { latency: formatLatency(event.detected_ms, language.value) }));
  }
  if (event.switched_ms !== null) {
    parts.push(t("event.switched", { latency: formatLatency(event.switched_ms, language.value) }));
  }
  const cut = gapMs(event);
  if (cut !== null) {
    parts.push(t("event.cut", { latency: formatLatency(cut, language.value) }));
  }
  if (parts.length === 0) return null;
  return <span class="latencies">{parts.join(", ")}</span>;
}

/** The agent's own sentence. A gap's only repeats the time that `Latencies` shows. */
export function Why({ event }: { event: EventView }) {
  if (!event.reason || gapMs(event) !== null) return null;
  return <span class="reason">{event.reason}</span>;
}

function When({ at }: { at: number }) {
  return (
    <time dateTime={new Date(at).toISOString()}>
      {formatInstant(at, serverNow.value, language.value)}
    </time>
  );
}

function One({ event }: { event: EventView }) {
  const t = words.value;
  const site = sites.value.get(event.site);
  const { sentence, tone } = narrate(event, site, t);
  return (
    <li class={`event tone-${tone}`}>
      <When at={event.at_ms} />
      <p>
        <Link to={{ site: event.site }}>{site?.name ?? event.site}</Link> {sentence}
        <Why event={event} />
        <Latencies event={event} />
      </p>
    </li>
  );
}

function Group({ group }: { group: EventGroup }) {
  const t = words.value;
  const head = group.events[0];
  if (!head) return null;
  if (group.events.length < 3) {
    return (
      <>
        {group.events.map((event) => (
          <One key={eventKey(event)} event={event} />
        ))}
      </>
    );
  }
  const { sentence, tone } = narrate(head, sites.value.get(head.site), t);
  return (
    <li class={`event tone-${tone}`}>
      <When at={head.at_ms} />
      <div>
        <strong>
          {t("feed.group", {
            n: formatNumber(group.events.length, language.value),
            kecamatan: group.kecamatan ?? "",
          })}
        </strong>{" "}
        {sentence}
        <details>
          <summary>{t("feed.show_each")}</summary>
          <ul>
            {group.events.map((event) => (
              <li key={eventKey(event)}>
                <When at={event.at_ms} />{" "}
                <Link to={{ site: event.site }}>
                  {sites.value.get(event.site)?.name ?? event.site}
                </Link>{" "}
                <Latencies event={event} />
              </li>
            ))}
          </ul>
        </details>
      </div>
    </li>
  );
}

export function Feed({ limit = SHOWN }: { limit?: number }) {
  const t = words.value;
  const [all, setAll] = useState(false);
  const chosen = all ? events.value : events.value.filter((event) => event.kind === "decision");
  const groups = groupEvents(chosen, sites.value).slice(0, limit);
  return (
    <section class="panel feed" aria-labelledby="feed-title">
      <div class="panel-head">
        <h2 id="feed-title">{t("feed.title")}</h2>
        <div class="switch" role="group" aria-labelledby="feed-title">
          <button type="button" aria-pressed={!all} onClick={() => setAll(false)}>
            {t("feed.decisions")}
          </button>
          <button type="button" aria-pressed={all} onClick={() => setAll(true)}>
            {t("feed.all")}
          </button>
        </div>
      </div>
      <ol data-testid="event-feed">
        {groups.map((group) => (
          <Group key={group.key} group={group} />
        ))}
      </ol>
      {groups.length === 0 && <p class="empty">{t("feed.none")}</p>}
    </section>
  );
}
