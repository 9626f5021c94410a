"""The story goes elsewhere: a call is explained before it is made, and another processor is paid.

What the gateway would do with a call is told without one; then the token of the first step pays
at a second processor, whose client knows no panward at all: it has a proxy and an authority.
"""

from typing import Final

import msgspec

from gateway import preset as presets
from gateway.call import Call
from gateway.demo.act import Acted
from gateway.demo.scene import Check
from gateway.demo.stage import Stage
from gateway.explain import Explanation, explain

ADYEN: Final = "https://checkout-test.adyen.com/v72/payments"
OK: Final = 200


class Paid(msgspec.Struct, rename="camel"):
    """What Adyen's answer says of a payment."""

    result_code: str = ""
    psp_reference: str = ""


async def explained(stage: Stage) -> Acted:
    before = await stage.witness.look()
    card = stage.cards["visa"]
    told = _explained(stage.token("visa"))
    raw = _explained(card.number)
    seen = await stage.witness.since(before)
    opened = [each.field for each in told.fields if each.role in {"number", "cvc"}]
    return Acted(
        merchant=[
            "panward explain REQUEST --preset stripe, with a call as the shop recorded it",
            f"{told.operation}: {told.kind}; opened would be {' and '.join(opened)}",
            *(f"{each.field}: {each.role}, {each.becomes}" for each in told.fields),
            f"the same call with a number in it: {raw.verdict}",
        ],
        witnessed=seen,
        checks=[
            Check("the operation is told, and both fields", len(opened) == len({*opened})),
            Check(
                "a number in place of a token is told of, and stays hidden",
                not stage.search.finds(msgspec.json.encode(raw)),
            ),
            Check("nothing was opened, nothing left", seen.nothing_left),
        ],
        result=f"{told.operation}, {len(opened)} fields, {len(seen.calls)} sent",
    )


def _explained(number: str) -> Explanation:
    body = (
        "amount=1999&currency=eur&confirm=true&payment_method_data[type]=card"
        f"&payment_method_data[card][number]={number}&payment_method_data[card][cvc]=000"
        "&payment_method_data[card][exp_month]=12&payment_method_data[card][exp_year]=2030"
    )
    headers = [("Content-Type", "application/x-www-form-urlencoded")]
    call = Call("POST", "/v1/payment_intents", "", headers, body.encode())
    return explain(presets.load("stripe"), call, env="test")


async def elsewhere(stage: Stage) -> Acted:
    before = await stage.witness.look()
    card = stage.cards["visa"]
    answer = await stage.through_the_proxy(
        ADYEN,
        {
            "amount": {"value": 2700, "currency": "EUR"},
            "reference": stage.order_id("1004"),
            "merchantAccount": "DemoShop",
            "returnUrl": "https://shop.example/return",
            "paymentMethod": {
                "type": "scheme",
                "number": stage.token("visa"),
                "expiryMonth": f"{card.exp_month:02}",
                "expiryYear": str(card.exp_year),
                "holderName": "A Shopper",
            },
        },
    )
    paid = msgspec.json.decode(answer.body, type=Paid)
    seen = await stage.witness.since(before)
    numbers = await stage.witness.processor.numbers()
    return Acted(
        merchant=[
            f"POST {ADYEN}, HTTPS_PROXY={stage.credentials.proxy_url}",
            f"{answer.status}, {paid.result_code}, {paid.psp_reference}",
        ],
        witnessed=seen,
        checks=[
            Check(
                "the payment is authorised", (answer.status, paid.result_code) == (OK, "Authorised")
            ),
            Check(
                "the second processor got the very number that the shopper typed in",
                list(numbers[-1:]) == [card.number],
            ),
            Check("it was on record before it left", seen.states() == ["attempted", "completed"]),
            Check("the ledger says approved", seen.last.result == "approved"),
        ],
        result=f"1 token, 2 processors; Adyen: {paid.result_code}",
    )
