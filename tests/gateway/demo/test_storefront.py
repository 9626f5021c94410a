"""The demo's shop: its page and its policy, a purchase over HTTP, one typed by hand in Chromium.

All of it is real: the deployment, the gateway, Stripe's SDK, the hosted fields, the ledger.
"""

import base64
import hashlib
import json
import re
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Locator, Page, Route, async_playwright, expect

from gateway.demo.purchase import proven_size
from gateway.demo.stage import Stage, set_up
from gateway.demo.storefront.server import FILES
from gateway.demo.storefront.trust import spki_hash
from gateway.embedded import LISTENERS
from gateway.sandbox.callbacks import others_secret
from gateway.sandbox.stripe_callbacks import StripeEvent
from tests import cards
from vault.embedded.bootstrap import StartOptions
from vault.ledger.note import VerifierKey
from vault.ledger.policy import NONE, Policy, PolicyLog

pytestmark = [pytest.mark.embedded, pytest.mark.asyncio(loop_scope="module")]

SECONDS_MAX = 60
CHROMIUM = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path("checkout/node_modules/axe-core/axe.min.js").read_text()


@dataclass(frozen=True)
class Answer:
    """What the shop's server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - a document of any form
        return json.loads(self.body)


@dataclass(frozen=True)
class Shopper:
    """Speaks HTTP with the shop, and has cards."""

    stage: Stage
    session: aiohttp.ClientSession

    async def call(
        self,
        method: str,
        path: str,
        **words: Any,  # noqa: ANN401 - aiohttp's
    ) -> Answer:
        url = self.stage.shop_url + path
        async with self.session.request(method, url, allow_redirects=False, **words) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def wanted(self, card: str, quantity: int = 1) -> dict[str, object]:
        token = await self.stage.page.tokenize(self.stage.cards[card])
        return {"attempt": str(uuid4()), "token": token.id, "quantity": quantity}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Give everything that `panward demo` starts, before its story."""
    folder = tmp_path_factory.mktemp("shop") / "deployment"
    options = StartOptions(listeners=LISTENERS)
    async with set_up(folder, options, at=datetime.now(UTC)) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def shopper(stage: Stage) -> AsyncIterator[Shopper]:
    context = ssl.create_default_context(cafile=stage.credentials.ca_file)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Shopper(stage, session)


# --- the page -----------------------------------------------------------------------------


async def test_the_page_has_a_policy_without_a_hole(shopper: Shopper) -> None:
    gateway = shopper.stage.credentials.public_url
    page = await shopper.get("/")
    policy = dict(
        each.partition(" ")[::2] for each in page.headers["Content-Security-Policy"].split("; ")
    )
    loader = policy.pop("script-src").removeprefix("'self' ")
    assert re.fullmatch(rf"{re.escape(gateway)}/checkout/v1/panward-[0-9a-f]{{12}}[.]js", loader)
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "frame-src": f"{gateway}/checkout/v1/",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert page.headers["Referrer-Policy"] == "no-referrer"


async def test_the_loader_is_pinned_to_what_the_gateway_serves(shopper: Shopper) -> None:
    page = (await shopper.get("/")).body.decode()
    found = re.search(
        r'<script src="(\S+)" integrity="sha384-(\S+)" crossorigin="anonymous">', page
    )
    assert found is not None
    async with shopper.session.get(found[1]) as served:
        digest = hashlib.sha384(await served.read()).digest()
    assert base64.b64encode(digest).decode() == found[2]


async def test_each_script_of_the_page_is_its_own_or_pinned(shopper: Shopper) -> None:
    page = (await shopper.get("/")).body.decode()
    scripts = re.findall(r"<script([^>]*)>", page)
    assert len(scripts) == 3
    for attributes in scripts:
        assert (
            'type="application/json"' in attributes
            or 'src="/' in attributes
            or ("integrity=" in attributes)
        )
    assert not re.search(r"\son\w+=|javascript:|\sstyle=", page)


async def test_only_named_files_are_served_and_nothing_of_others(shopper: Shopper) -> None:
    for name, content_type in FILES.items():
        served = await shopper.get(f"/{name}")
        assert (served.status, served.headers["Content-Type"]) == (200, content_type)
        assert served.headers["X-Content-Type-Options"] == "nosniff"
        addresses = set(re.findall(rb"https?://[^\s\"'<>]*", served.body))
        assert addresses <= {b"http://www.w3.org/2000/svg"}, name
    for path in ("/server.py", "/page.html", "/..%2fshop.py", "/purchases", "/receipts"):
        assert (await shopper.get(path)).status in {404, 405}, path


