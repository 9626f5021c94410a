"""`panward tenants key-alias`: a secret key in the form of a processor's SDK, shown once."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from gateway.commands.tenants import tenants
from gateway.errors import NotAuthenticated
from gateway.merchants import Merchants
from tests.gateway.commands.conftest import Command
from tests.vault.keyrings import reveal_keys
from tests.vault.places import place_of_openbao
from tests.vault.rows import now
from tests.vault.stores import Store
from vault.api_keys import KeyKind, certificate_alias, new_api_key
from vault.embedded.bootstrap import EmbeddedParts
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable

pytestmark = pytest.mark.embedded


@pytest.fixture
def merchants(table: TenantTable) -> Merchants:
    return Merchants(table, env="test", now=now, monotonic=lambda: 0.0)


async def a_key(table: TenantTable, tenant: Tenant, kind: KeyKind = "secret_key") -> str:
    made = new_api_key(kind, "test")
    scopes = frozenset({"route:stripe"} if kind == "secret_key" else ())
    await table.add_key(ApiKeyRow(made.id, tenant.id, kind, made.digest, scopes, now(), None, None))
    return made.id


async def test_an_alias_is_shown_once_and_then_is_the_key(
    command: Command, merchants: Merchants, table: TenantTable, tenant: Tenant, store: Store
) -> None:
    key = await a_key(table, tenant)
    ended = await command("tenants", "key-alias", key, "--form", "checkout_com")
    assert ended.status == 0, ended.err
    text = ended.out.strip()
    assert re.fullmatch(r"sk_sbox_[a-z2-7]{26}[a-z2-7*#$=]", text)
    assert (await merchants.authenticate_alias("checkout_com", text)).key == key
    rows = await store.rows("SELECT key_alias::text AS text FROM key_alias")
    assert len(rows) == 1
    assert text not in rows[0]["text"]

    ended = await command("tenants", "key-alias", key, "--form", "authorize_net", "--json")
    said = json.loads(ended.out)
    assert (said["key"], said["name"]) == (key, key)
    login = f"{said['name']}:{said['transaction_key']}"
    assert (await merchants.authenticate_alias("authorize_net", login)).tenant == tenant.id


async def test_the_secret_of_a_signing_key_is_where_the_way_out_reads_it(
    command: Command,
    embedded: EmbeddedParts,
    merchants: Merchants,
    table: TenantTable,
    tenant: Tenant,
) -> None:
    key = await a_key(table, tenant)
    ended = await command("tenants", "key-alias", key, "--form", "signing_key")
    assert ended.status == 0, ended.err
    said = dict(line.split("  ") for line in ended.out.splitlines())
    claimant = await merchants.claimed_by(said["key_id"])
    async with place_of_openbao(embedded).transit("reveal") as transit:
        keys = reveal_keys(transit)
        secret = await keys.signing_secret(claimant.tenant, claimant.signing_key)
        await keys.close()
    assert secret == said["secret"]
    listed = await command("credentials", "list", "--json")
    lines = [json.loads(line) for line in listed.out.splitlines()]
    assert {"tenant": tenant.id, "signing_key": said["key_id"], "version": 1} in lines
    assert said["secret"] not in listed.out


async def test_a_certificate_becomes_an_alias(
    command: Command, merchants: Merchants, table: TenantTable, tenant: Tenant, tmp_path: Path
) -> None:
    key, other = await a_key(table, tenant), await a_key(table, tenant)
    pem = tmp_path / "client.pem"
    issued = trustme.CA().issue_cert("client.test")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    words = ("--form", "client_certificate", "--certificate", str(pem))
    ended = await command("tenants", "key-alias", key, *words)
    assert ended.status == 0, ended.err
    caller = await merchants.authenticate_alias("client_certificate", ended.out.strip())
    assert caller.key == key
    refused = await command("tenants", "key-alias", other, *words)
    assert refused.status == 1
    assert "another key's" in refused.err


def test_a_certificate_that_is_none_or_over_is_refused(tmp_path: Path) -> None:
    expired, none = tmp_path / "expired.pem", tmp_path / "none.pem"
    issued = trustme.CA().issue_cert("client.test", not_after=now() - timedelta(days=1))
    issued.cert_chain_pems[0].write_to_path(str(expired))
    none.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for words, word in (
        (("client_certificate", "--certificate", str(expired)), "expired"),
        (("client_certificate", "--certificate", str(none)), "no readable"),
        (("client_certificate", "--certificate", str(tmp_path / "x")), "no readable"),
        (("client_certificate",), "--certificate"),
        (("checkout_com", "--certificate", str(expired)), "--certificate"),
    ):
        command = ["key-alias", "k_x", "--config", "nowhere.toml", "--form", *words]
        ended = CliRunner().invoke(tenants, command)
        assert ended.exit_code == 2
        assert word in ended.output


@pytest.mark.guards("T-29")
async def test_only_a_secret_key_in_force_has_aliases(
    command: Command, merchants: Merchants, table: TenantTable, tenant: Tenant
) -> None:
    revoked, publishable = [
        await a_key(table, tenant, k) for k in ("secret_key", "publishable_key")
    ]
    alias = certificate_alias(b"DER")
    assert await table.add_alias(alias, revoked, at=now())
    await table.revoke_key(revoked, at=now())
    with pytest.raises(NotAuthenticated):
        await merchants.authenticate_alias("client_certificate", alias.parts["sha256"])
    for key in (revoked, publishable):
        ended = await command("tenants", "key-alias", key, "--form", "signing_key")
        assert (ended.status, ended.out) == (1, "")
        assert f"no secret key {key} in force" in ended.err
