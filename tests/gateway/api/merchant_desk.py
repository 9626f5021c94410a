"""A merchant's back end before the private API: real database, real OpenBao, real HTTP."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web

from gateway.addresses import AddressAllow
from gateway.api.callbacks import InboxHandlers
from gateway.api.webhooks import WebhookHandlers, add_routes
from gateway.connections import Limits
from gateway.listeners import start_listener
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.request_event import EventLog
from gateway.webhook_endpoints import WebhookEndpoints
from tests.vault.keyrings import reveal_keys
from tests.vault.ledger.samples import new_uuid
from tests.vault.places import place_of_openbao
from tests.vault.rows import new_tenant, now
from tests.vault.stores import Store
from vault.api_keys import new_api_key
from vault.callback_table import CallbackTable
from vault.embedded.bootstrap import EmbeddedParts
from vault.keys import RevealKeys
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable
from vault.webhook_table import WebhookTable

ROUTES: Mapping[str, tuple[str, ...]] = {
    "stripe": ("stripe",),
    "paypal": ("paypal",),
    "mollie": ("mollie_classic", "mollie_nextgen"),
    "cybersource": ("cybersource",),
}


@dataclass(frozen=True)
class Reply:
    """An answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def refusal(self) -> tuple[int, str, str | None]:
        problem = self.json()
        found = problem.get("field"), problem.get("reason")
        return self.status, problem["code"], ".".join(map(str, found)) if any(found) else None


@dataclass
class Desk:
    """One tenant's view of the API."""

    store: Store
    keys: RevealKeys
    url: str
    session: aiohttp.ClientSession
    tenant: str = field(default_factory=new_tenant)
    key: str = ""

    async def open(self) -> "Desk":
        made = Tenant(self.tenant, f"shop-{secrets.token_hex(4)}", now())
        assert await TenantTable(self.store.database).add(made)
        self.key = await self.new_key("read", "webhooks")
        return self

    async def other(self) -> "Desk":
        return await Desk(self.store, self.keys, self.url, self.session).open()

    async def new_key(self, *scopes: str) -> str:
        made = new_api_key("secret_key", "test")
        row = ApiKeyRow(
            made.id, self.tenant, "secret_key", made.digest, frozenset(scopes), now(), None, None
        )
        await TenantTable(self.store.database).add_key(row)
        return made.text

    async def __call__(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> Reply:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        async with self.session.request(
            method, self.url + path, data=data, headers=headers
        ) as reply:
            lowered = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, lowered, await reply.read())

    async def endpoint(self, **more: object) -> dict[str, Any]:
        wanted = {"url": "https://shop.example/hook", "form": "events", **more}
        reply = await self("POST", "/v1/webhook-endpoints", wanted)
        assert reply.status == 201, reply.body
        return reply.json()

    async def callback(self, **more: object) -> str:
        """Put a callback into the inbox, as receiving would; return its UUID."""
        row: dict[str, object] = {
            "id": UUID(new_uuid()),
            "tenant": self.tenant,
            "route": "stripe",
            "scheme": "stripe",
            "event_id": f"evt_{secrets.token_hex(8)}",
            "event_type": "charge.refunded",
            "event_at": now(),
            "effect": "refunded",
            "signature": "valid",
            "is_scrubbed": False,
            "headers": '[["Content-Type", "application/json; charset=utf-8"]]',
            "body": b'{"id": "evt_1"}',
            "idx": 7,
            "received_at": now(),
            **more,
        }
        columns = ", ".join(row)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await self.store.do(
            f"INSERT INTO callback ({columns}) VALUES ({places})",  # noqa: S608 - ours
            *row.values(),
        )
        return str(row["id"])


@asynccontextmanager
async def opened_desk(store: Store, embedded: EmbeddedParts) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        transit = await stack.enter_async_context(place_of_openbao(embedded).transit("reveal"))
        keys = reveal_keys(transit)
        stack.push_async_callback(keys.close)
        merchants = Merchants(
            TenantTable(store.database), env="test", now=now, monotonic=lambda: 0.0
        )
        table = WebhookTable(store.database)
        endpoints = WebhookEndpoints(
            table, keys, routes=ROUTES, allow=AddressAllow.parse(["10.1.0.0/16"]), now=now
        )
        app = web.Application()
        add_routes(
            app.router,
            InboxHandlers(CallbackTable(store.database), merchants),
            WebhookHandlers(endpoints, table, merchants, now=now),
        )
        metrics = Metrics()
        net = Net(
            "private",
            Gate(frozenset({"127.0.0.1"}), ()),
            log=EventLog(BytesIO(), now=now, watch=metrics),
            metrics=metrics,
            chance=lambda: 0.5,
        )
        limits = Limits(keepalive_seconds=2.0, shutdown_seconds=1.0)
        listener = await start_listener(app, None, ("127.0.0.1", 0), net=net, limits=limits)
        stack.push_async_callback(listener.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield await Desk(store, keys, f"http://127.0.0.1:{listener.port}", session).open()