async def test_another_host_name_is_not_the_shop(shopper: Shopper) -> None:
    answer = await shopper.call("GET", "/", headers={"Host": "shop.example"})
    assert answer.status == 400


# --- a purchase ---------------------------------------------------------------------------


async def test_a_purchase_tells_what_everybody_had(shopper: Shopper) -> None:
    stage, wanted = shopper.stage, await shopper.wanted("mastercard", quantity=3)
    answer = await shopper.call("POST", "/purchases", json=wanted)
    made = answer.json
    assert (answer.status, made["outcome"]) == (200, "paid")
    assert (made["card"]["id"], made["card"]["brand"]) == (wanted["token"], "mastercard")
    saved, paid = made["sent"]
    assert saved["fields"]["card[number]"] == wanted["token"]
    assert (paid["path"], paid["fields"]["amount"]) == ("/v1/payment_intents", "10200")
    assert made["received"][0]["cards"] == {"card[number]": "•••• 4444", "card[cvc]": "•••"}
    assert [(one["kind"], one["result"]) for one in made["authorizations"]] == [
        ("store_card", "stored"),
        ("authorize", "approved"),
    ]
    assert not stage.search.finds(answer.body)
    proof = await shopper.get(f"/purchases/{made['order']}")
    assert proof.json["good"] is True
    assert [entry["says"].split(", ")[0] for entry in proof.json["entries"]] == [
        "token.created",
        *("authorization.attempted", "authorization.completed") * 2,
    ]
    assert not stage.search.finds(proof.body)


async def test_the_same_attempt_is_one_purchase(shopper: Shopper) -> None:
    before = await shopper.stage.witness.look()
    wanted = await shopper.wanted("visa")
    first = await shopper.call("POST", "/purchases", json=wanted)
    again = await shopper.call("POST", "/purchases", json=wanted)
    other = await shopper.call("POST", "/purchases", json={**wanted, "quantity": 5})
    assert (first.status, again.body, other.status) == (200, first.body, 422)
    assert (await shopper.stage.witness.since(before)).counts.charges == 1


async def test_a_declined_card_is_said_so_kindly_and_proven(shopper: Shopper) -> None:
    answer = await shopper.call("POST", "/purchases", json=await shopper.wanted("declined"))
    made = answer.json
    assert made["outcome"] == "declined"
    assert "Nothing was charged" in made["message"]
    assert made["authorizations"][-1]["result"] == "declined"
    proof = await shopper.get(f"/purchases/{made['order']}")
    assert proof.json["good"] is True


async def test_what_is_no_order_is_refused_and_nothing_is_sent(shopper: Shopper) -> None:
    stage, wanted = shopper.stage, await shopper.wanted("visa")
    theirs = await (await stage.another_shops_page()).tokenize(stage.cards["discover"])
    before = await stage.witness.look()
    refused: list[tuple[dict[str, Any], int]] = [
        ({"json": {**wanted, "token": theirs.id}}, 422),
        ({"json": {**wanted, "token": cards.VISA}}, 422),
        ({"json": {**wanted, "quantity": 0}}, 422),
        ({"json": {**wanted, "quantity": 6}}, 422),
        ({"json": {**wanted, "price": 1}}, 400),
        ({"json": {**wanted, "attempt": "1"}}, 422),
        ({"data": json.dumps(wanted), "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": wanted, "headers": {"Origin": "https://evil.example"}}, 403),
        ({"json": {**wanted, "token": "x" * 2000}}, 413),
    ]
    for words, status in refused:
        answer = await shopper.call("POST", "/purchases", **words)
        assert answer.status == status, words
        assert not stage.search.finds(answer.body)
    assert (await stage.witness.since(before)).nothing_left
    assert (await shopper.get("/purchases/print-none")).status == 404


# --- a purchase whose answer is lost --------------------------------------------------------


