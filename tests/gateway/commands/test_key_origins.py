"""`panward tenants keys origins`: whose pages may use a publishable key."""

import json

import pytest

from tests.gateway.commands.conftest import Command
from tests.vault.rows import new_tenant, now
from vault.api_keys import new_api_key
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable

pytestmark = pytest.mark.embedded

SHOP = "https://shop.example"


async def a_page_key(table: TenantTable, tenant: str, *origins: str) -> str:
    made = new_api_key("publishable_key", "test")
    nothing: frozenset[str] = frozenset()
    row = ApiKeyRow(
        made.id,
        tenant,
        "publishable_key",
        made.digest,
        nothing,
        now(),
        None,
        None,
        frozenset(origins),
    )
    await table.add_key(row)
    return made.id


async def test_a_key_is_made_with_its_origins(
    command: Command, table: TenantTable, tenant: Tenant
) -> None:
    ended = await command(
        *("tenants", "keys", "add", tenant.name, "--publishable"),
        *("--origin", SHOP, "--origin", "app:example.shop", "--json"),
    )
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["origins"] == ["app:example.shop", SHOP]
    assert await table.origins(tenant.id) == {SHOP, "app:example.shop"}


async def test_the_list_is_shown_and_changed(
    command: Command, table: TenantTable, tenant: Tenant
) -> None:
    key = await a_page_key(table, tenant.id)
    shown = await command("tenants", "keys", "origins", key)
    assert shown.out.startswith("none")
    added = await command("tenants", "keys", "origins", key, "--add", "HTTPS://Shop.example:443")
    assert added.out.split() == [SHOP]  # as browsers write it
    ended = await command("tenants", "keys", "origins", key, "--remove", SHOP, "--json")
    assert json.loads(ended.out) == {"id": key, "origins": []}
    assert await table.origins(tenant.id) == frozenset()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--add", "shop.example"], "an origin is"),
        (["--add", f"{SHOP}/pay"], "no slash"),
        (["--add", "https://*.example"], "an origin is"),
        (["--remove", SHOP], "not on the list"),
    ],
)
async def test_what_is_no_origin_is_refused_with_advice(
    command: Command, table: TenantTable, tenant: Tenant, words: list[str], said: str
) -> None:
    key = await a_page_key(table, tenant.id)
    ended = await command("tenants", "keys", "origins", key, *words)
    assert ended.status != 0
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert await table.origins(tenant.id) == frozenset()


async def test_only_a_publishable_key_has_a_list(command: Command, tenant: Tenant) -> None:
    ended = await command("tenants", "keys", "origins", "k_nobody")
    assert ended.status == 1
    ended = await command(
        *("tenants", "keys", "add", tenant.name, "--scope", "read", "--origin", SHOP)
    )
    assert ended.status == 2


async def test_an_origin_of_two_tenants_is_told(
    command: Command, table: TenantTable, tenant: Tenant
) -> None:
    other = Tenant(new_tenant(), "other-shop", now())
    await table.add(other)
    await a_page_key(table, other.id, SHOP)
    key = await a_page_key(table, tenant.id)
    ended = await command("tenants", "keys", "origins", key, "--add", SHOP)
    assert ended.status == 0
    assert "another tenant's key" in ended.err
    assert await table.origins(tenant.id) == {SHOP}
