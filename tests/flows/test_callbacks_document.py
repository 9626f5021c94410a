"""The blocks of docs/callbacks.md, run as they stand there, in a home that holds nothing else.

A deployment of its own, started by the first block; the others are typed in one after the other
in a second shell. Two things are done for the reader: the port of the receiver is a free one, and
what comes by itself is waited for.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import cards
from tests.flows.deployment import START_SECONDS, STOP_SECONDS, until
from tests.flows.replica import free_ports

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "callbacks.md").read_text()
SHOWN = DOCUMENT.partition("\n## 3.")[0]
RECEIVER_PORT = "9443"
BASH = ("/bin/bash", "-euo", "pipefail")
DELIVERED = """
until get /v1/deliveries | grep -q '"delivered"'; do read -rt 0.1 <> <(:) || :; done
"""

pytestmark = pytest.mark.embedded


def blocks(text: str) -> list[str]:
    return re.findall(r"```console\n(.*?)```", text, re.DOTALL)


def typed(block: str) -> list[str]:
    """The commands of a block: from a prompt on, until the shell takes it for whole."""
    found, lines = [], list[str]()
    for line in block.splitlines():
        if line.startswith("$ ") or lines:
            lines.append(line.removeprefix("$ ") if not lines else line)
            if is_whole("\n".join(lines)):
                found.append("\n".join(lines))
                lines.clear()
    assert not lines, lines
    return found


def is_whole(text: str) -> bool:
    """Whether the shell has nothing to ask for; a here-document without its end is warned of."""
    asked = subprocess.run(  # noqa: S603 - the document's own words
        [*BASH, "-n"], input=f"{text}\n", capture_output=True, text=True, check=False
    )
    return not text.endswith("\\") and asked.returncode == 0 and not asked.stderr


@dataclass(frozen=True)
class Reader:
    """Somebody with a home, and panward first in the path."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        tools = Path(sys.executable).parent
        assert (tools / "panward").is_file()
        return {"HOME": str(self.home), "PATH": f"{tools}:{os.environ['PATH']}"}

    def types(self, script: str) -> Sequence[str]:
        """Type it in; the lines that are printed. What was begun in the background is ended."""
        script = f"trap 'kill $(jobs -p)' EXIT\n{script}"
        done = subprocess.run(  # noqa: S603 - the document's own words
            ["/usr/bin/timeout", "110", *BASH, "-c", script],  # which ends the receiver, too
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.splitlines()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Give a reader in whose other terminal the first block runs."""
    reader, said = Reader(tmp_path), tmp_path / "terminal"
    (command,) = typed(blocks(SHOWN)[0])
    with said.open("wb") as terminal:
        process = subprocess.Popen(  # noqa: S603 - the document's own words
            [*BASH, "-c", f"exec {command}"],
            env=reader.environment,
            cwd=tmp_path,
            stdout=terminal,
            stderr=terminal,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        until(lambda: "ready:" in said.read_text(), "it is never ready", seconds=START_SECONDS)
        yield reader
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(STOP_SECONDS)
    assert status == 0, said.read_text()


@pytest.mark.timeout(300)
def test_its_blocks_lead_from_nothing_to_a_webhook_delivered(reader: Reader) -> None:
    shown = blocks(SHOWN)
    assert len(shown) == 7, "started, paid, secret and URL, receiver, reported, looked at, tested"
    *made, looked_at, tested = ["\n".join(typed(block)) for block in shown[1:]]
    script = "\n".join([*made, looked_at.splitlines()[0], DELIVERED, looked_at, tested])
    assert script.count(RECEIVER_PORT) == 2
    (port,) = free_ports(1)
    lines = reader.types(script.replace(RECEIVER_PORT, str(port)))

    assert lines[:2] == ["200", "200"]
    told = [line for line in lines if line.startswith("cb_")]
    assert re.fullmatch(r"cb_[0-9a-z]{26} charge\.dispute\.created", told[0])
    assert [line.split()[1] for line in told].count("charge.dispute.created") == 1

    callbacks, deliveries, payments, entry = documents("\n".join(lines))
    (callback,), (delivery,), (payment,) = (
        listed["data"] for listed in (callbacks, deliveries, payments)
    )
    assert (callback["effect"], callback["is_scrubbed"]) == ("dispute_opened", True)
    assert f"{callback['id']} charge.dispute.created" == told[0]
    assert (delivery["callback"], delivery["last_status"]) == (callback["id"], 204)
    assert [event["callback"] for event in payment["events"]] == [callback["id"]]
    assert payment["id"] == callback["authorization"]
    assert "callback.received" in json.dumps(entry)
    assert shown[-1].splitlines()[-1] in lines

    kept = [path.read_bytes() for path in reader.home.glob("panward/*") if path.is_file()]
    assert not any(cards.VISA.encode() in each for each in kept)


def documents(printed: str) -> Iterator[Any]:
    """Find the JSON in what was printed; calls of the API end without a newline."""
    at = printed.find("{")
    while at >= 0:
        document, end = json.JSONDecoder().raw_decode(printed, at)
        yield document
        at = printed.find("{", end)