async def test_a_lost_answer_waits_until_the_processor_calls_back(shopper: Shopper) -> None:
    stage, wanted = shopper.stage, await shopper.wanted("unionpay")
    before = await stage.witness.look()
    async with stage.reports.called_back():
        made = (await shopper.call("POST", "/purchases", json=wanted)).json
        assert made["outcome"] == "waiting"
        assert "Do not pay again" in made["message"]
        assert (made["authorizations"][-1]["state"], made["authorizations"][-1]["result"]) == (
            "unknown",
            None,
        )
        again = await shopper.call("POST", "/purchases", json=wanted)
        paid = (await shopper.get(f"/purchases/{made['order']}/outcome")).json
    assert (again.json["outcome"], paid["outcome"]) == ("waiting", "paid")
    last = paid["authorizations"][-1]
    assert (last["state"], last["result"]) == ("resolved", "approved")
    assert [event["effect"] for event in last["events"]] == ["captured"]
    assert (await shopper.call("POST", "/purchases", json=wanted)).json == paid
    assert (await stage.witness.since(before)).counts.charges == 1
    proof = (await shopper.get(f"/purchases/{made['order']}")).json
    assert proof["good"] is True
    assert [entry["says"].split(", ")[0] for entry in proof["entries"]] == [
        "token.created",
        *("authorization.attempted", "authorization.completed"),
        *("authorization.attempted", "authorization.unknown"),
        *("callback.received", "authorization.resolved"),
    ]


@pytest.mark.parametrize("signature", ["own", "none", "other"])
async def test_what_stripes_sdk_does_not_take_for_genuine_pays_nothing(
    shopper: Shopper, signature: str
) -> None:
    stage, order = shopper.stage, f"print-{uuid4()}"
    about = {"id": "pi_1", "object": "payment_intent", "metadata": {"order_id": order}}
    event = StripeEvent("evt_1", "payment_intent.succeeded", 0, "pi_1", about)
    own = stage.reports.registered.own_secret
    secret = {"own": own, "none": None, "other": others_secret(own)}[signature]
    post = event.posted(secret, at=datetime.now(UTC))
    answer = await shopper.call("POST", "/hooks/stripe", data=post.body, headers=post.headers)
    assert answer.status == (204 if signature == "own" else 400)
    assert (order in stage.reports.paid) is (signature == "own")


async def test_there_is_no_outcome_of_an_order_that_never_was(shopper: Shopper) -> None:
    assert (await shopper.get("/purchases/print-none/outcome")).status == 404


# --- its proof ----------------------------------------------------------------------------


async def test_a_proof_of_something_else_proves_nothing(shopper: Shopper) -> None:
    stage = shopper.stage
    answer = await shopper.call("POST", "/purchases", json=await shopper.wanted("jcb"))
    entries = (await shopper.get(f"/purchases/{answer.json['order']}")).json["entries"]
    index = entries[-1]["index"]
    listed = await stage.office.get(f"/v1/ledger/events?since_index={index}&limit=1")
    event = json.loads(listed.body)["data"][0]
    proof = (await stage.office.get(f"/v1/ledger/proof/{event['id']}")).body.encode()
    body = base64.b64decode(event["raw"])
    key = VerifierKey.parse(await stage.witness.log_key())
    policy, stranger = (
        Policy((PolicyLog(VerifierKey(key.name, key.kind, public), None),), {}, {}, NONE)
        for public in (key.public_key, bytes(32))
    )
    assert proven_size(proof, body, policy, index=index) > index
    assert proven_size(proof, body + b" ", policy, index=index) == 0
    assert proven_size(proof, body, policy, index=index - 1) == 0
    assert proven_size(proof, body, stranger, index=index) == 0
    assert proven_size(b"nothing", body, policy, index=index) == 0


async def test_the_commands_that_are_shown_prove_it_again(shopper: Shopper, tmp_path: Path) -> None:
    answer = await shopper.call("POST", "/purchases", json=await shopper.wanted("visa"))
    commands = (await shopper.get(f"/purchases/{answer.json['order']}")).json["commands"]
    lines = commands.replace("\\\n", " ").splitlines()
    assert len(lines) == 2
    for line in lines:
        done = subprocess.run(  # noqa: S603, ASYNC221 - as somebody pastes it; nothing else is due
            shlex.split(line), cwd=tmp_path, capture_output=True, timeout=SECONDS_MAX, check=False
        )
        assert done.returncode == 0, done.stderr
    entry = json.loads((tmp_path / "print.json").read_bytes())
    assert entry["type"].startswith("authorization.")


