"""The checkout's pages behind a listener of the gateway's, and what a proxy makes of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from time import monotonic

import aiohttp
from aiohttp import web

from gateway.checkout.inventory import Inventory
from gateway.checkout.pages import CheckoutPages
from gateway.connections import Limits
from gateway.listeners import start_listener
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.page_guard import PageGuard, PageLimits
from gateway.request_event import EventLog, quiet_logging
from gateway.velocity import Velocity
from tests.gateway.raw_client import NOW
from tests.gateway.raw_servers import Certificates, Connection, Server, serving
from vault.errors import StoreUnavailable

KEY = "k_0123456789abcdef"
SHOP = "https://shop.example"
LEDGER = "ledger.example/pay"
FIELDS = "/checkout/v1/fields"
REPORTS = "/checkout/v1/csp-reports"

Headers = list[tuple[str, str]]
Change = Callable[[str, Headers, bytes], tuple[Headers, bytes]]


@dataclass(frozen=True)
class Listed:
    """What a key may be used for."""

    tenant: str
    origins: Collection[str]


@dataclass
class Keys:
    """Keys in force, by id; `away` is a database that does not answer."""

    known: dict[str, Listed] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False

    def has_met(self, key_id: str) -> bool:
        return key_id in self.asked and key_id in self.known

    async def publishable(self, key_id: str) -> Listed | None:
        self.asked.append(key_id)
        if self.away:
            raise StoreUnavailable
        return self.known.get(key_id)


@dataclass
class Counted:
    """What was counted of reports."""

    directives: Counter[str] = field(default_factory=Counter)

    def csp_report(self, directive: str) -> None:
        self.directives[directive] += 1


@dataclass
class Checkout:
    """A running listener."""

    port: int
    keys: Keys
    counted: Counted
    log: BytesIO

    async def get(
        self, path: str, headers: dict[str, str] | None = None, **query: str
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        return await self.ask("GET", path, headers=headers or {}, params=query)

    async def frame(self, **changes: str) -> tuple[aiohttp.ClientResponse, bytes]:
        query = {"key": KEY, "origin": SHOP, "field": "number"} | changes
        return await self.ask("GET", FIELDS, params=query)

    async def report(self, body: bytes, kind: str) -> int:
        headers = {"Content-Type": kind}
        answer, _ = await self.ask("POST", REPORTS, data=body, headers=headers)
        return answer.status

    async def ask(
        self, method: str, path: str, **words: object
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession(
                auto_decompress=False, headers={"Accept-Encoding": "identity"}
            ) as session,
            session.request(method, url, **words) as answer,  # type: ignore[arg-type]
        ):
            return answer, await answer.read()


@asynccontextmanager
async def serving_checkout(inventory: Inventory, *origins: str) -> AsyncIterator[Checkout]:
    """Serve it without TLS, as behind a load balancer that ends it."""
    keys, counted, stream = (
        Keys({KEY: Listed("t_abc123", origins or (SHOP,))}),
        Counted(),
        BytesIO(),
    )
    guard = PageGuard(PageLimits(), Velocity(monotonic), metrics=Metrics(), monotonic=monotonic)
    pages = CheckoutPages(inventory, keys, counted, guard, env="test", ledger_origin=LEDGER)
    app = web.Application()
    app.router.add_get(FIELDS, pages.fields, allow_head=False)
    app.router.add_post(REPORTS, pages.report)
    app.router.add_get("/checkout/v1/{file}", pages.script, allow_head=False)
    metrics = Metrics()
    log = EventLog(stream, now=lambda: NOW, watch=metrics)
    gate = Gate(frozenset({"127.0.0.1", "localhost"}))
    net = Net("public", gate, log=log, metrics=metrics, chance=lambda: 0.5)
    limits = Limits(keepalive_seconds=2.0, shutdown_seconds=1.0)
    with quiet_logging(log):
        listener = await start_listener(app, None, ("127.0.0.1", 0), net=net, limits=limits)
        try:
            yield Checkout(listener.port, keys, counted, stream)
        finally:
            await listener.close()


def as_it_is(_path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return headers, body


@asynccontextmanager
async def tls_proxy(
    checkout: Checkout,
    certificates: Certificates,
    change: Change = as_it_is,
    pages: Mapping[str, bytes] | None = None,
) -> AsyncIterator[Server]:
    """End TLS before it, as a load balancer does, and change answers, as a load balancer can.

    `pages` are a shop's, whole answers by path.
    """

    async def script(connection: Connection) -> None:
        head = await connection.request()
        path = head.split(b" ")[1].decode()
        if pages is not None and path in pages:
            await connection.say(pages[path])
            return
        answer = await _forwarded(checkout.port, head)
        raw, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        headers = [(name, value) for name, _, value in pairs if name != "Content-Length"]
        headers, body = change(path, headers, body)
        told = "".join(f"{name}: {value}\r\n" for name, value in headers)
        await connection.say(
            f"{first}\r\n{told}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )

    async with serving(script, certificates.server) as server:
        yield server


async def _forwarded(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
