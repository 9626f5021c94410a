"""What belongs to one tenant is not there for another: tokens, keys, answers, authorizations."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import permutations

import asyncpg
import pytest

from tests.cards import MASTERCARD, VISA
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import (
    METHODS,
    Account,
    Merchant,
    method,
    new_account,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply, Wire
from vault.ids import authorization_id, new_uuid7
from vault.tokens import new_token

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-20")]


@pytest.fixture(scope="module")
def third_account(deployment: Deployment) -> Account:
    return asyncio.run(new_account(deployment))


@pytest.fixture
def shops(shop: Merchant, other_shop: Merchant, third_account: Account) -> list[Merchant]:
    return [shop, other_shop, Merchant(third_account, shop.urls, shop.wire)]


def same(replies: Iterable[Reply]) -> bool:
    """Whether nobody could tell them apart: status, body and headers, save ids and times."""
    told = set()
    for reply in replies:
        body = reply.body.replace(reply.headers["Panward-Request-Id"].encode(), b"")
        headers = {
            name: value
            for name, value in reply.headers.items()
            if name not in ("Date", "Panward-Request-Id", "Server-Timing", "Content-Length")
        }
        told.add((reply.status, body, tuple(sorted(headers.items()))))
    return len(told) == 1


async def test_every_tenants_objects_are_unknown_to_every_other(
    shops: list[Merchant], nothing_happens: Witness
) -> None:
    made = {}
    for shop in shops:
        made[shop.tenant] = await shop.tokenize(customer_reference="person")
        token = made[shop.tenant]["id"]
        made[shop.tenant]["processor_reference"] = (await shop.pay(payment(token))).json()["id"]
        paid = await shop.pay(payment(token), key="the-same-key")
        made[shop.tenant]["authorization"] = paid.headers["Panward-Authorization"]
    nobodys = authorization_id(str(new_uuid7(datetime.now(UTC))))
    async with nothing_happens():
        for one, two in permutations(shops, 2):
            theirs = made[two.tenant]
            for verb, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
                foreign = await one.api(verb, f"/v1/tokens/{theirs['id']}", body)
                unknown = await one.api(verb, f"/v1/tokens/{new_token('test')}", body)
                assert foreign.told()[:2] == (404, "token_unknown")
                assert same([foreign, unknown])
            foreign = await one.api("GET", f"/v1/authorizations/{theirs['authorization']}")
            assert foreign.told()[:2] == (404, "not_found")
            assert same([foreign, await one.api("GET", f"/v1/authorizations/{nobodys}")])
            foreign = await one.out(METHODS, method(theirs["id"]))
            assert foreign.error["code"] == "token_unknown"
            assert same([foreign, await one.out(METHODS, method(new_token("test")))])
            for query in (
                f"token={theirs['id']}",
                f"processor_reference={theirs['processor_reference']}",
            ):
                listed = await one.api("GET", f"/v1/authorizations?{query}")
                assert listed.json() == {"data": [], "next": None}
    for shop in shops:  # what has the same name everywhere is each tenant's own
        people = await shop.api("GET", "/v1/tokens?customer_reference=person")
        assert [each["id"] for each in people.json()["data"]] == [made[shop.tenant]["id"]]
        mine = await shop.api("GET", "/v1/authorizations?idempotency_key=the-same-key")
        ids = [each["id"] for each in mine.json()["data"]]
        assert ids == [made[shop.tenant]["authorization"]]


@pytest.mark.guards("T-26")
async def test_an_idempotency_key_is_its_tenants_own(
    shops: list[Merchant], processor: ProcessorControl
) -> None:
    """The same key, at the same processor's account: no tenant gets another's answer."""
    key = new_idempotency_key()
    before = processor.counts.requests
    answers = [await shop.pay(payment(await shop.token(MASTERCARD)), key=key) for shop in shops[:2]]
    assert processor.counts.requests == before + 2
    assert len({reply.headers["Panward-Authorization"] for reply in answers}) == 2
    for shop, reply in zip(shops[:2], answers, strict=True):
        assert (await shop.authorization(reply))["state"] == "completed"


async def test_each_tenant_calls_with_its_own_processor_key(
    deployment: Deployment, wire: Wire, processor: ProcessorControl
) -> None:
    account = await new_account(deployment, processor_key="sk_test_of_nobody")
    stranger = Merchant(account, deployment.urls, wire)
    refused = await stranger.out(METHODS, method(await stranger.token()))
    assert refused.status == 401  # the processor's own answer
    assert refused.headers["Panward-Processor-Status"] == "401"
    assert processor.received[-1]["account"] is None


async def test_without_a_processor_key_nothing_is_opened(
    deployment: Deployment, wire: Wire, nothing_happens: Witness
) -> None:
    shop = Merchant(await new_account(deployment, routes=()), deployment.urls, wire)
    token = await shop.token()
    async with nothing_happens():
        for key in (None, "one"):
            reply = await shop.pay(payment(token), key=key)
            assert (reply.status, reply.error["code"]) == (503, "credentials_missing")
            assert reply.headers["Stripe-Should-Retry"] == "false"
            assert reply.state == "not_sent"
        passed = await shop.out("/v1/payment_methods/pm_x", verb="GET")
        assert (passed.status, passed.error["code"]) == (503, "credentials_missing")


@pytest.mark.guards("T-66")
async def test_a_ciphertext_in_another_row_opens_nothing(
    shop: Merchant, other_shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    """Somebody who can write rows gives a token another card's ciphertext, or another tenant's."""
    mine, second, foreign = await shop.token(), await shop.token(), await other_shop.token()
    for source in (second, foreign):
        before = processor.counts
        await store.execute(
            "UPDATE token SET ciphertext = (SELECT ciphertext FROM token WHERE id = $2)"
            " WHERE id = $1",
            mine,
            source,
        )
        reply = await shop.out(METHODS, method(mine), key=new_idempotency_key())
        assert (reply.status, reply.error["code"]) == (500, "record_corrupt")
        assert reply.state == "not_sent"
        assert reply.headers["Stripe-Should-Retry"] == "false"
        assert processor.counts == before
        record = await shop.authorization(reply)
        assert (record["state"], record["attempts"][0]["reason"]) == ("not_sent", "record_corrupt")


async def test_one_bad_row_spoils_no_other_call(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    good = [await shop.token() for _ in range(10)]
    bad = await shop.token()
    await store.execute("UPDATE token SET ciphertext = 'vault:v1:AAAA' WHERE id = $1", bad)
    replies = await asyncio.gather(*(shop.out(METHODS, method(token)) for token in [*good, bad]))
    assert [reply.status for reply in replies] == [200] * 10 + [500]
    assert set(processor.numbers[-10:]) == {VISA}


async def test_the_gateways_role_cannot_rewrite_the_ledger(store: Store) -> None:
    for act in (
        "UPDATE entry SET idx = idx + 1",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "DELETE FROM head",
        "TRUNCATE head",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await store.execute(act)
