"""A prepared database for one test, the ledgers that write to it, and what is in it afterwards."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg

from tests import databases
from tests.vault.ledger.samples import ORIGIN, new_hash, new_replica, new_uuid
from vault.db import Database, Record, migrate
from vault.deployment import Boot, put_start_on_record
from vault.embedded.bootstrap import EmbeddedParts
from vault.embedded.layout import RUNTIME
from vault.embedded.postgres import DATABASE
from vault.ledger.check import LogCheck, Report
from vault.ledger.entry import Entry, decode
from vault.ledger.reading import read_entries, read_head
from vault.ledger.store import Ledger
from vault.observer import Silent

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass
class Clock:
    """The time as the test sets it. PostgreSQL keeps its own: start near it."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **by: float) -> datetime:
        self.at += timedelta(**by)
        return self.at


@dataclass
class Appends(Silent):
    """Remembers how each transaction of a ledger ended, and how many entries it had."""

    seen: list[tuple[int, str]] = field(default_factory=list)

    def ledger_appended(self, entries: int, seconds: float, result: str) -> None:
        assert seconds >= 0
        self.seen.append((entries, result))

    @property
    def sizes(self) -> list[int]:
        return [entries for entries, result in self.seen if result == "ok" and entries]

    @property
    def results(self) -> set[str]:
        return {result for _, result in self.seen}


@dataclass
class Replica:
    """A ledger as one process has it."""

    ledger: Ledger
    name: str
    boot: UUID
    appends: Appends


@dataclass
class Store:
    """A database with our schema, for one test."""

    dsns: databases.Database
    database: Database
    clock: Clock
    _owner: Connection

    @asynccontextmanager
    async def replica(
        self, *, database: Database | None = None, name: str | None = None, start: bool = True
    ) -> AsyncIterator[Replica]:
        """Run a ledger on this store, its start on record; closed at the end."""
        appends = Appends()
        boot = Boot(UUID(new_uuid()), name or new_replica(), "0.1.0", new_hash())
        ledger = Ledger(
            database or self.database,
            replica=boot.replica,
            boot=boot.id,
            now=self.clock,
            observer=appends,
        )
        ledger.start()
        try:
            if start:
                await put_start_on_record(
                    self.database, ledger, boot, env="test", origin=ORIGIN,
                    public_key=bytes(32), now=self.clock,
                )  # fmt: skip
                appends.seen.clear()
            yield Replica(ledger, boot.replica, boot.id, appends)
        finally:
            await ledger.close()

    async def rows(self, statement: str, *values: object) -> Sequence[Record]:
        """Ask as the owner of the tables."""
        return await self._owner.fetch(statement, *values)

    async def value(self, statement: str, *values: object) -> object:
        answer: object = await self._owner.fetchval(statement, *values)
        return answer

    async def count(self, table: str) -> int:
        return int(await self._owner.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608

    async def do(self, statement: str, *values: object) -> None:
        await self._owner.execute(statement, *values)

    @asynccontextmanager
    async def session(self, *, owner: bool = False) -> AsyncIterator[Connection]:
        """Open one more connection, as the runtime role."""
        dsn = self.dsns.owner_dsn if owner else self.dsns.runtime_dsn
        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            connection.terminate()

    @asynccontextmanager
    async def head_locked(self) -> AsyncIterator[None]:
        """Hold the head lock, as a replica that was stopped in the middle would."""
        async with self.session() as other, other.transaction():
            await other.execute("SELECT 1 FROM head WHERE one = 1 FOR UPDATE")
            yield

    async def until(self, question: str, *values: object) -> None:
        """Wait until the answer is true."""
        async with asyncio.timeout(60):
            while not await self.value(question, *values):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)

    async def until_blocked(self, number: int = 1) -> None:
        """Wait until so many sessions of this database wait for a lock."""
        await self.until(
            "SELECT count(DISTINCT pid) >= $1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND NOT granted",
            number,
        )

    async def report(self) -> Report:
        """Check the whole log by the auditor's rules."""
        check = LogCheck()
        head = await read_head(self.database)
        async for page in read_entries(self.database, below=2**62):
            for row in page:
                check.feed(row.index, row.body, row.leaf, row.type, row.intent)
        return check.finish(head.size, head.root)

    async def entries(self, type_name: str | None = None) -> list[Entry]:
        """Read what is in the log, in its order."""
        found = []
        async for page in read_entries(self.database, below=2**62):
            found += [decode(row.body) for row in page]
        return [entry for entry in found if type_name in (None, entry.type)]

    async def types(self) -> list[str]:
        """Name the entries, without the starts."""
        starts = ("log.opened", "gateway.started")
        return [entry.type for entry in await self.entries() if entry.type not in starts]


async def migrated(dsns: databases.Database) -> databases.Database:
    await migrate(dsns.owner_dsn, runtime_role=RUNTIME)
    return dsns


async def shared_database(parts: EmbeddedParts) -> databases.Database:
    """Make a database that more than one test uses; it goes with the deployment."""
    name = f"{DATABASE}_{secrets.token_hex(6)}"
    owner = await asyncpg.connect(parts.owner_dsn)
    await owner.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await owner.close()
    dsns = (
        dsn.replace(f"/{DATABASE}?", f"/{name}?") for dsn in (parts.owner_dsn, parts.runtime_dsn)
    )
    return await migrated(databases.Database(name, *dsns))


@asynccontextmanager
async def opened(dsns: databases.Database) -> AsyncIterator[Store]:
    owner = await asyncpg.connect(dsns.owner_dsn)
    database = await Database.open(dsns.runtime_dsn)
    store = Store(dsns, database, Clock(), owner)
    try:
        yield store
    finally:
        await database.close()
        await store.until(_ALONE)  # the server learns of an aborted connection a little later
        await owner.close()


_ALONE = """
SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid())
"""


async def settled() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(what: Callable[[], object]) -> None:
    """Wait until it is true: nobody tells."""
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)
