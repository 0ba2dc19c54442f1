/** Words by key, with {placeholders}. One file for each language; both are complete. */
import { en } from "./en";
import { id } from "./id";

export type Language = "id" | "en";
export type Key = keyof typeof id;
export type Values = Readonly<Record<string, string | number>>;
export type Translate = (key: Key, values?: Values) => string;

export const LANGUAGES: readonly Language[] = ["id", "en"];
export const WORDS: Record<Language, Record<Key, string>> = { id, en };

export function isLanguage(value: string | null): value is Language {
  return value === "id" || value === "en";
}

export function isKey(value: string): value is Key {
  return value in id;
}

/** A placeholder without a value stays visible: a hole must not look like an answer. */
export function translator(language: Language): Translate {
  const words = WORDS[language];
  return (key, values) => {
    const text = words[key];
    if (!values) return text;
    return text.replace(/\{(\w+)\}/g, (hole, name: string) => {
      const value = values[name];
      return value === undefined ? hole : String(value);
    });
  };
}
