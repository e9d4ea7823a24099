import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const out = join(import.meta.dirname, "../pkg/ui/dist");

/** What the bundle is made from, as pkg/ui/ui_test.go lists it too. */
const sources = [
  "index.html",
  "package-lock.json",
  "package.json",
  "tsconfig.json",
  "vite.config.ts",
  "src",
];

/** Lists the files at or below start, relative to root. */
function walk(root: string, start: string): string[] {
  if (!statSync(join(root, start)).isDirectory()) {
    return [start];
  }
  return readdirSync(join(root, start)).flatMap((name) => walk(root, `${start}/${name}`));
}

/** The hash over names and content of files. */
function digest(root: string, names: string[]): string {
  const all = createHash("sha256");
  const encoded = names.map((name) => Buffer.from(name)).sort(Buffer.compare);
  for (const name of encoded) {
    const content = readFileSync(join(root, name.toString()));
    all.update(name).update(`\0${content.length}\0`).update(content);
  }
  return all.digest("hex");
}

/**
 * Replaces the assets by their compressed form, and writes the hashes of sources and
 * bundle, with which a Go test sees that they belong together.
 */
function pack(): Plugin {
  return {
    name: "pack",
    apply: "build",
    closeBundle() {
      const assets = readdirSync(join(out, "assets")).map((name) => `assets/${name}`);
      for (const name of assets) {
        const file = join(out, name);
        writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
        rmSync(file);
      }
      const root = import.meta.dirname;
      const from = digest(
        root,
        sources.flatMap((start) => walk(root, start)),
      );
      const bundle = digest(out, [...assets.map((name) => `${name}.gz`), "index.html"]);
      writeFileSync(join(out, "build.txt"), `sources ${from}\nbundle ${bundle}\n`);
    },
  };
}

export default defineConfig({
  // Relative, so that the pages work below any prefix.
  base: "./",
  plugins: [pack()],
  build: {
    outDir: out,
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The policy of the page has no inline URLs of data.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
});
