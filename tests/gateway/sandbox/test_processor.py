"""The simulated processor as its callers meet it: by the official SDK, over TLS."""

import io
import json
from typing import Any

import aiohttp
import pytest

from gateway.sandbox.processor import Processor, Running
from tests.cards import (
    AMEX,
    CVC_WRONG,
    DECLINED,
    DISCOVER,
    EXPIRED,
    FUNDS,
    MASTERCARD,
    PROCESSING,
    STORED_THEN_DECLINED,
    THREE_D_SECURE,
    UNIONPAY_19,
    VISA,
    luhn_broken,
)
from tests.gateway.sandbox.harness import OTHER_KEY, Reply, Sdk, bracketed, card, case_name

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"


async def paid(sdk: Sdk, running: Running, number: str = VISA, **others: Any) -> Reply:  # noqa: ANN401 - any field
    """Keep a card, then pay with it, as a shop does."""
    method = await sdk(running.url, "payment_methods.create", type="card", card=card(number))
    return await sdk(
        running.url,
        "payment_intents.create",
        amount=1099,
        currency="eur",
        confirm=True,
        payment_method=method.object["id"],
        **others,
    )


# --- payments by the SDK ------------------------------------------------------------------


@pytest.mark.parametrize("number", [VISA, MASTERCARD, AMEX, DISCOVER, UNIONPAY_19], ids=case_name)
async def test_approved(sdk: Sdk, running: Running, processor: Processor, number: str) -> None:
    reply = await paid(sdk, running, number)
    assert reply.object["status"] == "succeeded"
    assert reply.object["amount_received"] == 1099
    assert reply.headers["request-id"].startswith("req_")
    assert processor.counts.charges == 1
    assert processor.numbers_received == (number,)


@pytest.mark.parametrize(
    ("number", "code", "decline_code"),
    [
        (DECLINED, "card_declined", "generic_decline"),
        (FUNDS, "card_declined", "insufficient_funds"),
        (EXPIRED, "expired_card", "expired_card"),
        (CVC_WRONG, "incorrect_cvc", "incorrect_cvc"),
        (PROCESSING, "processing_error", "processing_error"),
        (STORED_THEN_DECLINED, "card_declined", "generic_decline"),
    ],
    ids=case_name,
)
async def test_declined(
    sdk: Sdk, running: Running, processor: Processor, number: str, code: str, decline_code: str
) -> None:
    reply = await paid(sdk, running, number)
    assert (reply.error, reply.status) == ("CardError", 402)
    assert reply.request_id is not None
    assert (reply.body["code"], reply.body["decline_code"]) == (code, decline_code)
    intent = reply.body["payment_intent"]
    assert intent["status"] == "requires_payment_method"
    assert intent["last_payment_error"]["decline_code"] == decline_code
    assert (processor.counts.charges, processor.counts.declines) == (0, 1)


async def test_three_d_secure_waits_for_the_shopper(
    sdk: Sdk, running: Running, processor: Processor
) -> None:
    reply = await paid(sdk, running, THREE_D_SECURE, return_url="https://shop.example/back")
    assert reply.object["status"] == "requires_action"
    assert reply.object["next_action"]["type"] == "redirect_to_url"
    assert processor.counts.charges == 0


async def test_create_then_confirm_then_retrieve_with_the_charge(
    sdk: Sdk, running: Running, processor: Processor
) -> None:
    intent = await sdk(running.url, "payment_intents.create", amount=500, currency="usd")
    assert intent.object["status"] == "requires_payment_method"
    id_ = intent.object["id"]
    brought = {"type": "card", "card": card()}
    confirmed = await sdk(running.url, "payment_intents.confirm", id_, payment_method_data=brought)
    assert confirmed.object["status"] == "succeeded"
    shown = await sdk(running.url, "payment_intents.retrieve", id_, expand=["latest_charge"])
    charge = shown.object["latest_charge"]
    assert charge["paid"] is True
    assert len(charge["payment_method_details"]["card"]["authorization_code"]) == 6
    assert processor.counts.charges == 1


async def test_capture_later_then_refund(sdk: Sdk, running: Running, processor: Processor) -> None:
    held = await paid(sdk, running, capture_method="manual")
    assert (held.object["status"], held.object["amount_capturable"]) == ("requires_capture", 1099)
    id_ = held.object["id"]
    captured = await sdk(running.url, "payment_intents.capture", id_, amount_to_capture=1000)
    assert (captured.object["status"], captured.object["amount_received"]) == ("succeeded", 1000)
    refund = await sdk(running.url, "refunds.create", payment_intent=id_, amount=400)
    assert (refund.object["status"], refund.object["amount"]) == ("succeeded", 400)
    too_much = await sdk(running.url, "refunds.create", payment_intent=id_, amount=601)
    assert too_much.error == "InvalidRequestError"
    counts = processor.counts
    assert (counts.charges, counts.captures, counts.refunds) == (1, 1, 1)


async def test_cancel(sdk: Sdk, running: Running, processor: Processor) -> None:
    held = await paid(sdk, running, capture_method="manual")
    canceled = await sdk(running.url, "payment_intents.cancel", held.object["id"])
    assert canceled.object["status"] == "canceled"
    again = await sdk(running.url, "payment_intents.capture", held.object["id"])
    assert (again.error, again.status) == ("InvalidRequestError", 400)
    assert again.body["code"] == "payment_intent_unexpected_state"
    assert (processor.counts.cancels, processor.counts.captures) == (1, 0)


