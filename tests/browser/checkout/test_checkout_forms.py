"""Several forms and several tabs at once, and the code of a stored card alone."""

import asyncio

import pytest

from tests import cards
from tests.browser.checkout.visit import CODE, LONG_CODE, Visit
from tests.browser.waiting import until
from tests.flows.merchant import Merchant, payment
from vault.tokens import new_token

pytestmark = pytest.mark.embedded


async def test_two_forms_of_a_page_do_not_mix(visit: Visit) -> None:
    page = await visit.page()
    one = await visit.form(page, "one", layout="separate")
    two = await visit.form(page, "two", layout="separate")
    for part, first, second in (
        ("number", cards.AMEX, cards.MASTERCARD),
        ("cvc", LONG_CODE, CODE),
        ("expiry", "1134", "1235"),
    ):
        await one.input(part).press_sequentially(first)
        await two.input(part).press_sequentially(second)
    made = await asyncio.gather(one.tokenize(), two.tokenize())
    told = [(card["brand"], card["exp_month"], card["exp_year"]) for card in made]
    assert told == [("amex", 11, 2034), ("mastercard", 12, 2035)]
    await one.clear()
    assert await two.shown() != ""
    assert (await one.refusal())["field"] == "number"


async def test_two_tabs_do_not_mix(visit: Visit) -> None:
    forms = [await visit.form(layout=layout) for layout in ("combined", "separate")]
    numbers = (cards.VISA, cards.JCB)
    for form, number in zip(forms, numbers, strict=True):
        await form.page.bring_to_front()
        await form.type(number)
    made = await asyncio.gather(*(form.tokenize() for form in forms))
    assert [card["last4"] for card in made] == [number[-4:] for number in numbers]


async def test_calling_twice_makes_one_token(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    for _ in range(2):
        await form.ask("tokenize")
    first, second = await form.outcome(), await form.outcome()
    assert first["value"]["id"] == second["value"]["id"]
    assert (await form.tokenize())["id"] != first["value"]["id"]  # a new call, a new token


async def test_a_form_is_taken_away_and_put_back(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    await form.page.evaluate("forms.one.fields.unmount()")
    assert (await form.refusal())["code"] == "not_ready"
    await form.forget()
    await form.page.evaluate("void forms.one.fields.mount('#one')")
    await form.event("ready")
    assert await form.shown() == ""
    await form.type(cards.MASTERCARD)
    assert (await form.tokenize())["brand"] == "mastercard"


async def test_going_away_and_back_leaves_no_card(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    await form.page.goto("about:blank")
    await form.page.go_back(wait_until="commit")  # from the back/forward cache, it loads nothing
    await until(form.page, "document.readyState === 'complete'")
    if await form.page.evaluate("window.forms?.one !== undefined"):  # it was kept as it was
        await form.latest("it.empty && !it.complete", "number")
        assert (await form.refusal())["code"] in ("incomplete", "not_ready")


# --- the code of a stored card ------------------------------------------------------------


async def test_a_stored_card_gets_a_fresh_code(visit: Visit, shop: Merchant) -> None:
    token = await shop.token(cards.VISA, unusual={"cvc": None})
    form = await visit.form(look={"only": "cvc"}, layout="separate")
    assert await form.page.locator("#one iframe").count() == 1
    await form.input("cvc").press_sequentially(CODE)
    await form.ask("attachCvc", token)
    assert await form.outcome() == {"value": None}
    paid = await shop.pay(payment(token, cvc=token))
    assert paid.status == 200, paid.body


async def test_a_code_that_does_not_fit_is_refused(visit: Visit, shop: Merchant) -> None:
    amex = await shop.token(cards.AMEX, unusual={"cvc": None})
    form = await visit.form(look={"only": "cvc"}, layout="separate")
    for typed, code in (("7", "incomplete"), ("39", "card_refused")):
        await form.input("cvc").press_sequentially(typed)
        await form.ask("attachCvc", amex)
        error = (await form.outcome())["error"]
        assert (error["code"], error["field"]) == (code, "cvc")
    await form.input("cvc").press_sequentially("1")
    await form.ask("attachCvc", amex)
    assert await form.outcome() == {"value": None}


async def test_a_code_for_no_card_is_refused(visit: Visit) -> None:
    form = await visit.form(look={"only": "cvc"}, layout="separate")
    await form.input("cvc").press_sequentially(CODE)
    for token, code in ((new_token("test"), "token_unknown"), ("none", "usage")):
        await form.ask("attachCvc", token)
        assert (await form.outcome())["error"]["code"] == code
    assert (await form.refusal())["code"] == "usage"
