"""Pasting, correcting and deleting in the fields, and a form filled in by the keyboard alone."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Locator

from tests import cards
from tests.browser.checkout.visit import CODE, Form, Visit

pytestmark = pytest.mark.embedded

Paste = Callable[[Form, str, str], Awaitable[None]]

FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")  # noqa: RUF001 - that is the point


@pytest.fixture
def paste(visit: Visit) -> Paste:
    """Give Ctrl+V, with a text in the clipboard that some other page put there."""

    async def pasted(form: Form, part: str, text: str) -> None:
        await visit.context.grant_permissions(
            ["clipboard-read", "clipboard-write"], origin=visit.pages.shop
        )
        await form.page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
        await form.input(part).press("Control+V")

    return pasted


def fours(number: str, mark: str) -> str:
    return mark.join(number[start : start + 4] for start in range(0, len(number), 4))


async def test_a_number_is_pasted_with_separators(visit: Visit, paste: Paste) -> None:
    form = await visit.form()
    for mark in (" ", "-", ".", "\N{NO-BREAK SPACE}", "\t", " - "):
        await paste(form, "number", f" {fours(cards.MASTERCARD, mark)} \n")
        assert await form.shown() == fours(cards.MASTERCARD, " ")
        await form.latest("it.fieldComplete && it.brand === 'mastercard'", "number")
        await form.clear()


async def test_full_width_digits_are_digits(visit: Visit, paste: Paste) -> None:
    form = await visit.form()
    await paste(form, "number", cards.VISA.translate(FULL_WIDTH))
    await form.input("expiry").press_sequentially("1234".translate(FULL_WIDTH))
    await form.input("cvc").press_sequentially(CODE.translate(FULL_WIDTH))
    assert await form.shown() == fours(cards.VISA, " ")
    assert await form.shown("expiry") == "12 / 34"
    assert await form.shown("cvc") == CODE
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


async def test_what_is_pasted_takes_the_place_of_what_was_marked(
    visit: Visit, paste: Paste
) -> None:
    form = await visit.form()
    await form.input("number").press_sequentially(cards.AMEX)
    await form.input("number").press("Control+A")
    await paste(form, "number", fours(cards.VISA, "-"))
    assert await form.shown() == fours(cards.VISA, " ")
    await form.latest("it.brand === 'visa'")


async def test_a_date_is_pasted_as_people_write_it(visit: Visit, paste: Paste) -> None:
    form = await visit.form()
    for written in ("1234", "12/34", "12 / 34", "12/2034", "2034-12", "12-34", "12.34", "122034"):
        await paste(form, "expiry", written)
        assert await form.shown("expiry") == "12 / 34", written
        await form.latest("it.fieldComplete", "expiry")
        await form.clear()


async def test_a_date_grows_its_separator(visit: Visit) -> None:
    form = await visit.form()
    grown = {"1": "1", "2": "02 / ", "12": "12 / ", "1/": "01 / ", "1/34": "01 / 34"}
    for typed, shown in grown.items():
        await form.input("expiry").press_sequentially(typed)
        assert await form.shown("expiry") == shown
        for _ in typed + shown:
            await form.input("expiry").press("Backspace")
        assert await form.shown("expiry") == ""


async def caret(field: Locator) -> int:
    place = await field.evaluate("(input) => input.selectionStart")
    assert isinstance(place, int)
    return place


async def go_to(field: Locator, place: int) -> None:
    await field.press("Home")
    for _ in range(place):
        await field.press("ArrowRight")


async def test_a_digit_in_the_middle_is_corrected_where_it_is(visit: Visit) -> None:
    form = await visit.form()
    field = form.input("number")
    right = cards.VISA_ALT  # with a 2 for its sixth digit, and then without
    await field.press_sequentially(f"{right[:5]}2{right[6:]}")
    await go_to(field, 7)  # "4111 12|11 …"
    await field.press("Backspace")
    assert await caret(field) == 6
    await field.press_sequentially("1")
    assert await caret(field) == 7
    assert await field.input_value() == fours(right, " ")
    await form.latest("it.fieldComplete", "number")


async def test_a_separator_is_stepped_over_not_deleted(visit: Visit) -> None:
    form = await visit.form()
    field = form.input("number")
    await field.press_sequentially("12345678")
    await go_to(field, 5)  # "1234 |5678"
    await field.press("Backspace")
    assert (await field.input_value()).replace(" ", "") == "1235678"
    await go_to(field, 4)
    await field.press("Delete")
    assert (await field.input_value()).replace(" ", "") == "123578"


async def test_letters_and_a_digit_too_many_change_nothing(visit: Visit) -> None:
    form = await visit.form()
    field = form.input("number")
    await field.press_sequentially("4a2b4-2 x4242")
    assert await field.input_value() == "4242 4242"
    await field.press("Control+A")
    await field.press_sequentially(cards.MASTERCARD + "9")
    assert await field.input_value() == fours(cards.MASTERCARD, " ")
    await form.input("cvc").press_sequentially("12a345")
    assert await form.shown("cvc") == "123"
    await form.latest("it.fieldComplete", "cvc")


async def test_undoing_leaves_a_number_that_is_grouped(visit: Visit) -> None:
    form = await visit.form()
    field = form.input("number")
    await field.press_sequentially("4242 4")
    await field.press("Control+Z")
    shown = await field.input_value()
    assert shown == fours(shown.replace(" ", ""), " ")


@pytest.mark.parametrize("layout", ["combined", "separate"])
async def test_the_keyboard_is_enough(visit: Visit, layout: str) -> None:
    page = await visit.page()
    form = await visit.form(page, layout=layout)
    keyboard = page.keyboard
    await page.locator("h1").click()
    await keyboard.press("Tab")
    for part, text in (("number", cards.DISCOVER), ("expiry", "1234"), ("cvc", CODE)):
        await form.event(
            "focus", f"it.field === '{part}'"
        )  # keys on the way between frames get lost
        await keyboard.type(text)
        await keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "pay"
    focused = [each["field"] for each in await form.events("focus")]
    left = [each["field"] for each in await form.events("blur")]
    assert focused == left == ["number", "expiry", "cvc"]
    await keyboard.press("Shift+Tab")
    assert await form.events("submit") == []
    await keyboard.press("Enter")
    await form.event("submit")
    assert (await form.tokenize())["brand"] == "discover"


async def test_a_page_moves_the_focus(visit: Visit) -> None:
    form = await visit.form(layout="separate")
    for part in ("cvc", "number", "expiry"):
        await form.page.evaluate("(part) => forms.one.fields.focus(part)", part)
        await form.event("focus", f"it.field === '{part}'")
        await form.page.keyboard.type("1")
        assert await form.shown(part) == "1"


async def test_a_browser_can_fill_it_in(visit: Visit) -> None:
    form = await visit.form()
    wanted = {"number": "cc-number", "expiry": "cc-exp", "cvc": "cc-csc"}
    for part, name in wanted.items():
        field = form.input(part)
        assert await field.get_attribute("autocomplete") == name
        assert await field.get_attribute("inputmode") == "numeric"
        assert await field.get_attribute("name") == part
    # What autofill does: a value that was not typed, and an `input` event without a visit.
    fill = "(i, v) => { i.value = v; i.dispatchEvent(new Event('input', { bubbles: true })); }"
    for part, value in (("number", cards.JCB), ("expiry", "12/2034"), ("cvc", CODE)):
        await form.input(part).evaluate(fill, value)
    await form.latest("it.complete && it.brand === 'jcb'")
    assert await form.shown("expiry") == "12 / 34"
    assert (await form.tokenize())["last4"] == cards.JCB[-4:]


async def test_disabled_fields_take_nothing(visit: Visit) -> None:
    form = await visit.form(look={"disabled": True})
    assert await form.input("number").is_disabled()
    await form.page.evaluate("forms.one.fields.update({ disabled: false })")
    await form.input("number").press_sequentially(cards.VISA)
    await form.latest("it.fieldComplete", "number")
