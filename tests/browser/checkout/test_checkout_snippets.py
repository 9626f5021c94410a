"""Every front end that docs/checkout.md shows, as it stands there, in a real browser, to a charge.

Only addresses, hashes and keys are put in. The pages are served under the policy that the document
says is enough, and the server is the one that it shows.
"""

import asyncio
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gateway.checkout.inventory import load_inventory
from tests.browser.checkout.document_shop import DOCUMENT, DocumentShop, block, serving
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import CODE, EXPIRY, Visit
from tests.browser.waiting import until
from tests.cards import AMEX, DECLINED, MASTERCARD, VISA
from tests.flows.deployment import said_by_panward
from tests.flows.merchant import Account, Merchant, new_key

CHECKOUT = Path(__file__).parents[3] / "checkout"

MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { CardForm } from "./CardForm.jsx";

const root = createRoot(document.querySelector("#root"));
const Mode = location.hash === "#strict" ? StrictMode : "div";
window.cards = [];

async function paid(card) {
  window.cards.push(card);
  const answer = await fetch("/pay", {
    method: "POST",
    body: new URLSearchParams({ token: card.id }),
  });
  document.querySelector("#out").textContent = await answer.text();
}

window.show = () => root.render(<Mode><CardForm onCard={paid} /></Mode>);
window.hide = () => root.render(null);
window.show();
"""
"""What a shop does with the component."""

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def shop_account(stage: Stage) -> Account:
    """Give a merchant whose keys were made as the document says."""
    account = asyncio.run(stage.new_account())
    scopes = re.findall(r"--scope (\S+?)[`\s)]", DOCUMENT)
    words = [word for scope in scopes for word in ("--scope", scope)]
    add = ("tenants", "keys", "add", account.tenant)
    listed = ("--publishable", "--origin", "https://shop.example")
    secret = said_by_panward(stage.deployment, *add, *words).strip()
    return Account(account.tenant, said_by_panward(stage.deployment, *add, *listed).strip(), secret)


@pytest.fixture(scope="module")
def document_shop(
    stage: Stage, shop_account: Account, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DocumentShop]:
    folder = tmp_path_factory.mktemp("document_shop")
    shop = DocumentShop(folder, stage.urls.public, load_inventory())
    shop.key = shop_account.publishable_key
    with serving(
        shop,
        private_url=stage.urls.private,
        ca_file=stage.deployment.ca_file,
        secret_key=shop_account.secret_key,
    ):
        key_id = f"k_{shop.key.removeprefix('pwpk_test_')[:16]}"
        listed = said_by_panward(
            stage.deployment, "tenants", "keys", "origins", key_id, "--add", shop.origin
        )
        assert listed.split() == [shop.origin, "https://shop.example"]
        yield shop


@pytest.fixture
async def back_end(shop: Merchant, shop_account: Account, stage: Stage) -> Merchant:
    """Give the merchant's own look at its tokens, which the document's server does not need."""
    return shop.with_key(await new_key(stage.deployment, shop_account.tenant, "read", "tokenize"))


@pytest.fixture
async def page(visit: Visit, document_shop: DocumentShop) -> Page:
    """Give a page under the document's own policy."""
    document_shop.allow()
    return await visit.context.new_page()


async def type_card(page: Page, number: str, code: str = CODE) -> None:
    frame = page.frame_locator("iframe[src*='field=card']")
    for part, text in (("number", number), ("expiry", EXPIRY), ("cvc", code)):
        await frame.locator(f"input#{part}").press_sequentially(text)


async def said(page: Page, at: str, pattern: str) -> str:
    """Wait until an element has such a text."""
    await until(page, f"/{pattern}/.test(document.querySelector('{at}').textContent)", seconds=20)
    return str(await page.locator(at).text_content())


def newest_charge(stage: Stage) -> str:
    """Give the last four of the card that the processor was sent last."""
    return stage.deployment.processor.numbers[-1][-4:]


# --- a script tag -------------------------------------------------------------------------


async def test_a_script_tag_pays(page: Page, document_shop: DocumentShop, stage: Stage) -> None:
    document_shop.put("pay.html", "pay.js")
    await page.goto(f"{document_shop.origin}/pay.html")
    before = stage.deployment.processor.counts.charges
    await type_card(page, VISA)
    await page.get_by_role("button", name="Pay").click()
    await said(page, "#problem", "^pi_\\S+ succeeded$")
    assert stage.deployment.processor.counts.charges == before + 1
    assert newest_charge(stage) == VISA[-4:]


