"""A replica in a process of its own, for tests that stop or kill it, or what it talks to.

`AppendingProcess` is the test's end. Run as a program, this file is the other end: it appends
with several callers for as long as its standard input is open, and writes down, a line each,
what was acknowledged, before it appends anything more for that caller.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

import uvloop

from gateway.custody import utc_now
from tests.vault.ledger.samples import ORIGIN, new_hash, new_replica, new_uuid
from tests.vault.rows import Sender, ids_of, statement
from vault import db
from vault.authorization import State
from vault.db import Database
from vault.deployment import Boot, put_start_on_record
from vault.errors import CustodyError
from vault.ledger.store import Ledger
from vault.ledger.unit import Unit
from vault.observer import Silent

ROOT = Path(__file__).parent.parent.parent.parent


@dataclass(frozen=True)
class Acknowledged:
    """What the author of an entry was told."""

    id: str
    idx: int
    leaf: bytes


@dataclass
class AppendingProcess:
    """Appends until it is closed; its record is a file, and so outlives it."""

    record: Path
    _process: "subprocess.Popen[bytes]"

    @classmethod
    def started(cls, dsn: str, record: Path, *, callers: int = 8, **settings: str) -> Self:
        """`settings`: of PostgreSQL, in place of ours."""
        command = [sys.executable, "-m", "tests.vault.ledger.appending_process"]
        process = subprocess.Popen(  # noqa: S603 - our own words
            [*command, dsn, str(record), str(callers), json.dumps(settings)],
            stdin=subprocess.PIPE,
            cwd=ROOT,
        )
        return cls(record, process)

    def acknowledged(self) -> Sequence[Acknowledged]:
        if not self.record.exists():
            return []
        lines = self.record.read_bytes().splitlines(keepends=True)
        whole = (line.split() for line in lines if line.endswith(b"\n"))
        return [Acknowledged(a.decode(), int(b), bytes.fromhex(c.decode())) for a, b, c in whole]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> int:
        """Let it stop if it still runs, and give its exit status."""
        if self._process.returncode is None:
            try:
                self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode

    async def until_acknowledged(self, more: int, *, seconds: float = 30) -> float:
        """Wait for so many more; say how long that took."""
        loop = asyncio.get_running_loop()
        before, started = len(self.acknowledged()), loop.time()
        async with asyncio.timeout(seconds):
            while len(self.acknowledged()) < before + more:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.02)
        return loop.time() - started


class Appending:
    """The callers of one process."""

    def __init__(self, ledger: Ledger, boot: Boot, record: int) -> None:
        self._ledger = ledger
        self._record = record
        self._sender = Sender(replica=boot.replica, boot=boot.id)
        self.is_over = asyncio.Event()

    async def caller(self, number: int) -> None:
        """Append statements; every third caller intents and what becomes of them."""
        while not self.is_over.is_set():
            if number % 3:
                await self._tried(statement())
                continue
            opened = self._sender.opens()
            if await self._tried(opened):
                await self._tried(self._sender.settles(opened, State.UNKNOWN))

    async def _tried(self, unit: Unit) -> bool:
        try:
            (place,) = await self._ledger.append(unit, seconds=10)
        except CustodyError:
            await asyncio.sleep(0.05)
            return False
        (identity,) = ids_of(unit)  # type: ignore[arg-type]
        os.write(self._record, f"{identity} {place.idx} {place.leaf.hex()}\n".encode())
        return True


async def appending(dsn: str, record: Path, callers: int) -> None:
    database = await Database.open(dsn)
    boot = Boot(UUID(new_uuid()), new_replica(), "0.1.0", new_hash())
    ledger = Ledger(database, replica=boot.replica, boot=boot.id, now=utc_now, observer=Silent())
    ledger.start()
    await put_start_on_record(
        database, ledger, boot, env="test", origin=ORIGIN, public_key=bytes(32), now=utc_now
    )
    handle = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    work = Appending(ledger, boot, handle)
    asyncio.get_running_loop().add_reader(sys.stdin, work.is_over.set)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(work.caller(number))
    finally:
        await ledger.close()
        await database.close()
        os.close(handle)
    assert ledger.sealed_because is None, ledger.sealed_because


def main(dsn: str, record: str, callers: str, settings: str) -> None:
    db.SETTINGS.update(json.loads(settings))
    uvloop.run(appending(dsn, Path(record), int(callers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
