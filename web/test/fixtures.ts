/** Small complete values to build cases from. */
import type { EventView, SiteView, UplinkView } from "../src/api";

export function uplink(change: Partial<UplinkView> = {}): UplinkView {
  return {
    name: "telkomsel",
    provider: "Telkomsel",
    device: "wan0",
    health: "up",
    active: true,
    rtt_ms: 40,
    loss_ratio: 0,
    sent: 30,
    lost: 0,
    ...change,
  };
}

export function site(change: Partial<SiteView> = {}): SiteView {
  return {
    site: "tps-6408052001-901",
    name: "TPS 901 Kerayaan",
    kind: "khusus",
    desa: "Kerayaan",
    kecamatan: "Sangkulirang",
    lat: 1.09,
    lon: 118.06,
    presence: "online",
    condition: "fine",
    since_ms: 1_000,
    last_seen_ms: 9_000,
    active: "telkomsel",
    uplinks: [uplink(), uplink({ name: "xl", provider: "XL", device: "wan1", active: false })],
    last_resort: null,
    ...change,
  };
}

export function event(change: Partial<EventView> = {}): EventView {
  return {
    site: "tps-6408052001-901",
    seq: 1,
    at_ms: 100_000,
    kind: "decision",
    rule: "failover",
    uplink: "xl",
    old: "telkomsel",
    new: "xl",
    reason: "telkomsel silent",
    detected_ms: 860,
    switched_ms: 12,
    evidence: {},
    ...change,
  };
}
