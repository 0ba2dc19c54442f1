import { describe, expect, it } from "vitest";
import {
  formatAgo,
  formatDuration,
  formatInstant,
  formatLatency,
  formatLoss,
  formatLossInterval,
  formatRatio,
  formatRtt,
  formatTime,
  wilson,
} from "../src/format";
import { translator } from "../src/i18n";

const id = translator("id");
const en = translator("en");

describe("a loss", () => {
  it.each([
    // lost, sent, Indonesian, English
    [0, 5, "0 dari 5 hilang", "0 of 5 lost"],
    [0, 60, "0 dari 60 hilang", "0 of 60 lost"],
    [1, 30, "1 dari 30 hilang (3,3%)", "1 of 30 lost (3.3%)"],
    [3, 4, "3 dari 4 hilang (75%)", "3 of 4 lost (75%)"],
    [30, 30, "30 dari 30 hilang (100%)", "30 of 30 lost (100%)"],
    [0, 0, "belum ada yang dikirim", "nothing sent yet"],
  ])("%i of %i", (lost, sent, indonesian, english) => {
    expect(formatLoss(lost, sent, id, "id")).toBe(indonesian);
    expect(formatLoss(lost, sent, en, "en")).toBe(english);
  });

  it("never says a plain 0 %, whatever was sent", () => {
    for (let sent = 0; sent < 200; sent += 1) {
      for (const text of [formatLoss(0, sent, id, "id"), formatLoss(0, sent, en, "en")]) {
        expect(text).not.toMatch(/0\s*%/);
        if (sent > 0) expect(text).toContain(String(sent));
      }
    }
  });

  it("says what the counts can mean: 0 of 5 is up to 43 %, 0 of 60 up to 6 %", () => {
    expect(formatLossInterval(0, 5, en, "en")).toBe("with 95% confidence: 0–43%");
    expect(formatLossInterval(0, 60, id, "id")).toBe("dengan keyakinan 95%: 0–6%");
    expect(formatLossInterval(0, 0, en, "en")).toBe("nothing sent yet");
  });

  it("has an interval that holds the ratio and stays within 0…1", () => {
    for (let sent = 1; sent < 60; sent += 1) {
      for (let lost = 0; lost <= sent; lost += 1) {
        const interval = wilson(lost, sent)!;
        expect(interval.low).toBeGreaterThanOrEqual(0);
        expect(interval.low).toBeLessThanOrEqual(lost / sent);
        expect(interval.high).toBeGreaterThanOrEqual(lost / sent);
        expect(interval.high).toBeLessThanOrEqual(1);
      }
    }
  });
});

describe("missing", () => {
  it("is a dash, never a zero", () => {
    expect(formatRtt(null, "id")).toBe("–");
    expect(formatRatio(null, "id")).toBe("–");
    expect(formatLatency(null, "id")).toBe("–");
    expect(formatAgo(null, 1_000, id)).toBe("belum pernah");
  });
});

describe("durations", () => {
  it.each([
    [-5_000, "0 dtk", "0 s"],
    [999, "0 dtk", "0 s"],
    [45_000, "45 dtk", "45 s"],
    [60_000, "1 mnt", "1 min"],
    [3_599_999, "59 mnt", "59 min"],
    [3_600_000, "1 jam", "1 h"],
    [12_000_000, "3 jam 20 mnt", "3 h 20 min"],
    [86_400_000, "1 hari", "1 d"],
    [187_200_000, "2 hari 4 jam", "2 d 4 h"],
  ])("%i ms", (ms, indonesian, english) => {
    expect(formatDuration(ms, id)).toBe(indonesian);
    expect(formatDuration(ms, en)).toBe(english);
  });

  it.each([
    [400, "baru saja"],
    [3_200, "3 dtk lalu"],
    [3_700_000, "1 jam lalu"],
    [200_000_000, "2 hari lalu"],
  ])("%i ms ago", (age, text) => expect(formatAgo(10, 10 + age, id)).toBe(text));
});

describe("numbers", () => {
  it.each([
    [0, "0%"],
    [0.002, "0,2%"],
    [0.5, "50%"],
    [1, "100%"],
  ])("ratio %d", (ratio, text) => expect(formatRatio(ratio, "id")).toBe(text));
  it.each([
    [0.4, "0.4 ms"],
    [41.6, "42 ms"],
    [1234, "1,234 ms"],
  ])("rtt %d", (rtt, text) => expect(formatRtt(rtt, "en")).toBe(text));
  it("latency", () => {
    expect(formatLatency(860, "id")).toBe("860 ms");
    expect(formatLatency(1_400, "id")).toBe("1,4 dtk");
  });
});

describe("instants", () => {
  const polling = Date.UTC(2029, 1, 14, 2, 5, 9); // 10:05:09 in WITA
  it("are told in WITA, whatever the viewer's zone", () => {
    expect(formatTime(polling, "id")).toBe("10.05.09");
    expect(formatTime(polling, "en")).toBe("10:05:09");
  });
  it("carry the day when it is not today", () => {
    expect(formatInstant(polling, polling + 60_000, "en")).toBe("10:05:09");
    expect(formatInstant(polling, polling + 86_400_000, "en")).toBe("14 Feb 10:05:09");
  });
});
