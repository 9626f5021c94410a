"""What became of a call whose answer was lost is found out: asked, or sent again, never guessed.

At the simulated processors, which keep what the real ones promise. What the processor charged is
counted by itself: whatever happens, once.
"""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from gateway.call import Call
from gateway.reconcile import signature_of
from gateway.resign import signing_key
from tests.cards import DECLINED, luhn_completed
from tests.flows.deployment import Deployment, Gateway, Store, eventually
from tests.flows.merchant import JSON, Merchant, new_idempotency_key, payment
from tests.flows.processor import ProcessorControl
from tests.flows.reconciling import Reconciling, looked_into, looks, running_reconciling
from tests.flows.seller import Seller, new_seller
from tests.flows.wire import Reply, Wire
from vault.ids import intent_of

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23", "F-24", "F-40")]

FUNDS = luhn_completed("454424916767367")  # Checkout.com declines it


@pytest.fixture(scope="module")
def reconciling(deployment: Deployment, watched: list[Gateway]) -> Iterator[Reconciling]:
    with running_reconciling(deployment) as running:
        watched.append(running.gateway)
        yield running


@pytest.fixture(scope="module")
def seller(deployment: Deployment) -> Seller:
    return asyncio.run(new_seller(deployment))


@dataclass
class Till:
    """A seller's back end at that gateway."""

    merchant: Merchant
    seller: Seller
    store: Store
    processor: ProcessorControl
    gateway: Reconciling

    async def looked_into(self, reply: Reply) -> None:
        await looks(self.gateway, self.merchant.wire, self.store, self.first(reply))

    async def token(self, number: str | None = None) -> str:
        return await (self.merchant.token(number) if number else self.merchant.token())

    async def checkout(self, body: object, key: str | None) -> Reply:
        headers = {
            "Authorization": f"Bearer {self.seller.key.logins['checkout']['api_key']}",
            "Content-Type": JSON,
        }
        if key is not None:
            headers["Cko-Idempotency-Key"] = key
        url = f"{self.merchant.urls.private}/out/checkout_com/payments"
        return await self.merchant.wire("POST", url, json.dumps(body).encode(), headers=headers)

    async def stripe(
        self, token: str, reference: str, key: str | None, route: str = "stripe"
    ) -> Reply:
        fields = payment(token) | {"metadata[order_id]": reference}
        return await self.merchant.pay(fields, key=key, route=route)

    async def is_open(self, route: str) -> bool:
        """Pay once, by which a route forgets the failures of the tests before."""
        paid = await self.stripe(await self.token(), "", new_idempotency_key(), route)
        return paid.status == 200

    async def cybersource(self, body: object, key: str) -> Reply:
        url, path = self.merchant.urls.private, "/out/cybersource/pts/v2/payments"
        content = json.dumps(body).encode()
        login = self.seller.key.logins["cybersource"]
        signing = signing_key(login["user"], login["secret"], "shop")
        assert signing is not None
        call = Call("POST", "/pts/v2/payments", "", (), content)
        host = url.removeprefix("https://")
        signed = signature_of(call, signing, host, now=datetime.now(UTC))
        headers = {"Content-Type": JSON, "Panward-Idempotency-Key": key} | dict(signed)
        return await self.merchant.wire("POST", url + path, content, headers=headers)

    def first(self, reply: Reply) -> str:
        intent = intent_of(reply.headers["Panward-Authorization"])
        assert intent is not None
        return intent

    async def record(self, reply: Reply) -> dict[str, Any]:
        return await self.merchant.authorization(reply)

    async def methods(self, reply: Reply) -> list[tuple[str, str]]:
        """Give how and with what finding each send of a request was resolved."""
        rows = await self.store.fetch(
            "SELECT body FROM entry WHERE type = 'authorization.resolved' AND intent IN"
            " (SELECT intent FROM intent_state WHERE first = $1) ORDER BY idx",
            self.first(reply),
        )
        entries = [json.loads(row["body"]) for row in rows]
        return [(entry["method"], entry["finding"]) for entry in entries]


