"""Keys of auditors: their form, and how PostgreSQL keeps them."""

import re
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.vault.ledger.samples import drawn
from tests.vault.rows import now
from tests.vault.stores import Store
from vault.api_keys import (
    RANDOM_BITS,
    api_key_of,
    new_api_key,
    parse_api_key,
    parse_auditor_key,
)
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.db import Connection
from vault.errors import StoreUnavailable

# --- the form of a key --------------------------------------------------------------------


def test_the_form_of_an_auditors_key() -> None:
    made = api_key_of("auditor_key", "live", (1 << RANDOM_BITS) - 1)
    assert made.text == "pwau_live_" + "z" * 68
    assert made.id == "au_" + "z" * 16
    presented = parse_auditor_key(made.text)
    assert presented is not None
    assert (presented.id, presented.kind, presented.env) == (made.id, "auditor_key", "live")
    assert presented.matches(made.digest)
    assert not presented.matches(new_api_key("auditor_key", "live").digest)
    assert made.text not in repr((made, presented))


@pytest.mark.guards("T-29")
def test_what_reads_one_kind_of_key_reads_none_of_the_other() -> None:
    auditors = new_api_key("auditor_key", "test").text
    assert parse_api_key(auditors) is None
    for kind in ("secret_key", "publishable_key"):
        tenants = new_api_key(kind, "test").text
        assert parse_auditor_key(tenants) is None
        assert parse_auditor_key(re.sub("^pw[ps]k", "pwau", tenants)) is not None


def test_what_is_no_auditors_key_gives_none() -> None:
    text = new_api_key("auditor_key", "test").text
    for other in (
        *("", text[:-1], text + "0", text + "\n", " " + text, text.upper(), text[:-1] + "u"),
        *(text.replace("pwau", start) for start in ("pwak", "pwauk", "pw", "pwt")),
        text.replace("test", "prod"),
    ):
        assert parse_auditor_key(other) is None


# --- the table ----------------------------------------------------------------------------


def a_row(**changes: object) -> AuditorKeyRow:
    made = new_api_key("auditor_key", "test")
    row = AuditorKeyRow(made.id, "auditor-" + drawn(8), made.digest, now(), None, None)
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def table(shared_store: Store) -> AuditorTable:
    return AuditorTable(shared_store.database)


@pytest.mark.embedded
async def test_a_key_is_kept_as_it_was_given_and_never_the_key(
    shared_store: Store, table: AuditorTable
) -> None:
    made = new_api_key("auditor_key", "test")
    row = a_row(id=made.id, digest=made.digest, expires_at=now() + timedelta(days=1))
    assert await table.add(row)
    assert await table.key(row.id) == row
    (kept,) = await shared_store.rows(
        "SELECT auditor_key::text AS text FROM auditor_key WHERE id = $1", row.id
    )
    assert made.text not in kept["text"]
    assert await table.key("au_unknown") is None


@pytest.mark.embedded
async def test_a_name_is_given_once_even_after_its_key_was_revoked(table: AuditorTable) -> None:
    row = a_row()
    assert await table.add(row)
    again = a_row(name=row.name)
    assert not await table.add(again)
    assert await table.revoke(row.name, at=now())
    assert not await table.add(again)
    assert not await table.add(a_row(id=row.id))
    assert await table.key(again.id) is None


@pytest.mark.embedded
async def test_keys_are_listed_oldest_first(table: AuditorTable) -> None:
    newer, older = a_row(), a_row(created_at=now() - timedelta(days=2))
    for row in (newer, older):
        await table.add(row)
    assert [row for row in await table.list() if row in (newer, older)] == [older, newer]


@pytest.mark.embedded
async def test_a_key_is_revoked_once(table: AuditorTable) -> None:
    row = a_row()
    await table.add(row)
    at = now()
    assert await table.revoke(row.name, at=at)
    assert not await table.revoke(row.name, at=at + timedelta(hours=1))
    assert not await table.revoke("nobody", at=at)
    assert await table.key(row.id) == replace(row, revoked_at=at)


def test_when_a_key_is_in_force() -> None:
    at = now()
    second = timedelta(seconds=1)
    assert a_row().is_in_force(at)
    assert a_row(expires_at=at + second).is_in_force(at)
    assert not a_row(expires_at=at).is_in_force(at)
    assert not a_row(revoked_at=at - second, expires_at=at + second).is_in_force(at)


@pytest.mark.embedded
@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"name": "Big Four"}, {"name": "a" * 65}, {"digest": b"short"}]
)
async def test_what_has_no_place_is_refused(
    table: AuditorTable, changes: dict[str, object]
) -> None:
    with pytest.raises(StoreUnavailable):
        await table.add(a_row(**changes))


@pytest.mark.embedded
async def test_the_runtime_role_deletes_no_key(shared_store: Store, table: AuditorTable) -> None:
    await table.add(a_row(digest=secrets.token_bytes(32)))

    async def work(connection: Connection) -> None:
        await connection.execute("DELETE FROM auditor_key")

    with pytest.raises(StoreUnavailable):
        await shared_store.database.read(work)
