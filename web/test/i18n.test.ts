import { describe, expect, it } from "vitest";
import { LANGUAGES, WORDS, translator } from "../src/i18n";
import { id } from "../src/i18n/id";

const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort();

describe("the languages", () => {
  for (const language of LANGUAGES) {
    it(`${language} has every key and no other`, () => {
      expect(Object.keys(WORDS[language]).sort()).toEqual(Object.keys(id).sort());
    });
    it(`${language} leaves no text empty and fills the same holes`, () => {
      for (const [key, text] of Object.entries(WORDS[language])) {
        expect(text.trim(), key).not.toBe("");
        expect(holes(text), key).toEqual(holes(id[key as keyof typeof id]));
      }
    });
  }

  it("differ: nothing was left untranslated by accident", () => {
    const same = Object.keys(id).filter(
      (key) => WORDS.id[key as keyof typeof id] === WORDS.en[key as keyof typeof id],
    );
    // Names, and words that both languages write alike.
    expect(same.filter((key) => !ALIKE.has(key))).toEqual([]);
  });

  it("every key is used somewhere in the sources", () => {
    const sources = import.meta.glob("../src/**/*.{ts,tsx}", {
      query: "?raw",
      import: "default",
      eager: true,
    }) as Record<string, string>;
    const code = Object.entries(sources)
      .filter(([path]) => !path.includes("/i18n/"))
      .map(([, text]) => text)
      .join("\n");
    const unused = Object.keys(id).filter((key) => {
      if (code.includes(`"${key}"`)) return false;
      // Keys built from a value: `condition.${x}`, `site.range_${x}`.
      const family = key.replace(/[^._]+$/, "");
      return !code.includes(`\`${family}\${`) && !code.includes(`\`${key.split(".")[0]}.\${`);
    });
    expect(unused).toEqual([]);
  });

  it("keeps a hole that got no value in sight", () => {
    expect(translator("en")("ago", {})).toBe("{duration} ago");
    expect(translator("id")("ago", { duration: "3 dtk" })).toBe("3 dtk lalu");
  });
});

const ALIKE = new Set([
  "app.title",
  "clock.wita",
  "event.other",
  "map.legend",
  "site.rtt",
  "site.cpu",
  "site.uplinks",
  "site.desa",
  "site.kecamatan",
  "table.kecamatan",
  "table.kecamatan_all",
  "mode.ready",
  "uplink.chip",
  "site.mode",
]);