@pytest.fixture
async def till(
    reconciling: Reconciling, seller: Seller, wire: Wire, store: Store, processor: ProcessorControl
) -> Till:
    merchant = Merchant(seller.account, reconciling.urls, wire)
    till = Till(merchant, seller, store, processor, reconciling)
    for route in ("stripe", "stripe_quick"):
        await eventually(partial(till.is_open, route), f"{route} is left alone", seconds=30)
    return till


def checkout_payment(token: str, reference: str, **more: object) -> dict[str, object]:
    source = {"type": "card", "number": token, "expiry_month": 12, "expiry_year": 2034}
    price = {"amount": 1099, "currency": "EUR", "reference": reference}
    return {"source": source | {"cvv": token}} | price | more


def cybersource_payment(token: str, reference: str, amount: str = "10.99") -> dict[str, object]:
    card = {"number": token, "expirationMonth": "12", "expirationYear": "2034"}
    return {
        "clientReferenceInformation": {"code": reference},
        "paymentInformation": {"card": card | {"securityCode": token}},
        "orderInformation": {"amountDetails": {"totalAmount": amount, "currency": "EUR"}},
    }


async def arrived(processor: ProcessorControl, requests: int) -> bool:
    return processor.counts.requests >= requests


def unknown(reply: Reply) -> None:
    assert reply.headers["Panward-State"] == "unknown", reply.body
    assert reply.status >= 500


# --- asked --------------------------------------------------------------------------------


async def test_a_payment_whose_answer_was_lost_is_found(till: Till) -> None:
    body = checkout_payment(await till.token(), reference := new_idempotency_key())
    before, key = till.processor.counts, new_idempotency_key()
    till.processor.do("lose_next_answer")
    lost = await till.checkout(body, key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost)) == "approved"
    assert await till.methods(lost) == [("inquiry", "answered")]
    again = await till.checkout(body, key)
    assert (again.status, again.headers["Panward-State"]) == (201, "resolved")
    assert again.headers["Idempotent-Replayed"] == "true"
    shown = again.json()
    assert (shown["reference"], shown["approved"]) == (reference, True)
    record = await till.record(lost)
    assert record["processor_reference"] == shown["id"]
    assert record["authorization_code"] == shown["auth_code"]
    assert till.processor.counts.charges == before.charges + 1
    codes = "SELECT count(*) FROM cvc WHERE token = $1"
    assert await till.store.fetchval(codes, record["tokens"][0]) == 0


async def test_a_refusal_that_is_found_does_not_read_as_a_success(till: Till) -> None:
    body = checkout_payment(await till.token(FUNDS), new_idempotency_key())
    key = new_idempotency_key()
    till.processor.do("lose_next_answer")
    lost = await till.checkout(body, key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost)) == "declined"
    again = await till.checkout(body, key)
    assert again.status >= 400
    assert again.headers["Panward-State"] == "resolved"
    assert (await till.record(lost))["decline_code"] == "20051"


async def test_one_that_the_processor_never_had_may_be_made(till: Till) -> None:
    body = checkout_payment(await till.token(), new_idempotency_key())
    before, key = till.processor.counts, new_idempotency_key()
    till.processor.do("close_before_reading")
    lost = await till.checkout(body, key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost)) == "error"
    assert await till.methods(lost) == [("inquiry", "not_received")]
    made = await till.checkout(body, key)
    assert (made.status, made.headers["Panward-State"]) == (201, "completed")
    assert till.first(made) == till.first(lost)
    assert till.processor.counts.charges == before.charges + 1


