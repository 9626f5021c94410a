/**
 * Builds what browsers run, and the inventory of it (PCI DSS 6.4.3: each script has an owner, a
 * reason and an approval), into `gateway/checkout/`.
 *
 *   node build.mjs                 builds everything
 *   node build.mjs --only loader   what a merchant's page loads, without the frame's scripts
 *   node build.mjs --approve NAME  the same, and puts NAME to what nobody has approved yet
 *   node build.mjs --check         builds elsewhere and compares byte for byte; exit 1 and the
 *                                  file's name where one differs
 *
 * A script that is new has to be approved before a gateway starts with it: look at what changed
 * first. Lines of scripts that did not change keep their words. What lies in `released/` is
 * served as it is: a page that pinned an earlier release's hash goes on working.
 *
 * The bytes depend on the sources and on `package-lock.json`, and on nothing else: no time, no
 * folder, no umask.
 */

import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { locales } from "./locales-plugin.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const TARGET = join(HERE, "..", "gateway", "checkout");
const INVENTORY = "scripts.json";
const MANIFEST = "manifest.json";
const OWNER = "panward";
const NOT_APPROVED = "nobody yet";
const RELEASED = join(HERE, "released");
const RELEASED_REASON = "An earlier release's, for pages that pinned its hash";

/** One script each: `name` in the manifest, `file` starts its name, `reason` is the inventory's. */
const SCRIPTS = [
  {
    name: "loader",
    entry: "src/entry-script.ts",
    file: ["panward", ".js"],
    format: "iife",
    reason: "Runs in the merchant's page by a script tag: places the fields' frames, relays events",
  },
  {
    name: "module",
    entry: "src/entry-module.ts",
    file: ["panward", ".mjs"],
    format: "esm",
    reason: "The same for pages that a bundler makes",
  },
  {
    name: "seal",
    entry: "src/seal.ts",
    file: ["seal", ".mjs"],
    format: "esm",
    reason: "Seals a card for a front end that draws its own inputs",
  },
  {
    name: "fields",
    entry: "src/fields/main.ts",
    file: ["fields", ".js"],
    format: "iife",
    reason: "Runs in a field's frame: takes the input, formats and checks it",
  },
  {
    name: "sealing",
    entry: "src/fields/sealing.ts",
    file: ["sealing", ".js"],
    format: "iife",
    reason: "Runs in a field's frame once there is something to seal: seals the card, sends it",
  },
];
const LOADER_ONLY = ["loader", "module"];
const STYLES = { entry: "src/fields/fields.css", file: "fields.css" };
const TYPES = { entry: "src/panward.d.ts", file: "panward.d.ts" };
const SEAL_TYPES = { entry: "src/panward-seal.d.ts", file: "seal.d.ts" };

class Refused extends Error {}

function sourceAt(entry) {
  const path = join(HERE, entry);
  if (!existsSync(path)) throw new Refused(`build: checkout/${entry} is missing`);
  return path;
}

async function esbuild() {
  try {
    return await import("esbuild");
  } catch {
    throw new Refused("build: esbuild is missing: npm ci --ignore-scripts --prefix checkout");
  }
}

