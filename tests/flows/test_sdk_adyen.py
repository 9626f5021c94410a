"""Adyen's SDK at its classic API, and what its Checkout does besides the one story."""

from typing import Any

import pytest

from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.merchant import Merchant
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import MODES, Story
from tests.flows.sdks import Desk, Mode
from tests.sdks.driver import Reply

pytestmark = pytest.mark.embedded


@pytest.fixture(params=MODES)
def adyen(request: pytest.FixtureRequest, desk: Desk, till: Merchant) -> Story:
    mode: Mode = request.param
    return Story(till, "adyen", desk.way("adyen", mode))


def classic(number: str, holder: str = "J. Doe") -> dict[str, Any]:
    card = {"number": number, "expiryMonth": "12", "expiryYear": "2034", "cvc": "000"}
    return {
        "merchantAccount": "PanwardTest",
        "reference": "order-classic",
        "amount": {"value": 1099, "currency": "EUR"},
        "card": card | {"holderName": holder},
    }


async def test_the_classic_api(
    adyen: Story, till: Merchant, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    call = "payment.payments_api.authorise"
    token = await till.token(VISA_ALT)
    paid = await adyen.way(call, params=classic(token))
    assert (paid.error, paid.object["resultCode"]) == (None, "Authorised")
    assert processor.numbers[-1] == VISA_ALT
    record = await adyen.record(token)
    assert (record["operation"], record["result"]) == ("classic.authorise", "approved")
    assert record["authorization_code"] == paid.object["authCode"]
    assert record["merchant_reference"] == "order-classic"

    token = await till.token(VISA_ALT)
    declined = await adyen.way(call, params=classic(token, "DECLINED"))
    assert declined.object["resultCode"] == "Refused"
    assert (await adyen.record(token))["result"] == "declined"

    params: dict[str, Any] = {"merchantAccount": "PanwardTest", "reference": "order-classic"}
    params |= {"originalReference": paid.object["pspReference"]}
    price: dict[str, Any] = {"modificationAmount": {"value": 1099, "currency": "EUR"}}
    kinds = []
    for verb in ("capture", "cancel", "refund"):
        more = {} if verb == "cancel" else price
        done = await adyen.way(f"payment.modifications_api.{verb}", params=params | more)
        assert done.object["response"] == f"[{verb}-received]"
        record = await adyen.record()
        kinds.append((record["kind"], record["result"], record["amount"]))
    assert kinds == [
        ("capture", "pending", 1099),
        ("void", "pending", None),
        ("refund", "pending", 1099),
    ]
    async with nothing_happens():
        refused = await adyen.way(call, params=classic(VISA_ALT))
        assert adyen.dialect.told(refused) == adyen.dialect.no("raw_card_number", 422)


async def test_a_payment_that_its_payer_confirms(adyen: Story, till: Merchant) -> None:
    """3-D Secure: pending, then approved or declined by the call with what the payer brought."""
    ends = []
    for suffix in ("", ".failed"):
        _, step = await adyen.payment("pending")
        waits = await adyen.do(step)
        brought = waits.object["action"]["paymentData"] + suffix
        reply: Reply = await adyen.way(
            "checkout.payments_api.payments_details",
            params={"details": {"redirectResult": brought}},
        )
        record = await adyen.record()
        assert record["operation"] == "payments.details"
        ends.append((reply.object["resultCode"], record["kind"], record["result"]))
    assert ends == [("Authorised", "authorize", "approved"), ("Refused", "authorize", "declined")]


async def test_asking_about_a_card_is_on_record(adyen: Story, till: Merchant) -> None:
    token = await till.token(VISA_ALT)
    params = {"merchantAccount": "PanwardTest", "cardNumber": token}
    reply = await adyen.way("checkout.payments_api.card_details", params=params)
    assert reply.object["brands"][0]["type"] == "visa"
    record = await adyen.record(token)
    assert (record["operation"], record["kind"]) == ("card_details", "verify")