async def test_enter_pays_once_however_often(
    page: Page, document_shop: DocumentShop, stage: Stage
) -> None:
    document_shop.put("pay.html", "pay.js")
    await page.goto(f"{document_shop.origin}/pay.html")
    before = stage.deployment.processor.counts.charges
    await type_card(page, MASTERCARD)
    for _ in range(3):
        await page.keyboard.press("Enter")
    await said(page, "#problem", "^pi_\\S+ succeeded$")
    assert stage.deployment.processor.counts.charges == before + 1


async def test_what_is_missing_is_said_by_the_fields_alone(
    page: Page, document_shop: DocumentShop
) -> None:
    document_shop.put("pay.html", "pay.js")
    await page.goto(f"{document_shop.origin}/pay.html")
    await page.get_by_role("button", name="Pay").click()
    note = page.frame_locator("iframe").locator("#number-error")
    await note.get_by_text("Enter your card number.").wait_for()
    assert await page.locator("#problem").text_content() == ""
    await until(page, "!document.querySelector('button').disabled")


async def test_a_page_that_is_on_no_list_is_told_so(
    page: Page, document_shop: DocumentShop
) -> None:
    document_shop.put("pay.html", "pay.js")
    await page.goto(f"{document_shop.origin.replace('localhost', '127.0.0.1')}/pay.html")
    assert "origin on the key's list" in await said(page, "#problem", "did not load")


# --- React --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def react(document_shop: DocumentShop) -> None:
    """Bundle the component with what `panward snippet --react` puts beside it."""
    folder = document_shop.folder / "src"
    folder.mkdir()
    (folder / "CardForm.jsx").write_text(document_shop.filled(block("CardForm.jsx")))
    module = document_shop.inventory.scripts[document_shop.inventory.manifest.module]
    (folder / "panward.mjs").write_bytes(module.body)
    (folder / "main.jsx").write_text(MAIN)
    (document_shop.folder / "react.html").write_text(
        '<!doctype html><div id="root"></div><p id="out"></p><script src="/react.js"></script>'
    )
    subprocess.run(  # noqa: S603 - the lock file's own esbuild
        [
            str(CHECKOUT / "node_modules" / ".bin" / "esbuild"),
            str(folder / "main.jsx"),
            "--bundle",
            "--jsx=automatic",
            '--define:process.env.NODE_ENV="development"',  # in which StrictMode mounts twice
            f"--outfile={document_shop.folder / 'react.js'}",
            "--log-level=error",
        ],
        env={**os.environ, "NODE_PATH": str(CHECKOUT / "node_modules")},
        timeout=60,
        check=True,
    )


@pytest.mark.usefixtures("react")
@pytest.mark.parametrize("mode", ["usual", "strict"])
async def test_a_react_component_pays(
    page: Page, document_shop: DocumentShop, stage: Stage, mode: str
) -> None:
    document_shop.allow({"script-src 'self' https://pay.example/checkout/v1/": "script-src 'self'"})
    await page.goto(f"{document_shop.origin}/react.html#{mode}")
    await until(page, "document.querySelectorAll('iframe').length === 1")
    await type_card(page, AMEX, "7391")
    await page.keyboard.press("Enter")
    await said(page, "#out", "^pi_\\S+ succeeded$")
    (card,) = await page.evaluate("window.cards")
    assert (card["brand"], card["last4"]) == ("amex", AMEX[-4:])
    assert newest_charge(stage) == AMEX[-4:]


@pytest.mark.usefixtures("react")
async def test_a_react_component_may_go_at_any_time(
    page: Page, document_shop: DocumentShop, page_errors: list[str]
) -> None:
    consoled: list[str] = []
    page.on("console", lambda message: consoled.append(message.text))
    await page.goto(f"{document_shop.origin}/react.html#strict")
    await page.evaluate("hide(); show(); hide()")  # before a frame is ready
    assert await page.locator("iframe").count() == 0
    await page.evaluate("show()")
    await type_card(page, VISA)
    await page.get_by_role("button", name="Pay").click()
    await page.evaluate("hide()")  # in the middle of a call
    assert await page.locator("iframe").count() == 0
    await page.evaluate("show()")
    await type_card(page, VISA)
    await page.get_by_role("button", name="Pay").click()
    await said(page, "#out", "^pi_\\S+ succeeded$")
    assert not page_errors
    assert not [text for text in consoled if "DevTools" not in text]


# --- a form and a server ------------------------------------------------------------------


