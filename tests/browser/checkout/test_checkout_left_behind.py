"""What stays behind of a typed card, and who else could get at it: a disk, a key, a page."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.async_api import Frame, Page, async_playwright

from tests import cards
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import CODE, LONG_CODE, Visit
from tests.browser.running_chromium import running_chromium
from tests.browser.waiting import until
from tests.flows.merchant import Account

pytestmark = pytest.mark.embedded

STEP_SECONDS = 0.2

COLLECT = """([gateway, key, keyId]) => {
  const address = new URL(document.querySelector("#one iframe").src);
  const group = new URLSearchParams(address.hash.slice(1)).get("group");
  const nonce = "0".repeat(32);
  const frame = document.createElement("iframe");
  const asked = new URLSearchParams({ key: keyId, origin: location.origin, field: "number" });
  frame.src = `${gateway}/checkout/v1/fields?${asked}#nonce=${nonce}&group=${group}`;
  const say = (message) =>
    frame.contentWindow.postMessage({ panward: 1, nonce, ...message }, gateway);
  window.loot = [];
  addEventListener("message", ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    if (data.type === "loaded") say({ type: "init", key });
    if (data.type === "ready") say({ type: "tokenize", id: 1, milliseconds: 9000 });
    if (["result", "failure"].includes(data.type)) window.loot.push(data);
  });
  document.body.append(frame);
}"""
"""A script in the shop's page: a frame of its own, in the group of the frames that are there."""


def fields_frame(page: Page) -> Frame:
    return next(frame for frame in page.frames if "/checkout/v1/fields" in frame.url)


def key_id(key: str) -> str:
    return f"k_{key.removeprefix('pwpk_test_')[:16]}"


@pytest.mark.guards("T-44")
async def test_a_frame_of_another_key_reads_nothing(stage: Stage, visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    other = await stage.new_account(visit.pages.shop)  # who lists the same origin
    gateway = visit.pages.gateways["main"]
    given = [gateway, other.publishable_key, key_id(other.publishable_key)]
    await form.page.evaluate(COLLECT, given)
    await until(form.page, "window.loot.length > 0")
    (answer,) = await form.page.evaluate("window.loot")
    assert answer["type"] == "failure"
    assert answer["error"]["code"] == "not_ready"
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]  # its own form still can


@contextmanager
def shopper_with_a_disk(stage: Stage, profile: Path) -> Iterator[str]:
    certificate = stage.deployment.config.listeners.public.certificate_file
    assert certificate is not None
    with running_chromium(profile, Path(certificate)) as address:
        yield address


def is_on_disk(folder: Path, text: str) -> bool:
    written = (text.encode(), text.encode("utf-16-le"))
    return any(each in content for content in contents(folder) for each in written)


def contents(folder: Path) -> Iterator[bytes]:
    """Read what is there; a running browser takes files of its cache away meanwhile."""
    for place, _, names in os.walk(folder):
        for file in (Path(place, name) for name in names):
            with suppress(FileNotFoundError):
                if file.is_file():  # and no socket
                    yield file.read_bytes()


async def until_on_disk(folder: Path, text: str) -> None:
    for _ in range(150):
        if is_on_disk(folder, text):
            return
        await asyncio.sleep(STEP_SECONDS)
    raise AssertionError(f"{text} was never written")


@pytest.mark.guards("T-44")
async def test_a_browser_writes_no_card_to_its_session_file(
    stage: Stage, account: Account, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    with shopper_with_a_disk(stage, profile) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.connect_over_cdp(address)
            visit = Visit(browser.contexts[0], stage.pages, account)
            form = await visit.form()
            await form.type(cards.AMEX)
            await form.page.evaluate(
                """() => {
                  const name = document.createElement("input");
                  name.name = "shopper";
                  document.body.append(name);
                }"""
            )
            await form.page.locator("[name=shopper]").press_sequentially("Ada Lovelace")
            await until_on_disk(profile / "Default", "Ada Lovelace")  # so fields do get written
            shown = [await form.shown(part) for part in ("number", "cvc")]
            await browser.close()
    assert shown[1] == LONG_CODE
    sessions = profile / "Default" / "Sessions"
    assert not is_on_disk(sessions, shown[0])
    assert not is_on_disk(sessions, f"text\x00{LONG_CODE}")
    assert not is_on_disk(sessions, LONG_CODE)
    assert not is_on_disk(profile, cards.AMEX)


async def test_filled_fields_are_empty_and_said_to_be_when_a_shopper_comes_back(
    visit: Visit,
) -> None:
    form = await visit.form()
    page = form.page
    await form.type(cards.VISA)
    await form.latest("it.complete")
    await form.forget()
    await page.evaluate("addEventListener('pageshow', (e) => (window.wasKept = e.persisted))")
    await page.goto(f"{visit.pages.shop}/empty")
    await page.evaluate("setTimeout(() => history.back())")
    await page.wait_for_url(f"{visit.pages.shop}/?*", wait_until="commit")
    await until(page, "window.wasKept === true")
    await until(page, "window.forms.one.events.length >= 3")
    assert await page.evaluate("forms.one.fields.complete") is False
    assert await page.evaluate("forms.one.fields.brand") == "unknown"
    assert (await form.refusal())["code"] == "incomplete"


async def test_a_page_is_not_told_of_each_key(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    await form.latest("it.complete")
    changes = await form.events("change")
    told = [tuple(sorted(each.items())) for each in changes]
    assert len(told) == len(set(told)) < len(cards.VISA)
    assert not [each for each in changes if CODE in str(each)]


async def test_what_a_keyboard_composes_counts(visit: Visit) -> None:
    form = await visit.form()
    await form.input("number").focus()
    session = await visit.context.new_cdp_session(fields_frame(form.page))
    number = cards.VISA
    for end in range(1, len(number) + 1):
        words = {"text": number[:end], "selectionStart": end, "selectionEnd": end}
        await session.send("Input.imeSetComposition", words)
    await form.latest("it.fieldComplete && it.brand === 'visa'", "number")
    await session.send("Input.insertText", {"text": number})
    await form.latest("it.fieldComplete", "number")
    assert await form.shown() == " ".join(number[at : at + 4] for at in range(0, 16, 4))


async def test_text_of_twice_the_size_is_not_cut_off(visit: Visit) -> None:
    form = await visit.form()
    await form.page.set_viewport_size({"width": 320, "height": 700})
    await form.type(f"{cards.VISA[:-1]}1", expiry="1220", code="1")
    await form.input("number").focus()
    frame = fields_frame(form.page)
    await frame.evaluate("document.documentElement.style.fontSize = '200%'")
    size = "() => [innerHeight, document.body.getBoundingClientRect().height]"
    await until(frame, f"(([there, needed]) => needed > 400 && there >= needed)(({size})())")


async def test_a_whole_number_that_is_pasted_replaces_the_other(visit: Visit) -> None:
    page = await visit.page()
    await visit.context.grant_permissions(["clipboard-write"], origin=visit.pages.shop)
    form = await visit.form(page)
    await form.input("number").press_sequentially(f"{cards.VISA[:-1]}1")
    await page.evaluate("(text) => navigator.clipboard.writeText(text)", cards.JCB)
    await form.input("number").focus()
    await page.keyboard.press("End")
    await page.keyboard.press("Control+v")
    await form.latest("it.fieldComplete && it.brand === 'jcb'", "number")


async def test_a_number_cannot_be_dragged_out(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    drag = "(input) => input.dispatchEvent(new DragEvent('dragstart', { cancelable: true }))"
    for part in ("number", "expiry", "cvc"):
        assert await form.input(part).evaluate(drag) is False, part
