"""`panward credentials set`: what may be set for a route, and what is refused before it is."""

import json
from collections.abc import Mapping

import pytest
import trustme
from typer.testing import CliRunner

from gateway.commands.credentials import credentials
from tests.gateway.commands.conftest import Command
from tests.vault.keyrings import reveal_keys
from tests.vault.places import place_of_openbao
from vault.embedded.bootstrap import EmbeddedParts
from vault.tenant_table import Tenant

pytestmark = pytest.mark.embedded


async def stored(embedded: EmbeddedParts, tenant: Tenant) -> Mapping[str, str] | None:
    async with place_of_openbao(embedded).transit("reveal") as transit:
        keys = reveal_keys(transit)
        found = await keys.processor_secret(tenant.id, "stripe")
        await keys.close()
    return found


def pair() -> dict[str, str]:
    issued = trustme.CA().issue_cert("client.test")
    return {
        "client_certificate": issued.cert_chain_pems[0].bytes().decode(),
        "client_key": issued.private_key_pem.bytes().decode(),
    }


async def test_one_line_is_the_api_key(
    command: Command, embedded: EmbeddedParts, tenant: Tenant
) -> None:
    ended = await command("credentials", "set", "shop", "stripe", stdin=b"sk_of_the_shop\n")
    assert ended.status == 0, ended.err
    assert await stored(embedded, tenant) == {"api_key": "sk_of_the_shop"}
    words = ("credentials", "set", tenant.id, "stripe", "--user", "public_1")
    ended = await command(*words, stdin=b"private_1")
    assert ended.status == 0, ended.err
    assert "version 2" in ended.err
    assert await stored(embedded, tenant) == {"api_key": "private_1", "user": "public_1"}


async def test_several_values_come_as_json(
    command: Command, embedded: EmbeddedParts, tenant: Tenant
) -> None:
    values = {"secret": "AAAA", "merchant_id": "shop_1", **pair()}
    words = ("credentials", "set", "shop", "stripe", "--json-values", "--user", "key-1")
    ended = await command(*words, stdin=json.dumps(values).encode())
    assert ended.status == 0, ended.err
    assert await stored(embedded, tenant) == {**values, "user": "key-1"}
    listed = await command("credentials", "list")
    assert f"{tenant.id}  stripe  version 1" in listed.out.splitlines()


def test_what_could_not_be_sent_is_refused_and_never_quoted() -> None:
    """Before anything is connected to."""
    one, two = pair(), pair()
    key = "client_key"
    for words, text, word in (
        ((), "", "one line"),
        ((), "sk_canary\nx", "one line"),
        ((), "sk_canary\u00e9", "one line"),
        ((), "sk_canary" * 500, "one line"),
        ((), "sk_canary" * 9000, "too long"),
        (("--user", ""), "sk_canary", "one line"),
        (("--json-values",), "sk_canary", "JSON object"),
        (("--json-values",), '{"api_key": ["sk_canary"]}', "JSON object"),
        (("--json-values",), "{}", "JSON object"),
        (("--json-values",), '{"sk_canary": "x"}', "other names"),
        (("--json-values", "--user", "b"), '{"user": "sk_canary"}', "twice"),
        (("--json-values",), json.dumps(one | {key: two[key]}), "its own"),
        (("--json-values",), json.dumps({key: one[key]}), "its own"),
    ):
        command = ["set", "shop", "stripe", "--config", "nowhere.toml", *words]
        ended = CliRunner().invoke(credentials, command, input=text)
        assert ended.exit_code == 2, (words, ended.output)
        assert word in " ".join(ended.output.split())
        assert "canary" not in ended.output
        assert "PRIVATE KEY" not in ended.output


async def test_a_tenant_or_a_route_that_does_not_exist(command: Command, tenant: Tenant) -> None:
    for words, word in ((("nobody", "stripe"), "no tenant"), (("shop", "nothing"), "no route")):
        ended = await command("credentials", "set", *words, stdin=b"sk_canary")
        assert ended.status == 1
        assert word in ended.err
