"""`panward witness` as a person runs it."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.commands.witness import witness
from tests.gateway.witness.places import NAME, Place, Tls
from tests.gateway.witness.signed_log import SignedLog
from vault.errors import StartRefused
from vault.ledger.note import parse_note
from vault.ledger.policy import parse_policy

PROGRAM = "import typer; from gateway.commands.witness import witness; typer.run(witness)"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "witness", Tls(tmp_path), [SignedLog.of_size(9)])


async def test_it_says_who_it_is_serves_and_ends_at_a_signal(place: Place) -> None:
    log = place.logs[0]
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *place.arguments(0), stdout=PIPE, stderr=PIPE
    )
    assert started.stderr is not None
    try:
        async with asyncio.timeout(30):
            listening, _, policy = [(await started.stderr.readline()).decode() for _ in range(3)]
            port = int(listening.rstrip().rpartition(":")[2])
            async with place.https(port) as client:
                answer = await client.post("/add-checkpoint", log.request(0).body)
            assert answer.status == 200
            started.send_signal(signal.SIGTERM)
            told, complaints = await started.communicate()
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    assert (started.returncode, complaints) == (0, b"")
    rules = parse_policy(f"log {log.key.text}\n{policy}quorum {NAME}\n")
    assert NAME in rules.check(parse_note(log.note().raw + answer.body)).witnesses
    (event,) = [json.loads(line) for line in told.splitlines()]
    assert (event["route"], event["status"]) == ("/add-checkpoint", 200)


def run(arguments: list[str]) -> tuple[int, object]:
    app = typer.Typer()
    app.command()(witness)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.exception


@pytest.mark.parametrize("listen", ["8500", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":1"])
def test_where_it_listens_must_be_said(place: Place, listen: str) -> None:
    arguments = [listen if part.startswith("127.") else part for part in place.arguments(1)]
    assert run(arguments)[0] == 2
    assert not place.folder.exists()


def test_a_log_must_be_named(place: Place) -> None:
    assert run(place.arguments(1)[:-2])[0] == 2


def test_what_is_no_key_of_a_log_stops_the_start(place: Place) -> None:
    _, error = run([*place.arguments(1), "--log", "ledger.example/x+00000000+AQ=="])
    assert isinstance(error, StartRefused)
    assert not place.folder.exists()
