"""What the loader makes of frames and pages that lie, fall silent or go away."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser.scripted_gateway import (
    CARD,
    KEY,
    ScriptedGateway,
    Shop,
    asked_for,
    say,
)
from tests.browser.waiting import until

LOADED_ANEW = "A card field was loaded anew."


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as made:
        yield made


@pytest.fixture
async def shop(gateway: ScriptedGateway, page: Page) -> Shop:
    await page.goto(gateway.shop)
    return Shop(page, gateway)


HOSTILE: dict[str, dict[str, object]] = {
    "nonce": {"nonce": "0" * 32},
    "no nonce": {"nonce": None},
    "protocol": {"panward": 2},
    "type": {"type": "token"},
    "inherited type": {"type": "constructor"},
    "id as text": {"id": "1"},
    "another id": {"id": 99},
    "fraction of an id": {"id": 1.5},
    "no card": {"card": None},
    "card as text": {"card": "card"},
    "token of another form": {"card": {**CARD, "id": "tok_1"}},
    "number for last four": {"card": {**CARD, "last4": "0000000000000000"}},
    "number for a brand": {"card": {**CARD, "brand": "0000000000000000"}},
    "number for a year": {"card": {**CARD, "exp_year": 10**15}},
    "number for a time": {"card": {**CARD, "created_at": "0000000000000000"}},
    "month": {"card": {**CARD, "exp_month": 13}},
    "single_use as text": {"card": {**CARD, "single_use": "no"}},
    "a member missing": {"card": {k: v for k, v in CARD.items() if k != "expires_at"}},
    "done instead": {"type": "done"},
    "failure without error": {"type": "failure"},
    "failure of no known code": {
        "type": "failure",
        "error": {"code": "toString", "message": "x", "retryable": False},
    },
    "failure with a wrong part": {
        "type": "failure",
        "error": {"code": "network", "message": "x", "retryable": True, "field": "pin"},
    },
}


@pytest.mark.guards("T-56")
async def test_a_message_that_is_not_of_the_schema_is_as_if_never_said(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    right = {"type": "result", "id": call["id"], "card": CARD}
    for name, lie in HOSTILE.items():
        await say(frame, {**right, **lie})
        await say(frame, {"type": "focus", "field": "cvc"})  # what was said before it is over
        await shop.event("focus")
        assert await shop.page.evaluate("outcomes.length") == 0, name
        await shop.page.evaluate("events.length = 0")
    for value in ("null", "7", "'text'", "[]", "({panward: 1})"):
        await frame.evaluate(f"parent.postMessage({value}, '*')")
    await say(frame, {"type": "change", "field": "number", "brand": "<b>", "empty": 0})
    await say(frame, {"type": "height", "pixels": "99"})
    await say(frame, {"type": "focus", "field": "pin"})
    await say(frame, right)
    assert (await shop.outcome())["value"] == CARD
    assert await shop.page.evaluate("events") == []


@pytest.mark.guards("T-56")
async def test_nobody_else_is_believed_even_with_the_nonce(shop: Shop) -> None:
    """Neither the page's other frames, of whatever origin, nor the page, nor another window."""
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    nonce = await frame.evaluate("nonce")
    lie = {"panward": 1, "nonce": nonce, "type": "result", "id": call["id"], "card": CARD}

    await shop.page.evaluate("(lie) => window.postMessage(lie, '*')", lie)
    await frame.evaluate(
        """async (lie) => {
          const sibling = document.createElement("iframe");  // the gateway's own origin
          document.body.append(sibling);
          sibling.contentWindow.lie = lie;
          sibling.contentWindow.eval("top.postMessage(window.lie, '*')");
        }""",
        lie,
    )
    await shop.page.evaluate(
        """(lie) => {
          const event = new MessageEvent("message", { data: lie, origin: "http://evil.example" });
          window.dispatchEvent(event);
        }""",
        lie,
    )
    await say(frame, {"type": "focus", "field": "cvc"})
    await shop.event("focus")
    assert await shop.page.evaluate("outcomes.length") == 0
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})
    await shop.outcome()