# --- by hand ------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrowserContext]:
    """Give a Chromium that was started with the switch that the demo prints, and no other trust."""
    spki = spki_hash(stage.deployment.parts.tls_cert_file)
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path="/usr/bin/chromium",
            args=[*CHROMIUM, f"--ignore-certificate-errors-spki-list={spki}"],
            viewport={"width": 1280, "height": 900},
        )
        yield context
        await context.close()


async def opened(browser: BrowserContext, stage: Stage) -> Page:
    page = await browser.new_page()
    await page.goto(f"{stage.shop_url}/")
    for part in ("number", "expiry", "cvc"):
        await expect(field(page, part)).to_be_visible()
    return page


def field(page: Page, part: str) -> Locator:
    return page.frame_locator(f"#card-{part} iframe").locator("input")


async def typed(page: Page, number: str) -> None:
    await field(page, "number").press_sequentially(number)
    await field(page, "expiry").press_sequentially(f"12{(datetime.now(UTC).year + 3) % 100}")
    await field(page, "cvc").press_sequentially("314")
    await expect(page.locator("#pay")).to_have_attribute("data-state", "ready")


async def test_a_purchase_typed_by_hand_works(browser: BrowserContext, stage: Stage) -> None:
    page, thrown = await opened(browser, stage), list[str]()
    page.on("pageerror", lambda error: thrown.append(str(error)))
    before = await stage.witness.look()
    await page.get_by_role("button", name="One more").click()
    await typed(page, cards.VISA)
    await page.get_by_role("button", name="Pay €68.00").click()
    await expect(page.locator("#pay")).to_have_attribute("data-state", "paid")
    await expect(page.get_by_role("heading", name="What just happened")).to_be_focused()
    await expect(page.locator(".proven")).to_have_count(5, timeout=20_000)
    story = await page.locator("#story").inner_text()
    assert "visa •••• 4242" in story
    assert re.search(r"card\[number\] = pwt_test_\w{28}", story)
    assert "card[number] = •••• 4242" in story
    assert cards.VISA not in re.sub(r"\s", "", story)
    seen = await stage.witness.since(before)
    assert seen.counts.charges == 1
    assert list((await stage.witness.processor.numbers())[-1:]) == [cards.VISA]
    assert thrown == []


async def test_after_a_decline_another_card_pays(browser: BrowserContext, stage: Stage) -> None:
    page = await opened(browser, stage)
    await typed(page, cards.DECLINED)
    await page.locator("#pay").click()
    await expect(page.locator("#outcome")).to_contain_text("The bank said no")
    await expect(page.locator("#pay")).to_have_attribute("data-state", "ready")
    await field(page, "number").fill("")
    await field(page, "number").press_sequentially(cards.MASTERCARD)
    await field(page, "number").press("Enter")
    await expect(page.locator("#pay")).to_have_attribute("data-state", "paid")
    await page.get_by_role("button", name="Buy another one").click()
    await expect(field(page, "number")).to_have_value("")
    await expect(page.locator("#pay")).to_have_attribute("data-state", "typing")


async def test_the_page_shows_that_it_waits_and_then_that_it_is_paid(
    browser: BrowserContext, stage: Stage
) -> None:
    page, before = await opened(browser, stage), await stage.witness.look()
    pay = page.locator("#pay")
    async with stage.reports.called_back():
        await typed(page, cards.UNIONPAY)
        await pay.click()
        await expect(pay).to_have_attribute("data-state", "waiting")
        await expect(pay).to_have_text("Waiting for the processor …")
        await expect(page.locator("#outcome")).to_contain_text("Do not pay again")
        await page.keyboard.press("Enter")  # changes nothing
        await expect(pay).to_have_attribute("data-state", "paid", timeout=20_000)
    await expect(page.locator("#outcome")).to_contain_text("The processor has reported")
    await expect(page.locator(".proven")).to_have_count(7, timeout=20_000)
    story = await page.locator("#story").inner_text()
    assert "payment_intent.succeeded: captured" in story
    assert "resolved, approved" in story
    assert (await stage.witness.since(before)).counts.charges == 1


async def test_an_incomplete_card_is_not_sent(browser: BrowserContext, stage: Stage) -> None:
    page = await opened(browser, stage)
    before = await stage.witness.look()
    await field(page, "number").press_sequentially(cards.VISA[:6])
    await page.locator("#pay").click()
    await expect(page.locator("#outcome")).to_have_attribute("data-tone", "bad")
    await expect(field(page, "number")).to_be_focused()
    assert not (await stage.witness.since(before)).ledger


