"""Tenants and their API keys, as PostgreSQL keeps them."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.vault.ledger.samples import drawn
from tests.vault.rows import new_tenant, now
from tests.vault.stores import Store
from vault.api_keys import certificate_alias, new_alias, new_api_key
from vault.db import Connection
from vault.errors import StoreUnavailable
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable

pytestmark = pytest.mark.embedded


def a_tenant(at: datetime | None = None) -> Tenant:
    return Tenant(new_tenant(), "shop-" + drawn(8), (at or now()).replace(microsecond=0))


def a_key(tenant: Tenant, **changes: object) -> ApiKeyRow:
    made = new_api_key("secret_key", "test")
    row = ApiKeyRow(
        id=made.id,
        tenant=tenant.id,
        kind="secret_key",
        digest=made.digest,
        scopes=frozenset({"read", "tokenize", "route:stripe"}),
        created_at=now(),
        expires_at=None,
        revoked_at=None,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def table(shared_store: Store) -> TenantTable:
    return TenantTable(shared_store.database)


async def test_a_tenant_is_found_by_name_and_by_id(table: TenantTable) -> None:
    tenant = a_tenant()
    assert await table.add(tenant)
    assert await table.named(tenant.name) == tenant
    assert await table.named(tenant.id) == tenant
    assert await table.named("nobody") is None


async def test_tenants_are_listed_oldest_first(table: TenantTable) -> None:
    newer, older = a_tenant(), a_tenant(now() - timedelta(days=3))
    for tenant in (newer, older):
        await table.add(tenant)
    listed = [tenant for tenant in await table.list() if tenant in (newer, older)]
    assert listed == [older, newer]


async def test_a_name_or_an_id_is_given_once(table: TenantTable) -> None:
    tenant = a_tenant()
    assert await table.add(tenant)
    assert not await table.add(tenant)
    assert not await table.add(replace(a_tenant(), name=tenant.name))
    assert not await table.add(replace(a_tenant(), id=tenant.id))
    assert await table.named(tenant.name) == tenant


@pytest.mark.parametrize(
    "changes", [{"id": "t_"}, {"id": "merchant"}, {"name": "Shop"}, {"name": "a b"}, {"name": ""}]
)
async def test_what_could_not_stand_in_a_leaf_is_refused(
    table: TenantTable, changes: dict[str, str]
) -> None:
    with pytest.raises(StoreUnavailable):
        await table.add(replace(a_tenant(), **changes))  # type: ignore[arg-type]


async def test_a_key_is_kept_as_it_was_given_and_never_the_key(
    shared_store: Store, table: TenantTable
) -> None:
    tenant = a_tenant()
    await table.add(tenant)
    made = new_api_key("secret_key", "test")
    key = a_key(tenant, id=made.id, digest=made.digest, expires_at=now() + timedelta(days=1))
    await table.add_key(key)
    assert await table.key(key.id) == key
    (row,) = await shared_store.rows(
        "SELECT api_key::text AS text FROM api_key WHERE id = $1", key.id
    )
    assert made.text not in row["text"]
    assert await table.key("k_unknown") is None


async def test_a_tenant_s_keys_are_its_own_oldest_first(table: TenantTable) -> None:
    one, two = a_tenant(), a_tenant()
    for tenant in (one, two):
        await table.add(tenant)
    newer, older = a_key(one), a_key(one, created_at=now() - timedelta(days=1))
    publishable = a_key(two, kind="publishable_key", scopes=frozenset())
    for key in (newer, older, publishable):
        await table.add_key(key)
    assert await table.keys(one.id) == [older, newer]
    assert await table.keys(two.id) == [publishable]


async def test_a_key_is_revoked_once(table: TenantTable) -> None:
    tenant = a_tenant()
    await table.add(tenant)
    key = a_key(tenant)
    await table.add_key(key)
    at = now()
    assert await table.revoke_key(key.id, at=at)
    assert not await table.revoke_key(key.id, at=at + timedelta(hours=1))
    assert not await table.revoke_key("k_unknown", at=at)
    assert await table.key(key.id) == replace(key, revoked_at=at)


async def test_a_key_of_nobody_or_under_a_known_id_is_refused(table: TenantTable) -> None:
    tenant = a_tenant()
    with pytest.raises(StoreUnavailable):
        await table.add_key(a_key(tenant))
    await table.add(tenant)
    key = a_key(tenant)
    await table.add_key(key)
    with pytest.raises(StoreUnavailable):
        await table.add_key(replace(key, digest=secrets.token_bytes(32)))
    assert await table.key(key.id) == key


# --- aliases ------------------------------------------------------------------------------


async def test_an_alias_finds_its_key_and_is_not_kept(
    shared_store: Store, table: TenantTable
) -> None:
    tenant = a_tenant()
    await table.add(tenant)
    key = a_key(tenant)
    await table.add_key(key)
    alias = new_alias("authorize_net", "test", key.id)
    assert await table.add_alias(alias, key.id, at=now())
    assert await table.key_of_alias(alias.digest) == key
    (row,) = await shared_store.rows(
        "SELECT key_alias::text AS text, form FROM key_alias WHERE api_key = $1", key.id
    )
    assert row["form"] == "authorize_net"
    assert alias.parts["transaction_key"] not in row["text"]
    assert await table.key_of_alias(new_alias("authorize_net", "test", key.id).digest) is None


@pytest.mark.guards("T-29")
async def test_a_revoked_keys_alias_shows_that_it_is_revoked(table: TenantTable) -> None:
    tenant = a_tenant()
    await table.add(tenant)
    key = a_key(tenant)
    await table.add_key(key)
    alias = new_alias("checkout_com", "test", key.id)
    assert await table.add_alias(alias, key.id, at=now())
    at = now()
    await table.revoke_key(key.id, at=at)
    assert await table.key_of_alias(alias.digest) == replace(key, revoked_at=at)
    assert not await table.add_alias(new_alias("checkout_com", "test", key.id), key.id, at=at)


async def test_an_alias_is_of_one_secret_key(table: TenantTable) -> None:
    tenant = a_tenant()
    await table.add(tenant)
    one, two = a_key(tenant), a_key(tenant)
    publishable = a_key(tenant, kind="publishable_key", scopes=frozenset())
    for key in (one, two, publishable):
        await table.add_key(key)
    alias = certificate_alias(secrets.token_bytes(8))
    assert not await table.add_alias(alias, publishable.id, at=now())
    assert not await table.add_alias(alias, "k_unknown", at=now())
    assert await table.add_alias(alias, one.id, at=now())
    assert not await table.add_alias(alias, two.id, at=now())
    assert await table.key_of_alias(alias.digest) == one


async def test_an_alias_of_a_revoked_key_goes_to_another_of_the_same_tenant(
    table: TenantTable,
) -> None:
    tenant, stranger = a_tenant(), a_tenant()
    one, two, theirs = a_key(tenant), a_key(tenant), a_key(stranger)
    for each in (tenant, stranger):
        await table.add(each)
    for key in (one, two, theirs):
        await table.add_key(key)
    alias = certificate_alias(secrets.token_bytes(8))
    assert await table.add_alias(alias, one.id, at=now())
    await table.revoke_key(one.id, at=now())
    assert not await table.add_alias(alias, theirs.id, at=now())
    assert await table.add_alias(alias, two.id, at=now())
    assert await table.key_of_alias(alias.digest) == two


@pytest.mark.parametrize("verb", ["UPDATE key_alias SET form = 'x'", "DELETE FROM key_alias"])
async def test_the_runtime_role_changes_no_alias(shared_store: Store, verb: str) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(verb)

    with pytest.raises(StoreUnavailable):
        await shared_store.database.read(work)
