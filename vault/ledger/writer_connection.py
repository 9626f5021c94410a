"""The writer's own connection: one transaction at a time, under the head lock.

What lives here: how a transaction begins, what it inserts, and whether its COMMIT is known to
have been carried out. What never may: who waits for it, and what is done about a doubt
(`vault/ledger/store.py`).
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg
from msgspec import UNSET

from vault.db import FOREIGN, Database, known
from vault.ledger.entry import Draft
from vault.ledger.tree import CompactRange
from vault.ledger.unit import Line, Placed

COMMIT_SECONDS: Final = 2.0
WORK_SECONDS: Final = 5.0  # all before COMMIT: longer than the server's own limits
PAGE_ENTRIES: Final = 10_000
PLANS_SECONDS: Final = 2.0

# Lock not available, serialization failure, deadlock: nothing was written, so try again.
TRY_AGAIN: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)
NO_ROOM: Final = (asyncpg.DiskFullError, asyncpg.PostgresIOError)
CORRUPT: Final = (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError)
DOUBTFUL_WARNING: Final = "01000"  # "canceling wait for synchronous replication"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Doubtful(Exception):
    """COMMIT was sent and its answer is not known."""


class Inconsistent(Exception):
    """The head contradicts itself, or what this process saw acknowledged."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(slots=True)
class Added:
    """What one transaction adds, in index order."""

    lines: list[Line] = field(default_factory=list)
    places: list[Placed] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


class WriterConnection:
    """A connection outside the pool, opened when it is needed, dropped after every doubt."""

    def __init__(self, database: Database, *, replica: str, boot: UUID) -> None:
        self._database = database
        self._replica = replica
        self._boot = boot
        self._connection: Connection | None = None
        self._warned = False
        self._is_alone = True
        self._plans_end = 0.0

    @property
    def connection(self) -> Connection:
        """For the statements of units, inside the transaction."""
        assert self._connection is not None
        return self._connection

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """End a connection whose server falls silent before COMMIT: nothing was written then."""
        loop = asyncio.get_running_loop()
        watchdog = loop.call_later(WORK_SECONDS, self.connection.terminate)
        try:
            yield
        finally:
            watchdog.cancel()

    async def open(self, last: CompactRange | None) -> None:
        """Have a connection; a new one must extend `last`, which was acknowledged.

        A standby that lags, or an older copy, must not be appended to. Raises Inconsistent;
        StoreUnavailable; what asyncpg raises.
        """
        if self._connection is not None and not self._connection.is_closed():
            return
        self._connection = await self._database.connect_apart()
        self._connection.add_log_listener(self._heard)
        with self.bounded():
            await self._connection.execute(_SESSION)
        if last is not None:
            await self._check_extends(last)

    async def begin(self, last: CompactRange | None) -> CompactRange:
        """Take the head lock, and return the head: the lock and the state are the same row.

        Raises Inconsistent when it contradicts itself, or `last`; what asyncpg raises.
        """
        if last is not None and self._is_alone and await self._begin_at(last):
            return last
        if last is None or not self._is_alone:
            await self.connection.execute(f"{self._new_plans()}BEGIN")
        row = await self.connection.fetchrow(
            "SELECT size, root, peaks FROM head WHERE one = 1 FOR UPDATE"
        )
        head = _head_of(row)
        if last is not None and (
            head.size < last.size or (head.size == last.size and head.root() != last.root())
        ):
            raise Inconsistent("rollback")
        self._is_alone = last is None or head.size == last.size
        return head

    async def _begin_at(self, last: CompactRange) -> bool:
        """Begin, lock and compare in one round trip: enough while nobody else appends.

        The lock is held either way, for each of the statements sees what was committed before
        it. Simple protocol, so without parameters: numbers and hex of our own.
        """
        status = await self.connection.execute(
            f"{self._new_plans()}BEGIN; EXECUTE lock_head;"
            f" EXECUTE same_head ({last.size}, '\\x{last.root().hex()}',"
            f" '\\x{last.peaks_bytes().hex()}')"
        )
        return status == "SELECT 1"

    def _new_plans(self) -> str:
        now = asyncio.get_running_loop().time()
        if now < self._plans_end:
            return ""
        self._plans_end = now + PLANS_SECONDS
        return "DISCARD PLANS; "

    async def insert(
        self, head: CompactRange, grown: CompactRange, added: Added, next_n: int
    ) -> None:
        """Insert entries and details, and move the head. Raises Inconsistent if it has moved."""
        lines = added.lines
        with_detail = [line for line in lines if line.detail is not None]
        status = await self.connection.execute(
            _APPEND,
            [line.entry.id for line in lines],
            [line.entry.type for line in lines],
            known([line.entry.intent_id for line in lines]),
            known([_tenant_of(line.entry) for line in lines]),
            [place.leaf for place in added.places],
            added.bodies,
            [line.entry.id for line in with_detail],
            [line.detail.salt for line in with_detail if line.detail],
            [line.detail.body for line in with_detail if line.detail],
            self._replica,
            self._boot,
            next_n + len(lines) - 1,
            head.size,
            grown.size,
            grown.root(),
            grown.peaks_bytes(),
        )
        if status != "UPDATE 1":
            raise Inconsistent("fork")

    async def present(self, ids: Sequence[str]) -> int:
        """How many of these entries there are."""
        found = await self.connection.fetchval("SELECT count(*) FROM entry WHERE id = ANY($1)", ids)
        assert isinstance(found, int)
        return found

    async def touch(self) -> None:
        """Write something, so that the answer to COMMIT tells of more than our own looking."""
        await self.connection.execute("UPDATE head SET touched = clock_timestamp() WHERE one = 1")

    async def commit(self) -> None:
        """COMMIT with an outer deadline: a canceled COMMIT would report success (01000).

        Raises Doubtful.
        """
        self._warned = False
        connection = self.connection
        commit = asyncio.create_task(connection.execute("COMMIT"), name="ledger-commit")
        try:
            await asyncio.wait((commit,), timeout=COMMIT_SECONDS)
        finally:
            if not commit.done():
                connection.terminate()  # which ends the task, too
                await asyncio.gather(commit, return_exceptions=True)
        if commit.exception() is not None or self._warned:
            raise Doubtful

    async def roll_back(self) -> None:
        try:
            with self.bounded():
                await self.connection.execute("ROLLBACK")
        except FOREIGN:
            self.drop()

    async def _check_extends(self, last: CompactRange) -> None:
        with self.bounded():
            head = await self.connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
        if head is None or head["size"] < last.size:
            raise Inconsistent("rollback")
        grown = CompactRange(last.size, last.peaks)
        while grown.size < head["size"]:
            with self.bounded():
                rows = await self.connection.fetch(
                    "SELECT leaf_hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
                    grown.size,
                    min(grown.size + PAGE_ENTRIES, head["size"]),
                )
            if not rows:
                raise Inconsistent("root_mismatch")
            grown.extend([row["leaf_hash"] for row in rows])
        if grown.root() != head["root"]:
            raise Inconsistent("rollback")

    def _heard(self, _connection: object, message: object) -> None:
        if getattr(message, "sqlstate", None) == DOUBTFUL_WARNING:
            self._warned = True


