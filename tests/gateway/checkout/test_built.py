"""What is committed for browsers is what the sources make, and small, and typed (Node required)."""

import gzip
import json
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha384
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PROJECT = ROOT / "checkout"
CHECKOUT = ROOT / "gateway" / "checkout"
BUILT = CHECKOUT / "built"
LOADER_BYTES_MAX = 6 * 1024
"""Gzipped: it is on the merchant's page, in the way of the first paint."""

STRICT = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes")

USES_IT_RIGHTLY = """
import { Panward, PanwardError } from "./panward.js";
import type { Fields, MaskedCard } from "./panward.js";

const client = Panward("pwpk", { gateway: "https://pay.example", locale: "de" });
const fields: Fields = client
  .fields({ layout: "separate", styles: { base: { color: "red" } }, labels: { cvc: "Code" } })
  .mount({ number: "#number", expiry: document.body, cvc: "#cvc" });
const off: () => void = fields.on("change", ({ brand, complete, error }) => {
  if (complete && error === undefined) document.title = brand.toUpperCase();
});
fields.on("failure", (error) => document.title = error.code);
export async function pay(): Promise<string> {
  try {
    const card: MaskedCard = await fields.tokenize();
    return `${card.id} ${card.exp_year.toFixed()}`;
  } catch (error) {
    if (error instanceof PanwardError && error.field) fields.focus(error.field);
    throw error;
  } finally {
    off();
  }
}
const script = window.Panward?.("pwpk").fields({ only: "cvc" });
export const attached: Promise<void> | undefined = script?.attachCvc("pwt");
"""

USES_IT_WRONGLY = {
    "an event that there is not": 'fields.on("paid", () => {});',
    "a number": "fields.tokenize().then((card) => card.number);",
    "a layout that there is not": 'Panward("pwpk").fields({ layout: "round" });',
    "a part left out": 'fields.mount({ number: "#number", expiry: "#expiry" });',
    "a written brand": 'fields.brand = "visa";',
    "an unknown reason": 'fields.on("change", ({ error }) => error === "luhn");',
    "an option that there is not": 'Panward("pwpk", { sandbox: true });',
}


