/** Builds the page into the collector's package, where it is served as static files. */
import { defineConfig } from "vite";

// The collector (or dev/fixture.py) that `npm run dev` takes its numbers from.
const collector = process.env["JAGA_COLLECTOR"] ?? "http://127.0.0.1:8071";

export default defineConfig({
  build: {
    outDir: "../server/jaga_server/web/static",
    emptyOutDir: true,
    // Offices keep their PCs for long: Chrome 87 is the last that some of them run.
    target: ["es2020", "chrome87", "firefox78", "safari14"],
    // The page's policy forbids inline scripts, and a polyfill for preloading is one.
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  server: { proxy: { "/api": collector } },
});
