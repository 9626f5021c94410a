"""Pages that want the card, and frames that want to be believed: none of them learns anything.

A page of the shop's own origin may do all that its script may: it knows its frames' nonces. What
it must not get is a digit of the card; whatever any page was told is looked at after every test.
"""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Frame, Page

from tests import cards
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import CODE, Form, Visit, assert_tells_nothing
from tests.browser.waiting import until
from tests.flows.merchant import Merchant

pytestmark = pytest.mark.embedded

FENCE = 77_777
"""The id of a call whose answer comes after all that was said before it."""


async def nonces(form: Form) -> list[str]:
    found: list[str] = await form.page.evaluate(
        "(name) => [...document.querySelectorAll(`#${name} iframe`)]"
        ".map((each) => /nonce=([0-9a-f]{32})/.exec(each.src)[1])",
        form.name,
    )
    return found


async def say(form: Form, message: object, *, frame: int = 0) -> None:
    """Say whatever to a frame, as the page that holds it. JSON: also a member `__proto__`."""
    await form.page.evaluate(
        "([name, frame, text]) => document.querySelectorAll(`#${name} iframe`)[frame]"
        ".contentWindow.postMessage(JSON.parse(text), '*')",
        [form.name, frame, message if isinstance(message, str) else json.dumps(message)],
    )


