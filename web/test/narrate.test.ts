import { describe, expect, it } from "vitest";
import type { EventView } from "../src/api";
import { translator } from "../src/i18n";
import { gapMs, groupEvents, healthReason, mergeEvents, narrate, uplinkLabel } from "../src/narrate";
import { event, site, uplink } from "./fixtures";

const id = translator("id");
const en = translator("en");

describe("in plain words", () => {
  it.each<[Partial<EventView>, string, string]>([
    [{}, "pindah dari Telkomsel ke XL", "moved from Telkomsel to XL"],
    [{ rule: "failback", old: "xl", new: "telkomsel" }, "kembali dari XL ke Telkomsel", "returned from XL to Telkomsel"],
    [{ rule: "switchover" }, "dialihkan dari Telkomsel ke XL", "was switched from Telkomsel to XL"],
    [{ rule: "first", old: null }, "mulai memakai XL", "started on XL"],
    [{ rule: null, old: null }, "memakai XL", "uses XL"],
    [{ rule: "failover", new: null }, "pindah dari Telkomsel ke XL", "moved from Telkomsel to XL"],
    [{ kind: "health", uplink: "xl", old: "up", new: "down" }, "XL terputus", "XL is down"],
    [{ kind: "health", uplink: "xl", old: "unknown", new: "up" }, "XL bekerja", "XL works"],
    [{ kind: "health", uplink: "xl", old: "down", new: "up" }, "XL kembali baik", "XL is up again"],
    [{ kind: "started" }, "Jaga mulai berjalan", "Jaga started"],
    [{ kind: "target", uplink: null, new: "silent", evidence: { target: "dns" } }, "sasaran uji dns diam di semua uplink", "target dns is silent on every uplink"],
    [{ kind: "target", uplink: null, new: "answering", evidence: { target: "dns" } }, "sasaran uji dns menjawab lagi", "target dns answers again"],
    [{ kind: "check", new: "failing", evidence: { target: "sirekap" } }, "sirekap tidak dapat dipakai lewat XL", "sirekap cannot be used through XL"],
    [{ kind: "check", new: "working", evidence: { target: "sirekap" } }, "sirekap dapat dipakai lagi lewat XL", "sirekap can be used through XL again"],
    [{ kind: "busy", new: "busy" }, "XL penuh oleh lalu lintas lokasi sendiri", "XL is filled by the site's own traffic"],
    [{ kind: "busy", new: "free" }, "XL tidak penuh lagi", "XL is no longer filled"],
    [{ kind: "thrift", new: "normal" }, "XL diuji seperti biasa", "XL is probed as usual"],
    [{ kind: "thrift", new: "last-drops" }, "XL diuji seperdua puluh dari biasanya", "XL is probed a twentieth as often as usual"],
    [{ kind: "thrift", new: "none" }, "XL: tingkat pengujian none", "XL: probing level none"],
    [{ kind: "gap", new: null }, "tersambung lagi lewat XL", "is connected again through XL"],
    [{ kind: "powercut" }, "powercut", "powercut"],
  ])("%o", (change, indonesian, english) => {
    expect(narrate(event(change), site(), id).sentence).toBe(indonesian);
    expect(narrate(event(change), site(), en).sentence).toBe(english);
  });

  it("names the uplink where the site is not known or two share a provider", () => {
    expect(uplinkLabel(undefined, "xl")).toBe("xl");
    const twins = site({ uplinks: [uplink({ name: "a" }), uplink({ name: "b" })] });
    expect(uplinkLabel(twins, "b")).toBe("Telkomsel (b)");
  });
});

describe("a list of events", () => {
  it("is newest first, without repeats, and bounded", () => {
    const old = [event({ seq: 2, at_ms: 200 }), event({ seq: 1, at_ms: 100 })];
    const fresh = [event({ seq: 3, at_ms: 300 }), event({ seq: 2, at_ms: 200 })];
    expect(mergeEvents(old, fresh, 10).map((one) => one.seq)).toEqual([3, 2, 1]);
    expect(mergeEvents(old, fresh, 2).map((one) => one.seq)).toEqual([3, 2]);
  });

  it("tells a kecamatan's outage in one line", () => {
    const many = ["a", "b", "c"].map((name) => site({ site: name }));
    const away = site({ site: "z", kecamatan: "Busang" });
    const known = new Map([...many, away].map((one) => [one.site, one]));
    const groups = groupEvents(
      [
        event({ site: "z", at_ms: 130_000 }),
        event({ site: "a", at_ms: 120_000 }),
        event({ site: "b", at_ms: 110_000 }),
        event({ site: "a", at_ms: 105_000 }), // the same site again: a story of its own
        event({ site: "c", at_ms: 100_000 }),
        event({ site: "b", at_ms: 1_000, rule: "failback", old: "xl", new: "telkomsel" }),
      ],
      known,
    );
    expect(groups.map((group) => group.events.map((one) => one.site).join(""))).toEqual([
      "z",
      "ab",
      "ac",
      "b",
    ]);
  });

  it("does not join checks of different targets or uplinks", () => {
    const names = ["a", "b", "c"];
    const known = new Map(names.map((name) => [name, site({ site: name })]));
    const failing = { kind: "check", old: "working", new: "failing" };
    const groups = groupEvents(
      [
        event({ ...failing, site: "a", evidence: { target: "sirekap" } }),
        event({ ...failing, site: "b", evidence: { target: "web" } }),
        event({ ...failing, site: "c", uplink: "telkomsel", evidence: { target: "sirekap" } }),
        event({ ...failing, site: "b", evidence: { target: "sirekap" } }),
      ],
      known,
    );
    expect(groups.map((group) => group.events.map((one) => one.site).join(""))).toEqual([
      "ab",
      "b",
      "c",
    ]);
  });

  it("does not join what lies more than two minutes apart", () => {
    const known = new Map(["a", "b"].map((name) => [name, site({ site: name })]));
    const groups = groupEvents(
      [event({ site: "a", at_ms: 300_000 }), event({ site: "b", at_ms: 100_000 })],
      known,
    );
    expect(groups).toHaveLength(2);
  });
});

it("tells for how long a site was cut, and only where a gap's event says so", () => {
  expect(gapMs(event({ kind: "gap", evidence: { gap_ms: "765" } }))).toBe(765);
  expect(gapMs(event({ kind: "gap", evidence: {} }))).toBeNull();
  expect(gapMs(event({ kind: "gap", evidence: { gap_ms: "long" } }))).toBeNull();
  expect(gapMs(event({ evidence: { gap_ms: "765" } }))).toBeNull();
});

it("tells why an uplink is down only if its last change was to down", () => {
  const history = [
    event({ kind: "health", uplink: "xl", new: "up", reason: "answers" }),
    event({ kind: "health", uplink: "xl", new: "down", reason: "silent" }),
  ];
  expect(healthReason(history, "xl", "up")).toBe("answers");
  expect(healthReason(history, "xl", "down")).toBeNull();
  expect(healthReason(history, "telkomsel", "up")).toBeNull();
});
