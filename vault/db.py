"""PostgreSQL: connections, the one transaction verb, migrations and what a start must find.

Only this module sees asyncpg's exceptions: their `detail` quotes row values, so nothing of one
is kept but its class. SQL of tables is in the `*_table` modules; the ledger's writer has a
connection of its own (`vault/ledger/store.py`).
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from typing import Final, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from vault.errors import StartRefused, StoreBusy, StoreFull, StoreUnavailable

T = TypeVar("T")
Record = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_SECONDS: Final = 0.5
COMMAND_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 3.0
POOL_CONNECTIONS_MAX: Final = 10
VERSION_MIN: Final = 15
MIGRATION_LOCK: Final = 0x70616E77  # "panw"

SETTINGS: Final = {
    "application_name": "panward",
    "synchronous_commit": "on",
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "tcp_user_timeout": "5s",
    "tcp_keepalives_idle": "2",  # a host that is gone holds no lock for two hours
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}

# asyncpg.InternalClientError is not a PostgresError: a connection lost under uvloop raises it.
FOREIGN: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


async def _nothing_to_reset(_connection: object) -> None:
    """Spare a round trip at each release: nothing here sets, listens, locks or leaves a cursor."""


def known(column: Sequence[T | None]) -> Sequence[T | None]:
    """A column of `unnest($1, $2)`, beside one that is full: empty if it is NULL throughout.

    unnest fills shorter arrays up with NULL, and asyncpg looks at each value of an array thrice.
    """
    return () if column.count(None) == len(column) else column


def first_if_alike(column: Sequence[T]) -> Sequence[T]:
    """A column without NULL beside one that is full: one value if all are that.

    The statement takes the first where `unnest` filled up: `coalesce(w.name, ($1)[1])`.
    """
    return column[:1] if column.count(column[0]) == len(column) else column


def store_error(kind: type[BaseException]) -> type[StoreUnavailable]:
    """Our error for the class of a foreign one."""
    if issubclass(kind, asyncpg.TooManyConnectionsError):
        return StoreBusy
    if issubclass(kind, asyncpg.DiskFullError):
        return StoreFull
    return StoreUnavailable


class Database:
    """The runtime role's pool."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", dsn: str) -> None:
        self._pool = pool
        self.dsn = dsn

    @classmethod
    async def open(cls, dsn: str) -> "Database":
        """Connect as the runtime role.

        Raises StoreUnavailable when the server cannot be reached.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=2,
                max_size=POOL_CONNECTIONS_MAX,
                command_timeout=COMMAND_SECONDS,
                timeout=CONNECT_SECONDS,
                server_settings=SETTINGS,
                reset=_nothing_to_reset,
            )
        except FOREIGN as error:
            kind = type(error)
        else:
            return cls(pool, dsn)
        raise store_error(kind)

    async def close(self) -> None:
        """Give open connections two seconds, then end them."""
        try:
            await asyncio.wait_for(self._pool.close(), COMMAND_SECONDS)
        except FOREIGN:
            self._pool.terminate()

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` on a connection, each statement for itself.

        Raises StoreUnavailable, StoreBusy or StoreFull.
        """
        try:
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                return await work(connection)
        except FOREIGN as error:
            kind = type(error)
        raise store_error(kind)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction; a lost answer to COMMIT raises like a failure.

        So `work` must be safe to repeat. Raises StoreUnavailable, StoreBusy or StoreFull.
        """
        try:
            async with (
                self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection,
                connection.transaction(),
            ):
                return await work(connection)
        except FOREIGN as error:
            kind = type(error)
        raise store_error(kind)

    async def connect_apart(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection outside the pool, for the ledger's writer.

        Raises StoreUnavailable, StoreBusy or StoreFull.
        """
        try:
            return await asyncpg.connect(
                self.dsn, timeout=CONNECT_SECONDS, server_settings=SETTINGS
            )
        except FOREIGN as error:
            kind = type(error)
        raise store_error(kind)


# --- migrations ---------------------------------------------------------------------------


def _migrations() -> list[tuple[int, str, str]]:
    folder = resources.files("vault") / "schema"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name[:4]), name, (folder / name).read_text("ascii")) for name in names]


