/**
 * Writes the licences of what the page bundles into the built page.
 *
 * Their licences ask that copyright and terms go with every copy; the wheel is one.
 */
import { readFileSync, writeFileSync } from "node:fs";

const PAGE = new URL("../", import.meta.url);
const PERMISSIVE = new Set(["MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0"]);
const LICENCE_FILES = ["LICENSE", "LICENSE.md", "LICENSE.txt"];

const lock = JSON.parse(readFileSync(new URL("package-lock.json", PAGE), "utf8"));
const bundled = Object.entries(lock.packages)
  .filter(([path, entry]) => path.startsWith("node_modules/") && !entry.dev && !entry.optional)
  .map(([path]) => path)
  .sort();

const sections = [
  "The page of Jaga (Apache-2.0) is built with these works, each under its own licence.",
];
for (const path of bundled) {
  const folder = new URL(`${path}/`, PAGE);
  const about = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
  if (!PERMISSIVE.has(about.license)) {
    throw new Error(
      `${about.name} ${about.version} has the licence ${about.license}, which is not on the ` +
        "list of permissive ones in tools/notices.mjs: do not ship it.",
    );
  }
  const text = LICENCE_FILES.map((name) => {
    try {
      return readFileSync(new URL(name, folder), "utf8").trim();
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  }).find((found) => found !== null);
  if (!text) throw new Error(`${about.name} carries no licence file: look for it by hand.`);
  sections.push(`${about.name} ${about.version} (${about.license})\n\n${text}`);
}
const target = new URL("../server/jaga_server/web/static/THIRD-PARTY.txt", PAGE);
writeFileSync(target, `${sections.join(`\n\n${"-".repeat(72)}\n\n`)}\n`);
