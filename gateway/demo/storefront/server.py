"""The shop's web server: its page, its pictures, what the page calls, and what the gateway does.

It is the merchant's, so it is strict about its own page, too (PCI DSS 6.4.3): every file is named
here, every script is its own or the gateway's loader with a hash, and a policy says so. What never
lives here: what a purchase is (`gateway/demo/purchase.py`), a card number that somebody typed.
"""

import html
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from secrets import SystemRandom
from string import Template
from typing import Final

import msgspec
from aiohttp import hdrs, web

from gateway.bodies import read_body
from gateway.checkout.inventory import Script
from gateway.connections import Limits
from gateway.custody import utc_now
from gateway.demo.cards import DemoCard
from gateway.demo.purchase import PRICE, QUANTITY_MAX, PurchaseRefused, Till, Wanted
from gateway.demo.reports import HOOK
from gateway.demo.scene import StoryBroke
from gateway.errors import NotFound, OriginRefused
from gateway.listeners import server_context, start_listener
from gateway.metrics import Metrics
from gateway.middleware import CSP, OWN_POLICY, Gate, Net
from gateway.request_event import EventLog
from gateway.strict_json import decode

HOST: Final = "127.0.0.1"
WANTED_BYTES_MAX: Final = 1024
POST_BYTES_MAX: Final = 512 * 1024
SIGNATURE: Final = "Stripe-Signature"
SHUTDOWN_SECONDS: Final = 5.0
JSON: Final = "application/json"
NO_CONTENT: Final = 204
BAD_REQUEST: Final = 400
BAD_GATEWAY: Final = 502
UNPROCESSABLE: Final = 422

FILES: Final = {
    "shop.css": "text/css; charset=utf-8",
    "shop.js": "text/javascript; charset=utf-8",
    "story.js": "text/javascript; charset=utf-8",
    "keeper.svg": "image/svg+xml",
    "mark.svg": "image/svg+xml",
}
PICTURE_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A picture is a document where somebody opens it by itself: its colors are multiplied by style."""
PAGE_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

BRANDS: Final = {
    "visa": "Visa",
    "declined": "Visa",
    "mastercard": "Mastercard",
    "amex": "American Express",
    "discover": "Discover",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}
FATES: Final = {"declined": "declined", "unionpay": "answer lost"}  # of others: approved
_GROUPS: Final = {15: (4, 6, 5)}


@dataclass(frozen=True, slots=True)
class Window:
    """What the page is told of the gateway, and how the shop is reached."""

    port: int
    certificate_file: Path
    private_key_file: Path
    publishable_key: str
    gateway: str
    """Origin of the public listener."""
    loader: Script
    cards: Mapping[str, DemoCard]

    @property
    def origin(self) -> str:
        """The shop's own, which has to be on the list of the publishable key."""
        return f"https://{HOST}:{self.port}"


@asynccontextmanager
async def storefront(window: Window, till: Till, log_file: Path) -> AsyncIterator[str]:
    """Serve the shop, and give its address. Raises StartRefused."""
    metrics = Metrics()  # the shop's own, and nobody's to scrape
    with log_file.open("ab", buffering=0) as stream:
        log = EventLog(stream, now=utc_now, watch=metrics)
        listener = await start_listener(
            application(window, till),
            server_context(window.certificate_file, window.private_key_file),
            (HOST, window.port),
            net=Net(
                "shop",
                Gate(frozenset({HOST})),
                log=log,
                metrics=metrics,
                chance=SystemRandom().random,
            ),
            limits=Limits(shutdown_seconds=SHUTDOWN_SECONDS),
        )
        try:
            yield window.origin
        finally:
            await listener.close()


def application(window: Window, till: Till) -> web.Application:
    """Every path by name: there is no folder that is served."""
    page, counter = _page(window), _Counter(till, window.origin)
    app = web.Application()
    app.router.add_get("/", page.get, allow_head=False)
    for name, content_type in FILES.items():
        app.router.add_get(f"/{name}", _file(name, content_type).get, allow_head=False)
    app.router.add_post("/purchases", counter.buy)
    app.router.add_get("/purchases/{order}", counter.proof, allow_head=False)
    app.router.add_get("/purchases/{order}/outcome", counter.outcome, allow_head=False)
    app.router.add_post(HOOK, counter.hear)
    return app


# --- the page -----------------------------------------------------------------------------