async def migrate(owner_dsn: str, *, runtime_role: str) -> list[str]:
    """Bring the schema up to date as the owner role, and return the names of what was applied.

    Under an advisory lock, so that replicas that start together do it once. Raises StartRefused
    when an applied migration differs from the one in this release, or is from a later one.
    """
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", runtime_role):
        raise StartRefused("the runtime role's name must be lower-case letters, digits and _")
    try:
        connection = await asyncpg.connect(owner_dsn, timeout=CONNECT_SECONDS)
        try:
            return await _migrate(connection, runtime_role)
        finally:
            await connection.close()
    except FOREIGN as error:
        kind = type(error)
    raise StartRefused(f"the database cannot be prepared as its owner ({kind.__name__})")


async def _migrate(connection: "asyncpg.Connection[asyncpg.Record]", runtime: str) -> list[str]:
    await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text NOT NULL,"
        " sha256 bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    await connection.execute(f"GRANT SELECT ON migration TO {runtime}")
    done = {row["number"]: row["sha256"] for row in await connection.fetch("TABLE migration")}
    known = _migrations()
    if done and max(done) > known[-1][0]:
        raise StartRefused("the database was prepared by a later release of panward")
    applied = []
    for number, name, text in known:
        digest = hashlib.sha256(text.encode("ascii")).digest()
        if number in done:
            if done[number] != digest:
                raise StartRefused(f"schema/{name} is not the one this database was made with")
            continue
        async with connection.transaction():
            await connection.execute(text.replace("{runtime}", runtime))
            await connection.execute(
                "INSERT INTO migration (number, name, sha256) VALUES ($1, $2, $3)",
                number, name, digest,
            )  # fmt: skip
        applied.append(name)
    return applied


# --- what a start must find ---------------------------------------------------------------


async def check_server(dsn: str) -> None:
    """Refuse a server that could lose an acknowledged entry, or a role that could edit one.

    Looks through a connection without our settings, so that the defaults of the server, the
    database and the role count too. Raises StartRefused with what to change.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)
        schema = None
        try:
            row = await connection.fetchrow(_SERVER_FACTS)
            assert row is not None
            if not row["unprepared"]:
                schema = await connection.fetchval("SELECT max(number) FROM migration")
        finally:
            await connection.close()
    except FOREIGN as error:
        kind = type(error)
    else:
        for problem in server_problems(dict(row)):
            raise StartRefused(problem)
        if schema is None or schema < _migrations()[-1][0]:
            raise StartRefused("the database has an older schema: give the owner's DSN too")
        return
    raise StartRefused(f"PostgreSQL does not answer the runtime role ({kind.__name__})")


_SERVER_FACTS: Final = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('data_sync_retry') AS data_sync_retry,
  pg_is_in_recovery() AS standby,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
  to_regclass('migration') IS NULL AS unprepared,
  coalesce(has_table_privilege(to_regclass('entry'), 'UPDATE')
    OR has_table_privilege(to_regclass('entry'), 'DELETE')
    OR has_table_privilege(to_regclass('entry'), 'TRUNCATE'), false) AS may_edit
"""


def server_problems(facts: Mapping[str, object]) -> list[str]:
    """What about this server must be changed before a card is entrusted to it; pure."""
    version = facts["version"]
    assert isinstance(version, int)
    rules = [
        (version < VERSION_MIN, f"PostgreSQL must be {VERSION_MIN} or newer"),
        (facts["fsync"] != "on", "PostgreSQL must run with fsync = on"),
        (facts["full_page_writes"] != "on", "PostgreSQL must run with full_page_writes = on"),
        (
            facts["synchronous_commit"] not in ("on", "remote_apply"),
            "synchronous_commit must be on or remote_apply, for the server, database and role",
        ),
        (facts["data_sync_retry"] != "off", "PostgreSQL must run with data_sync_retry = off"),
        (facts["standby"], "the database is a standby: point panward at the primary"),
        (facts["superuser"], "the runtime role must not be a superuser"),
        (facts["unprepared"], "the database has no schema yet: give the owner's DSN too"),
        (facts["may_edit"], "the runtime role must not be able to change or delete entries"),
    ]
    return [problem for found, problem in rules if found]
