"""A witness that is killed at any moment has signed one history: `kill -9`, again and again."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.https_client import HttpsClient, Unreachable
from gateway.witness.identity import read_identity
from tests.gateway.witness.places import NAME, Place, Tls
from tests.gateway.witness.signed_log import SignedLog
from tests.gateway.witness.witness_process import Nursery, nursery
from vault.ledger.note import parse_note, verified

ROUNDS = 10
ENTRIES = 512
ENOUGH = 3


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def living(witnesses: Nursery, place: Place, port: int) -> AsyncIterator[Callable[[], None]]:
    """Run a witness, and when it answers give what kills it; it is killed in any case."""
    process = await witnesses.start(place.arguments(port))
    is_alive = True

    def kill() -> None:
        nonlocal is_alive
        if is_alive:
            os.kill(process, signal.SIGKILL)
        is_alive = False

    try:
        async with asyncio.timeout(30), place.https(port) as client:
            while not await is_there(client):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        yield kill
    finally:
        kill()
        await witnesses.ended()


async def is_there(client: HttpsClient) -> bool:
    try:
        await client.get("/")
    except Unreachable:
        return False
    return True


@dataclass
class Client:
    """Shows one of two histories, whatever the witness says to it; keeps what it was given."""

    log: SignedLog
    client: HttpsClient
    has_enough: asyncio.Event
    believed: int = 0
    cosigned: list[bytes] = field(default_factory=list)
    step: int = 1

    async def run(self) -> None:
        while True:
            size = min(self.believed + self.step, ENTRIES)
            self.step = self.step % 5 + 1
            try:
                answer = await self.client.post(
                    "/add-checkpoint", self.log.request(self.believed, size).body
                )
            except Unreachable:
                return
            match answer.status:
                case 200:
                    self.cosigned.append(self.log.note(size).raw + answer.body)
                    self.believed = size
                    if len(self.cosigned) >= ENOUGH:
                        self.has_enough.set()
                case 409:
                    self.believed = int(answer.body)
                case 422:  # the other history is cosigned
                    self.believed = 0
                case status:
                    raise AssertionError(status)


@pytest.mark.guards("T-75")
async def test_ten_kills_leave_one_history(tmp_path: Path) -> None:
    log = SignedLog.of_size(ENTRIES)
    fork = log.forked(2)
    place = Place(tmp_path / "witness", Tls(tmp_path), [log])
    port = free_port()
    given: list[bytes] = []
    async with nursery() as witnesses:
        for number in range(ROUNDS):
            async with living(witnesses, place, port) as kill, place.https(port) as client:
                has_enough = asyncio.Event()
                clients = [Client(one, client, has_enough) for one in (log, fork, log, fork)]
                async with asyncio.TaskGroup() as tasks:
                    for each in clients:
                        tasks.create_task(each.run())
                    await has_enough.wait()
                    await asyncio.sleep(0.003 * number)  # any moment will do
                    kill()
                given += [note for each in clients for note in each.cosigned]
        async with living(witnesses, place, port), place.https(port) as client:
            given.append((await client.get(log.path)).body)
    check_one_history(given, place)


def check_one_history(given: Sequence[bytes], place: Place) -> None:
    """Check that no two heads contradict each other, and that what was told was kept."""
    (log,) = place.logs
    key = read_identity(place.folder / "key", NAME).key
    roots: dict[int, str] = {}
    size = 0
    for raw in given:
        note = parse_note(raw)
        assert {each.key for each in verified(note, [log.key, key])} == {log.key, key}
        _, text, root = note.text.splitlines()
        size = int(text)
        assert roots.setdefault(size, root) == root
    assert size == max(roots)
    assert len(roots) > ROUNDS
