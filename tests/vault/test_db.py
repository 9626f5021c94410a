"""Connections, transactions and errors; migrations; and which servers are refused."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests import databases
from tests.vault.rows import statement
from tests.vault.stores import Store, opened, until
from vault import db
from vault.db import Connection, Database, check_server, migrate, server_problems
from vault.embedded.layout import OWNER, RUNTIME
from vault.errors import StartRefused, StoreBusy, StoreFull, StoreUnavailable

pytestmark = pytest.mark.embedded

CANARY = "canary-in-a-row"
Verb = Callable[[Callable[[Connection], Awaitable[object]]], Awaitable[object]]

MIGRATIONS = [f"000{number}.sql" for number in range(1, 8)]


async def one(connection: Connection) -> object:
    answer: object = await connection.fetchval("SELECT 1")
    return answer


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (asyncpg.TooManyConnectionsError, StoreBusy),
        (asyncpg.DiskFullError, StoreFull),
        (asyncpg.UniqueViolationError, StoreUnavailable),
        (asyncpg.InternalClientError, StoreUnavailable),
        (asyncpg.InterfaceError, StoreUnavailable),
        (ConnectionRefusedError, StoreUnavailable),
        (TimeoutError, StoreUnavailable),
    ],
)
def test_our_error_for_each_foreign_one(
    kind: type[BaseException], ours: type[StoreUnavailable]
) -> None:
    assert db.store_error(kind) is ours
    assert issubclass(kind, db.FOREIGN)


@pytest.mark.guards("T-32")
@pytest.mark.parametrize("verb", ["read", "transact"])
async def test_nothing_of_a_foreign_error_gets_out(shared_store: Store, verb: str) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO tenant (id, name, created_at) VALUES ($1, 'x', now())", CANARY
        )

    run: Verb = getattr(shared_store.database, verb)
    with pytest.raises(StoreUnavailable) as caught:
        await run(work)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert CANARY not in str(caught.value)
    assert await run(one) == 1


async def test_our_own_errors_pass(shared_store: Store) -> None:
    async def work(_connection: Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await shared_store.database.read(work)
    with pytest.raises(ZeroDivisionError):
        await shared_store.database.transact(work)


# --- transactions and connections -----------------------------------------------------------


async def test_a_transaction_is_all_or_nothing(shared_store: Store) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO replica VALUES ($1, gen_random_uuid(), 0)", "r_half")
        await connection.execute("SELECT 1 / 0")

    with pytest.raises(StoreUnavailable):
        await shared_store.database.transact(work)
    assert not await shared_store.value("SELECT count(*) FROM replica WHERE id = 'r_half'")

    async def whole(connection: Connection) -> str:
        return await connection.execute("INSERT INTO replica VALUES ('r_w', gen_random_uuid(), 0)")

    assert await shared_store.database.transact(whole) == "INSERT 0 1"
    assert await shared_store.value("SELECT count(*) FROM replica WHERE id = 'r_w'") == 1


@pytest.mark.guards("F-13", "F-16")
@pytest.mark.parametrize("apart", [False, True])
async def test_every_connection_has_our_settings(shared_store: Store, apart: bool) -> None:  # noqa: FBT001
    expected = {
        name: value for name, value in db.SETTINGS.items() if not name.startswith("tcp_")
    }  # those say 0 on a Unix socket

    async def settings(connection: Connection) -> dict[str, str]:
        return {name: await connection.fetchval(f"SHOW {name}") for name in expected}

    if apart:
        connection = await shared_store.database.connect_apart()
        found = await settings(connection)
        await connection.close()
    else:
        found = await shared_store.database.read(settings)
    assert {name.lower(): value for name, value in found.items()} == expected
    assert found["synchronous_commit"] == "on"
    assert found["lock_timeout"] == "2s"


@pytest.mark.guards("F-11")
async def test_a_pool_that_is_used_up_refuses_in_time(
    shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    held: list[Connection] = []

    async def hold(connection: Connection) -> None:
        held.append(connection)
        await release.wait()

    holders = [
        asyncio.create_task(shared_store.database.read(hold))
        for _ in range(db.POOL_CONNECTIONS_MAX)
    ]
    await until(lambda: len(held) == len(holders))
    monkeypatch.setattr(db, "ACQUIRE_SECONDS", 0.05)
    with pytest.raises(StoreUnavailable):
        await shared_store.database.read(one)
    release.set()
    await asyncio.gather(*holders)
    monkeypatch.undo()
    assert await shared_store.database.read(one) == 1


@pytest.mark.guards("F-11")
async def test_a_statement_that_is_not_answered_ends_in_time(
    shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "COMMAND_SECONDS", 0.1)
    database = await Database.open(shared_store.dsns.runtime_dsn)

    async def slow(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(5)")

    started = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable):
        await database.read(slow)
    assert asyncio.get_running_loop().time() - started < 3
    assert await database.read(one) == 1
    await database.close()


@pytest.mark.guards("F-10")
async def test_a_server_that_is_away(shared_store: Store) -> None:
    away = shared_store.dsns.runtime_dsn.replace("port=5432", "port=5433")
    with pytest.raises(StoreUnavailable):
        await Database.open(away)
    with pytest.raises(StoreUnavailable):
        await Database(shared_store.database._pool, away).connect_apart()
    with pytest.raises(StartRefused, match="does not answer"):
        await check_server(away)
    with pytest.raises(StartRefused, match="cannot be prepared"):
        await migrate(away, runtime_role=RUNTIME)


async def test_a_database_that_does_not_exist(shared_store: Store) -> None:
    name = shared_store.dsns.name
    with pytest.raises(StoreUnavailable):
        await Database.open(shared_store.dsns.runtime_dsn.replace(name, f"{name}_not"))


async def test_close_waits_for_what_is_under_way_and_then_ends_it(
    shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(shared_store.dsns.runtime_dsn)
    short = asyncio.create_task(database.read(one))
    await database.close()
    assert await short == 1

    database = await Database.open(shared_store.dsns.runtime_dsn)
    monkeypatch.setattr(db, "COMMAND_SECONDS", 0.1)

    async def never(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(1)")

    stuck = asyncio.create_task(database.read(never))
    await shared_store.until(
        "SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await database.close()
    with pytest.raises(StoreUnavailable):
        await stuck


# --- migrations -----------------------------------------------------------------------------


async def test_migrations_are_applied_once_and_named(database: databases.Database) -> None:
    assert await migrate(database.owner_dsn, runtime_role=RUNTIME) == MIGRATIONS
    assert await migrate(database.owner_dsn, runtime_role=RUNTIME) == []
    async with opened(database) as store:
        rows = await store.rows("SELECT * FROM migration ORDER BY number")
        assert [(row["number"], row["name"]) for row in rows] == list(enumerate(MIGRATIONS, 1))
        assert {len(row["sha256"]) for row in rows} == {32}
        await check_server(database.runtime_dsn)


async def test_replicas_that_start_together_apply_them_once(database: databases.Database) -> None:
    applied = await asyncio.gather(
        *(migrate(database.owner_dsn, runtime_role=RUNTIME) for _ in range(5))
    )
    assert sorted(applied) == [[], [], [], [], MIGRATIONS]


async def test_another_release_s_migration_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = db._migrations()
    added = (len(known) + 1, "next.sql", "CREATE TABLE next (id int)")
    monkeypatch.setattr(db, "_migrations", lambda: [(1, "0001.sql", "SELECT 1"), *known[1:], added])
    with pytest.raises(StartRefused, match=r"0001\.sql is not the one"):
        await migrate(store.dsns.owner_dsn, runtime_role=RUNTIME)

    await store.do("INSERT INTO migration VALUES ($1, 'later.sql', $2)", added[0] + 1, bytes(32))
    with pytest.raises(StartRefused, match="later release"):
        await migrate(store.dsns.owner_dsn, runtime_role=RUNTIME)
    assert await store.value("SELECT to_regclass('next')") is None


NEXT = len(db._migrations()) + 1


@pytest.mark.parametrize(
    "fails",
    [
        f"SELECT '{CANARY}'::int",
        f"ALTER TABLE migration ADD CHECK (number < {NEXT})",  # not before it is written down
    ],
)
async def test_a_migration_that_fails_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    known = db._migrations()
    broken = (NEXT, "next.sql", f"CREATE TABLE next (id int); {fails}")
    monkeypatch.setattr(db, "_migrations", lambda: [*known, broken])
    with pytest.raises(StartRefused) as caught:
        await migrate(store.dsns.owner_dsn, runtime_role=RUNTIME)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
    assert await store.value("SELECT to_regclass('next')") is None

    mended = (NEXT, "next.sql", "CREATE TABLE next (id int)")
    monkeypatch.setattr(db, "_migrations", lambda: [*known, mended])
    assert await migrate(store.dsns.owner_dsn, runtime_role=RUNTIME) == ["next.sql"]
    digest = await store.value("SELECT sha256 FROM migration WHERE number = $1", NEXT)
    assert digest == hashlib.sha256(mended[2].encode()).digest()


@pytest.mark.parametrize("role", ["", "x; DROP TABLE entry", "Upper", 'a"b', "x" * 64, "1st"])
async def test_a_role_s_name_is_a_name(database: databases.Database, role: str) -> None:
    with pytest.raises(StartRefused, match="role's name"):
        await migrate(database.owner_dsn, runtime_role=role)


async def test_a_role_that_does_not_exist(database: databases.Database) -> None:
    with pytest.raises(StartRefused, match="cannot be prepared"):
        await migrate(database.owner_dsn, runtime_role="nobody_here")


# --- what may be changed --------------------------------------------------------------------


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    "words",
    [
        "UPDATE entry SET type = type",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "DELETE FROM head",
        "TRUNCATE head",
        "INSERT INTO head (one, size, root, peaks) VALUES (1, 0, sha256(''), '')",
        "UPDATE deployment SET env = 'live'",
        "DELETE FROM tenant",
        "DELETE FROM api_key",
        "UPDATE migration SET number = 2",
        "ALTER TABLE entry DISABLE TRIGGER ALL",
        "DROP TABLE entry",
        "CREATE TABLE mine (id int)",
        "SET session_replication_role = replica",
    ],
)
async def test_the_runtime_role_may_not(shared_store: Store, words: str) -> None:
    async with shared_store.replica() as replica:
        await replica.ledger.append(statement())
    async with shared_store.session() as runtime:
        with pytest.raises(
            (asyncpg.InsufficientPrivilegeError, asyncpg.CantChangeRuntimeParamError)
        ):
            await runtime.execute(words)
    assert (await shared_store.report()).violations == ()


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    "words",
    [
        "UPDATE entry SET type = type",
        "DELETE FROM entry WHERE false",
        "TRUNCATE entry",
        "DELETE FROM head WHERE false",
        "TRUNCATE head",
    ],
)
async def test_even_the_owner_is_stopped_from_an_oversight(shared_store: Store, words: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await shared_store.do(words)


# --- servers that are refused ---------------------------------------------------------------

GOOD: dict[str, object] = {
    "version": 15,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_sync_retry": "off",
    "standby": False,
    "superuser": False,
    "unprepared": False,
    "may_edit": False,
}


def test_a_good_server() -> None:
    assert server_problems(GOOD) == []
    assert server_problems({**GOOD, "synchronous_commit": "remote_apply", "version": 18}) == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("version", 14, "15 or newer"),
        ("fsync", "off", "fsync"),
        ("full_page_writes", "off", "full_page_writes"),
        ("synchronous_commit", "off", "synchronous_commit"),
        ("synchronous_commit", "local", "synchronous_commit"),
        ("synchronous_commit", "remote_write", "synchronous_commit"),
        ("data_sync_retry", "on", "data_sync_retry"),
        ("standby", True, "standby"),
        ("superuser", True, "superuser"),
        ("unprepared", True, "no schema"),
        ("may_edit", True, "change or delete"),
    ],
)
def test_each_bad_setting_is_named(name: str, value: object, word: str) -> None:
    (problem,) = server_problems({**GOOD, name: value})
    assert word in problem


async def test_a_database_of_an_earlier_release_is_refused(database: databases.Database) -> None:
    await migrate(database.owner_dsn, runtime_role=RUNTIME)
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute("DELETE FROM migration WHERE number > 4")
    finally:
        await owner.close()
    with pytest.raises(StartRefused, match="older schema"):
        await check_server(database.runtime_dsn)


async def test_the_embedded_server_is_good(shared_store: Store) -> None:
    await check_server(shared_store.dsns.runtime_dsn)


@pytest.mark.guards("F-13")
@pytest.mark.parametrize("value", ["off", "local"])
async def test_a_role_whose_commits_are_not_durable_is_refused(store: Store, value: str) -> None:
    """Its own connections set it right; whatever else the role is used for would not."""
    await store.do(f"ALTER DATABASE {store.dsns.name} SET synchronous_commit = {value}")
    with pytest.raises(StartRefused, match="synchronous_commit"):
        await check_server(store.dsns.runtime_dsn)

    await store.do(f"ALTER DATABASE {store.dsns.name} RESET synchronous_commit")
    await check_server(store.dsns.runtime_dsn)
    async with store.session() as runtime:
        await runtime.execute(
            f"ALTER ROLE {RUNTIME} IN DATABASE {store.dsns.name} SET synchronous_commit = {value}"
        )
    with pytest.raises(StartRefused, match="synchronous_commit"):
        await check_server(store.dsns.runtime_dsn)


@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "TRUNCATE"])
async def test_a_role_that_may_edit_is_refused(store: Store, right: str) -> None:
    await store.do(f"GRANT {right} ON entry TO {RUNTIME}")
    with pytest.raises(StartRefused, match="change or delete"):
        await check_server(store.dsns.runtime_dsn)


async def test_the_owner_is_refused_as_a_runtime_role(store: Store) -> None:
    assert OWNER in store.dsns.owner_dsn
    with pytest.raises(StartRefused, match="change or delete"):
        await check_server(store.dsns.owner_dsn)


async def test_a_database_without_a_schema_is_refused(database: databases.Database) -> None:
    with pytest.raises(StartRefused, match="no schema yet"):
        await check_server(database.runtime_dsn)