@pytest.mark.parametrize("first", ["lose_next_answer", "close_before_reading"])
async def test_of_two_with_one_reference_nobody_can_tell(till: Till, first: str) -> None:
    """Even if the processor has one only: whose is it?"""
    reference, lost = new_idempotency_key(), []
    for mishap in (first, "lose_next_answer"):
        till.processor.do(mishap)
        body = checkout_payment(await till.token(), reference)
        lost.append(await till.checkout(body, None))
        unknown(lost[-1])
    for each in lost:
        await till.looked_into(each)
        assert (await till.record(each))["state"] == "unknown"
        assert await till.methods(each) == []


async def test_what_a_process_that_was_killed_had_sent_is_found(
    till: Till, reconciling: Reconciling, processor: ProcessorControl, wire: Wire
) -> None:
    body = checkout_payment(await till.token(), new_idempotency_key())
    key, before = new_idempotency_key(), processor.counts
    processor.do("hold", at="answer")
    call = asyncio.create_task(till.checkout(body, key))
    await eventually(lambda: arrived(processor, before.requests + 1), "no call arrived")
    orphan = await eventually(
        lambda: till.store.fetchval(
            "SELECT first FROM intent_state WHERE state = 'attempted' AND tenant = $1",
            till.merchant.tenant,
        ),
        "there is no intent",
    )
    os.kill(reconciling.gateway.pid, signal.SIGKILL)
    await asyncio.gather(call, return_exceptions=True)
    processor.behave()
    reconciling.gateway.wait()
    reconciling.start()
    assert await looked_into(till.store, orphan) == "approved"
    again = await till.checkout(body, key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert processor.counts.charges == before.charges + 1
    types = await till.store.fetch("SELECT type FROM entry WHERE intent = $1 ORDER BY idx", orphan)
    assert [row["type"].removeprefix("authorization.") for row in types] == [
        "attempted",
        "unknown",
        "resolved",
    ]


@pytest.mark.parametrize(
    ("amount", "result"), [("10.99", "approved"), ("1051.00", "declined"), ("1059.00", "pending")]
)
async def test_a_question_that_has_to_be_signed(till: Till, amount: str, result: str) -> None:
    reference, key = new_idempotency_key(), new_idempotency_key()
    body = cybersource_payment(await till.token(), reference, amount)
    before = till.processor.counts
    till.processor.do("lose_next_answer")
    lost = await till.cybersource(body, key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost)) == result
    again = await till.cybersource(body, key)
    assert again.headers["Panward-State"] == "resolved"
    assert (again.status < 400) is (result != "declined")
    record = await till.record(lost)
    assert record["processor_reference"]
    assert till.processor.counts.charges - before.charges == (result != "declined")


async def test_a_search_that_is_behind_is_asked_again(till: Till) -> None:
    reference, key = new_idempotency_key(), new_idempotency_key()
    token = await till.token()
    till.processor.do("lose_next_answer")
    lost = await till.stripe(token, reference, key, route="stripe_quick")
    unknown(lost)
    assert await looked_into(till.store, till.first(lost)) == "approved"
    assert await till.methods(lost) == [("inquiry", "answered")]
    again = await till.stripe(token, reference, key, route="stripe_quick")
    assert again.json()["status"] == "succeeded"


async def test_a_search_that_finds_nothing_proves_nothing(till: Till) -> None:
    till.processor.do("close_before_reading")
    lost = await till.stripe(await till.token(), new_idempotency_key(), None, route="stripe_quick")
    unknown(lost)
    await till.looked_into(lost)
    assert (await till.record(lost))["state"] == "unknown"


# --- sent again ---------------------------------------------------------------------------


