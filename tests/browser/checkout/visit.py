"""A shopper's visit: a browser context, the pages open in it, and the card forms in those.

What lives here: how a test types into the fields and asks the page's script, and the record of all
that left the frames, by message or by request. What never may: a way around the browser, such as a
value put into an input that no shopper could have typed there.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, FrameLocator, Locator, Page, Request, expect

from tests.browser.checkout.merchant_page import MerchantPages
from tests.browser.waiting import until
from tests.flows.leaks import first_leak
from tests.flows.merchant import Account

CODE, LONG_CODE = "739", "7391"
"""Codes that are easy to tell from anything else."""
EXPIRY = "12 / 34"

_FREE_OF_FORM = {"nonce", "id", "created_at", "expires_at", "requestId", "pixels"}
_YEARS = {"exp_month", "exp_year"}
_LAST4 = "last4"


@dataclass(frozen=True)
class Form:
    """The fields of one form in a page, as a shopper and the page's script have them."""

    page: Page
    name: str
    layout: str = "combined"

    def frame(self, part: str) -> FrameLocator:
        field = "card" if self.layout == "combined" else part
        return self.page.frame_locator(f"#{self.name} iframe[src*='field={field}']")

    def input(self, part: str) -> Locator:
        return self.frame(part).locator(f"input#{part}")

    def note(self, part: str) -> Locator:
        return self.frame(part).locator(f"#{part}-error")

    async def type(self, number: str, expiry: str = EXPIRY, code: str | None = None) -> None:
        """Type a card, key by key."""
        code = code or (LONG_CODE if number.startswith(("34", "37")) else CODE)
        for part, text in (("number", number), ("expiry", expiry), ("cvc", code)):
            await self.input(part).press_sequentially(text)

    async def shown(self, part: str = "number") -> str:
        return await self.input(part).input_value()

    async def events(self, name: str) -> list[Any]:
        found: list[Any] = await self.page.evaluate(
            "([form, wanted]) => forms[form].events.filter(([n]) => n === wanted).map((e) => e[1])",
            [self.name, name],
        )
        return found

    async def event(self, name: str, test: str = "true") -> Any:  # noqa: ANN401 - whatever JavaScript gave
        """Wait for an event of which `test`, an expression on `it`, holds; give the latest."""
        found = f"forms['{self.name}'].events.filter(([n, it]) => n === '{name}' && ({test}))"
        await until(self.page, f"{found}.length > 0")
        return await self.page.evaluate(f"{found}.pop()[1]")

    async def latest(self, test: str, part: str = "") -> None:
        """Wait until the latest change, of a part or of any, is such."""
        of = f"n === 'change' && ('{part}' || it.field) === it.field"
        found = f"forms['{self.name}'].events.filter(([n, it]) => {of}).pop()"
        await until(self.page, f"((it) => it && ({test}))(({found} ?? [])[1])")

    async def forget(self) -> None:
        await self.page.evaluate("(form) => void (forms[form].events.length = 0)", self.name)

    async def clear(self) -> None:
        await self.page.evaluate("(form) => forms[form].fields.clear()", self.name)
        for part in ("number", "expiry", "cvc"):
            await expect(self.input(part)).to_have_value("")

    async def ask(self, call: str, *words: str) -> None:
        """Begin a call of the page's script; `outcome` gives what becomes of it."""
        await self.page.evaluate("(words) => follow(...words)", [self.name, call, *words])

    async def outcome(self, *, seconds: float = 20.0) -> dict[str, Any]:
        waiting = f"forms['{self.name}'].outcomes"
        await until(self.page, f"{waiting}.length > 0", seconds=seconds)
        found: dict[str, Any] = await self.page.evaluate(f"{waiting}.shift()")
        return found

    async def tokenize(self) -> dict[str, Any]:
        """Make a token; the call must end well."""
        await self.ask("tokenize")
        outcome = await self.outcome()
        assert "value" in outcome, outcome
        card: dict[str, Any] = outcome["value"]
        return card

    async def refusal(self) -> dict[str, Any]:
        """Try to make a token; the call must end with an error."""
        await self.ask("tokenize")
        outcome = await self.outcome()
        assert "error" in outcome, outcome
        error: dict[str, Any] = outcome["error"]
        return error


@dataclass
class Visit:
    """One shopper at one merchant's shop."""

    context: BrowserContext
    pages: MerchantPages
    account: Account
    requests: list[tuple[str, str]] = field(default_factory=list)
    """All that the browser sent: address, and body."""
    said: list[str] = field(default_factory=list)
    """All that was written to a console."""

    def watch(self) -> None:
        def sent(request: Request) -> None:
            self.requests.append((request.url, request.post_data or ""))

        self.context.on("request", sent)
        self.context.on("console", lambda message: self.said.append(message.text))

    async def page(self, *, at: str | None = None, gateway: str = "main") -> Page:
        """Open the shop's page, with no form in it yet."""
        page = await self.context.new_page()
        await page.goto(f"{at or self.pages.shop}/?gateway={gateway}")
        await until(page, "window.Panward !== undefined && window.begin !== undefined")
        return page

    async def begin(
        self,
        page: Page,
        name: str = "one",
        *,
        layout: str = "combined",
        key: str | None = None,
        options: dict[str, object] | None = None,
        look: dict[str, object] | None = None,
    ) -> Form:
        """Mount a form, and do not wait for it."""
        fields = {"layout": layout} | (look or {})
        if "only" in fields:
            del fields["layout"]
        given = [name, key or self.account.publishable_key, options or {}, fields, f"#{name}"]
        await page.evaluate("(words) => begin(...words)", given)
        return Form(page, name, layout)

    async def form(self, page: Page | None = None, name: str = "one", **more: Any) -> Form:  # noqa: ANN401 - as `begin` has them
        """Mount a form in a page, and wait until it is ready."""
        gateway = more.pop("gateway", "main")
        form = await self.begin(page or await self.page(gateway=gateway), name, **more)
        await form.event("ready")
        return form

    async def check(self) -> None:
        """No card and no code in what the pages were told, in what was sent, and on consoles."""
        for page in self.context.pages:
            for frame in page.frames:
                if frame.url.startswith((self.pages.shop, self.pages.stranger)):
                    for _, message in await frame.evaluate("window.heard ?? []"):
                        assert_tells_nothing(message)
        for text in (*self.said, *(part for request in self.requests for part in request)):
            assert first_leak(text.encode()) is None, "a card left the browser in the clear"


def assert_tells_nothing(message: object, name: str = "") -> None:
    """Hold a message of a frame to its schema: digits only where they are no card's."""
    leak = first_leak(json.dumps(message).encode())
    assert leak is None, "a card in a message"
    if isinstance(message, dict):
        for each, value in message.items():
            assert_tells_nothing(value, each)
    elif isinstance(message, list):
        for value in message:
            assert_tells_nothing(value, name)
    elif isinstance(message, str) and name not in _FREE_OF_FORM:
        digits = re.sub(r"\D", "", message)
        assert digits == "" or (name == _LAST4 and len(digits) == 4), f"digits in {name}"
    elif isinstance(message, int) and not isinstance(message, bool) and name in _YEARS:
        assert message in range(1, 2100)
    elif isinstance(message, float | int) and not isinstance(message, bool):
        assert name in _FREE_OF_FORM or name == "panward", f"a number in {name}"
