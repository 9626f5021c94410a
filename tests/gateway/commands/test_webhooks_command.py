"""`panward webhooks`: where merchants are told of things, from the operator's command line."""

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest
from typer.testing import CliRunner

from gateway.api.webhooks import delivery_id
from gateway.commands.webhooks import webhooks
from tests.cards import VISA
from tests.gateway.commands.conftest import Command
from tests.vault.keyrings import reveal_keys
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.places import place_of_openbao
from tests.vault.stores import Store
from vault.embedded.bootstrap import EmbeddedParts
from vault.tenant_table import Tenant

pytestmark = pytest.mark.embedded

URL = "https://shop.example/hook"


async def stored(
    embedded: EmbeddedParts, tenant: Tenant, endpoint: str
) -> Mapping[str, str] | None:
    async with place_of_openbao(embedded).transit("reveal") as transit:
        keys = reveal_keys(transit)
        found = await keys.webhook_secrets(tenant.id, endpoint)
        await keys.close()
    return found


async def dead(store: Store, tenant: Tenant, endpoint: str, count: int) -> list[UUID]:
    queue = MerchantQueue(store, tenant.id)
    ids = [await queue.wait(endpoint) for _ in range(count)]
    await store.do("UPDATE delivery SET state = 'dead', ended_at = now() WHERE id = ANY($1)", ids)
    return ids


async def test_an_endpoint_from_its_making_to_its_end(
    command: Command, embedded: EmbeddedParts, tenant: Tenant
) -> None:
    ended = await command(
        *("webhooks", "endpoints", "add", "shop", URL, "--form", "callbacks"),
        *("--route", "stripe", "--type", "charge.*", "--json"),
    )
    assert ended.status == 0, ended.err
    made = json.loads(ended.out)
    secrets = {one["name"]: one["secret"] for one in made["secrets"]}
    assert (made["form"], made["route"], made["types"]) == ("callbacks", "stripe", ["charge.*"])
    assert [one["scheme"] for one in made["secrets"]] == ["standard_webhooks", "stripe"]
    assert await stored(embedded, tenant, made["id"]) == secrets

    for word, state in (("disable", "disabled"), ("enable", "active")):
        ended = await command("webhooks", "endpoints", word, tenant.id, made["id"])
        assert ended.status == 0, ended.err
        listed = await command("webhooks", "endpoints", "list", "--json")
        (row,) = [json.loads(line) for line in listed.out.splitlines()]
        assert (row["id"], row["tenant"], row["state"]) == (made["id"], tenant.id, state)
        assert not any(text in listed.out for text in secrets.values())
    assert (await command("webhooks", "endpoints", "remove", "shop", made["id"])).status == 0
    assert (await command("webhooks", "endpoints", "remove", "shop", made["id"])).status == 1
    assert (await command("webhooks", "endpoints", "list", "--tenant", "shop")).out == ""
    assert await stored(embedded, tenant, made["id"]) == {}


async def test_plain_words_show_the_secret_too(command: Command, tenant: Tenant) -> None:
    ended = await command("webhooks", "endpoints", "add", tenant.id, URL)
    endpoint, line = ended.out.splitlines()
    assert endpoint.startswith("we_")
    assert line.startswith("standard_webhooks  ")
    assert "  whsec_" in line
    listed = await command("webhooks", "endpoints", "list")
    assert listed.out == f"{endpoint}  {tenant.id}  events  -  active  {URL}\n"


@pytest.mark.usefixtures("tenant")
async def test_what_cannot_be_is_said(command: Command) -> None:
    refusals: Sequence[tuple[Sequence[str], str]] = (
        (("endpoints", "add", "nobody", URL), "no tenant"),
        (("endpoints", "add", "shop", "http://shop.example/"), "url: format"),
        (("endpoints", "add", "shop", f"{URL}/{VISA}"), "url: card_number"),
        (("endpoints", "add", "shop", URL, "--form", "callbacks"), "route: required"),
        (("endpoints", "disable", "shop", "we_1"), "no endpoint"),
        (("endpoints", "enable", "shop", "we_1"), "no endpoint"),
        (("replay", "shop", "--dead", "--endpoint", "we_1"), "no endpoint"),
        (("replay", "shop", delivery_id(str(UUID(int=1)))), "not there"),
    )
    for words, word in refusals:
        ended = await command("webhooks", *words)
        assert ended.status == 1, (words, ended.err)
        assert word in ended.err
        assert VISA not in ended.err + ended.out


def test_usage() -> None:
    for words in (
        ["replay", "shop"],
        ["replay", "shop", "--dead"],
        ["replay", "shop", "dlv_1"],
        ["replay", "shop", "dlv_1", "--dead", "--endpoint", "we_1"],
        ["endpoints", "add", "shop", URL, "--concurrency", "33"],
        ["endpoints", "list"],
    ):
        assert CliRunner().invoke(webhooks, words).exit_code == 2, words


async def test_what_died_begins_anew(command: Command, store: Store, tenant: Tenant) -> None:
    queue = MerchantQueue(store, tenant.id)
    endpoint, other = await queue.endpoint(), await queue.endpoint()
    ids = await dead(store, tenant, endpoint, 2)
    ids += await dead(store, tenant, other, 2)
    listed = await command("webhooks", "deliveries", "shop", "--state", "dead", "--json")
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert {row["id"] for row in rows} == {delivery_id(str(one)) for one in ids}

    ended = await command("webhooks", "replay", "shop", "--dead", "--endpoint", endpoint)
    assert (ended.status, ended.out) == (0, "2 of 2 begin anew\n"), ended.err
    assert [await queue.state(one) for one in ids] == ["waiting"] * 2 + ["dead"] * 2
    named = [delivery_id(str(one)) for one in ids[1:3]]
    ended = await command("webhooks", "replay", "shop", *named)
    assert (ended.status, ended.out) == (1, "1 of 2 begin anew\n")
    assert [await queue.state(one) for one in ids] == ["waiting"] * 3 + ["dead"]