/** What the ISC license asks of whoever passes libsodium on, as one line. */
function libsodiumNotice() {
  const folder = join(HERE, "node_modules", "libsodium-wrappers");
  const { name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const license = readFileSync(join(folder, "LICENSE"), "utf8");
  return `/*! ${name} ${version}, ISC: ${license.replace(/\s+/g, " ").trim()} */`;
}

async function bundled({ build }, entry, more) {
  const { outputFiles, metafile } = await build({
    entryPoints: [sourceAt(entry)],
    absWorkingDir: HERE,
    bundle: true,
    write: false,
    outdir: join(HERE, "nowhere"), // nothing is written: esbuild wants a name
    metafile: true,
    minify: true,
    target: "es2020",
    platform: "browser",
    charset: "ascii",
    legalComments: "none",
    sourcemap: false,
    logLevel: "warning",
    plugins: [locales()],
    ...more,
  });
  const [{ text }] = outputFiles;
  const inputs = Object.keys(metafile.inputs);
  return inputs.some((input) => input.includes("node_modules/libsodium"))
    ? `${libsodiumNotice()}\n${text}`
    : text;
}

function sha384(text) {
  return createHash("sha384").update(text);
}

/** File name → line of the inventory as it is committed. */
function knownLines() {
  const path = join(TARGET, INVENTORY);
  const lines = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : [];
  return new Map(lines.map((line) => [line.file, line]));
}

/** The inventory's line of a script; words that are there stay. */
function line(file, text, reason, approvedBy) {
  const known = knownLines().get(file);
  const approved = known === undefined || known.approved_by === NOT_APPROVED;
  return {
    file,
    sha384: `sha384-${sha384(text).digest("base64")}`,
    owner: known?.owner ?? OWNER,
    reason: known?.reason ?? reason,
    approved_by: approved ? (approvedBy ?? NOT_APPROVED) : known.approved_by,
  };
}

/** Scripts of earlier releases, each under the name that its hash gave it. */
function released() {
  const names = existsSync(RELEASED) ? readdirSync(RELEASED).sort() : [];
  return names
    .filter((name) => /\.m?js$/.test(name))
    .map((name) => {
      const text = readFileSync(join(RELEASED, name), "utf8");
      if (!name.includes(`-${sha384(text).digest("hex").slice(0, 12)}.`))
        throw new Refused(`build: checkout/released/${name} is not what its name says`);
      return [name, text];
    });
}

/** File name → text of everything that belongs into the folder of the built files. */
async function made(only, approvedBy) {
  const tool = await esbuild();
  const files = new Map();
  const manifest = {};
  const inventory = [];
  for (const { name, entry, file, format, reason } of SCRIPTS) {
    if (only && !only.includes(name)) continue;
    const text = await bundled(tool, entry, { format });
    const named = `${file[0]}-${sha384(text).digest("hex").slice(0, 12)}${file[1]}`;
    files.set(named, text);
    manifest[name] = named;
    inventory.push(line(named, text, reason, approvedBy));
  }
  for (const [name, text] of only ? [] : released()) {
    if (files.has(name)) continue;
    files.set(name, text);
    inventory.push(line(name, text, RELEASED_REASON, approvedBy));
  }
  if (!only) {
    files.set(STYLES.file, await bundled(tool, STYLES.entry, {}));
    manifest.styles = STYLES.file;
    files.set(SEAL_TYPES.file, readFileSync(sourceAt(SEAL_TYPES.entry), "utf8"));
  }
  files.set(TYPES.file, readFileSync(sourceAt(TYPES.entry), "utf8"));
  manifest.types = TYPES.file;
  files.set(MANIFEST, `${JSON.stringify(manifest, null, 2)}\n`);
  return { files, inventory: `${JSON.stringify(inventory, null, 2)}\n` };
}

function put(path, text) {
  writeFileSync(path, text);
  chmodSync(path, 0o644);
}

function write({ files, inventory }, target) {
  const folder = join(target, "built");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  for (const [name, text] of files) put(join(folder, name), text);
  put(join(target, INVENTORY), inventory);
}

/** Path → hash, of the built files and the inventory. */
function hashes(target) {
  const folder = join(target, "built");
  const names = existsSync(folder) ? readdirSync(folder).map((name) => join("built", name)) : [];
  const paths = [...names, INVENTORY].filter((name) => existsSync(join(target, name)));
  const hash = (path) => sha384(readFileSync(join(target, path))).digest("hex");
  return new Map(paths.map((path) => [path, hash(path)]));
}

function compare(expected, found) {
  const paths = [...new Set([...expected.keys(), ...found.keys()])].sort();
  return paths.filter((path) => expected.get(path) !== found.get(path));
}

async function check(only) {
  const elsewhere = mkdtempSync(join(tmpdir(), "panward-build-"));
  try {
    write(await made(only), elsewhere);
    const differing = compare(hashes(elsewhere), hashes(TARGET));
    for (const path of differing) console.error(`build: gateway/checkout/${path} differs`);
    return differing.length === 0 ? 0 : 1;
  } finally {
    rmSync(elsewhere, { recursive: true, force: true });
  }
}

async function main(words) {
  const name = words.includes("--approve") ? words[words.indexOf("--approve") + 1] : undefined;
  const rest = words
    .filter((word) => word !== name && word !== "--approve")
    .join(" ")
    .replace("--only loader", "")
    .replace("--check", "")
    .trim();
  if (rest || (words.includes("--approve") && !name))
    throw new Refused("build: takes --check, --only loader and --approve NAME, and nothing else");
  const only = words.includes("--only") ? LOADER_ONLY : undefined;
  if (words.includes("--check")) return check(only);
  write(await made(only, name), TARGET);
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