async def test_a_call_that_never_arrived_is_sent_again_under_its_key(till: Till) -> None:
    token, key = await till.token(), new_idempotency_key()
    before = till.processor.counts
    till.processor.do("close_before_reading")
    lost = await till.stripe(token, "", key)
    unknown(lost)
    assert till.processor.counts.charges == before.charges
    assert await till.store.fetchval("SELECT count(*) FROM kept_request") >= 1
    assert await looked_into(till.store, till.first(lost), until="completed") == "approved"
    assert till.processor.counts.charges == before.charges + 1
    assert await till.methods(lost) == [("replay", "answered")]
    again = await till.stripe(token, "", key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    record = await till.record(lost)
    assert [attempt["state"] for attempt in record["attempts"]] == ["resolved", "completed"]
    actors = await till.store.fetch(
        "SELECT body FROM entry WHERE intent IN (SELECT intent FROM intent_state WHERE first = $1)"
        " AND type = 'authorization.attempted' ORDER BY idx",
        till.first(lost),
    )
    kinds = [json.loads(row["body"])["actor"]["kind"] for row in actors]
    assert kinds == ["secret_key", "system"]


async def test_a_call_that_arrived_is_answered_and_charged_once(till: Till) -> None:
    token, key = await till.token(), new_idempotency_key()
    before = till.processor.counts
    till.processor.do("lose_next_answer")
    lost = await till.stripe(token, "", key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost), until="completed") == "approved"
    assert till.processor.counts.charges == before.charges + 1
    assert till.processor.counts.replays == before.replays + 1


async def test_a_decline_that_was_lost_is_told_as_the_processor_told_it(till: Till) -> None:
    token, key = await till.token(DECLINED), new_idempotency_key()
    till.processor.do("lose_next_answer")
    lost = await till.stripe(token, "", key)
    unknown(lost)
    assert await looked_into(till.store, till.first(lost), until="completed") == "declined"
    again = await till.stripe(token, "", key)
    assert (again.status, again.json()["error"]["type"]) == (402, "card_error")


@pytest.mark.parametrize("why", ["no key", "not this route", "its key is forgotten"])
async def test_what_is_not_sent_again(till: Till, why: str) -> None:
    token = await till.token()
    key = None if why == "no key" else new_idempotency_key()
    route = "stripe_quick" if why == "not this route" else "stripe"
    before = till.processor.counts
    till.processor.do("close_before_reading")
    lost = await till.stripe(token, "", key, route=route)
    unknown(lost)
    if why == "its key is forgotten":
        await till.store.execute(
            "UPDATE authorizations SET created_at = now() - interval '23 hours 51 minutes'"
            " WHERE first = $1",
            till.first(lost),
        )
    await till.looked_into(lost)
    record = await till.record(lost)
    assert (record["state"], len(record["attempts"])) == ("unknown", 1)
    assert till.processor.counts.charges == before.charges


async def test_a_kept_request_holds_no_key_and_no_card(till: Till) -> None:
    token, key = await till.token(), new_idempotency_key()
    till.processor.do("lose_next_answer")
    lost = await till.stripe(token, "", key)
    unknown(lost)
    row = await till.store.fetchrow(
        "SELECT ciphertext FROM kept_request WHERE first = $1", till.first(lost)
    )
    assert row is not None
    assert row["ciphertext"].startswith("vault:v")
    await looked_into(till.store, till.first(lost), until="completed")

    async def forgotten() -> bool:
        kept = "SELECT count(*) FROM kept_request WHERE first = $1"
        return not await till.store.fetchval(kept, till.first(lost))

    await eventually(forgotten, "it is kept for ever", seconds=20)


async def test_the_merchant_s_own_repeat_and_the_gateway_s_charge_once(till: Till) -> None:
    token, key = await till.token(), new_idempotency_key()
    fields = payment(token)
    before = till.processor.counts
    till.processor.do("close_before_reading")
    lost = await till.merchant.pay(fields, key=key)
    unknown(lost)
    repeats = [till.merchant.pay(fields, key=key) for _ in range(6)]
    result, *_ = await asyncio.gather(
        looked_into(till.store, till.first(lost), until="completed"), *repeats
    )
    assert result == "approved"
    assert till.processor.counts.charges == before.charges + 1
    attempts = (await till.record(lost))["attempts"]
    assert [attempt["state"] for attempt in attempts].count("completed") == 1
