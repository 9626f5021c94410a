"""`panward snippet`: the document's front ends, with a deployment's address and hashes in them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.checkout.inventory import hash_of, load_inventory
from gateway.commands.checkout_snippet import OWN_INPUTS, PAGE, REACT, SCRIPT_TAG, snippet
from gateway.commands.options import EX_FAILED
from tests.browser.checkout.document_shop import block
from tests.gateway.test_config import GOOD, written
from vault.errors import StartRefused

PROGRAM = typer.Typer()
PROGRAM.command()(snippet)


ADDRESS = "https://127.0.0.1:8443"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path, GOOD)


def ran(config: Path, *words: str) -> Result:
    return CliRunner().invoke(PROGRAM, ["--config", str(config), *words])


def refusal(result: Result) -> str:
    assert result.exit_code == 2
    return " ".join(result.stderr.replace("│", " ").split())


def test_the_document_shows_what_the_command_prints() -> None:
    shown = {"pay.html": SCRIPT_TAG, "pay.js": PAGE, "CardForm.jsx": REACT}
    for name, template in (shown | {"tokenize.js": OWN_INPUTS}).items():
        assert block(name) == template, name


def test_the_readme_shows_the_same() -> None:
    assert f"```html\n{SCRIPT_TAG}```" in (Path(__file__).parents[3] / "README.md").read_text()


def test_it_prints_a_script_tag_that_is_ready_but_for_the_key(config: Path) -> None:
    ended = ran(config)
    loader = load_inventory().loader
    assert ended.exit_code == 0
    assert f'src="{ADDRESS}/checkout/v1/{loader.file}" integrity="{loader.sha384}"' in ended.stdout
    assert "pay.example" not in ended.stdout
    assert "<!-- pay.html -->" in ended.stdout
    assert ended.stdout.count("pwpk_…") == 1
    assert "publishable key" in ended.stderr


def test_it_says_the_same_to_machines(config: Path) -> None:
    told = json.loads(ran(config, "--react", "--json").stdout)
    module = load_inventory().scripts[load_inventory().manifest.module]
    assert told["gateway"] == ADDRESS
    assert list(told["files"]) == ["CardForm.jsx"]
    assert told["scripts"] == {
        "panward.mjs": {
            "url": f"{ADDRESS}/checkout/v1/{module.file}",
            "integrity": module.sha384,
        }
    }


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ((), {"pay.html", "pay.js"}),
        (("--react",), {"CardForm.jsx", "panward.mjs", "panward.d.mts"}),
        (("--seal",), {"tokenize.js", "seal.mjs"}),
    ],
    ids=["script", "react", "seal"],
)
def test_it_writes_files_and_never_over_a_shops_own(
    config: Path, tmp_path: Path, kind: tuple[str, ...], names: set[str]
) -> None:
    folder = tmp_path / "shop" / "src"
    assert ran(config, *kind, "--out", str(folder)).exit_code == 0
    assert {each.name for each in folder.iterdir()} == names
    approved = {script.sha384 for script in load_inventory().scripts.values()}
    assert all(hash_of(each.read_bytes()) in approved for each in folder.glob("*.mjs"))
    again = ran(config, *kind, "--out", str(folder))
    assert again.exit_code == EX_FAILED
    assert "there already" in again.stderr
    nowhere = ran(config, *kind, "--out", str(config / "below a file"))
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (EX_FAILED, True)


def test_an_address_is_an_https_origin(config: Path) -> None:
    assert (
        "https://pay.example:8443/checkout"
        in ran(config, "--gateway", "https://PAY.example:8443").stdout
    )
    for wrong in ("http://127.0.0.1", "app:example.shop", "https://pay.example/x", "pay.example"):
        assert wrong in refusal(ran(config, "--gateway", wrong))
    assert "--react or --seal" in refusal(ran(config, "--react", "--seal"))


def test_who_listens_on_every_address_says_where_browsers_go(config: Path) -> None:
    everywhere = GOOD.replace("[listeners.public]", '[listeners.public]\nhost = "0.0.0.0"')
    config.write_text(everywhere)
    assert "give --gateway" in refusal(ran(config))
    named = everywhere.replace("[listeners.public]", '[listeners.public]\nnames = ["pay.example"]')
    config.write_text(named.replace("8443", "443"))
    assert 'src="https://pay.example/checkout' in ran(config).stdout


def test_a_folder_without_a_deployment_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(PROGRAM, ["--embedded", str(tmp_path)])
    assert isinstance(ended.exception, StartRefused)
