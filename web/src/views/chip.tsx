/** One uplink of a site in a few centimetres: health, provider, RTT, loss counts. */
import type { UplinkView } from "../api";
import { formatLoss, formatLossInterval, formatNumber, formatRtt } from "../format";
import { language, words } from "../store";
import { HealthMark } from "./marks";

export function UplinkChip({ uplink, label }: { uplink: UplinkView; label: string }) {
  const t = words.value;
  const rtt = formatRtt(uplink.rtt_ms, language.value);
  const loss = formatLoss(uplink.lost, uplink.sent, t, language.value);
  const whole = t("uplink.chip", {
    provider: label,
    health: t(`health.${uplink.health}`),
    rtt,
    loss,
  });
  const interval = uplink.sent > 0 ? formatLossInterval(uplink.lost, uplink.sent, t, language.value) : "";
  const n = (value: number) => formatNumber(value, language.value);
  return (
    <span
      class={`chip chip-${uplink.health}${uplink.active ? " chip-active" : ""}`}
      title={interval ? `${whole}; ${interval}` : whole}
      role="img"
      aria-label={uplink.active ? `${whole}, ${t("uplink.active")}` : whole}
    >
      <span class="chip-name">
        <HealthMark health={uplink.health} />
        <span>{label}</span>
      </span>
      <span class="chip-numbers">
        {rtt}
        {uplink.sent > 0 && (
          <>
            {" · "}
            <span class={uplink.lost > 0 ? "chip-lost" : ""}>
              {n(uplink.lost)}/{n(uplink.sent)}
            </span>
          </>
        )}
      </span>
    </span>
  );
}

/**
 * The active uplink's name as the site calls it. Where the name is just the provider
 * in small letters it is shown the provider's way by style; the text stays the name.
 */
export function ActiveName({ name, provider, testId }: { name: string; provider: string | null; testId?: string }) {
  const same = provider !== null && provider.toLowerCase() === name.toLowerCase();
  const style = !same ? "" : provider === provider.toUpperCase() ? "as-upper" : "as-title";
  return (
    <span class={style} {...(testId ? { "data-testid": testId } : {})}>
      {name}
    </span>
  );
}
