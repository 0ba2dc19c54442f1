/** The four numbers that answer "how bad is it", which are also filters. */
import type { Condition } from "../api";
import { formatNumber, formatRatio } from "../format";
import { language, navigate, route, summary, words } from "../store";
import { CONDITIONS } from "../sites";
import { ConditionMark } from "./marks";

function Counter({ condition }: { condition: Condition }) {
  const t = words.value;
  const counts = summary.value?.sites;
  if (!counts) return null;
  const chosen = route.value.filter.conditions;
  const pressed = chosen.includes(condition);
  const count = counts[condition];
  // Rounding must not turn "one site is down" into "100 % fine".
  const share = counts.total === 0 ? null : count / counts.total;
  const shareText =
    share !== null && share > 0.995 && share < 1
      ? `>${formatRatio(0.99, language.value)}`
      : formatRatio(share, language.value);
  return (
    <button
      type="button"
      class={`counter counter-${condition}${count === 0 ? " counter-zero" : ""}`}
      aria-pressed={pressed}
      aria-label={t("count.filter", {
        condition: t(`condition.${condition}`),
        count,
        share: shareText,
      })}
      onClick={() => {
        const conditions = pressed && chosen.length === 1 ? [] : [condition];
        navigate({ filter: { ...route.value.filter, conditions } });
      }}
    >
      <span class="counter-label">
        <ConditionMark condition={condition} />
        {t(`condition.${condition}`)}
      </span>
      <span class="counter-number" data-testid={`count-${condition}`}>
        {formatNumber(count, language.value)}
      </span>
      <span class="counter-share">
        {shareText}
        <span class="counter-explained"> · {t(`condition.${condition}.explained`)}</span>
      </span>
    </button>
  );
}

export function Counters() {
  const t = words.value;
  const counts = summary.value?.sites;
  return (
    <section class="counters" aria-label={t("table.condition")}>
      {CONDITIONS.map((condition) => (
        <Counter key={condition} condition={condition} />
      ))}
      {counts && (
        <p class="only-read" aria-live="polite">
          {CONDITIONS.map(
            (condition) => `${t(`condition.${condition}`)} ${counts[condition]}`,
          ).join(", ")}
        </p>
      )}
    </section>
  );
}
