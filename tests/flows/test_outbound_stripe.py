"""The way out as merchants use it: the official SDK, a generic client, and what processors do."""

import asyncio
import base64
from typing import Any, get_args

import pytest

from gateway.sandbox.echo import EchoPlace
from tests.cards import (
    AMEX,
    CVC_WRONG,
    DECLINED,
    EXPIRED,
    FUNDS,
    MASTERCARD,
    PROCESSING,
    THREE_D_SECURE,
    VISA,
)
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import (
    FORM,
    INTENTS,
    METHODS,
    Merchant,
    form,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica
from tests.gateway.sandbox.harness import Reply, Sdk

pytestmark = pytest.mark.embedded

CHARGES = "/v1/charges"
SETUPS = "/v1/setup_intents"


class Stripe:
    """The SDK as a shop configures it: two lines, its key and its base URL."""

    def __init__(self, sdk: Sdk, shop: Merchant) -> None:
        self._sdk = sdk
        self._shop = shop

    async def __call__(self, call: str, *ids: str, **more: Any) -> Reply:  # noqa: ANN401 - the SDK's own parameters
        url = f"{self._shop.urls.private}/out/stripe"
        return await self._sdk(url, call, *ids, key=self._shop.account.secret_key, **more)


@pytest.fixture
def stripe(sdk: Sdk, shop: Merchant) -> Stripe:
    return Stripe(sdk, shop)


def stored(token: str, **more: object) -> dict[str, Any]:
    return {"type": "card", "card": {"number": token, "exp_month": 12, "exp_year": 2034, **more}}


def paid(token: str, **more: object) -> dict[str, Any]:
    return {
        "amount": 1999,
        "currency": "eur",
        "confirm": True,
        "payment_method_data": stored(token),
        **more,
    }


# --- the official SDK ---------------------------------------------------------------------


async def test_a_payment_in_two_calls(
    stripe: Stripe, shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    made = await stripe("payment_methods.create", **stored(token, cvc="000"))
    assert made.object["card"]["last4"] == VISA[-4:]
    assert processor.numbers[-1] == VISA
    order = {"metadata": {"order_id": "order-1001"}, "confirm": True}
    price = {"amount": 1999, "currency": "eur"}
    reply = await stripe(
        "payment_intents.create", payment_method=made.object["id"], **price, **order
    )
    assert reply.object["status"] == "succeeded"
    assert reply.headers["panward-state"] == "completed"
    assert reply.headers["panward-processor-status"] == "200"
    assert "processor;dur=" in reply.headers["server-timing"]
    assert reply.headers["request-id"].startswith("req_")
    record = (
        await shop.api("GET", f"/v1/authorizations/{reply.headers['panward-authorization']}")
    ).json()
    assert (record["kind"], record["result"], record["tokens"]) == ("authorize", "approved", [])
    assert (record["amount"], record["currency"]) == (1999, "EUR")
    assert record["merchant_reference"] == "order-1001"
    assert record["processor_reference"] == reply.object["id"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (DECLINED, "generic_decline"),
        (FUNDS, "insufficient_funds"),
        (EXPIRED, "expired_card"),
        (CVC_WRONG, "incorrect_cvc"),
        (PROCESSING, "processing_error"),
    ],
    ids=["declined", "funds", "expired", "cvc", "processing"],
)
async def test_a_decline_is_the_sdks_card_error(
    stripe: Stripe, shop: Merchant, number: str, code: str
) -> None:
    token = await shop.token(number)
    reply = await stripe("payment_intents.create", **paid(token))
    assert (reply.error, reply.status) == ("CardError", 402)
    assert reply.body["decline_code"] == code
    (record,) = (await shop.api("GET", f"/v1/authorizations?token={token}")).json()["data"]
    assert (record["state"], record["result"], record["decline_code"]) == (
        "completed",
        "declined",
        code,
    )


async def test_a_foreign_token_is_the_sdks_own_error_and_nothing_is_sent(
    stripe: Stripe, other_shop: Merchant, nothing_happens: Witness
) -> None:
    token = await other_shop.token()
    async with nothing_happens():
        reply = await stripe("payment_intents.create", retries=2, **paid(token))
    assert (reply.error, reply.status) == ("InvalidRequestError", 400)
    assert reply.body["code"] == "token_unknown"


async def test_a_wrong_key_is_the_sdks_authentication_error(
    sdk: Sdk, shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    wrong = shop.with_key(shop.account.secret_key[:-4] + "0000")
    page = shop.with_key(shop.account.publishable_key)
    async with nothing_happens():
        reply = await Stripe(sdk, wrong)("payment_intents.create", **paid(token))
        assert (reply.error, reply.status) == ("AuthenticationError", 401)
        reply = await Stripe(sdk, page)("payment_intents.create", **paid(token))
        assert (reply.error, reply.status) == ("PermissionError", 403)


async def test_every_recorded_kind_of_call(stripe: Stripe, shop: Merchant) -> None:
    """Whether or not it opens a card, what moves money or keeps a card is on record."""
    token = await shop.token()
    kinds = []

    async def done(call: str, *ids: str, **params: object) -> dict[str, Any]:
        reply = await stripe(call, *ids, **params)
        assert reply.error is None, reply
        name = reply.headers["panward-authorization"]
        record = (await shop.api("GET", f"/v1/authorizations/{name}")).json()
        kinds.append((record["operation"], record["kind"], record["result"]))
        return reply.object

    held = await done("payment_intents.create", **paid(token, capture_method="manual"))
    await done("payment_intents.capture", held["id"], amount_to_capture=500)
    await done("refunds.create", payment_intent=held["id"], amount=100)
    held = await done("payment_intents.create", **paid(token, capture_method="manual"))
    await done("payment_intents.cancel", held["id"])
    later = await done("payment_intents.create", amount=500, currency="eur")
    await done("payment_intents.confirm", later["id"], payment_method_data=stored(token))
    await done("setup_intents.create", confirm=True, payment_method_data=stored(token))
    setup = await done("setup_intents.create")
    await done("setup_intents.confirm", setup["id"], payment_method_data=stored(token))
    await done("charges.create", amount=500, currency="eur", source=stored(token)["card"])
    charge = await done(
        "charges.create", amount=500, currency="eur", card=stored(token)["card"], capture=False
    )
    await done("charges.capture", charge["id"])
    await done("tokens.create", card=stored(token)["card"])
    assert kinds == [
        ("payment_intents.create", "authorize", "approved"),
        ("payment_intents.capture", "capture", "approved"),
        ("refunds.create", "refund", "approved"),
        ("payment_intents.create", "authorize", "approved"),
        ("payment_intents.cancel", "void", "approved"),
        ("payment_intents.create", "authorize", "pending"),
        ("payment_intents.confirm", "authorize", "approved"),
        ("setup_intents.create", "verify", "approved"),
        ("setup_intents.create", "verify", "pending"),
        ("setup_intents.confirm", "verify", "approved"),
        ("charges.create", "authorize", "approved"),
        ("charges.create", "authorize", "approved"),
        ("charges.capture", "capture", "approved"),
        ("tokens.create", "store_card", "stored"),
    ]


async def test_a_challenge_is_pending(stripe: Stripe, shop: Merchant) -> None:
    token = await shop.token(THREE_D_SECURE)
    params = paid(token, return_url="https://shop.example/back")
    reply = await stripe("payment_intents.create", **params)
    assert reply.object["status"] == "requires_action"
    (record,) = (await shop.api("GET", f"/v1/authorizations?token={token}")).json()["data"]
    assert (record["state"], record["result"]) == ("completed", "pending")


async def test_what_is_no_operation_passes_through(
    stripe: Stripe, shop: Merchant, store: Store
) -> None:
    recorded = await store.fetchval("SELECT count(*) FROM intent_state")
    made = await stripe("customers.create", name="J. Doe", metadata={"a": "b"})
    found = await stripe("customers.retrieve", made.object["id"])
    assert found.object["name"] == "J. Doe"
    missing = await stripe("payment_intents.retrieve", "pi_none")
    assert (missing.error, missing.status) == ("InvalidRequestError", 404)
    assert "panward-authorization" not in found.headers
    assert found.headers["panward-processor-status"] == "200"
    assert await store.fetchval("SELECT count(*) FROM intent_state") == recorded


async def test_a_lost_answer_is_found_again_by_the_sdks_own_retry(
    stripe: Stripe, shop: Merchant, processor: ProcessorControl
) -> None:
    """It was charged, and nobody heard of it: one charge, two attempts, one answer."""
    token = await shop.token()
    before = processor.counts
    processor.do("lose_next_answer")
    reply = await stripe("payment_intents.create", retries=2, **paid(token))
    assert reply.object["status"] == "succeeded"
    after = processor.counts
    assert (after.charges - before.charges, after.replays - before.replays) == (1, 1)
    (record,) = (await shop.api("GET", f"/v1/authorizations?token={token}")).json()["data"]
    attempts = [(each["state"], each["reason"]) for each in record["attempts"]]
    assert attempts == [("resolved", None), ("completed", None)]
    assert (record["state"], record["result"]) == ("completed", "approved")


async def test_without_a_retry_a_lost_answer_is_an_api_error(
    stripe: Stripe, shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    processor.do("lose_next_answer", half=True)
    reply = await stripe("payment_intents.create", **paid(token))
    assert (reply.error, reply.status) == ("APIError", 502)
    assert reply.body["code"] == "upstream_reset"


# --- what is put in the place of a token --------------------------------------------------


async def test_every_declared_field_gets_what_it_stands_for(
    shop: Merchant, processor: ProcessorControl
) -> None:
    """Brackets as they are or percent-encoded, the token in the place of every part of a card."""
    token = await shop.token(AMEX)
    parts = {"exp_month": token, "exp_year": token, "cvc": token}
    for encode_brackets in (False, True):
        for fields, path in (
            (method(token, **parts), METHODS),
            (payment(token, **parts), INTENTS),
        ):
            token_again = await shop.token(AMEX)
            body = form(fields, encode_brackets=encode_brackets)
            body = body.replace(token.encode(), token_again.encode())
            reply = await shop.out(path, body)
            assert reply.status == 200, reply.body
            assert processor.numbers[-1] == AMEX


async def test_the_expiry_date_of_a_token_is_the_stored_one(shop: Merchant) -> None:
    token = await shop.token(unusual={"exp_month": 3, "exp_year": 2031})
    opened = await shop.out(METHODS, method(token, exp_month=token, exp_year=token))
    real = await shop.out(METHODS, method(token, exp_month="04", exp_year="33"))
    assert (opened.json()["card"]["exp_month"], opened.json()["card"]["exp_year"]) == (3, 2031)
    assert (real.json()["card"]["exp_month"], real.json()["card"]["exp_year"]) == (4, 2033)


async def test_a_pan_like_name_opens_at_a_number_field(
    shop: Merchant, processor: ProcessorControl
) -> None:
    made = await shop.tokenize(MASTERCARD, format="pan_like")
    reply = await shop.pay(payment(made["pan_like"], cvc="000"))
    assert reply.status == 200
    assert processor.numbers[-1] == MASTERCARD
    record = await shop.authorization(reply)
    assert record["tokens"] == [made["id"]]


async def test_a_charge_with_two_cards_opens_both(
    shop: Merchant, processor: ProcessorControl, deployment: Deployment
) -> None:
    """One intent is one send; it may open several cards, each under its own reference."""
    one, two = await shop.token(), await shop.token(MASTERCARD)
    fields = {"amount": 5, "currency": "eur"}
    for parent, token in (("source", one), ("card", two)):
        fields |= {f"{parent}[number]": token, f"{parent}[exp_month]": 12}
        fields |= {f"{parent}[exp_year]": 2034, f"{parent}[cvc]": "000"}
    reply = await shop.out(CHARGES, fields)
    assert reply.status == 200
    assert sorted(processor.numbers[-2:]) == sorted([VISA, MASTERCARD])
    record = await shop.authorization(reply)
    assert set(record["tokens"]) == {one, two}
    intent = record["attempts"][0]["intent"]
    references = [each for each in deployment.decrypts() if each.startswith(intent)]
    assert sorted(references) == [f"{intent}/{n}" for n in range(4)]


@pytest.mark.guards("T-41")
async def test_a_token_in_a_text_field_stays_text(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    texts = {"description": f"card {token}", "metadata[order_id]": token, "transfer_group": token}
    texts["statement_descriptor"] = token
    reply = await shop.pay(payment(token) | texts)
    said = reply.json()
    assert reply.status == 200
    assert said["description"] == f"card {token}"
    assert said["metadata"] == {"order_id": token}
    assert said["transfer_group"] == said["statement_descriptor"] == token
    assert processor.numbers[-1] == VISA


async def test_a_list_of_names_passes_as_it_is(shop: Merchant) -> None:
    token = await shop.token()
    for fields in ({"expand[0]": "latest_charge"}, {"expand[]": "latest_charge"}):
        reply = await shop.pay(payment(token) | fields)
        assert reply.json()["latest_charge"]["object"] == "charge"
        assert (await shop.authorization(reply))["authorization_code"]


async def test_order_and_spelling_of_a_form_do_not_matter_to_it(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    backwards = list(method(token).items())[::-1]
    body = b"&&" + form(backwards) + b"&empty=&flag&plus=a+b"
    assert (await shop.out(METHODS, body)).status == 200
    spelled = form(method(token)).replace(b"number", b"n%75mber")
    assert (await shop.out(METHODS, spelled)).status == 200
    assert processor.numbers[-2:] == [VISA, VISA]


async def test_a_basic_user_is_a_key_too(shop: Merchant) -> None:
    """As curl sends it with `-u key:`."""
    basic = base64.b64encode(f"{shop.account.secret_key}:".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    token = await shop.token()
    assert (await shop.out(METHODS, method(token), headers=headers)).status == 200


async def test_the_merchants_own_processor_key_passes_untouched(
    deployment: Deployment, shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    """`credential = "own"`: panward's key comes in a header of ours, and is stripped."""
    there = shop.at(replica.urls)
    token = await there.token()
    own = {
        "Panward-Key": shop.account.secret_key,
        "Authorization": f"Bearer {deployment.processor_key}",
    }
    reply = await there.out(METHODS, method(token), route="own", headers=own)
    assert reply.status == 200
    assert processor.received[-1]["account"] == "acct_1"
    refused = await there.out(METHODS, method(token), route="own")
    assert refused.status == 401
    assert refused.error["code"] == "not_authenticated"


# --- what a processor may not do ----------------------------------------------------------


@pytest.mark.guards("T-40", "F-28")
@pytest.mark.parametrize("place", get_args(EchoPlace))
async def test_a_number_that_is_echoed_does_not_come_back(
    shop: Merchant, processor: ProcessorControl, place: str
) -> None:
    """Its token in its place, or no answer at all; and what happened is on record either way.

    That no number is in the answer, in any encoding that a test can think of, is asserted for
    every answer of these tests.
    """
    token = await shop.token()
    before = processor.counts
    processor.do("echo_numbers", **{"in": place})
    key = new_idempotency_key()
    reply = await shop.pay(payment(token), key=key)
    processor.behave()
    again = await shop.pay(payment(token), key=key)
    assert processor.counts.requests == before.requests + 1
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status, again.body) == (reply.status, reply.body)
    record = await shop.authorization(reply)
    assert record["state"] == "completed"
    if place == "error":
        assert (reply.status, record["result"]) == (402, "declined")
        assert token in reply.error["message"]
        return
    assert record["result"] == "approved"
    if reply.status == 200:
        assert token.encode() in reply.body or token in reply.headers["Request-Id"]
    else:
        assert (reply.status, reply.error["code"]) == (502, "upstream_reflected_pan")
        assert reply.error["type"] == "api_error"
        assert reply.headers["Stripe-Should-Retry"] == "false"
        assert reply.state == "completed"


@pytest.mark.guards("T-40")
async def test_a_dripped_echo_does_not_come_back(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    processor.do("drip", piece_bytes=7, pause_seconds=0)
    processor.do("echo_numbers", **{"in": "body"})
    reply = await shop.pay(payment(token))
    assert token in reply.json()["description"]


@pytest.mark.guards("T-07")
async def test_only_listed_headers_come_back(shop: Merchant) -> None:
    token = await shop.token()
    reply = await shop.out(METHODS, method(token))
    ours = {"Cache-Control", "Content-Security-Policy", "Panward-Authorization"}
    ours |= {"Panward-Processor-Status", "Panward-Request-Id", "Panward-State", "Server-Timing"}
    ours |= {"Strict-Transport-Security", "X-Content-Type-Options", "Date", "Content-Length"}
    assert {name.lower() for name in reply.headers} - {name.lower() for name in ours} == {
        "content-type",
        "request-id",
    }


async def test_many_at_once_get_each_their_own(shop: Merchant, processor: ProcessorControl) -> None:
    """Batches of many merchants' cards: nobody is sent another's."""
    tokens = await asyncio.gather(*(shop.token(n) for n in (VISA, MASTERCARD, AMEX) * 20))
    replies = await asyncio.gather(*(shop.out(METHODS, method(token)) for token in tokens))
    for token_number, reply in zip((VISA, MASTERCARD, AMEX) * 20, replies, strict=True):
        assert reply.json()["card"]["last4"] == token_number[-4:]
    assert sorted(processor.numbers[-60:]) == sorted((VISA, MASTERCARD, AMEX) * 20)


async def test_another_method_of_a_declared_path_passes_through(
    shop: Merchant, processor: ProcessorControl
) -> None:
    before = processor.counts.requests
    for verb in ("GET", "DELETE", "PUT"):
        reply = await shop.out(INTENTS, None if verb != "PUT" else {"a": 1}, verb=verb)
        assert reply.status == 404  # the processor's own
        assert reply.headers["Panward-Processor-Status"] == "404"
    assert processor.counts.requests == before + 3
    assert FORM