@pytest.mark.guards("T-56")
async def test_a_frame_that_was_led_elsewhere_is_not_believed_or_spoken_to(
    gateway: ScriptedGateway, page: Page
) -> None:
    """Same window, other origin: here the merchant's own, which may frame itself."""
    gateway.frames_allowed = "'self'"
    await page.goto(gateway.shop)
    shop = Shop(page, gateway)
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    nonce = await frame.evaluate("nonce")
    await frame.evaluate("(address) => void (location.href = address)", gateway.shop + "/page.js")
    failure = (await shop.outcome())["error"]
    assert failure["code"] == "not_ready"
    assert await shop.event("failure")
    (frame,) = (each for each in page.frames if each.url.endswith("/page.js"))
    lie = {"panward": 1, "nonce": nonce, "id": call["id"], "card": CARD}
    await frame.evaluate(
        """(lie) => {
          window.heard = [];
          addEventListener("message", (event) => heard.push(event.data));
          parent.postMessage({ ...lie, type: "loaded" }, "*");
          parent.postMessage({ ...lie, type: "result" }, "*");
        }""",
        lie,
    )
    await shop.tokenize()
    assert (await shop.outcome())["error"]["code"] == "not_ready"
    await shop.page.evaluate("fields.update({}); fields.clear(); fields.focus()")
    await frame.evaluate("parent.postMessage('over', '*')")
    assert await frame.evaluate("heard") == []


async def test_a_frame_that_is_loaded_anew_forgets_and_is_told_again(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    filled = {"type": "change", "brand": "visa", "empty": False, "complete": True}
    for part in ("number", "expiry", "cvc"):
        await say(frame, {**filled, "field": part})
    await until(shop.page, "fields.complete")
    await shop.tokenize()
    await asked_for(frame, "tokenize")
    await shop.page.evaluate("events.length = 0")
    await frame.evaluate("location.reload()")

    error = (await shop.outcome())["error"]
    assert (error["code"], error["message"]) == ("not_ready", LOADED_ANEW)
    await shop.ready()
    assert await shop.page.evaluate("[fields.complete, fields.brand]") == [False, "unknown"]
    assert (await shop.event("change"))["empty"] is True
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})
    assert (await shop.outcome())["value"] == CARD


async def test_a_frame_that_never_answers_ends_in_a_timeout(shop: Shop) -> None:
    await shop.begin(options={"timeoutMilliseconds": 150})
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    assert call["milliseconds"] <= 150
    error = (await shop.outcome())["error"]
    assert (error["code"], error["retryable"]) == ("timeout", True)
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})  # too late: dropped
    await say(frame, {"type": "submit"})
    await shop.event("submit")
    assert await shop.page.evaluate("outcomes.length") == 0


@pytest.mark.parametrize("manners", ["mute", "unready"])
async def test_a_frame_that_does_not_get_ready_is_a_failure(shop: Shop, manners: str) -> None:
    shop.gateway.manners = "mute" if manners == "mute" else "unready"
    await shop.begin(options={"loadTimeoutMilliseconds": 200})
    await shop.tokenize()
    assert (await shop.outcome())["error"]["code"] == "not_ready"
    assert (await shop.event("failure"))["code"] == "not_ready"
    await shop.tokenize()
    assert (await shop.outcome())["error"]["code"] == "not_ready"


async def test_an_error_page_is_noticed_long_before_the_time_is_over(shop: Shop) -> None:
    shop.gateway.manners = "refusing"
    await shop.begin(target={"number": "#number", "expiry": "#expiry", "cvc": "#cvc"})
    failure = await shop.event("failure")
    assert (failure["code"], failure["retryable"]) == ("not_ready", True)
    assert await shop.page.evaluate("events.length") == 1  # one, for all three frames


async def test_a_late_frame_is_welcome_after_a_failure(shop: Shop) -> None:
    shop.gateway.manners = "unready"
    await shop.begin(options={"loadTimeoutMilliseconds": 200})
    frame = await shop.started()
    await shop.event("failure")
    await say(frame, {"type": "ready"})
    await shop.event("ready")
    await shop.tokenize()
    await asked_for(frame, "tokenize")


