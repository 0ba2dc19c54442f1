/** Which provider has trouble, and where it is worst. */
import type { ProviderSummary } from "../api";
import { formatNumber, formatRtt } from "../format";
import { language, navigate, route, summary, words } from "../store";

function Bar({ provider }: { provider: ProviderSummary }) {
  const total = Math.max(1, provider.uplinks);
  const part = (count: number) => ({ flexGrow: count / total, flexBasis: "0px" });
  return (
    <div class="bar" aria-hidden="true">
      {provider.down > 0 && <span class="bar-down" style={part(provider.down)} />}
      {provider.degraded > 0 && <span class="bar-degraded" style={part(provider.degraded)} />}
      {provider.up > 0 && <span class="bar-up" style={part(provider.up)} />}
      {provider.unknown > 0 && <span class="bar-unknown" style={part(provider.unknown)} />}
    </div>
  );
}

function Worst({ provider }: { provider: ProviderSummary }) {
  const t = words.value;
  const worst = provider.troubles[0];
  if (!worst) return <p class="worst worst-none">{t("providers.calm")}</p>;
  const n = (value: number) => formatNumber(value, language.value);
  const sentence =
    worst.down > 0
      ? t("providers.worst_down", {
          n: n(worst.down),
          total: n(worst.uplinks),
          kecamatan: worst.kecamatan,
        })
      : t("providers.worst_degraded", {
          n: n(worst.degraded),
          total: n(worst.uplinks),
          kecamatan: worst.kecamatan,
        });
  const others = provider.troubles.length - 1;
  return (
    <p class="worst">
      <button
        type="button"
        class="plain"
        title={t("providers.filter_trouble", {
          provider: provider.provider,
          kecamatan: worst.kecamatan,
        })}
        onClick={() =>
          navigate({
            filter: {
              ...route.value.filter,
              provider: provider.provider,
              kecamatan: worst.kecamatan,
            },
          })
        }
      >
        {sentence}
      </button>
      {others > 0 && <small>{t("providers.others", { n: n(others) })}</small>}
    </p>
  );
}

/** By size: rows that changed places with each update could not be read on a wall. */
function bySize(a: ProviderSummary, b: ProviderSummary): number {
  return b.uplinks - a.uplinks || (a.provider < b.provider ? -1 : 1);
}

export function Providers() {
  const t = words.value;
  const state = summary.value;
  if (!state) return null;
  const chosen = route.value.filter.provider;
  const n = (value: number) => formatNumber(value, language.value);
  return (
    <section class="panel providers" aria-labelledby="providers-title">
      <h2 id="providers-title">{t("providers.title")}</h2>
      {state.providers.length === 0 && <p class="empty">{t("providers.none")}</p>}
      <ul>
        {[...state.providers].sort(bySize).map((provider) => (
          <li key={provider.provider} data-testid={`provider-${provider.provider}`}>
            <div class="provider-head">
              <button
                type="button"
                class="plain provider-name"
                aria-pressed={chosen === provider.provider}
                title={t("providers.filter", { provider: provider.provider })}
                onClick={() =>
                  navigate({
                    filter: {
                      ...route.value.filter,
                      provider: chosen === provider.provider ? null : provider.provider,
                    },
                  })
                }
              >
                {provider.provider}
              </button>
              <small class="provider-active">{t("providers.active", { n: n(provider.active) })}</small>
              <span class="provider-rtt">
                <small>{t("providers.rtt")}</small>{" "}
                {formatRtt(provider.rtt_median_ms, language.value)}
              </span>
            </div>
            <Bar provider={provider} />
            <p class="provider-counts">
              <span class="n-up">{t("providers.up", { n: n(provider.up) })}</span>
              <span class={provider.degraded > 0 ? "n-degraded" : "n-zero"}>
                {t("providers.degraded", { n: n(provider.degraded) })}
              </span>
              <span class={provider.down > 0 ? "n-down" : "n-zero"}>
                {t("providers.down", { n: n(provider.down) })}
              </span>
              {provider.unknown > 0 && (
                <span class="n-zero">{t("providers.unknown", { n: n(provider.unknown) })}</span>
              )}
            </p>
            <Worst provider={provider} />
          </li>
        ))}
      </ul>
    </section>
  );
}
