"""A merchant as flow tests know one: keys of one tenant, and the calls that its back end makes."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from string import ascii_lowercase
from typing import Any, Self
from urllib.parse import quote, urlencode

from gateway.embedded import credentials_access, new_tenant
from gateway.lanes import KEY_NAME
from tests.cards import AMEX, VISA
from tests.flows.deployment import Deployment, Urls
from tests.flows.wire import Reply, Wire
from vault.api_keys import KeyKind, Scope, new_api_key, route_scope
from vault.db import Database
from vault.observer import Silent
from vault.tenant_table import ApiKeyRow, TenantTable
from vault.transit import Transit

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
INTENTS = "/v1/payment_intents"
METHODS = "/v1/payment_methods"
ROUTE = "stripe"
ORIGIN = "https://shop.example"
APP = "app:example.shop"
ROUTES = (ROUTE, "quick", "once", "own", "refused", "silent", "stranger")
EVERYTHING = frozenset({*(scope.value for scope in Scope), *map(route_scope, ROUTES)})

Fields = Mapping[str, object] | Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Account:
    """A tenant and its keys; the secret one may do everything."""

    tenant: str
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)


async def new_account(
    deployment: Deployment, *, routes: Iterable[str] = ROUTES, processor_key: str | None = None
) -> Account:
    """Add a tenant, and put its processor key into OpenBao."""
    config = deployment.config
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        name = f"shop-{secrets.token_hex(4)}"
        tenant, publishable, _ = await new_tenant(
            TenantTable(database), name, at=datetime.now(UTC), origins=(ORIGIN, APP)
        )
        secret = await _add_key(TenantTable(database), tenant.id, "secret_key", EVERYTHING)
    finally:
        await database.close()
    transit = Transit(credentials_access(config), observer=Silent())
    try:
        await transit.start()
        for route in routes:
            data = {KEY_NAME: processor_key or deployment.processor_key}
            assert await transit.write_secret(f"processor/{tenant.id}/{route}", data, cas=0) == 1
    finally:
        await transit.close()
    return Account(tenant.id, publishable.text, secret)


async def new_key(
    deployment: Deployment, tenant: str, *scopes: str, kind: KeyKind = "secret_key"
) -> str:
    """Add an API key to a tenant, and give its text."""
    config = deployment.config
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        return await _add_key(TenantTable(database), tenant, kind, scopes)
    finally:
        await database.close()


async def _add_key(table: TenantTable, tenant: str, kind: KeyKind, scopes: Iterable[str]) -> str:
    made = new_api_key(kind, "test")
    at = datetime.now(UTC)
    row = ApiKeyRow(made.id, tenant, kind, made.digest, frozenset(scopes), at, None, None)
    await table.add_key(row)
    return made.text


def card(number: str = VISA, **more: object) -> dict[str, object]:
    """A card as `POST /v1/tokens` takes it; the code has the brand's length."""
    code = "1234" if number == AMEX else "123"
    return {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": code} | more


def form(fields: Fields, *, encode_brackets: bool = False) -> bytes:
    """Write a form body; the official SDK leaves the brackets of names as they are."""
    pairs = list(fields.items() if isinstance(fields, Mapping) else fields)
    return urlencode(pairs, quote_via=quote, safe="" if encode_brackets else "[]").encode()


def method(token: str, **more: object) -> dict[str, object]:
    """A payment method's fields, with a token for its number."""
    beside = {f"card[{name}]": value for name, value in more.items()}
    fields = {"type": "card", "card[number]": token}
    return fields | {"card[exp_month]": 12, "card[exp_year]": 2034} | beside


def payment(token: str, **more: object) -> dict[str, object]:
    """A confirmed payment's fields, with a token for its card's number."""
    start = "payment_method_data"
    price = {"amount": 1999, "currency": "eur", "confirm": "true", f"{start}[type]": "card"}
    beside = {f"{start}[card][{name}]": value for name, value in more.items()}
    expiry = {f"{start}[card][exp_month]": 12, f"{start}[card][exp_year]": 2034}
    return price | {f"{start}[card][number]": token} | expiry | beside


class Merchant:
    """An account at one gateway, over one client's connections."""

    def __init__(self, account: Account, urls: Urls, wire: Wire) -> None:
        self.account = account
        self.urls = urls
        self.wire = wire

    @property
    def tenant(self) -> str:
        return self.account.tenant

    def at(self, urls: Urls) -> Self:
        """The same merchant at another gateway."""
        return type(self)(self.account, urls, self.wire)

    def with_key(self, text: str) -> Self:
        """The same merchant with another secret key."""
        return type(self)(replace(self.account, secret_key=text), self.urls, self.wire)

    async def api(self, verb: str, path: str, body: object = None) -> Reply:
        """Call the private listener's own API."""
        headers = {"Authorization": f"Bearer {self.account.secret_key}"}
        if body is not None:
            headers["Content-Type"] = JSON
        content = None if body is None else json.dumps(body).encode()
        return await self.wire(verb, self.urls.private + path, content, headers=headers)

    async def tokenize(
        self, number: str = VISA, *, unusual: Mapping[str, object] | None = None, **more: object
    ) -> dict[str, Any]:
        """Make a token; `unusual` is what is not usual about the card."""
        body = {"card": card(number) | dict(unusual or {})} | more
        reply = await self.api("POST", "/v1/tokens", body)
        assert reply.status == 201, reply.body
        return reply.json()

    async def token(
        self, number: str = VISA, *, unusual: Mapping[str, object] | None = None, **more: object
    ) -> str:
        return str((await self.tokenize(number, unusual=unusual, **more))["id"])

    async def out(
        self,
        path: str,
        fields: Fields | bytes | None = None,
        *,
        key: str | None = None,
        route: str = ROUTE,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Call the processor; `key` is the idempotency key."""
        sent = {"Authorization": f"Bearer {self.account.secret_key}"}
        if fields is not None:
            sent["Content-Type"] = FORM
        if key is not None:
            sent["Idempotency-Key"] = key
        body = fields if fields is None or isinstance(fields, bytes) else form(fields)
        url = f"{self.urls.private}/out/{route}{path}"
        return await self.wire(verb, url, body, headers=sent | dict(headers or {}))

    async def pay(self, fields: Fields, *, key: str | None = None, route: str = ROUTE) -> Reply:
        return await self.out(INTENTS, fields, key=key, route=route)

    async def authorization(self, reply: Reply) -> dict[str, Any]:
        """Look up what is on record of a call."""
        found = await self.api(
            "GET", f"/v1/authorizations/{reply.headers['Panward-Authorization']}"
        )
        assert found.status == 200, found.body
        return found.json()


def new_idempotency_key() -> str:
    """Make one without digits: one random number in thousands of 16 looks like a card's."""
    return "order-" + "".join(secrets.choice(ascii_lowercase) for _ in range(16))