async def test_unmounting_takes_everything_back(context: BrowserContext, shop: Shop) -> None:
    """As React's StrictMode does it: mount, unmount, mount, on one set and on several."""
    await shop.page.evaluate(
        """() => {
          window.listeners = 0;
          const [add, remove] = [window.addEventListener, window.removeEventListener];
          window.addEventListener = (...all) => { window.listeners += 1; add(...all); };
          window.removeEventListener = (...all) => { window.listeners -= 1; remove(...all); };
        }"""
    )
    await shop.begin()
    await shop.ready()
    await shop.tokenize()
    await shop.page.evaluate("fields.unmount(); events.length = 0")
    assert (await shop.outcome())["error"]["code"] == "not_ready"
    held = "[document.querySelectorAll('iframe').length, listeners]"
    assert await shop.page.evaluate(held) == [0, 0]
    await shop.tokenize()
    assert (await shop.outcome())["error"]["code"] == "not_ready"

    await shop.page.evaluate("fields.mount('#card').unmount(); fields.mount('#card')")
    (frame,) = await shop.ready()
    assert await shop.page.evaluate(held) == [1, 1]
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})
    assert (await shop.outcome())["value"] == CARD
    await shop.page.evaluate("document.querySelector('#card').replaceChildren()")
    await shop.tokenize()
    assert (await shop.outcome())["error"]["code"] == "not_ready"


USAGE = {
    "no key": "Panward()",
    "a secret key": "Panward(secret)",
    "half a key": "Panward(key.slice(0, 30))",
    "gateway without TLS": "Panward(key, {gateway: 'http://pay.example'})",
    "gateway of another kind": "Panward(key, {gateway: 'javascript:alert(1)'})",
    "gateway that is no address": "Panward(key, {gateway: 'pay.example'})",
    "no time": "Panward(key, {timeoutMilliseconds: 0})",
    "no number of time": "Panward(key, {loadTimeoutMilliseconds: NaN})",
    "layout": "Panward(key).fields({layout: 'round'})",
    "only": "Panward(key).fields({only: 'number'})",
    "scheme": "Panward(key).fields({scheme: 'blue'})",
    "a number in a look": "Panward(key).fields({styles: {base: {fontSize: 16}}})",
    "a function in a look": "Panward(key).fields({labels: {number: () => 'x'}})",
    "no target": "Panward(key).fields().mount()",
    "nowhere": "Panward(key).fields().mount('#nowhere')",
    "one part nowhere": "Panward(key).fields().mount({number: '#card', expiry: '#card'})",
    "places for one frame": "Panward(key).fields({only: 'cvc'}).mount({number: '#card'})",
    "twice": "Panward(key).fields().mount('#card').mount('#card')",
    "an event of no name": "Panward(key).fields().on('toString', () => {})",
}


async def test_wrong_use_is_a_typed_error_that_repeats_no_key(shop: Shop) -> None:
    secret = KEY.replace("pwpk", "pwsk")
    await shop.page.evaluate("(all) => void ([window.key, window.secret] = all)", [KEY, secret])
    for name, act in USAGE.items():
        error = await shop.page.evaluate(f"refusal(() => {act})")
        assert error is not None, name
        assert (error["name"], error["code"]) == ("PanwardError", "usage"), (name, error)
        assert not error["retryable"]
        assert secret[10:] not in error["message"]


async def test_the_module_is_the_same_but_must_be_told_the_gateway(shop: Shop) -> None:
    found = await shop.page.evaluate(
        """async ([address, key, gateway]) => {
          const { Panward, PanwardError } = await import(address);
          const error = refusal(() => Panward(key));
          window.fields = Panward(key, { gateway }).fields({ layout: "separate" });
          window.fields.on("ready", () => events.push(["ready"]));
          window.fields.mount(document.querySelector("#card"));
          return [error.code, Panward.PanwardError === PanwardError];
        }""",
        [shop.gateway.origin + "/checkout/v1/panward.mjs", KEY, shop.gateway.origin],
    )
    assert found == ["usage", True]
    await shop.ready(frames=3)