async def test_a_form_pays_and_keeps_the_card(
    page: Page, document_shop: DocumentShop, back_end: Merchant, stage: Stage
) -> None:
    document_shop.put("form.html", "form.js")
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.post_data or ""))
    await page.goto(f"{document_shop.origin}/form.html")
    await type_card(page, VISA)
    await page.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Pay").click()
    await expect(page.locator("body")).to_have_text(re.compile(r"^pi_\S+ succeeded$"))
    paid = str(await page.locator("body").text_content())

    (form,) = (text for text in posted if text.startswith("token="))
    token = form.removeprefix("token=").removesuffix("&keep=on")
    found = await back_end.api("GET", f"/v1/tokens/{token}")
    assert found.json()["expires_at"] is None

    before = stage.deployment.processor.counts.charges
    again = await page.context.request.post(
        f"{document_shop.origin}/pay", form={"token": token, "keep": "on"}
    )
    assert await again.text() == paid, "a form that is sent twice pays once"
    assert stage.deployment.processor.counts.charges == before

    await page.go_back(wait_until="commit")  # a page that the browser kept loads nothing
    await until(page, "!document.querySelector('button').disabled")


async def test_a_card_that_is_not_kept_ends_with_its_day(
    page: Page, document_shop: DocumentShop, back_end: Merchant, stage: Stage
) -> None:
    document_shop.put("form.html", "form.js")
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.post_data or ""))
    await page.goto(f"{document_shop.origin}/form.html")
    await type_card(page, DECLINED)
    await page.get_by_role("button", name="Pay").click()
    await expect(page.locator("body")).to_contain_text("declined")
    (form,) = (text for text in posted if text.startswith("token="))
    found = (await back_end.api("GET", f"/v1/tokens/{form.removeprefix('token=')}")).json()
    life = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["created_at"])
    assert 86_390 < life.total_seconds() <= 86_400


async def test_a_form_without_a_token_pays_nothing(
    page: Page, document_shop: DocumentShop, stage: Stage
) -> None:
    before = stage.deployment.processor.counts.requests
    for token in ("", "pwt_…", f"../tokens/{secrets.token_hex(8)}"):
        answer = await page.context.request.post(
            f"{document_shop.origin}/pay", form={"token": token}
        )
        assert answer.status == 400
    assert stage.deployment.processor.counts.requests == before


# --- codes, and inputs of one's own -------------------------------------------------------


async def test_the_code_of_a_stored_card_pays_once_an_attempt(
    page: Page, document_shop: DocumentShop, back_end: Merchant, stage: Stage
) -> None:
    token = await back_end.token(VISA, unusual={"cvc": None})
    document_shop.put("code.js")
    before = stage.deployment.processor.counts.charges
    paid = []
    for attempt in ("first", "second"):
        html = document_shop.filled(block("code.html")).replace("pwt_…", token)
        html = html.replace('value="…"', f'value="{attempt}"')
        (document_shop.folder / "code.html").write_text(html)
        await page.goto(f"{document_shop.origin}/code.html")
        await page.frame_locator("iframe").locator("input#cvc").press_sequentially(CODE)
        for _ in range(3):
            await page.keyboard.press("Enter")
        # Pressed again, it may be sent again: then a navigation gives way to the next.
        await expect(page.locator("body")).to_have_text(re.compile(r"^pi_\S+ succeeded$"))
        paid.append(str(await page.locator("body").text_content()))
    assert paid[0] != paid[1]
    assert stage.deployment.processor.counts.charges == before + 2


async def test_inputs_of_ones_own_are_sealed(page: Page, document_shop: DocumentShop) -> None:
    document_shop.put("tokenize.js")
    inventory = document_shop.inventory
    sealing = inventory.scripts[inventory.manifest.seal]
    (document_shop.folder / "seal.mjs").write_bytes(sealing.body)
    (document_shop.folder / "main.js").write_text(
        'import { tokenize } from "./tokenize.js"; window.tokenize = tokenize;'
    )
    (document_shop.folder / "own.html").write_text('<script type="module" src="/main.js"></script>')
    document_shop.allow(
        {
            "script-src 'self' https://pay.example/checkout/v1/": (
                "script-src 'self' 'wasm-unsafe-eval'"
            ),
            "connect-src 'self'": "connect-src https://pay.example",
        }
    )
    await page.goto(f"{document_shop.origin}/own.html")
    await until(page, "window.tokenize !== undefined")
    card = {"number": VISA, "exp_month": 12, "exp_year": 2034, "cvc": CODE}
    made = await page.evaluate("(card) => window.tokenize(card)", card)
    assert (made["brand"], made["last4"]) == ("visa", VISA[-4:])
    wrong = card | {"number": VISA[:-1] + "3"}
    refusal = "(card) => window.tokenize(card).catch((error) => error.message)"
    assert await page.evaluate(refusal, wrong) == "card_invalid"
