"""What the README and its documents show is run as it stands there, and what they name is there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer
from typer.core import TyperGroup

from gateway.cli import app
from gateway.config_file import LedgerConfig, RouteConfig, WitnessConfig
from tests.flows.deployment import Deployment
from vault.ledger.forms import SealCause

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LEDGER = (ROOT / "docs" / "ledger.md").read_text()
INBOUND = (ROOT / "docs" / "inbound.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
PANWARD = f'"{sys.executable}" -c "from gateway.cli import main; main()"'

ELSEWHERE = ("go ", "fsck", "witness", "policy", "panward.toml")
"""In a block: it needs the network, a second server, or a gateway that is not embedded."""

pytestmark = pytest.mark.embedded


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(block: str) -> str:
    """The lines behind a prompt, with those that continue them; not what they print."""
    lines, goes_on = [], False
    for line in block.splitlines():
        if line.startswith("$ ") or goes_on:
            lines.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\") or "\n".join(lines).count("'") % 2 == 1
    return "\n".join(lines)


def bash(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the documents' own words
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_its_calls_work_as_they_stand_there(deployment: Deployment) -> None:
    shown = [commands(block) for block in blocks("console")]
    calls = [script for script in shown if "curl" in script]
    assert len(calls) == 4, "tokenize, pay, pay elsewhere, look"
    script = "\n".join(calls)
    for what, instead in (
        ("cd ~/panward", f'cd "{deployment.parts.folder}"'),
        ("curl ", "curl --silent --show-error --fail-with-body "),
        ("token=pwt_test_…", "token=$(cat answer)"),
        ("~/panward", str(deployment.parts.folder)),
        (".venv/bin/panward", PANWARD),
    ):
        assert what in script, what
        script = script.replace(what, instead)
    script = script.replace(
        '"cvc": "123"}}\'\n', '"cvc": "123"}}\' | tee /dev/stderr | cut -d\\" -f4 > answer\n', 1
    )
    folder = deployment.parts.folder
    ran = bash(script, folder)
    (folder / "answer").unlink(missing_ok=True)
    assert ran.returncode == 0, ran.stderr
    assert '"last4":"4242"' in ran.stderr
    assert '"status": "succeeded"' in ran.stdout or '"status":"succeeded"' in ran.stdout
    assert '"merchant_reference"' in ran.stdout
    assert ran.stdout.rstrip().endswith("good")


@pytest.mark.timeout(150)
def test_an_auditor_checks_the_log_as_it_says(deployment: Deployment, tmp_path: Path) -> None:
    shown = [commands(block) for block in blocks("console", LEDGER)]
    shown = [script for script in shown if not any(word in script for word in ELSEWHERE)]
    assert len(shown) == 4, "what is given, checked, hashed by hand, proven"
    readme = [commands(block) for block in blocks("console") if "ledger export" in block]
    assert len(readme) == 1
    folder = deployment.parts.folder
    script = "\n".join([*shown, "mkdir again && cd again", *readme])
    for what, instead in (
        ("~/panward", str(folder)),
        (".venv/bin/panward", "panward"),
        ("curl ", "curl --silent --fail-with-body "),
        ("proof 8 ", "proof 0 "),  # the log may be young here
    ):
        assert what in script, what
        script = script.replace(what, instead)
    key = f"json.load(open('{folder}/credentials.json'))['$1']"
    before = f"""
        panward() {{ {PANWARD} "$@"; }}
        key() {{ python3 -c "import json; print({key})"; }}
        until panward ledger status --embedded {folder} | grep -q '^signed .* entries'; do :; done
        cd {tmp_path}
    """
    ran = bash(before + script, tmp_path)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    said = ran.stdout.splitlines()
    assert said.count("good") == script.count("ledger verify ") + script.count("--check ")
    first, second = re.findall(r"^([0-9a-f]{64})(?:  -)?$", ran.stdout, re.MULTILINE)
    assert first == second


def test_files_are_masked_and_imported_as_it_says(deployment: Deployment, tmp_path: Path) -> None:
    (block,) = [each for each in blocks("console", INBOUND) if "panward import" in each]
    folder = deployment.parts.folder
    tenant = msgspec.json.decode((folder / "credentials.json").read_bytes())["tenant"]
    script = commands(block)
    for what, instead in (("~/panward", str(folder)), ("t_…", tenant), ("panward ", f"{PANWARD} ")):
        assert what in script, what
        script = script.replace(what, instead)
    ran = bash(f"cd {tmp_path}\n{script}", tmp_path)
    assert ran.returncode == 0, ran.stderr
    said = [line for line in ran.stdout.splitlines() if re.match("o(rder|-)", line)]
    shown = [line for line in block.splitlines() if re.match("o(rder|-)", line)]
    token = "pwt_test_[0-9a-z]{28}"
    assert [re.sub(token, "T", line) for line in said] == [
        re.sub(token, "T", line) for line in shown
    ]
    assert len(re.findall(token, ran.stdout)) == 2


def shown_commands() -> list[str]:
    """Every call of ours that a document shows, on a line or between backticks, until a pipe."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        inline = re.findall(
            r"`((?:[.\w]+/)*panward [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        lines = "\n".join(commands(block) for block in blocks("console", text)).replace("\\\n", " ")
        found += [call.partition("panward ")[2] for call in [*inline, *lines.splitlines()]]
    return [re.split(r"[|;…]", call)[0] for call in found if call]


def test_every_command_and_option_that_documents_show_exists() -> None:
    shown = shown_commands()
    assert len(shown) > 40
    for call in shown:
        command = typer.main.get_command(app)
        for word in call.split():
            if not isinstance(command, TyperGroup) or word.startswith("-"):
                break
            assert word in command.commands, call
            command = command.commands[word]
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        named = set(re.findall(r"(?<!\S)--[a-z-]+", call))
        assert named <= options | {"--help"}, call


def test_every_setting_of_the_ledger_and_every_seal_is_described() -> None:
    settings = [*fields(LedgerConfig), *fields(WitnessConfig)]
    assert "unknown_replay" in fields(RouteConfig)
    for name in (*settings, "unknown_replay"):
        assert re.search(rf"`(\[\[ledger\.)?{name}(\]\])?`", OPERATING), name
    causes = re.findall(r"^### (.*)$", OPERATING, re.MULTILINE)
    assert sorted(causes) == sorted(get_args(SealCause))


def fields(settings: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(settings)]


def test_every_test_that_the_crash_matrix_names_exists() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\b(test_\w+)(?![\w.])", LEDGER)) - {"test_"}
    written = {name for text in files.values() for name in re.findall(r"def (test_\w+)", text)}
    assert named - written <= {name.removesuffix(".py") for name in files}
    assert set(re.findall(r"\b(test_\w+\.py)", LEDGER)) <= files.keys()
    assert len(named & written) >= 9


def test_every_command_that_it_names_exists() -> None:
    targets = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text()
    missing = [
        each for each in targets if not re.search(rf"^{re.escape(each)}\b", makefile, re.MULTILINE)
    ]
    assert not missing
    for document in re.findall(r"\]\(([a-zA-Z/]+\.md)\)", README):
        assert (ROOT / document).is_file(), document
