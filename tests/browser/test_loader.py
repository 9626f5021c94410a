"""The loader in a real browser, against a frame that speaks the protocol rightly and wrongly."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page

from tests.browser.scripted_gateway import (
    CARD,
    KEY,
    KEY_ID,
    TOKEN,
    ScriptedGateway,
    Shop,
    asked_for,
    say,
)
from tests.browser.waiting import until


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as made:
        yield made


@pytest.fixture
async def shop(gateway: ScriptedGateway, page: Page) -> Shop:
    await page.goto(gateway.shop)
    return Shop(page, gateway)


async def test_a_page_with_the_strictest_policy_gets_a_frame(shop: Shop) -> None:
    await shop.begin(fields={"labels": {"number": "Kartennummer"}})
    (frame,) = await shop.ready()

    (asked,) = shop.gateway.asked
    origin = shop.gateway.shop.replace(":", "%3A").replace("/", "%2F")
    assert asked == f"/checkout/v1/fields?key={KEY_ID}&origin={origin}&field=card"
    assert await frame.evaluate("/^[0-9a-f]{32}$/.test(nonce) && /^[0-9a-f]{32}$/.test(group)")
    element = await frame.frame_element()
    assert await element.get_attribute("title") == "Kartennummer, Expiration date, Security code"
    assert await element.get_attribute("allow") == ""
    assert await element.get_attribute("sandbox") is None
    assert await element.get_attribute("referrerpolicy") == "no-referrer"
    assert await frame.evaluate("document.referrer") == ""
    assert await shop.page.evaluate("window.violations") == []


async def test_there_is_one_global_and_nothing_is_kept(shop: Shop) -> None:
    made = await shop.page.evaluate(
        """() => {
          const usual = document.createElement("iframe");
          document.body.append(usual);
          const names = Object.keys(window).filter((name) => !(name in usual.contentWindow));
          usual.remove();
          return names;
        }"""
    )
    own = {"events", "violations", "plain", "begin", "follow", "refusal", "outcomes"}
    assert {name for name in made if not name.isdigit()} - own == {"Panward"}
    await shop.begin()
    await shop.ready()
    assert await shop.page.context.cookies() == []
    assert await shop.page.evaluate("localStorage.length + sessionStorage.length") == 0


async def test_the_frame_is_told_the_key_and_the_look_and_no_more(shop: Shop) -> None:
    styles = {"base": {"color": "red"}}
    options = {"verifyKey": "abc", "locale": "de"}
    await shop.begin(options=options, fields={"styles": styles, "surplus": "x"})
    (frame,) = await shop.ready()

    told = await asked_for(frame, "init")
    assert told.pop("nonce") == await frame.evaluate("nonce")
    assert told == {
        "panward": 1,
        "type": "init",
        "key": KEY,
        "verifyKey": "abc",
        "locale": "de",
        "scheme": "light",
        "styles": styles,
    }
    await shop.page.evaluate("fields.update({disabled: true}); fields.clear(); fields.focus('cvc')")
    assert (await asked_for(frame, "update"))["disabled"] is True
    assert (await asked_for(frame, "focus"))["part"] == "cvc"
    await asked_for(frame, "clear")


async def test_a_token_is_a_frozen_copy_of_what_is_documented(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    assert 0 < call["milliseconds"] <= 30_000
    surplus = {"number": "x", "fingerprint": "f", "bin": "4"}
    await say(frame, {"type": "result", "id": call["id"], "card": {**CARD, **surplus}})
    assert await shop.outcome() == {"value": CARD, "frozen": True}


async def test_a_call_before_the_frame_is_ready_waits_for_it(shop: Shop) -> None:
    shop.gateway.manners = "unready"
    await shop.begin()
    await shop.tokenize()
    frame = await shop.started()
    assert await frame.evaluate("heard.length") == 1
    await shop.page.evaluate("fields.update({disabled: true})")
    await asked_for(frame, "update")
    await say(frame, {"type": "ready"})
    call = await asked_for(frame, "tokenize")
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})
    assert (await shop.outcome())["value"] == CARD


async def test_a_second_call_under_way_is_the_first(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    same = "fields.tokenize() === fields.tokenize()"
    assert await shop.page.evaluate(same)
    call = await asked_for(frame, "tokenize")
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})
    await shop.outcome()
    assert await frame.evaluate("heard.filter((each) => each.type === 'tokenize').length") == 1
    await shop.tokenize()
    assert (await asked_for(frame, "tokenize", 2))["id"] != call["id"]


async def test_a_refusal_is_a_typed_error(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.tokenize()
    call = await asked_for(frame, "tokenize")
    error = {
        "code": "incomplete",
        "message": "Enter the date",
        "retryable": False,
        "field": "expiry",
        "reason": "expiry_past",
        "requestId": "req_1",
    }
    await say(frame, {"type": "failure", "id": call["id"], "error": {**error, "surplus": 1}})
    assert await shop.outcome() == {"error": {**error, "name": "PanwardError"}}


async def test_a_code_is_attached_to_a_stored_card(shop: Shop) -> None:
    await shop.begin(fields={"only": "cvc"})
    (frame,) = await shop.ready()
    assert "field=cvc" in shop.gateway.asked[0]
    await shop.page.evaluate("(token) => void follow(fields.attachCvc(token))", TOKEN)
    call = await asked_for(frame, "attach_cvc")
    assert call["token"] == TOKEN
    await say(frame, {"type": "result", "id": call["id"], "card": CARD})  # of another kind
    await say(frame, {"type": "done", "id": call["id"]})
    assert await shop.outcome() == {"value": None, "frozen": True}
    await shop.page.evaluate("() => void follow(fields.tokenize())")
    assert (await shop.outcome())["error"]["code"] == "usage"
    await shop.page.evaluate("() => void follow(fields.attachCvc('../x'))")
    assert (await shop.outcome())["error"]["code"] == "usage"


async def test_separate_fields_are_one_form(shop: Shop) -> None:
    await shop.begin(target={"number": "#number", "expiry": "#expiry", "cvc": "#cvc"})
    number, expiry, cvc = await shop.ready(frames=3)
    assert [each.split("field=")[1] for each in sorted(shop.gateway.asked)] == [
        "cvc",
        "expiry",
        "number",
    ]
    groups = {await each.evaluate("group") for each in (number, expiry, cvc)}
    nonces = {await each.evaluate("nonce") for each in (number, expiry, cvc)}
    assert (len(groups), len(nonces)) == (1, 3)

    filled = {"type": "change", "brand": "visa", "empty": False, "complete": True}
    await say(number, {**filled, "field": "number"})
    assert (await shop.event("change"))["brand"] == "visa"
    await say(expiry, {**filled, "field": "number", "brand": "amex"})  # not its own
    await say(expiry, {**filled, "field": "expiry", "brand": "unknown"})
    await until(shop.page, "events.at(-1)[1].field === 'expiry'")
    assert await shop.page.evaluate("[fields.complete, fields.brand]") == [False, "visa"]
    wrong = {**filled, "complete": False, "error": "cvc_length", "message": "Too short"}
    await say(cvc, {**wrong, "field": "cvc"})
    await until(shop.page, "events.at(-1)[1].field === 'cvc'")
    assert await shop.event("change") == {
        "field": "cvc",
        "fieldComplete": False,
        "empty": False,
        "error": "cvc_length",
        "message": "Too short",
        "complete": False,
        "brand": "visa",
    }
    await say(cvc, {**filled, "field": "cvc"})
    await until(shop.page, "fields.complete")

    await shop.tokenize()
    call = await asked_for(number, "tokenize")
    await say(expiry, {"type": "result", "id": call["id"], "card": {**CARD, "brand": "amex"}})
    await say(expiry, {"type": "height", "pixels": 99})
    await until(shop.page, "document.querySelectorAll('iframe')[1].style.height === '99px'")
    assert await shop.page.evaluate("outcomes.length") == 0  # the number's frame was asked
    await say(number, {"type": "result", "id": call["id"], "card": CARD})
    assert (await shop.outcome())["value"] == CARD


async def test_the_height_follows_within_bounds(shop: Shop) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    for said, becomes in ((52.5, "52.5px"), (9000, "1200px"), (-1, "20px")):
        await say(frame, {"type": "height", "pixels": said})
        await until(shop.page, f"document.querySelector('iframe').style.height === '{becomes}'")


async def test_events_reach_their_handlers_until_taken_off(
    shop: Shop, page_errors: list[str]
) -> None:
    await shop.begin()
    (frame,) = await shop.ready()
    await shop.page.evaluate(
        """() => {
          window.count = 0;
          window.fields.on("submit", () => { throw new Error("the page's own"); });
          window.off = window.fields.on("submit", () => { window.count += 1; });
        }"""
    )
    await say(frame, {"type": "submit"})
    await until(shop.page, "window.count === 1")
    await shop.page.evaluate("window.off()")
    await say(frame, {"type": "submit"})
    await say(frame, {"type": "focus", "field": "cvc"})
    assert await shop.event("focus") == {"field": "cvc"}
    await say(frame, {"type": "blur", "field": "cvc"})
    assert await shop.event("blur") == {"field": "cvc"}
    assert await shop.page.evaluate("window.count") == 1
    assert page_errors == ["the page's own"] * 2
    page_errors.clear()


@pytest.mark.parametrize(
    ("page_scheme", "wanted", "scheme"),
    [
        ("light", {}, "light"),
        ("dark", {}, "dark"),
        ("light", {"scheme": "dark"}, "dark"),
        ("light dark", {}, "auto"),
    ],
)
async def test_the_frame_is_see_through_in_light_and_dark(
    gateway: ScriptedGateway, page: Page, page_scheme: str, wanted: dict[str, str], scheme: str
) -> None:
    gateway.scheme = "light dark" if scheme == "auto" else scheme
    await page.emulate_media(color_scheme="dark")
    await page.goto(gateway.shop)
    await page.evaluate(
        """(scheme) => {
          document.documentElement.style.colorScheme = scheme;
          document.documentElement.style.background = "rgb(10, 120, 30)";
        }""",
        page_scheme,
    )
    shop = Shop(page, gateway)
    await shop.begin(fields=wanted)
    (frame,) = await shop.ready()
    assert (await asked_for(frame, "init"))["scheme"] == scheme
    box = await (await frame.frame_element()).bounding_box()
    assert box is not None
    picture = await page.screenshot(clip=box)
    blank = await page.context.new_page()
    colors = await blank.evaluate(
        """async (bytes) => {
          const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
          const canvas = new OffscreenCanvas(picture.width, picture.height);
          const context = canvas.getContext("2d");
          context.drawImage(picture, 0, 0);
          const { data } = context.getImageData(0, 0, picture.width, picture.height);
          const found = new Set();
          for (let i = 0; i < data.length; i += 4) found.add(data.slice(i, i + 3).join());
          return [...found];
        }""",
        list(picture),
    )
    assert colors == ["10,120,30"]