class _Served:
    """A file in memory, with its headers."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._body = body
        self._headers = headers

    async def get(self, _request: web.Request) -> web.Response:
        response = web.Response(body=self._body, headers=self._headers)
        response[OWN_POLICY] = True
        return response


def _file(name: str, content_type: str) -> _Served:
    headers = {hdrs.CONTENT_TYPE: content_type, **PAGE_HEADERS}
    if name.endswith(".svg"):
        headers[CSP] = PICTURE_CSP
    return _Served(_read(name), headers)


def _page(window: Window) -> _Served:
    settings = msgspec.json.encode(
        {
            "publishableKey": window.publishable_key,
            "gateway": window.gateway,
            "price": PRICE,
            "quantityMax": QUANTITY_MAX,
            "cards": _shown(window.cards),
        }
    ).decode()
    loader = (
        f'<script src="{html.escape(loader_url(window))}"'
        f' integrity="{html.escape(window.loader.sha384)}" crossorigin="anonymous"></script>'
    )
    text = Template(_read("page.html").decode()).substitute(
        settings=settings.replace("<", "\\u003c"),  # nothing in it can end the element
        loader=loader,
    )
    headers = {hdrs.CONTENT_TYPE: "text/html; charset=utf-8", **PAGE_HEADERS}
    return _Served(text.encode(), {**headers, CSP: page_policy(window)})


def loader_url(window: Window) -> str:
    """The loader under the name that has its hash in it."""
    return f"{window.gateway}/checkout/v1/{window.loader.file}"


def page_policy(window: Window) -> str:
    """Whose scripts run and whose frames show: the shop's own, and those of the hosted fields."""
    fields = f"{window.gateway}/checkout/v1/"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {loader_url(window)}",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            f"frame-src {fields}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _shown(cards: Mapping[str, DemoCard]) -> Sequence[Mapping[str, str]]:
    """Published test numbers, to copy from; no other number is in any page of the shop's."""
    return [
        {
            "number": _grouped(cards[name].number),
            "name": brand,
            "fate": FATES.get(name, "approved"),
        }
        for name, brand in BRANDS.items()
    ]


def _grouped(number: str) -> str:
    groups = _GROUPS.get(len(number))
    if groups is None:
        return " ".join(re.findall(".{1,4}", number))
    ends = [sum(groups[: place + 1]) for place in range(len(groups))]
    return " ".join(number[end - size : end] for size, end in zip(groups, ends, strict=True))


def _read(name: str) -> bytes:
    return (resources.files("gateway.demo.storefront") / name).read_bytes()


# --- what the page calls ------------------------------------------------------------------


class _Counter:
    """Handlers of the purchase and of its proof."""

    def __init__(self, till: Till, origin: str) -> None:
        self._till = till
        self._origin = origin

    async def buy(self, request: web.Request) -> web.Response:
        """`POST /purchases` → what became of it; 422 when the token is none of this shop's."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin not in (None, self._origin):  # another site's page
            raise OriginRefused
        wanted = decode(await read_body(request, WANTED_BYTES_MAX, (JSON,)), Wanted)
        try:
            made = await self._till.buy(wanted)
        except PurchaseRefused:
            return _answer({"error": "there is no such card here"}, UNPROCESSABLE)
        except (StoryBroke, OSError):
            return _answer({"error": "the shop's server has no answer yet"}, BAD_GATEWAY)
        return _answer(made)

    async def proof(self, request: web.Request) -> web.Response:
        """`GET /purchases/{order}` → its entries in the ledger, once a checkpoint covers them."""
        try:
            proof = await self._till.prove(request.match_info["order"])
        except (StoryBroke, OSError):
            return _answer({"error": "there is no proof yet"}, BAD_GATEWAY)
        if proof is None:
            raise NotFound
        return _answer(proof)

    async def outcome(self, request: web.Request) -> web.Response:
        """`GET /purchases/{order}/outcome` → the purchase, once there is news or long none."""
        try:
            made = await self._till.outcome(request.match_info["order"])
        except (StoryBroke, OSError):
            return _answer({"error": "the shop's server has no answer yet"}, BAD_GATEWAY)
        if made is None:
            raise NotFound
        return _answer(made)

    async def hear(self, request: web.Request) -> web.Response:
        """`POST /hooks/stripe` → 204 when Stripe's SDK says that it is genuine, else 400."""
        body = await read_body(request, POST_BYTES_MAX, (JSON,))
        is_genuine = await self._till.reports.hear(body, request.headers.get(SIGNATURE, ""))
        return web.Response(status=NO_CONTENT if is_genuine else BAD_REQUEST)


def _answer(document: object, status: int = 200) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: JSON}
    return web.Response(status=status, body=msgspec.json.encode(document), headers=headers)
