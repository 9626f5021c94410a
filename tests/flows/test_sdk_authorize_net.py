"""Authorize.Net's SDK and its schema; and the other ways to write the same call."""

import json
from typing import Any, Final

import pytest

from tests.cards import UNIONPAY_19, VISA_13, VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Store
from tests.flows.merchant import Merchant
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import CODE_IS_STORED, MODES, Story
from tests.flows.sdks import Desk, Mode
from tests.flows.wire import Reply, Wire

pytestmark = pytest.mark.embedded

BOM: Final = b"\xef\xbb\xbf"
SDK: Final = "authorizenet"


@pytest.fixture(params=MODES)
def anet(request: pytest.FixtureRequest, desk: Desk, till: Merchant) -> Story:
    mode: Mode = request.param
    return Story(till, SDK, desk.way(SDK, mode))


async def test_the_sdk_itself_takes_no_opaque_token(
    anet: Story, till: Merchant, nothing_happens: Witness
) -> None:
    """Nor a pan_like one of nineteen digits: its schema has sixteen characters at most."""
    long = await till.tokenize(UNIONPAY_19, format="pan_like")
    async with nothing_happens():
        for number in (long["id"], long["pan_like"]):
            reply = await anet.do(anet.dialect.pay(anet.bill(number)))
            assert (reply.error, reply.requests) == ("SimpleFacetValueError", 0)


async def test_a_stored_profile_is_charged(anet: Story, processor: ProcessorControl) -> None:
    """The next call has no card: it is on record all the same."""
    token, number = await anet.card()
    stored = await anet.do(anet.dialect.store(anet.bill(number)))
    profile = stored.object["customerProfileId"]
    payment_profile = stored.object["customerPaymentProfileIdList"]["numericString"]
    bill = anet.bill("")
    request = {
        "transactionType": "authCaptureTransaction",
        "amount": bill.major,
        "profile": {
            "customerProfileId": profile,
            "paymentProfile": {"paymentProfileId": payment_profile},
        },
        "order": {"invoiceNumber": bill.reference},
    }
    params = {"transactionRequest": request}
    paid = await anet.way("createTransaction", params=params)
    assert anet.dialect.word(paid) == "1"
    record = await anet.record()
    assert (record["kind"], record["result"], record["tokens"]) == ("authorize", "approved", [])
    assert record["merchant_reference"] == bill.reference
    assert (await anet.record(token))["result"] == "stored"


# --- in other clothes ---------------------------------------------------------------------


class Plain:
    """A client of one's own, which no schema keeps from sending an opaque token."""

    def __init__(self, desk: Desk, wire: Wire) -> None:
        self._login = desk.seller.key.logins[SDK]
        self._url = desk.base_url(SDK)
        self._wire = wire

    async def xml(self, number: str, amount: str, key: str | None = None) -> Reply:
        login = (
            f"<merchantAuthentication><name>{self._login['user']}</name>"
            f"<transactionKey>{self._login['api_key']}</transactionKey></merchantAuthentication>"
        )
        card = (
            f"<payment><creditCard><cardNumber>{number}</cardNumber>"
            "<expirationDate>2034-12</expirationDate><cardCode>000</cardCode></creditCard></payment>"
        )
        text = (
            '<createTransactionRequest xmlns="AnetApi/xml/v1/schema/AnetApiSchema.xsd">'
            f"{login}<transactionRequest><transactionType>authOnlyTransaction</transactionType>"
            f"<amount>{amount}</amount>{card}</transactionRequest></createTransactionRequest>"
        )
        return await self._sent(text.encode(), "text/xml", key)

    async def json(self, number: str, amount: str, key: str | None = None) -> Reply:
        card = {"cardNumber": number, "expirationDate": "2034-12", "cardCode": "000"}
        request = {
            "transactionType": "authOnlyTransaction",
            "amount": amount,
            "payment": {"creditCard": card},
        }
        login = {"name": self._login["user"], "transactionKey": self._login["api_key"]}
        inside = {"merchantAuthentication": login, "transactionRequest": request}
        document = {"createTransactionRequest": inside}
        return await self._sent(json.dumps(document).encode(), "application/json", key)

    async def _sent(self, body: bytes, content_type: str, key: str | None) -> Reply:
        headers = {"Content-Type": content_type}
        if key is not None:
            headers["Panward-Idempotency-Key"] = key
        return await self._wire("POST", self._url, BOM + body, headers=headers)


def said(reply: Reply) -> dict[str, Any]:
    """Read JSON behind its byte order mark."""
    assert (reply.status, reply.body[:3]) == (200, BOM)
    document: dict[str, Any] = json.loads(reply.body[3:])
    return document


async def test_a_payment_that_is_held_for_review(
    desk: Desk, wire: Wire, till: Merchant, store: Store
) -> None:
    token = await till.token(VISA_13)
    reply = await Plain(desk, wire).xml(token, "193.00")
    assert b"<responseCode>4</responseCode>" in reply.body
    record = await till.authorization(reply)
    assert (record["state"], record["result"]) == ("completed", "pending")
    assert await store.fetchval(CODE_IS_STORED, token) == 1


async def test_json_behind_a_byte_order_mark(
    desk: Desk, wire: Wire, till: Merchant, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    plain, token = Plain(desk, wire), await till.token(VISA_ALT)
    paid = await plain.json(token, "31.07", key="one-of-ours")
    assert said(paid)["transactionResponse"]["responseCode"] == "1"
    assert processor.numbers[-1] == VISA_ALT
    async with nothing_happens():
        again = await plain.json(token, "31.07", key="one-of-ours")
        assert again.body == paid.body
        reused = said(await plain.json(token, "31.08", key="one-of-ours"))
        assert reused["panward"] == "idempotency_key_reused"
        refused = said(await plain.json(VISA_ALT, "31.09"))
        assert refused["messages"]["resultCode"] == "Error"
        assert refused["panward"] == "raw_card_number"
