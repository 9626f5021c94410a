"""The embedded PostgreSQL: who may do what, and how it is set."""

import os
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import pytest

from tests.databases import Database
from tests.embedded_process import EmbeddedProcess
from vault.embedded.bootstrap import EmbeddedParts

pytestmark = pytest.mark.embedded

REFUSED = asyncpg.InvalidAuthorizationSpecificationError
FORBIDDEN = asyncpg.InsufficientPrivilegeError


async def _ask(dsn: str, question: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        answer: object = await connection.fetchval(question)
    finally:
        await connection.close()
    return answer


@pytest.mark.guards("T-73")
async def test_the_superuser_cannot_log_in(embedded: EmbeddedParts) -> None:
    for database in ("panward", "postgres"):
        dsn = embedded.owner_dsn.replace("panward_owner@/panward", f"postgres@/{database}")
        with pytest.raises(REFUSED):
            await _ask(dsn, "SELECT 1")
    question = "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'postgres'"
    assert await _ask(embedded.owner_dsn, question) is False


@pytest.mark.parametrize("database", ["postgres", "template1"])
async def test_the_roles_reach_no_other_database(embedded: EmbeddedParts, database: str) -> None:
    for dsn in (embedded.owner_dsn, embedded.runtime_dsn):
        with pytest.raises((REFUSED, FORBIDDEN)):
            await _ask(dsn.replace("@/panward?", f"@/{database}?"), "SELECT 1")


async def test_a_wrong_password_is_refused(embedded: EmbeddedParts, tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:panward_runtime:guessed\n")
    passfile.chmod(0o600)
    dsn, _, _ = embedded.runtime_dsn.partition("&passfile=")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await _ask(f"{dsn}&passfile={passfile}", "SELECT 1")


async def test_passwords_are_stored_as_scram_verifiers(embedded: EmbeddedParts) -> None:
    hba = (embedded.folder / "postgres" / "pg_hba.conf").read_text()
    rules = [line.split() for line in hba.splitlines() if not line.startswith("#")]

    assert [rule[0] for rule in rules] == ["local"]
    assert [rule[-1] for rule in rules] == ["scram-sha-256"]
    assert await _ask(embedded.runtime_dsn, "SHOW password_encryption") == "scram-sha-256"


@pytest.mark.guards("T-73")
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE panward_mine",
        "ALTER ROLE panward_runtime SUPERUSER",
        "SET ROLE panward_owner",
        "COPY pg_class TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off",
    ],
)
async def test_the_runtime_role_may_not(embedded: EmbeddedParts, statement: str) -> None:
    with pytest.raises(FORBIDDEN):
        await _ask(embedded.runtime_dsn, statement)


async def test_no_role_is_more_than_it_must_be(embedded: EmbeddedParts) -> None:
    question = """
        SELECT count(*) FROM pg_roles WHERE rolname LIKE 'panward%'
        AND NOT (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls)
    """

    assert await _ask(embedded.owner_dsn, question) == 2


async def test_the_owner_makes_tables_and_grants_them(database: Database) -> None:
    await _ask(database.owner_dsn, "CREATE TABLE card (id int)")
    with pytest.raises(FORBIDDEN):
        await _ask(database.runtime_dsn, "SELECT count(*) FROM card")

    await _ask(database.owner_dsn, "GRANT SELECT ON card TO panward_runtime")

    assert await _ask(database.runtime_dsn, "SELECT count(*) FROM card") == 0


async def test_each_test_has_a_database_of_its_own(database: Database) -> None:
    question = "SELECT count(*) FROM pg_tables WHERE tablename = 'card'"

    assert await _ask(database.owner_dsn, question) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("log_statement", "none"),
        ("log_min_error_statement", "panic"),
        ("log_error_verbosity", "terse"),
        ("log_parameter_max_length_on_error", "0"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ],
)
async def test_settings(embedded: EmbeddedParts, name: str, value: str) -> None:
    assert await _ask(embedded.runtime_dsn, f"SHOW {name}") == value


@pytest.mark.guards("T-73")
async def test_an_error_leaves_no_values_in_the_log(
    embedded: EmbeddedParts, database: Database
) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        await connection.execute("CREATE TABLE t (v text PRIMARY KEY)")
        await connection.execute("INSERT INTO t VALUES ('canary-literal')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO t VALUES ('canary-literal')")
        with pytest.raises(asyncpg.DataError):
            await connection.execute("SELECT ($1::text)::int", "canary-parameter")
    finally:
        await connection.close()

    log = (embedded.folder / "log" / "postgres.log").read_text()

    assert "duplicate key value violates unique constraint" in log
    assert "canary-literal" not in log
    assert "INSERT" not in log


def test_the_dsn_serves_pg_dump_without_a_password_in_sight(embedded: EmbeddedParts) -> None:
    command = [str(embedded.postgres_binaries / "pg_dump"), "--schema-only", embedded.owner_dsn]

    dump = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603

    assert "PostgreSQL database dump complete" in dump.stdout


@pytest.mark.guards("F-54")
def test_a_killed_server_comes_back(
    embedded_process: EmbeddedProcess, embedded: EmbeddedParts
) -> None:
    old = embedded_process.pids()["postgres"]
    os.kill(old, signal.SIGKILL)

    embedded_process.until_restarted("postgres", old)

    ready = [str(embedded.postgres_binaries / "pg_isready"), "--dbname", embedded.runtime_dsn]
    end = time.monotonic() + 10
    while subprocess.run(ready, check=False, capture_output=True).returncode != 0:  # noqa: S603
        assert time.monotonic() < end
