/** One uplink of a site in a few centimetres: health, provider, RTT, loss counts. */
import type { UplinkView } from "../api";
import { formatLoss, formatLossInterval, formatNumber, formatRtt } from "../format";
import { language, words } from "../store";
import { HealthMark } from "./marks";

interface ChipProps {
  uplink: UplinkView;
  label: string;
  /** The site is silent: this is what it said last, not what is. */
  old: boolean;
}

export function UplinkChip({ uplink, label, old }: ChipProps) {
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
      class={`chip chip-${uplink.health}${uplink.active ? " chip-active" : ""}${old ? " chip-old" : ""}`}
      title={[interval ? `${whole}; ${interval}` : whole, old ? t("uplink.old") : ""]
        .filter(Boolean)
        .join(". ")}
      role="img"
      aria-label={[whole, uplink.active ? t("uplink.active") : "", old ? t("uplink.old") : ""]
        .filter(Boolean)
        .join(", ")}
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
