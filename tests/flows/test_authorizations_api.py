"""`/v1/authorizations`: what was sent, and what became of it, as a merchant looks it up."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.cards import DECLINED, luhn_completed
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import (
    METHODS,
    Account,
    Merchant,
    method,
    new_account,
    new_idempotency_key,
    new_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica
from vault.ids import authorization_id, intent_of, new_uuid7

pytestmark = pytest.mark.embedded

DOCUMENT = {
    "id",
    "state",
    "result",
    "kind",
    "route",
    "operation",
    "tokens",
    "amount",
    "currency",
    "merchant_reference",
    "processor_reference",
    "decline_code",
    "authorization_code",
    "attempts",
    "ledger",
    "events",
    "created_at",
    "updated_at",
}
ATTEMPT = {
    "attempt",
    "intent",
    "state",
    "result",
    "finding",
    "processor_status",
    "reason",
    "created_at",
    "ended_at",
}


async def listed(shop: Merchant, query: str = "") -> list[dict[str, Any]]:
    reply = await shop.api("GET", f"/v1/authorizations?{query}")
    assert reply.status == 200, reply.body
    data: list[dict[str, Any]] = reply.json()["data"]
    return data


async def test_an_approved_payment(shop: Merchant, store: Store) -> None:
    token = await shop.token()
    fields = payment(token) | {"metadata[order_id]": "order-7", "expand[0]": "latest_charge"}
    reply = await shop.pay(fields)
    shown = await shop.authorization(reply)
    assert set(shown) == DOCUMENT
    assert shown["id"] == reply.headers["Panward-Authorization"]
    assert (shown["state"], shown["result"], shown["kind"]) == (
        "completed",
        "approved",
        "authorize",
    )
    assert (shown["route"], shown["operation"]) == ("stripe", "payment_intents.create")
    assert (shown["tokens"], shown["amount"], shown["currency"]) == ([token], 1999, "EUR")
    assert shown["merchant_reference"] == "order-7"
    assert shown["processor_reference"] == reply.json()["id"]
    assert re.fullmatch("[A-Z0-9]{6}", shown["authorization_code"])
    assert shown["decline_code"] is None
    (attempt,) = shown["attempts"]
    assert set(attempt) == ATTEMPT
    assert (attempt["attempt"], attempt["processor_status"]) == (1, 200)
    assert attempt["intent"] == intent_of(shown["id"])
    times = [shown["created_at"], attempt["ended_at"], shown["updated_at"]]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)


async def test_its_place_in_the_ledger_is_its_latest_entry(shop: Merchant, store: Store) -> None:
    shown = await shop.authorization(await shop.pay(payment(await shop.token())))
    row = await store.fetchrow(
        "SELECT type, leaf_hash, intent FROM entry WHERE idx = $1", shown["ledger"]["index"]
    )
    assert row is not None
    assert row["type"] == "authorization.completed"
    assert row["leaf_hash"].hex() == shown["ledger"]["leaf"]
    assert str(row["intent"]) == shown["attempts"][0]["intent"]


async def test_a_declined_one(shop: Merchant) -> None:
    shown = await shop.authorization(await shop.pay(payment(await shop.token(DECLINED))))
    assert (shown["state"], shown["result"]) == ("completed", "declined")
    assert shown["decline_code"] == "generic_decline"
    assert shown["processor_reference"].startswith("pi_")
    assert shown["authorization_code"] is None


async def test_one_under_way(shop: Merchant, processor: ProcessorControl) -> None:
    token = await shop.token()
    before = processor.counts
    processor.do("hold")
    paying = asyncio.create_task(shop.pay(payment(token)))
    await asyncio.to_thread(processor.until_held, before)
    (shown,) = await listed(shop, f"token={token}")
    assert (shown["state"], shown["result"]) == ("attempted", None)
    assert shown["attempts"][0]["ended_at"] is None
    processor.do("release")
    done = await shop.authorization(await paying)
    assert done["id"] == shown["id"]
    assert done["ledger"]["index"] > shown["ledger"]["index"]


async def test_one_that_is_unknown_and_one_that_was_not_sent(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    processor.do("lose_next_answer")
    shown = await shop.authorization(await shop.pay(payment(await shop.token())))
    assert (shown["state"], shown["result"]) == ("unknown", None)
    assert shown["attempts"][0]["reason"] == "upstream_reset"
    there = shop.at(replica.urls)
    shown = await there.authorization(await there.pay(payment(await shop.token()), route="refused"))
    assert (shown["state"], shown["result"], shown["route"]) == ("not_sent", None, "refused")
    assert shown["attempts"][0]["reason"] == "upstream_unreachable"


async def test_references_that_cannot_be_recorded_are_not(shop: Merchant) -> None:
    token = await shop.token()
    card_like = luhn_completed("400000000000123")
    for reference in ("x" * 101, "line\nbreak", card_like):
        shown = await shop.authorization(
            await shop.pay(payment(token) | {"metadata[order_id]": reference})
        )
        assert shown["merchant_reference"] is None


# --- lists --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def list_account(deployment: Deployment) -> Account:
    return asyncio.run(new_account(deployment))


@pytest.fixture
async def busy_shop(shop: Merchant, list_account: Account) -> Merchant:
    """A shop with five authorizations, the same for all tests of lists."""
    busy = Merchant(list_account, shop.urls, shop.wire)
    if not await listed(busy):
        token, declined = await busy.token(), await busy.token(DECLINED)
        await busy.out(METHODS, method(token))
        for number in range(3):
            fields = payment(token) | {"metadata[order_id]": f"order-{number}"}
            await busy.pay(fields, key=f"key-{number}")
        await busy.pay(payment(declined))
    return busy


async def test_a_list_is_newest_first_and_comes_in_pages(busy_shop: Merchant) -> None:
    whole = await listed(busy_shop)
    assert len(whole) == 5
    created = [each["created_at"] for each in whole]
    assert created == sorted(created, reverse=True)
    for limit in (1, 2, 4, 5):
        found: list[dict[str, Any]] = []
        query = f"limit={limit}"
        while True:
            page = (await busy_shop.api("GET", f"/v1/authorizations?{query}")).json()
            assert len(page["data"]) <= limit
            found += page["data"]
            if page["next"] is None:
                break
            query = f"limit={limit}&cursor={quote(page['next'])}"
        assert found == whole


async def test_each_filter(busy_shop: Merchant) -> None:
    whole = await listed(busy_shop)
    declined, *approved, stored = whole
    token = stored["tokens"][0]
    cases: dict[str, list[dict[str, Any]]] = {
        f"token={token}": [*approved, stored],
        f"token={declined['tokens'][0]}": [declined],
        "route=stripe": whole,
        "route=other": [],
        "state=completed": whole,
        "state=unknown": [],
        "result=declined": [declined],
        "result=stored": [stored],
        "result=approved&limit=100": approved,
        "idempotency_key=key-1": [approved[1]],
        "idempotency_key=key-9": [],
        f"processor_reference={approved[0]['processor_reference']}": [approved[0]],
        "merchant_reference=order-0": [approved[2]],
        f"merchant_reference=order-0&token={declined['tokens'][0]}": [],
        f"since={quote(whole[1]['created_at'])}": whole[:1],
        "since=2020-01-01T00:00:00Z": whole,
        f"since={quote((datetime.now(UTC) + timedelta(hours=1)).isoformat())}": [],
    }
    for query, wanted in cases.items():
        found = await listed(busy_shop, query)
        if query.startswith("since=") and wanted == whole[:1]:  # shown in milliseconds
            found = found[:1]
        assert found == wanted, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("token=x", "token"),
        ("token=pwt_live_00000000000000000000000000qq", "token"),
        ("route=A", "route"),
        ("state=open", "state"),
        ("result=maybe", "result"),
        ("since=yesterday", "since"),
        ("since=2030-01-01T00:00:00", "since"),
        ("idempotency_key=", "idempotency_key"),
        ("processor_reference=%0a", "processor_reference"),
        ("merchant_reference=" + "x" * 256, "merchant_reference"),
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("limit=1&limit=2", "query"),
        ("amount=1999", "query"),
        ("cursor=x", "cursor"),
        ("cursor=MTIzIHB3dF90ZXN0X3g=", "cursor"),
    ],
)
async def test_a_list_that_is_asked_for_wrongly_is_refused(
    shop: Merchant, query: str, field: str
) -> None:
    reply = await shop.api("GET", f"/v1/authorizations?{query}")
    assert reply.told()[:3] == (422, "invalid_field", field)


@pytest.mark.guards("T-21")
async def test_what_is_not_there(shop: Merchant) -> None:
    nobodys = authorization_id(str(new_uuid7(datetime.now(UTC))))
    for name in (nobodys, "aut_", "x", nobodys.upper(), nobodys + "0", "pi_123"):
        reply = await shop.api("GET", f"/v1/authorizations/{name}")
        assert reply.told() == (404, "not_found", None, None)


@pytest.mark.guards("T-29")
async def test_reading_needs_the_scope(deployment: Deployment, shop: Merchant) -> None:
    narrow = shop.with_key(await new_key(deployment, shop.tenant, "tokenize", "route:stripe"))
    reply = await narrow.pay(payment(await shop.token()), key=new_idempotency_key())
    name = reply.headers["Panward-Authorization"]
    for path in ("/v1/authorizations", f"/v1/authorizations/{name}"):
        assert (await narrow.api("GET", path)).told()[:2] == (403, "not_permitted")
        assert (await shop.api("GET", path)).status == 200