async def test_older_calls(sdk: Sdk, running: Running, processor: Processor) -> None:
    token = await sdk(running.url, "tokens.create", card=card())
    price: dict[str, Any] = {"amount": 700, "currency": "eur"}
    charge = await sdk(running.url, "charges.create", source=token.object["id"], **price)
    assert charge.object["paid"] is True
    again = await sdk(running.url, "charges.create", source=token.object["id"], **price)
    assert again.error == "InvalidRequestError"
    source = card(DECLINED) | {"object": "card"}
    refused = await sdk(running.url, "charges.create", source=source, **price)
    assert (refused.error, refused.body["decline_code"]) == ("CardError", "generic_decline")
    assert (processor.counts.charges, processor.counts.declines) == (1, 1)


async def test_setup_intent_tells_cards_that_may_be_kept(sdk: Sdk, running: Running) -> None:
    async def set_up(number: str) -> Reply:
        data = {"type": "card", "card": card(number)}
        return await sdk(
            running.url, "setup_intents.create", confirm=True, payment_method_data=data
        )

    assert (await set_up(VISA)).object["status"] == "succeeded"
    assert (await set_up(STORED_THEN_DECLINED)).object["status"] == "succeeded"
    assert (await set_up(THREE_D_SECURE)).object["status"] == "requires_action"
    assert (await set_up(DECLINED)).error == "CardError"


async def test_customers_pass_through(sdk: Sdk, running: Running) -> None:
    made = await sdk(
        running.url, "customers.create", email="a@shop.example", metadata={"order_id": "7"}
    )
    found = await sdk(running.url, "customers.retrieve", made.object["id"])
    assert found.object["email"] == "a@shop.example"
    assert found.object["metadata"] == {"order_id": "7"}


# --- what it refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(TOKEN, id="token"),
        pytest.param(luhn_broken("99" + VISA[2:15]), id="pan_like_token"),
        pytest.param(VISA[:8], id="too_short"),
        pytest.param("\N{FULLWIDTH DIGIT FOUR}" * 16, id="full_width_digits"),
    ],
)
async def test_only_a_card_number_is_taken_as_one(
    sdk: Sdk, running: Running, processor: Processor, number: str
) -> None:
    """So that an approved payment proves that a token was turned into its number."""
    reply = await sdk(running.url, "payment_methods.create", type="card", card=card(number))
    assert (reply.error, reply.status) == ("CardError", 402)
    assert reply.body["code"] == "incorrect_number"
    assert processor.numbers_received == (number,)
    assert number not in repr(processor.received)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"cvc": "12"}, "invalid_cvc"),
        ({"cvc": TOKEN}, "invalid_cvc"),
        ({"exp_month": "13"}, "invalid_expiry_month"),
        ({"exp_year": "2030"}, "invalid_expiry_year"),
        ({"exp_year": TOKEN}, "invalid_expiry_year"),
    ],
)
async def test_the_other_fields_of_a_card(
    sdk: Sdk, running: Running, wrong: dict[str, str], code: str
) -> None:
    reply = await sdk(running.url, "payment_methods.create", type="card", card=card() | wrong)
    assert (reply.error, reply.body["code"]) == ("CardError", code)


@pytest.mark.parametrize("key", ["sk_test_nobodys", "pwsk_test_panwards_own"])
async def test_an_unknown_key_is_turned_away(
    sdk: Sdk, running: Running, processor: Processor, key: str
) -> None:
    reply = await sdk(running.url, "tokens.create", key=key, card=card())
    assert (reply.error, reply.status) == ("AuthenticationError", 401)
    assert key not in json.dumps(reply.body)
    assert [call.account for call in processor.received] == [None]


async def test_basic_authorization(http: aiohttp.ClientSession, processor: Processor) -> None:
    header = aiohttp.encode_basic_auth(OTHER_KEY, "")
    async with http.post(
        "/v1/tokens", data=bracketed(), headers={"Authorization": header}
    ) as reply:
        assert reply.status == 200
    assert [call.account for call in processor.received] == ["acct_2"]


async def test_accounts_do_not_see_each_other(sdk: Sdk, running: Running) -> None:
    mine = await sdk(running.url, "payment_methods.create", type="card", card=card())
    theirs = await sdk(running.url, "payment_methods.retrieve", mine.object["id"], key=OTHER_KEY)
    assert (theirs.error, theirs.status) == ("InvalidRequestError", 404)


async def test_what_is_not_there(http: aiohttp.ClientSession) -> None:
    async with http.put("/v1/nothing") as reply:
        assert reply.status == 404
        assert (await reply.json())["error"]["type"] == "invalid_request_error"
        assert reply.headers["Request-Id"].startswith("req_")


async def test_bodies_that_are_not_forms(http: aiohttp.ClientSession) -> None:
    for body, content_type in ((b"{}", "application/json"), (b"a=%FF", "")):
        headers = {"Content-Type": content_type or "application/x-www-form-urlencoded"}
        async with http.post("/v1/tokens", data=body, headers=headers) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_limit(http: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = io.BytesIO(b"a=" + b"b" * 2**20)
    async with http.post("/v1/tokens", data=body, headers=headers) as reply:
        assert reply.status == 413
