/**
 * The marks of condition and health: colour, shape and sign together, so that nobody
 * needs to tell green from red. The map draws the same shapes on its canvas.
 */
import type { Condition, Health } from "../api";
import { words } from "../store";

const SHAPES: Record<Condition, preact.JSX.Element> = {
  fine: (
    <>
      <circle cx="12" cy="12" r="10" />
      <path class="sign" d="m7.500 12.500 3 3 6-7" />
    </>
  ),
  degraded: (
    <>
      <path d="M12 1.800 23 21.500H1z" stroke-linejoin="round" />
      <path class="sign" d="M12 9v6m0 2.700v.300" />
    </>
  ),
  offline: (
    <>
      <rect x="2" y="2" width="20" height="20" rx="2.500" />
      <path class="sign" d="m7.500 7.500 9 9m0-9-9 9" />
    </>
  ),
  unknown: (
    <>
      <circle class="hollow" cx="12" cy="12" r="9" />
      <path class="sign" d="M9.200 9.600a2.900 2.900 0 1 1 4.100 2.600c-.900.400-1.300 1-1.300 1.900m0 2.800v.200" />
    </>
  ),
};

const OF_HEALTH: Record<Health, Condition> = {
  up: "fine",
  degraded: "degraded",
  down: "offline",
  unknown: "unknown",
};

export function ConditionMark({ condition }: { condition: Condition }) {
  return (
    <svg class={`mark mark-${condition}`} viewBox="0 0 24 24" aria-hidden="true">
      {SHAPES[condition]}
    </svg>
  );
}

export function HealthMark({ health }: { health: Health }) {
  return <ConditionMark condition={OF_HEALTH[health]} />;
}

export function ConditionBadge({ condition, testId }: { condition: Condition; testId?: string }) {
  return (
    <span
      class={`badge badge-${condition}`}
      {...(testId ? { "data-testid": testId } : {})}
      data-condition={condition}
    >
      <ConditionMark condition={condition} />
      {words.value(`condition.${condition}`)}
    </span>
  );
}