async def test_when_no_answer_comes_pressing_again_pays_once(
    browser: BrowserContext, shopper: Shopper
) -> None:
    page, statuses = await opened(browser, shopper.stage), list[int]()

    async def lose_answer(route: Route) -> None:
        """Let the purchase reach the shop, and its answer nobody."""
        headers = {"Content-Type": "application/json"}
        body = route.request.post_data
        answer = await shopper.call("POST", "/purchases", data=body, headers=headers)
        statuses.append(answer.status)
        await route.abort()

    await page.route("**/purchases", lose_answer, times=1)
    before = await shopper.stage.witness.look()
    await typed(page, cards.VISA)
    await page.locator("#pay").click()
    await expect(page.locator("#outcome")).to_contain_text("cannot be charged twice")
    await page.locator("#pay").click()
    await expect(page.locator("#pay")).to_have_attribute("data-state", "paid")
    assert statuses == [200]
    assert (await shopper.stage.witness.since(before)).counts.charges == 1


async def test_the_pages_own_script_is_refused_the_fields(
    browser: BrowserContext, stage: Stage
) -> None:
    page = await opened(browser, stage)
    await typed(page, cards.VISA)
    await page.get_by_role("button", name="Try to read the fields").click()
    refusal = await page.locator("#refusal").inner_text()
    assert refusal.count("SecurityError") == 2
    assert "contentDocument\nnull" in refusal


async def test_the_keyboard_alone_buys(browser: BrowserContext, stage: Stage) -> None:
    page = await opened(browser, stage)
    for keys in ("", "", cards.VISA, f"12{(datetime.now(UTC).year + 3) % 100}", "314"):
        await page.keyboard.press("Tab")  # less, more, and the three fields
        await page.keyboard.type(keys)
    await page.keyboard.press("Tab")
    await expect(page.locator("#pay")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#pay")).to_have_attribute("data-state", "paid")


async def test_a_test_card_is_copied_by_a_click(browser: BrowserContext, stage: Stage) -> None:
    await browser.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await opened(browser, stage)
    await page.get_by_role("button", name="declined").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.replace(" ", "") == cards.DECLINED


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_left_out(
    browser: BrowserContext, stage: Stage, scheme: Literal["light", "dark"]
) -> None:
    """axe finds nothing, before and after a purchase; a phone scrolls in one direction only."""
    page = await opened(browser, stage)
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": 390, "height": 844})
    assert await violations(page) == []
    await typed(page, cards.VISA)
    await page.locator("#dare").click()
    await page.locator("#pay").click()
    await expect(page.locator(".proven").first).to_be_visible(timeout=20_000)
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == 390


# --- the old shop, by hand ----------------------------------------------------------------


async def test_the_old_shops_form_typed_by_hand_is_tokens_when_it_arrives(
    browser: BrowserContext, stage: Stage
) -> None:
    page, card = await browser.new_page(), stage.cards["amex"]
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(f"{stage.old_shop_url}/")
    assert await violations(page) == []
    await page.get_by_label("Lamp").select_option(index=1)
    await page.get_by_label("Card number").fill(" ".join(re.findall(".{1,5}", card.number)))
    await page.get_by_label("Year").select_option(str(card.exp_year))
    await page.get_by_label("Code on the back").fill(card.cvc)
    await page.get_by_label("Anything else?").fill("Née? Ring <twice>; 100 % & more")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("heading", name="What this shop has")).to_be_visible()
    order, shown = stage.old_shop.latest(), await page.inner_text("body")
    assert re.fullmatch(r"pwt_test_\w{28}", order.card_number)
    assert (order.card_month, order.card_year) == ("12", str(card.exp_year))
    assert order.card_code == "0000"
    assert order.comment == "Née? Ring <twice>; 100 % & more"
    assert order.card_number in shown
    for everything in (stage.old_shop.everything(), (await page.content()).encode()):
        assert not stage.search.finds(everything)
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == 390


async def violations(page: Page) -> list[str]:
    """Run axe in the page by the debugger, which no policy of the page's concerns."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run(document, {iframes: false})")
    return [f"{each['id']}: {each['nodes'][0]['target']}" for each in found["violations"]]
