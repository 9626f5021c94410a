"""A gateway that serves the real loader and a frame that a test plays, and a merchant's page.

What lives here is the other side of the loader, good and bad alike: the frame says whatever the
test has it say. It is no model of the real frame. Page and gateway are two origins of two sites,
so that the browser keeps them in two processes, as it does for a shopper.
"""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web
from playwright.async_api import Frame, Page

from tests.browser.waiting import until

BUILT = Path(__file__).parent.parent.parent / "gateway" / "checkout" / "built"
KEY = "pwpk_test_" + "0123456789abcdef" + "a" * 52
KEY_ID = "k_0123456789abcdef"
TOKEN = "pwt_test_" + "0" * 28
CARD = {
    "id": TOKEN,
    "brand": "visa",
    "last4": "4242",
    "exp_month": 12,
    "exp_year": 2030,
    "created_at": "2026-01-02T03:04:05Z",
    "expires_at": None,
    "single_use": False,
}

Manners = Literal["good", "mute", "unready", "refusing"]
"""`mute` never says that it has loaded, `unready` stops there, `refusing` is an error page."""

_FRAME = """
const asked = new URLSearchParams(location.search);
const secrets = new URLSearchParams(location.hash.slice(1));
const manners = document.documentElement.dataset.manners;
window.nonce = secrets.get("nonce");
window.group = secrets.get("group");
window.heard = [];
window.say = (message) =>
  parent.postMessage({ panward: 1, nonce: window.nonce, ...message }, asked.get("origin"));
addEventListener("message", (event) => {
  if (event.source !== parent || event.origin !== asked.get("origin")) return;
  window.heard.push(event.data);
  if (event.data.type === "init" && manners === "good") window.say({ type: "ready" });
});
if (manners !== "mute") window.say({ type: "loaded" });
"""

_PAGE = """
window.events = [];
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(event.effectiveDirective));
window.plain = (error) => ({ ...error, message: error.message, name: error.name });
window.begin = (options, fieldsOptions, target, key) => {
  window.fields = Panward(key, options).fields(fieldsOptions);
  for (const name of ["ready", "change", "focus", "blur", "submit", "failure"])
    window.fields.on(name, (detail) =>
      window.events.push([name, name === "failure" ? window.plain(detail) : detail]));
  window.fields.mount(target);
};
window.outcomes = [];
window.follow = (promise) =>
  promise.then(
    (value) => window.outcomes.push({ value: value ?? null, frozen: Object.isFrozen(value) }),
    (error) => window.outcomes.push({ error: window.plain(error) }),
  );
window.refusal = (act) => {
  try { act(); } catch (error) { return window.plain(error); }
};
"""

_BODY = """<!doctype html><html lang="en"><head><title>shop</title></head>
<body><div id="card"></div><div id="number"></div><div id="expiry"></div><div id="cvc"></div>
<script src="{gateway}/checkout/v1/panward.js" crossorigin></script><script src="/page.js"></script>
</body></html>"""


def built(name: str) -> bytes:
    manifest: dict[str, str] = json.loads((BUILT / "manifest.json").read_text())
    return (BUILT / manifest[name]).read_bytes()


def _script(text: str | bytes) -> web.Response:
    body = text.encode() if isinstance(text, str) else text
    headers = {"Access-Control-Allow-Origin": "*"}
    return web.Response(body=body, content_type="text/javascript", headers=headers)