async def answers(page: Page, call: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate(
        "(id) => heard.map(([, it]) => it).filter((it) => it.id === id)", call
    )
    return found


async def fenced(form: Form, frame: int = 0) -> None:
    """Wait until the frame has dealt with all that it was told."""
    nonce = (await nonces(form))[frame]
    told = {"panward": 1, "nonce": nonce, "type": "attach_cvc", "id": FENCE, "milliseconds": 1000}
    await say(form, told | {"token": "none"}, frame=frame)
    await until(form.page, f"heard.some(([, it]) => it.id === {FENCE})")


def fields_frame(page: Page) -> Frame:
    return next(frame for frame in page.frames if "/checkout/v1/fields" in frame.url)


@pytest.mark.guards("T-56")
async def test_the_page_cannot_reach_into_a_frame(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    assert await form.page.evaluate("document.querySelector('iframe').contentDocument") is None
    assert await fields_frame(form.page).evaluate("window.panwardField.read('number')")
    for reach in (
        "panwardField",
        "panwardSealing",
        "document",
        "location.href",
        "localStorage",
        "frameElement",
    ):
        error = await form.page.evaluate(
            "(path) => { try { return String(path.split('.').reduce("
            "(at, name) => at[name], document.querySelector('iframe').contentWindow)); }"
            " catch (error) { return error.name; } }",
            reach,
        )
        assert error == "SecurityError", reach


async def test_what_is_not_a_message_of_the_page_is_nothing(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    (nonce,) = await nonces(form)
    good = {"panward": 1, "nonce": nonce, "type": "tokenize", "id": 5, "milliseconds": 5000}
    for changes in (
        {"nonce": "0" * 32},
        {"nonce": nonce.upper()},
        {"nonce": [nonce]},
        {"nonce": None},
        {"nonce": {"toString": nonce}},
        {"panward": "1"},
        {"panward": 2},
        {"type": "read"},
        {"type": "constructor"},
        {"type": "__proto__"},
        {"type": ["tokenize"]},
        {"id": "5"},
        {"id": -5},
        {"id": 5.5},
        {"milliseconds": "5000"},
        {"milliseconds": None},
    ):
        await say(form, good | changes)
    for odd in ("null", "1", '"tokenize"', "[]", "{}", '{"panward":1}', json.dumps([good])):
        await say(form, odd)
    await say(form, {name: value for name, value in good.items() if name != "nonce"})
    await fenced(form)
    assert await answers(form.page, 5) == []
    assert not [url for url, _ in visit.requests if url.endswith("/v1/tokens")]


async def test_prototypes_stay_as_they_are(visit: Visit) -> None:
    form = await visit.form()
    (nonce,) = await nonces(form)
    start = f'{{"panward":1,"nonce":"{nonce}",'
    evil = '"__proto__":{"owned":1},"constructor":{"prototype":{"owned":1}}'
    await say(form, f'{start}"type":"update",{evil}}}')
    await say(form, f'{start}"type":"update","styles":{{"base":{{"color":"red",{evil}}}}}}}')
    await say(form, f'{start}"type":"update","styles":{{{evil}}},"labels":{{{evil}}}}}')
    inherited = f'"__proto__":{{"type":"tokenize","id":6,"milliseconds":1000,"nonce":"{nonce}"}}'
    await say(form, f'{{"panward":1,"nonce":"{nonce}",{inherited}}}')
    await fenced(form)
    assert await fields_frame(form.page).evaluate("({}).owned ?? [].owned ?? ''.owned") is None
    assert await answers(form.page, 6) == []


@pytest.mark.guards("T-56")
async def test_another_frame_is_not_the_page(visit: Visit, stage: Stage) -> None:
    """Not even when it knows the nonce."""
    form = await visit.form()
    await form.type(cards.VISA)
    (nonce,) = await nonces(form)
    await form.page.evaluate(
        """(address) => new Promise((resolve) => {
          const frame = document.createElement("iframe");
          frame.onload = resolve;
          frame.src = address;
          document.body.append(frame);
        })""",
        f"{stage.pages.stranger}/empty",
    )
    stranger = next(each for each in form.page.frames if each.url.endswith("/empty"))
    await stranger.evaluate(
        """(nonce) => {
          window.heard = [];
          addEventListener("message", (event) => heard.push([event.origin, event.data]));
          const field = parent.frames[0];
          for (const type of ["tokenize", "clear", "init", "attach_cvc"])
            for (const target of ["*", field])
              field.postMessage({ panward: 1, nonce, type, id: 8, milliseconds: 5000, key: "x",
                token: "x" }, "*");
          window.panwardField = { group: "x", parts: ["number"], read: () => "" };
        }""",
        nonce,
    )
    reached = "(() => { try { return parent.frames[0].panwardField; } catch { return null; } })()"
    assert await stranger.evaluate(reached) is None
    await fenced(form)
    assert await answers(form.page, 8) == []
    assert await stranger.evaluate("heard") == []
    assert await form.shown() != ""  # no `clear` was believed
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


async def test_the_first_key_stays(visit: Visit, stage: Stage, shop: Merchant) -> None:
    """A script that comes later cannot have the card tokenized for another merchant."""
    thief = await stage.new_account()
    form = await visit.form()
    (nonce,) = await nonces(form)
    init = {"panward": 1, "nonce": nonce, "type": "init", "key": thief.publishable_key}
    await say(form, init)
    await form.type(cards.VISA)
    token = (await form.tokenize())["id"]
    found = await shop.api("GET", f"/v1/tokens/{token}")
    assert found.status == 200, found.body


async def test_a_key_is_good_in_its_own_frame_alone(visit: Visit, stage: Stage) -> None:
    thief = await stage.new_account()
    key_id = f"k_{visit.account.publishable_key.removeprefix('pwpk_test_')[:16]}"
    query = urlencode({"key": key_id, "origin": stage.pages.shop, "field": "card"})
    page = await visit.page()
    await page.evaluate(
        """([address]) => {
          const frame = document.createElement("iframe");
          frame.src = address;
          document.querySelector("#one").append(frame);
          window.forms.one = { events: [], outcomes: [] };
        }""",
        [f"{stage.urls.public}/checkout/v1/fields?{query}#nonce={'a' * 32}&group={'b' * 32}"],
    )
    form = Form(page, "one")
    await until(page, "heard.some(([, it]) => it.type === 'loaded')")
    start = {"panward": 1, "nonce": "a" * 32}
    await say(form, start | {"type": "init", "key": thief.publishable_key})
    await form.type(cards.VISA)
    await say(form, start | {"type": "tokenize", "id": 9, "milliseconds": 5000})
    await until(page, "heard.some(([, it]) => it.id === 9)")
    (answer,) = await answers(page, 9)
    assert answer["error"]["code"] == "key_refused"
    assert not [url for url, _ in visit.requests if url.endswith("/v1/tokens")]


async def test_a_look_fetches_nothing_and_covers_nothing(visit: Visit, stage: Stage) -> None:
    stolen = f"url({stage.pages.stranger}/stolen)"
    styles = {
        "base": {
            "background": stolen,
            "backgroundImage": stolen,
            "background-color": stolen,
            "border": f"1px solid {stolen}",
            "font-family": stolen,
            "color": f"red; background: {stolen}",
            "cursor": stolen,
            "list-style": stolen,
            "position": "fixed",
            "transform": "scale(0)",
            "--ink": stolen,
            "padding": "3px",
            "box-shadow": "expression(1)",
        },
        "placeholder": {"color": stolen, "content": stolen},
    }
    labels = {"number": "<img src=x onerror=alert(1)>", "cvc": "\N{RIGHT-TO-LEFT OVERRIDE}x"}
    form = await visit.form(look={"styles": styles, "labels": labels})
    box = form.frame("number").locator(".box").first
    style = await box.get_attribute("style")
    assert style == "padding: 3px;"
    assert await form.frame("number").locator("img[src]").count() == 0
    assert await form.frame("number").locator("label").first.text_content() == labels["number"]
    await form.type(cards.VISA)
    assert stage.pages.stolen == []


async def test_no_field_gives_out_anothers_part(visit: Visit) -> None:
    form = await visit.form(layout="separate")
    await form.type(cards.VISA)
    known = await nonces(form)
    for index in (1, 2):
        start = {"panward": 1, "nonce": known[index], "id": 10 + index, "milliseconds": 1000}
        await say(form, start | {"type": "tokenize"}, frame=index)
        await until(form.page, f"heard.some(([, it]) => it.id === {10 + index})")
        (answer,) = await answers(form.page, 10 + index)
        assert answer["error"]["code"] == "not_ready"


async def test_a_page_is_told_no_digit_while_one_types_slowly(visit: Visit) -> None:
    """Of two numbers that differ in their digits alone it hears the same."""
    told = []
    for digits in ("40000000000", "41234567890"):
        form = await visit.form()
        await form.input("number").press_sequentially(digits)
        await form.type("", "12 / 34", CODE)
        messages = await form.page.evaluate("heard.map(([, it]) => it)")
        for message in messages:
            assert_tells_nothing(message)
            message.pop("nonce")
        told.append([each for each in messages if each["type"] == "change"])
    assert told[0] == told[1]


async def test_all_that_a_page_hears_is_of_the_gateway(visit: Visit, stage: Stage) -> None:
    form = await visit.form(layout="separate")
    await form.type(cards.VISA)
    await form.tokenize()
    origins = await form.page.evaluate("[...new Set(heard.map(([origin]) => origin))]")
    assert origins == [stage.urls.public]
    assert visit.said == []
