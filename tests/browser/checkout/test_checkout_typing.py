"""Every published test card of each brand, typed as a shopper types it, in both layouts."""

import pytest

from tests import cards
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import EXPIRY, Form, Visit
from tests.flows.merchant import Merchant, payment
from tests.gateway.sandbox.harness import Sdk

pytestmark = pytest.mark.embedded


def as_on_the_card(number: str) -> str:
    """Write a number as its issuer prints it."""
    brand, sizes = cards.BRANDS[number], [4, 4, 4, 4, 4]
    if brand == "amex":
        sizes = [4, 6, 5]
    elif brand == "diners" and len(number) == 14:
        sizes = [4, 6, 4]
    groups, rest = [], number
    for size in sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    return " ".join(filter(None, groups))


async def becomes_a_token(form: Form, number: str) -> None:
    await form.type(number)
    brand = cards.BRANDS[number]
    await form.latest(f"it.complete && it.brand === '{brand}'")
    assert await form.shown() == as_on_the_card(number)
    assert await form.shown("expiry") == EXPIRY
    card = await form.tokenize()
    assert card.pop("id").startswith("pwt_test_")
    assert card.pop("created_at") < card.pop("expires_at")
    assert card == {
        "brand": brand,
        "last4": number[-4:],
        "exp_month": 12,
        "exp_year": 2034,
        "single_use": False,
    }
    await form.clear()
    await form.latest("!it.complete && it.brand === 'unknown'")


@pytest.mark.parametrize("layout", ["combined", "separate"])
async def test_every_card_becomes_a_token(visit: Visit, layout: str) -> None:
    form = await visit.form(layout=layout)
    for number in cards.ALL:
        await becomes_a_token(form, number)


async def test_a_token_from_the_fields_pays(visit: Visit, shop: Merchant, stage: Stage) -> None:
    form = await visit.form()
    await form.type(cards.MASTERCARD)
    token = (await form.tokenize())["id"]
    paid = await shop.pay(payment(token, cvc=token))
    assert paid.status == 200, paid.body
    with Sdk(stage.deployment.ca_file) as sdk:
        url = f"{stage.urls.private}/out/stripe"
        card = {"number": token, "exp_month": 12, "exp_year": 2034}
        key = shop.account.secret_key
        made = await sdk(url, "payment_methods.create", key=key, type="card", card=card)
    assert made.error is None, made.body
    assert made.object["card"]["last4"] == cards.MASTERCARD[-4:]
    sent = [body for url, body in visit.requests if url.endswith("/v1/tokens")]
    assert len(sent) == 1
    assert sent[0].startswith('{"sealed":"')


async def test_the_brand_is_told_as_one_types(visit: Visit) -> None:
    form = await visit.form()
    for number, digits in ((cards.VISA, 1), (cards.AMEX, 2), (cards.MASTERCARD, 2)):
        await form.input("number").press_sequentially(number[:digits])
        change = await form.event("change", f"it.brand === '{cards.BRANDS[number]}'")
        assert not change["complete"]
        await form.clear()
        await form.forget()
