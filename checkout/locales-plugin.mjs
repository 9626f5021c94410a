/**
 * An esbuild plugin: `import locales from "panward:locales"` gives every file of
 * `src/fields/locales/` by its name. A new language is one file there and nothing else.
 */

import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

const FOLDER = fileURLToPath(new URL("src/fields/locales/", import.meta.url));

export function locales() {
  return {
    name: "locales",
    setup(build) {
      build.onResolve({ filter: /^panward:locales$/ }, ({ path }) => ({
        path,
        namespace: "locales",
      }));
      build.onLoad({ filter: /.*/, namespace: "locales" }, () => {
        const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json")).sort();
        const lines = files.map((name, place) => `import l${place} from "./${name}";`);
        const entries = files.map((name, place) => `${JSON.stringify(name.slice(0, -5))}: l${place}`);
        const contents = `${lines.join("\n")}\nexport default {${entries.join(", ")}};\n`;
        return { contents, loader: "js", resolveDir: FOLDER, watchFiles: files.map((name) => join(FOLDER, name)) };
      });
    },
  };
}