@dataclass
class ScriptedGateway:
    """Two servers, and the manners of the frames that the next page gets."""

    manners: Manners = "good"
    scheme: str = "light"
    frames_allowed: str = ""  # by the page's policy, besides the gateway's
    asked: list[str] = field(default_factory=list)  # addresses of frames, as they came
    origin: str = ""
    shop: str = ""
    _servers: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        gateway, shop = web.Application(), web.Application()
        gateway.router.add_get("/checkout/v1/panward.js", self._loader)
        gateway.router.add_get("/checkout/v1/panward.mjs", self._module)
        gateway.router.add_get("/checkout/v1/fields", self._fields)
        gateway.router.add_get("/frame.js", self._frame_script)
        shop.router.add_get("/", self._page)
        shop.router.add_get("/page.js", self._page_script)
        self.origin = f"http://localhost:{await self._listen(gateway)}"
        self.shop = f"http://127.0.0.1:{await self._listen(shop)}"
        return self

    async def __aexit__(self, *ended: object) -> None:
        await self._servers.aclose()

    async def _listen(self, application: web.Application) -> int:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._servers.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        assert isinstance(port, int)
        return port

    async def _loader(self, request: web.Request) -> web.Response:
        return _script(built("loader"))

    async def _module(self, request: web.Request) -> web.Response:
        return _script(built("module"))

    async def _frame_script(self, request: web.Request) -> web.Response:
        return _script(_FRAME)

    async def _page_script(self, request: web.Request) -> web.Response:
        return _script(_PAGE)

    async def _fields(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if self.manners == "refusing":
            return web.Response(status=403, text="no", headers={"X-Frame-Options": "DENY"})
        text = (
            f'<!doctype html><html data-manners="{self.manners}" style="color-scheme:'
            f'{self.scheme}"><body><script src="/frame.js"></script></body></html>'
        )
        return web.Response(text=text, content_type="text/html")

    async def _page(self, request: web.Request) -> web.Response:
        # As strict as a merchant's page can be: all that it allows is what the loader needs.
        policy = (
            f"default-src 'none'; script-src 'self' {self.origin}; "
            f"frame-src {self.origin} {self.frames_allowed}; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )
        text = _BODY.format(gateway=self.origin)
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)


@dataclass(frozen=True)
class Shop:
    """A merchant's page with the loader in it, as a test drives it."""

    page: Page
    gateway: ScriptedGateway

    async def begin(
        self,
        *,
        options: Mapping[str, object] | None = None,
        fields: Mapping[str, object] | None = None,
        target: object = "#card",
    ) -> None:
        await self.page.evaluate(
            "([options, fields, target, key]) => window.begin(options, fields, target, key)",
            [options or {}, fields or {}, target, KEY],
        )

    async def ready(self, *, frames: int = 1) -> list[Frame]:
        await self.event("ready")
        found = self.frames()
        assert len(found) == frames
        return found

    async def started(self) -> Frame:
        """Wait until the only frame runs and was told its `init`."""
        element = await self.page.wait_for_selector("iframe", state="attached")
        frame = await element.content_frame() if element else None
        assert frame is not None
        await frame.wait_for_url("**/checkout/v1/fields?*")
        await asked_for(frame, "init")
        return frame

    def frames(self) -> list[Frame]:
        return [each for each in self.page.frames if "/checkout/v1/fields" in each.url]

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for an event of this name, and give what the latest carried."""
        found = "window.events.filter(([name]) => name === '" + name + "')"
        await until(self.page, f"{found}.length > 0")
        detail: dict[str, Any] = await self.page.evaluate(f"{found}.pop()[1] ?? {{}}")
        return detail

    async def outcome(self) -> dict[str, Any]:
        """Wait for the end of the call that `window.follow` was given last."""
        await until(self.page, "window.outcomes.length > 0")
        found: dict[str, Any] = await self.page.evaluate("window.outcomes.pop()")
        return found

    async def tokenize(self) -> None:
        await self.page.evaluate("() => void window.follow(window.fields.tokenize())")


async def say(frame: Frame, message: Mapping[str, object]) -> None:
    await frame.evaluate("(message) => window.say(message)", message)


async def asked_for(frame: Frame, kind: str, times: int = 1) -> dict[str, Any]:
    """Wait until the page asked this frame so many times for `kind`, and give the latest."""
    found = "window.heard.filter((each) => each.type === '" + kind + "')"
    await until(frame, f"{found}.length >= {times}")
    latest: dict[str, Any] = await frame.evaluate(f"{found}.pop()")
    return latest