def _head_of(row: asyncpg.Record | None) -> CompactRange:
    """Read the head row. Raises Inconsistent when its peaks have another root."""
    if row is not None:
        with suppress(ValueError):
            head = CompactRange.from_bytes(row["size"], row["peaks"])
            if head.root() == row["root"]:
                return head
    raise Inconsistent("root_mismatch")


def _tenant_of(entry: Draft) -> str | None:
    tenant = getattr(entry, "tenant", UNSET)
    return tenant if isinstance(tenant, str) else None


# A plan made for each call costs more than the call. One that is kept must not outlive what it
# was made for, though: tables that were empty a moment ago. So all are made anew now and then.
# And whatever statistics say, or do not say yet: a few rows are looked up by their keys.
_SESSION: Final = """
SET plan_cache_mode = force_generic_plan;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
PREPARE lock_head AS SELECT 1 FROM head WHERE one = 1 FOR UPDATE;
PREPARE same_head (bigint, bytea, bytea) AS
  SELECT 1 FROM head WHERE one = 1 AND size = $1 AND root = $2 AND peaks = $3
"""

_APPEND: Final = """
WITH entries AS (
  INSERT INTO entry (idx, id, type, intent, tenant, leaf_hash, body)
  SELECT $13 + place - 1, id, type, intent, tenant, leaf, body
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[])
    WITH ORDINALITY AS w (id, type, intent, tenant, leaf, body, place)
), details AS (
  INSERT INTO detail (id, salt, body)
  SELECT * FROM unnest($7::uuid[], $8::bytea[], $9::bytea[]) ON CONFLICT DO NOTHING
), counter AS (
  INSERT INTO replica (id, boot, n) VALUES ($10, $11, $12)
  ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, n = excluded.n
)
UPDATE head SET size = $14, root = $15, peaks = $16, touched = clock_timestamp()
WHERE one = 1 AND size = $13 AND ($13 = 0 OR EXISTS (SELECT 1 FROM entry WHERE idx = $13 - 1))
"""
