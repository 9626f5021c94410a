"""A processor that is none of ours: localstripe, through panward, with Stripe's own SDK.

It takes a number of sixteen characters and nothing longer: a token that pays there was opened.
"""

from typing import Any

import pytest

from tests.cards import DECLINED, FUNDS, STORED_THEN_DECLINED, VISA
from tests.flows.merchant import Merchant
from tests.flows.sdk_gateway import LOCALSTRIPE, LOCALSTRIPE_NAME
from tests.flows.sdks import Desk, SdkWay

pytestmark = pytest.mark.embedded


@pytest.fixture(params=["base", "proxy"])
def localstripe_way(request: pytest.FixtureRequest, desk: Desk) -> SdkWay:
    """By base URL; and through the proxy, by a name that is only the route's."""
    if request.param == "base":
        url = f"{desk.beside.urls.private}/out/{LOCALSTRIPE}"
        return desk.by_base("stripe", url=url)
    proxy = desk.proxy_url(beside=True)
    return desk.by_proxy("stripe", proxy=proxy, url=f"https://{LOCALSTRIPE_NAME}")


def stored(token: str) -> dict[str, Any]:
    """Exactly the fields that it knows."""
    card = {"number": token, "exp_month": 12, "exp_year": 2034, "cvc": "000"}
    return {"type": "card", "card": card}


async def test_a_token_pays_there(localstripe_way: SdkWay, till: Merchant) -> None:
    token = await till.token(VISA)
    made = await localstripe_way("payment_methods.create", params=stored(token))
    assert (made.error, made.object["card"]["last4"]) == (None, VISA[-4:])
    price = {"amount": 1099, "currency": "eur", "confirm": True}
    order = {"payment_method": made.object["id"], "metadata": {"order_id": "order-1"}}
    paid = await localstripe_way("payment_intents.create", params=price | order)
    assert (paid.error, paid.object["status"]) == (None, "succeeded")
    (record,) = (await till.api("GET", f"/v1/authorizations?token={token}")).json()["data"]
    assert (record["route"], record["kind"], record["result"]) == (
        LOCALSTRIPE,
        "store_card",
        "stored",
    )
    name = paid.headers["panward-authorization"]
    record = (await till.api("GET", f"/v1/authorizations/{name}")).json()
    assert (record["kind"], record["result"], record["amount"]) == ("authorize", "approved", 1099)
    assert record["processor_reference"] == paid.object["id"]
    assert record["merchant_reference"] == "order-1"


@pytest.mark.parametrize("number", [DECLINED, FUNDS], ids=["declined", "funds"])
async def test_a_card_that_it_declines(
    localstripe_way: SdkWay, till: Merchant, number: str
) -> None:
    """It says so when the card is attached to a customer, which is no call of ours."""
    token = await till.token(number)
    made = await localstripe_way("payment_methods.create", params=stored(token))
    customer = await localstripe_way("customers.create", params={"name": "J. Doe"})
    to = {"customer": customer.object["id"]}
    refused = await localstripe_way("payment_methods.attach", made.object["id"], params=to)
    assert (refused.error, refused.status, refused.code) == ("CardError", 402, "card_declined")


async def test_a_payment_that_it_declines(localstripe_way: SdkWay, till: Merchant) -> None:
    token = await till.token(STORED_THEN_DECLINED)
    made = await localstripe_way("payment_methods.create", params=stored(token))
    price = {"amount": 1099, "currency": "eur", "confirm": True}
    params = price | {"payment_method": made.object["id"]}
    refused = await localstripe_way("payment_intents.create", params=params)
    assert (refused.error, refused.status, refused.code) == ("CardError", 402, "card_declined")
    name = refused.headers["panward-authorization"]
    record = (await till.api("GET", f"/v1/authorizations/{name}")).json()
    # The real one says `card_error`, which would be a decline; `invalid_request_error` is none.
    assert (record["state"], record["result"]) == ("completed", "error")


async def test_a_token_that_is_not_opened_is_no_number_there(
    localstripe_way: SdkWay, till: Merchant, other_shop: Merchant
) -> None:
    foreign = await other_shop.token(VISA)
    refused = await localstripe_way("payment_methods.create", params=stored(foreign))
    assert (refused.error, refused.body["code"]) == ("InvalidRequestError", "token_unknown")
