"""What the README shows is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.deployment import Deployment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.embedded


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(block: str) -> str:
    """The lines behind a prompt, with those that continue them; not what they print."""
    lines, goes_on = [], False
    for line in block.splitlines():
        if line.startswith("$ ") or goes_on:
            lines.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\") or "\n".join(lines).count("'") % 2 == 1
    return "\n".join(lines)


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
        (".venv/bin/panward", f'"{sys.executable}" -c "from gateway.cli import main; main()"'),
    ):
        assert what in script, what
        script = script.replace(what, instead)
    script = script.replace(
        '"cvc": "123"}}\'\n', '"cvc": "123"}}\' | tee /dev/stderr | cut -d\\" -f4 > answer\n', 1
    )
    folder = deployment.parts.folder
    ran = subprocess.run(  # noqa: S603 - the README's own words
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (folder / "answer").unlink(missing_ok=True)
    assert ran.returncode == 0, ran.stderr
    assert '"last4":"4242"' in ran.stderr
    assert '"status": "succeeded"' in ran.stdout or '"status":"succeeded"' in ran.stdout
    assert '"merchant_reference"' in ran.stdout
    assert ran.stdout.rstrip().endswith("good")


def test_every_command_that_it_names_exists() -> None:
    targets = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text()
    missing = [
        each for each in targets if not re.search(rf"^{re.escape(each)}\b", makefile, re.MULTILINE)
    ]
    assert not missing
    for document in re.findall(r"\]\(([a-zA-Z/]+\.md)\)", README):
        assert (ROOT / document).is_file(), document