def node(
    *words: str | Path, cwd: Path = ROOT, umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    program = shutil.which("node")
    assert program, "Node is missing: make system-packages installs it"
    assert (PROJECT / "node_modules").is_dir(), "npm ci --ignore-scripts --prefix checkout"
    return subprocess.run(  # noqa: S603 - our own words
        [program, *map(str, words)],
        cwd=cwd,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def typed(folder: Path, sample: str) -> subprocess.CompletedProcess[str]:
    for name in ("panward.d.ts", "seal.d.ts"):
        shutil.copy(BUILT / name, folder)
    (folder / "sample.ts").write_text(sample)
    settings = ("--noEmit", "--target", "es2022", "--module", "esnext", "--types", "")
    compiler = PROJECT / "node_modules" / "typescript" / "bin" / "tsc"
    names = ("--moduleResolution", "bundler", "sample.ts", "seal.d.ts")
    return node(compiler, *settings, *STRICT, *names, cwd=folder)


@pytest.mark.guards("T-55")
def test_the_committed_scripts_are_what_the_sources_make(tmp_path: Path) -> None:
    """From another folder and with another umask: neither is in the bytes."""
    made = node(PROJECT / "build.mjs", "--check", cwd=tmp_path, umask=0o077)
    assert made.returncode == 0, f"npm run build --prefix checkout\n{made.stdout}{made.stderr}"


def copied(folder: Path) -> tuple[Path, Path]:
    """Copy what is built and what builds it; return both folders."""
    built, project = folder / "gateway" / "checkout", folder / "checkout"
    shutil.copytree(CHECKOUT / "built", built / "built")
    shutil.copy(CHECKOUT / "scripts.json", built)
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("node_modules"))
    (project / "node_modules").symlink_to(PROJECT / "node_modules")
    return built, project


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    """On a copy: one byte more in a script, and the check says in which."""
    copy, project = copied(tmp_path)
    script = next((copy / "built").glob("fields-*.js"))
    script.write_bytes(script.read_bytes() + b"\n")
    made = node(project / "build.mjs", "--check")
    assert made.returncode == 1
    assert made.stderr == f"build: gateway/checkout/built/{script.name} differs\n"


def test_a_new_script_is_approved_by_nobody_and_an_old_one_is_kept(tmp_path: Path) -> None:
    """On a copy: the sources change, and the loader that pages have pinned is laid aside."""
    copy, project = copied(tmp_path)
    pinned = next((copy / "built").glob("panward-*.js"))
    shutil.copy(pinned, project / "released")
    (project / "src" / "loader.ts").write_text(
        (project / "src" / "loader.ts").read_text() + "\nconsole.assert(true);\n"
    )
    build = project / "build.mjs"
    assert node(build).returncode == 0
    lines = {line["file"]: line for line in json.loads((copy / "scripts.json").read_text())}
    assert lines[pinned.name]["approved_by"] == "panward release"
    assert (copy / "built" / pinned.name).exists()
    new = [line for line in lines.values() if line["approved_by"] == "nobody yet"]
    assert {line["file"].partition("-")[0] for line in new} == {"panward"}
    assert node(build, "--approve", "x").returncode == 0
    assert "nobody yet" not in (copy / "scripts.json").read_text()
    (project / "released" / pinned.name).write_text("changed")
    refused = node(build)
    assert refused.returncode == 1
    assert "is not what its name says" in refused.stderr


def test_the_sources_are_typed_throughout() -> None:
    made = node(PROJECT / "node_modules" / "typescript" / "bin" / "tsc", "--noEmit", cwd=PROJECT)
    assert made.returncode == 0, made.stdout
    unsafe = re.compile(r"\bas any\b|: any\b|<any>|@ts-ignore|@ts-nocheck|@ts-expect-error")
    sources = sorted(PROJECT.glob("src/**/*.ts"))
    assert sources
    lines = [(path.name, line) for path in sources for line in path.read_text().splitlines()]
    code = [(name, line) for name, line in lines if not line.lstrip().startswith(("*", "/*", "//"))]
    assert not [(name, line) for name, line in code if unsafe.search(line)]


@pytest.mark.guards("T-55")
def test_the_inventory_has_each_script_with_its_hash_and_words() -> None:
    inventory = json.loads((CHECKOUT / "scripts.json").read_text())
    scripts = {path.name: path for path in BUILT.iterdir() if path.suffix in {".js", ".mjs"}}
    assert {line["file"] for line in inventory} == set(scripts)
    for line in inventory:
        digest = sha384(scripts[line["file"]].read_bytes())
        assert line["sha384"] == f"sha384-{b64encode(digest.digest()).decode()}"
        assert line["file"].split("-")[1].startswith(digest.hexdigest()[:12])
        assert all(line[word].strip() for word in ("owner", "reason", "approved_by"))
    manifest = json.loads((BUILT / "manifest.json").read_text())
    assert set(manifest.values()) <= {path.name for path in BUILT.iterdir()}


@pytest.mark.parametrize("part", ["loader", "module"])
def test_the_loader_is_small(part: str) -> None:
    name = json.loads((BUILT / "manifest.json").read_text())[part]
    assert len(gzip.compress((BUILT / name).read_bytes(), 9, mtime=0)) <= LOADER_BYTES_MAX


def test_scripts_evaluate_no_text_and_name_no_other_host() -> None:
    """The loader also writes no HTML and keeps nothing; the library's notice is where it is due."""
    manifest = json.loads((BUILT / "manifest.json").read_text())
    for part in ("loader", "module", "fields"):
        text = (BUILT / manifest[part]).read_text(encoding="ascii")
        found = re.findall(r"\beval\(|new Function|innerHTML|outerHTML|document\.write", text)
        found += re.findall(r"\.cookie|localStorage|sessionStorage|sourceMappingURL", text)
        assert not found, (part, found)
        hosts = set(re.findall(r"https?://([A-Za-z0-9.-]+)", text))
        assert hosts <= {"pay.example.", "www.w3.org"}, part  # an error's example; a namespace
        assert "libsodium" not in text
    for part in ("seal", "sealing"):
        text = (BUILT / manifest[part]).read_text(encoding="ascii")
        assert text.startswith("/*! libsodium-wrappers "), part
        assert text.count("Permission to use, copy, modify") == 1
        assert not re.findall(r"\beval\(|new Function", text)


def test_dependencies_are_pinned_by_hash_and_name_no_registry() -> None:
    lock = json.loads((PROJECT / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert not re.search(r"https?:|resolved", (PROJECT / "package-lock.json").read_text())
    wanted = json.loads((PROJECT / "package.json").read_text())
    assert "dependencies" not in wanted
    assert all(version[0].isdigit() for version in wanted["devDependencies"].values())


def test_the_published_types_fit_a_page_that_uses_them_rightly(tmp_path: Path) -> None:
    found = typed(tmp_path, USES_IT_RIGHTLY)
    assert found.returncode == 0, found.stdout


def test_the_published_types_refuse_each_wrong_use(tmp_path: Path) -> None:
    head = 'import { Panward } from "./panward.js";\nconst fields = Panward("pwpk").fields();\n'
    lines = list(USES_IT_WRONGLY.values())
    found = typed(tmp_path, head + "\n".join(lines))
    assert found.returncode != 0
    refused = {int(line) for line in re.findall(r"sample\.ts[(:](\d+)", found.stdout)}
    for number, name in enumerate(USES_IT_WRONGLY, start=3):
        assert number in refused, f"not refused: {name}\n{found.stdout}"
