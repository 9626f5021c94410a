"""`panward snippet`: what a shop pastes, with this deployment's address and this release's hashes.

What lives here: three small front ends, which docs/checkout.md shows as they are written here. What
never may: a key (each shop puts in its own), and a script that the inventory does not list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.checkout.inventory import Inventory, Script, load_inventory
from gateway.checkout.policy import ROOT
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    fail,
    require_one,
    show,
)
from gateway.config import Config, load_config
from gateway.origins import APP, OriginRefused, parse_origin
from vault.errors import StartRefused

KEY: Final = "pwpk_…"
GATEWAY: Final = "https://pay.example"
LOADER: Final = "panward-….js"
INTEGRITY: Final = "sha384-…"
"""What stands for a shop's key, and in the document for all that the command fills in."""

_HTTPS_PORT: Final = 443
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - told apart, not listened on

SCRIPT_TAG: Final = """\
<script src="https://pay.example/checkout/v1/panward-….js" integrity="sha384-…"
  crossorigin="anonymous" defer></script>
<script src="/pay.js" defer></script>

<form id="pay">
  <div id="card"></div>
  <p id="problem" role="alert"></p>
  <button>Pay</button>
</form>
"""

PAGE: Final = """\
const form = document.querySelector("#pay");
const button = form.querySelector("button");
const problem = document.querySelector("#problem");

const fields = Panward("pwpk_…").fields().mount("#card");
fields.on("submit", () => button.click()); // Enter in a field; a disabled button stays quiet
fields.on("failure", (failure) => (problem.textContent = failure.message));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  problem.textContent = "";
  try {
    const card = await fields.tokenize(); // {id: "pwt_…", brand, last4, exp_month, …}
    const answer = await fetch("/pay", {
      method: "POST",
      body: new URLSearchParams({ token: card.id }),
    });
    problem.textContent = await answer.text();
  } catch (failure) {
    // What is missing or mistyped, the fields show and announce themselves.
    if (failure.code !== "incomplete") problem.textContent = failure.message;
  }
  button.disabled = false;
});
"""

REACT: Final = """\
import { useEffect, useRef, useState } from "react";
import { Panward } from "./panward.mjs";

const panward = Panward("pwpk_…", { gateway: "https://pay.example" });

export function CardForm({ onCard }) {
  const place = useRef(null);
  const button = useRef(null);
  const fields = useRef(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  useEffect(() => {
    const made = panward.fields().mount(place.current);
    made.on("submit", () => button.current?.click());
    made.on("failure", (failure) => setProblem(failure.message));
    fields.current = made;
    return () => made.unmount(); // what is under way rejects, and no frame is left
  }, []);

  async function pay(event) {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await onCard(await fields.current.tokenize());
    } catch (failure) {
      if (failure.code !== "incomplete") setProblem(failure.message);
    }
    setBusy(false);
  }

  return (
    <form onSubmit={pay}>
      <div ref={place} />
      <p role="alert">{problem}</p>
      <button ref={button} disabled={busy}>Pay</button>
    </form>
  );
}
"""

OWN_INPUTS: Final = """\
import { SEALED_SECONDS, fetchEdgeKeys, seal, usableKey } from "./seal.mjs";

const GATEWAY = "https://pay.example";
const KEY = "pwpk_…";

/** `card` is {number: "digits", exp_month: 12, exp_year: 2030, cvc: "123"}. */
export async function tokenize(card) {
  const published = await fetchEdgeKeys(GATEWAY, KEY);
  const key = usableKey(published);
  if (!key) throw new Error("edge_keys_unavailable");
  const sealed = await seal(card, {
    kid: key.kid,
    publicKey: key.publicKey,
    tenant: published.tenant,
    origin: location.origin,
    expiresAt: published.serverSeconds + SEALED_SECONDS,
  });
  const answer = await fetch(`${GATEWAY}/v1/tokens`, {
    method: "POST",
    headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify(sealed),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.code); // the table below
  return told;
}
"""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A front end: files to paste, and the files of ours that go beside them."""

    pasted: Mapping[str, str]
    ours: Mapping[str, bytes]
    scripts: Mapping[str, Script]
    """By what each is called in it; of `ours`, and of what it loads from the gateway."""


def snippet(  # noqa: PLR0913 - the command line's options
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    gateway: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where browsers reach it, if not at its own address."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the files there.")
    ] = None,
    *,
    react: Annotated[bool, typer.Option("--react", help="A component, for a bundler.")] = False,
    seal: Annotated[bool, typer.Option("--seal", help="Inputs of your own, sealed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the card form for a shop's page; without an option, for a script tag."""
    require_one(config, embedded)
    if react and seal:
        raise typer.BadParameter("give --react or --seal")
    address = _address(_deployment(config, embedded), gateway)
    made = snippet_of(load_inventory(), address, kind="react" if react else "seal" if seal else "")
    if out is not None:
        _write(made, out)
    if as_json:
        show(_document(made, address))
    elif out is None:
        _tell(made, address)


