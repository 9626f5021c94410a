"""What is wrong with a card, told to everybody: seen, announced, and in the shopper's language."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Frame, expect

from tests import cards
from tests.browser.checkout.visit import CODE, Form, Visit

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parent.parent.parent.parent
LOCALES = ROOT / "checkout" / "src" / "fields" / "locales"
AXE = ROOT / "checkout" / "node_modules" / "axe-core" / "axe.min.js"
WRONG = cards.VISA[:-1] + "3"
LANGUAGES = ("en", "de", "fr", "es")


def words(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((LOCALES / f"{language}.json").read_text())
    return found


async def is_announced(form: Form, part: str, message: str) -> None:
    """Hold that a screen reader hears it at once, and again whenever it comes to the field."""
    note, field = form.note(part), form.input(part)
    await expect(note).to_have_text(message)
    assert await note.get_attribute("role") == "status"
    assert await field.get_attribute("aria-invalid") == "true"
    described = (await field.get_attribute("aria-describedby") or "").split()
    assert f"{part}-error" in described


async def make_mistakes(form: Form) -> None:
    await form.type(WRONG, "01 / 20", CODE[:2])
    await form.input("cvc").press("Tab")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_mistakes_are_announced(visit: Visit, language: str) -> None:
    form = await visit.form(look={"locale": f"{language}-AT"})
    said = words(language)
    assert await form.frame("number").locator("html").get_attribute("lang") == language
    await make_mistakes(form)
    await is_announced(form, "number", said["fields"]["number_luhn"])
    await is_announced(form, "expiry", said["fields"]["expiry_past"])
    await is_announced(form, "cvc", said["fields"]["cvc_length"])
    changes = {each["field"]: each for each in await form.events("change")}
    assert {part: change["error"] for part, change in changes.items()} == {
        "number": "number_luhn",
        "expiry": "expiry_past",
        "cvc": "cvc_length",
    }
    assert changes["number"]["message"] == said["fields"]["number_luhn"]


async def test_every_word_is_there_in_every_language(visit: Visit) -> None:
    form = await visit.form(layout="separate")
    for language in LANGUAGES:
        said = words(language)
        await form.page.evaluate("(locale) => forms.one.fields.update({ locale })", language)
        for part, label in said["labels"].items():
            await expect(form.frame(part).get_by_label(label)).to_be_visible()
            document = form.frame(part).locator("html")
            assert await document.get_attribute("lang") == language
            assert await document.evaluate("document.title") == label
        if language != "en":
            assert said["fields"] != words("en")["fields"]


MISTAKES = (
    ("number", cards.VISA[:8], "incomplete"),
    ("number", cards.AMEX[:-1] + "6", "number_luhn"),
    ("expiry", "00", "expiry_invalid"),
    ("expiry", "12/21", "expiry_past"),
    ("expiry", "12/99", "expiry_too_far"),
    ("expiry", "12", "incomplete"),
    ("cvc", "1", "cvc_length"),
)


async def test_each_mistake_has_its_reason(visit: Visit) -> None:
    form = await visit.form()
    for part, typed, reason in MISTAKES:
        await form.input(part).press_sequentially(typed)
        await form.input(part).press("Tab")
        change = await form.event("change", f"it.field === '{part}' && it.error !== undefined")
        assert change["error"] == reason
        assert not change["complete"]
        await is_announced(form, part, change["message"])
        await form.clear()
        await form.forget()


async def test_a_correction_takes_the_error_away(visit: Visit) -> None:
    form = await visit.form()
    right = cards.MASTERCARD  # which has 16 digits and no more, as a Visa may have
    await form.input("number").press_sequentially(right[:-1] + "5")
    await expect(form.note("number")).not_to_be_empty()
    await form.input("number").press("Backspace")
    await form.input("number").press_sequentially(right[-1])
    await expect(form.note("number")).to_be_empty()
    assert await form.input("number").get_attribute("aria-invalid") == "false"


async def test_nothing_is_wrong_while_one_still_types(visit: Visit) -> None:
    form = await visit.form()
    for part, text in (("number", cards.VISA[:15]), ("expiry", "12"), ("cvc", "12")):
        await form.input(part).press_sequentially(text)
        assert await form.note(part).text_content() == ""


@pytest.mark.parametrize("layout", ["combined", "separate"])
async def test_an_unfinished_form_is_not_sent(visit: Visit, layout: str) -> None:
    form = await visit.form(layout=layout, look={"locale": "de"})
    said = words("de")
    for part, text in (("number", cards.AMEX), ("expiry", "1234"), ("cvc", CODE)):
        error = await form.refusal()
        assert (error["code"], error["field"], error["reason"]) == (
            "incomplete",
            part,
            "incomplete",
        )
        assert error["message"] == said["missing"][part]
        await is_announced(form, part, said["missing"][part])
        await expect(form.input(part)).to_be_focused()
        await form.input(part).press_sequentially(text)
    error = await form.refusal()  # an Amex has a code of four
    assert (error["field"], error["reason"]) == ("cvc", "cvc_length")
    assert not [url for url, body in visit.requests if "/v1/tokens" in url]


async def test_the_length_of_a_code_follows_the_brand(visit: Visit) -> None:
    form = await visit.form(layout="separate")
    await form.input("cvc").press_sequentially("1234")
    await form.latest("it.fieldComplete", "cvc")
    await form.input("number").press_sequentially(cards.VISA)
    await form.latest("it.error === 'cvc_length'", "cvc")
    await form.input("number").press("Control+A")
    await form.input("number").press_sequentially(cards.AMEX)
    await form.latest("it.fieldComplete", "cvc")


# --- axe ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("layout", ["combined", "separate"])
async def test_axe_finds_nothing(visit: Visit, scheme: str, layout: str) -> None:
    form = await visit.form(layout=layout, look={"scheme": scheme})
    source = AXE.read_text()
    frames = [frame for frame in form.page.frames if "/checkout/v1/fields" in frame.url]
    assert len(frames) == (1 if layout == "combined" else 3)
    canvas = {"light": "#fff", "dark": "#121212"}[scheme]  # what a page has behind its frames
    for frame in frames:
        await frame.evaluate("(c) => void (document.documentElement.style.background = c)", canvas)
        await frame.evaluate(source)
    await has_no_violation(frames)
    await form.type(cards.AMEX)
    await has_no_violation(frames)
    await form.clear()
    await make_mistakes(form)
    await has_no_violation(frames)


# A heading is the whole page's to have; this is a part of one.
_AXE_RUN = """axe.run(document, {
  iframes: false, rules: { "page-has-heading-one": { enabled: false } },
})"""


async def has_no_violation(frames: list[Frame]) -> None:
    for frame in frames:
        found = await frame.evaluate(_AXE_RUN)
        assert found["passes"]
        assert [(each["id"], each["nodes"]) for each in found["violations"]] == []
        unsure = {each["id"] for each in found["incomplete"]}
        assert unsure <= {"color-contrast"}  # text on a frame that is transparent