def snippet_of(inventory: Inventory, gateway: str, *, kind: str = "") -> Snippet:
    """Fill in a front end for a gateway at an origin: `react`, `seal`, else for a script tag."""

    def filled(template: str) -> str:
        loader = inventory.loader
        return (
            template.replace(GATEWAY, gateway)
            .replace(LOADER, loader.file)
            .replace(INTEGRITY, loader.sha384)
        )

    if kind == "react":
        module = inventory.scripts[inventory.manifest.module]
        ours = {"panward.mjs": module.body, "panward.d.mts": inventory.types}
        return Snippet({"CardForm.jsx": filled(REACT)}, ours, {"panward.mjs": module})
    if kind == "seal":
        sealing = inventory.scripts[inventory.manifest.seal]
        pasted = {"tokenize.js": filled(OWN_INPUTS)}
        return Snippet(pasted, {"seal.mjs": sealing.body}, {"seal.mjs": sealing})
    pasted = {"pay.html": filled(SCRIPT_TAG), "pay.js": filled(PAGE)}
    return Snippet(pasted, {}, {"panward.js": inventory.loader})


def _deployment(config: Path | None, embedded: Path | None) -> Config:
    if config is not None:
        return load_config(config)
    assert embedded is not None
    file = embedded / "panward.toml"
    if not file.is_file():
        raise StartRefused(f"{embedded} holds no deployment: panward up --embedded makes one")
    return load_config(file)


def _address(deployment: Config, told: str | None) -> str:
    """Give the origin of the public listener, as a browser names it."""
    listener = deployment.listeners.public
    host = listener.names[0] if listener.names else listener.host
    if told is None and host in _EVERYWHERE:
        raise typer.BadParameter("it listens on every address: give --gateway URL")
    port = "" if listener.port == _HTTPS_PORT else f":{listener.port}"
    told = f"https://{host}{port}" if told is None else told
    refusal = "--gateway is https:// and a host"
    try:
        origin = parse_origin(told, env=deployment.env)
    except OriginRefused as refused:
        refusal = str(refused)
    else:
        if not origin.startswith((APP, "http://")):
            return origin
    raise typer.BadParameter(f"{told}: {refusal}")


def _write(made: Snippet, folder: Path) -> None:
    """Write it, but nothing over what is there already."""
    files = {name: text.encode() for name, text in made.pasted.items()} | dict(made.ours)
    there = next((name for name in made.pasted if (folder / name).exists()), None)
    if there is not None:
        fail(f"{folder / there} is there already, and may be yours by now")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
    except OSError:
        pass
    else:
        console.print(f"{folder}: {', '.join(files)}", soft_wrap=True)
        return
    fail(f"{folder} cannot be written to")


def _tell(made: Snippet, gateway: str) -> None:
    for name, text in made.pasted.items():
        typer.echo(f"{_comment(name)}\n\n{text}")
    for name in made.ours:
        with_it = f"{name} goes with it: --out writes it"
        if name in made.scripts:
            with_it += f", {gateway}{ROOT}{made.scripts[name].file} is it"
        console.print(with_it, soft_wrap=True)
    console.print(f"Put your publishable key in the place of {KEY}", soft_wrap=True)


def _comment(name: str) -> str:
    return f"<!-- {name} -->" if name.endswith(".html") else f"// {name}"


def _document(made: Snippet, gateway: str) -> dict[str, object]:
    return {
        "gateway": gateway,
        "files": dict(made.pasted),
        "scripts": {
            name: {"url": f"{gateway}{ROOT}{script.file}", "integrity": script.sha384}
            for name, script in made.scripts.items()
        },
    }
