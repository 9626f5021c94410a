"""`/v1/webhook-endpoints` and `/v1/deliveries`: where a merchant hears of things, and what he did.

PCI scope of these calls: none of card data. What never lives here: what an endpoint must be
(`gateway/webhook_endpoints.py`), and a secret in an answer after the one that made it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.answers import json_response
from gateway.api.callbacks import InboxHandlers
from gateway.api.masked_card import rfc3339
from gateway.api.narrowing import matching, one_of, place_of, time_of, uuid_of
from gateway.api.paging import check_parameters, read_page
from gateway.bodies import read_body
from gateway.errors import NotFound
from gateway.merchants import Caller, Merchants, bearer_key
from gateway.request_event import REQUEST_EVENT
from gateway.strict_json import decode
from gateway.webhook_endpoints import (
    CONCURRENCY,
    ENDPOINT_ID,
    TYPES_MAX,
    URL_CHARACTERS_MAX,
    Shown,
    Wanted,
    WebhookEndpoints,
)
from vault.api_keys import Scope
from vault.ids import crockford_encode
from vault.telling import callback_id, event_id
from vault.webhook_table import Delivery, DeliveryFilter, WebhookEndpoint, WebhookTable

BODY_BYTES_MAX: Final = 32_768
JSON: Final = ("application/json",)
FILTERS: Final = frozenset({"endpoint", "state", "since"})
STATES: Final = ("waiting", "delivered", "dead")
BY_MERCHANT: Final = "merchant"
"""Why an endpoint is disabled that its owner has disabled."""

Url = Annotated[str, Meta(max_length=URL_CHARACTERS_MAX)]
Types = Annotated[list[Annotated[str, Meta(max_length=129)]], Meta(max_length=TYPES_MAX)]
Concurrency = Annotated[int, Meta(ge=1, le=32)]


class OpenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook-endpoints`."""

    url: Url
    form: Literal["callbacks", "events"]
    route: Annotated[str, Meta(max_length=64)] | None = None
    types: Types = []
    signature: Literal["original", "own"] | None = None
    concurrency: Concurrency = CONCURRENCY


class ChangeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/webhook-endpoints/{id}`: what is absent stays."""

    url: Url | UnsetType = UNSET
    types: Types | UnsetType = UNSET
    signature: Literal["original", "own"] | UnsetType = UNSET
    concurrency: Concurrency | UnsetType = UNSET
    state: Literal["active", "disabled"] | UnsetType = UNSET


class SecretBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhook-endpoints/{id}/secrets`."""

    kind: Literal["standard", "callback"]


class WebhookHandlers:
    """Handlers of `/v1/webhook-endpoints` and `/v1/deliveries`."""

    def __init__(
        self,
        endpoints: WebhookEndpoints,
        table: WebhookTable,
        merchants: Merchants,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._endpoints = endpoints
        self._table = table
        self._merchants = merchants
        self._now = now

    # --- endpoints ----------------------------------------------------------------------------

    async def open(self, request: web.Request) -> web.Response:
        """`POST /v1/webhook-endpoints` → 201, and its secrets this once."""
        caller = await self._caller(request, Scope.WEBHOOKS)
        wanted = decode(await read_body(request, BODY_BYTES_MAX, JSON), OpenBody)
        endpoint, made = await self._endpoints.open(
            caller.tenant,
            Wanted(
                wanted.url,
                wanted.form,
                wanted.route,
                tuple(wanted.types),
                wanted.signature,
                wanted.concurrency,
            ),
        )
        shown = {**document(endpoint), "secrets": [secret_document(one) for one in made]}
        return json_response(shown, status=201)

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/webhook-endpoints` → all there are, oldest first: they are few."""
        caller = await self._caller(request, Scope.READ)
        found = await self._table.list(caller.tenant)
        return json_response({"data": [document(one) for one in found], "next": None})

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/webhook-endpoints/{id}` → 200; never a secret."""
        return json_response(document(await self._endpoint(request, Scope.READ)))

    async def change(self, request: web.Request) -> web.Response:
        """`PATCH /v1/webhook-endpoints/{id}` → 200 and the endpoint as it is now."""
        endpoint = await self._endpoint(request, Scope.WEBHOOKS)
        wanted = decode(await read_body(request, BODY_BYTES_MAX, JSON), ChangeBody)
        await self._endpoints.change(endpoint, _changed(endpoint, wanted))
        place = endpoint.tenant, endpoint.id
        if wanted.state == "disabled":
            await self._table.disable(*place, BY_MERCHANT, self._now())
        elif wanted.state == "active":
            await self._table.enable(*place, self._now())
        found = await self._table.get(*place)
        if found is None:  # removed by somebody else meanwhile
            raise NotFound
        return json_response(document(found))

    async def remove(self, request: web.Request) -> web.Response:
        """`DELETE /v1/webhook-endpoints/{id}` → 204: what waits for it is dead."""
        endpoint = await self._endpoint(request, Scope.WEBHOOKS)
        await self._endpoints.remove(endpoint.tenant, endpoint.id)
        return web.Response(status=204)

    # --- secrets ------------------------------------------------------------------------------

    async def add_secret(self, request: web.Request) -> web.Response:
        """`POST /v1/webhook-endpoints/{id}/secrets` → 201, and the secret this once."""
        endpoint = await self._endpoint(request, Scope.WEBHOOKS)
        wanted = decode(await read_body(request, BODY_BYTES_MAX, JSON), SecretBody)
        made = await self._endpoints.add_secret(endpoint, wanted.kind)
        return json_response(secret_document(made), status=201)

    async def secrets(self, request: web.Request) -> web.Response:
        """`GET /v1/webhook-endpoints/{id}/secrets` → names; never what they are."""
        endpoint = await self._endpoint(request, Scope.READ)
        names = await self._endpoints.secret_names(endpoint)
        return json_response({"data": [{"name": name} for name in names], "next": None})

    async def remove_secret(self, request: web.Request) -> web.Response:
        """`DELETE /v1/webhook-endpoints/{id}/secrets/{name}` → 204: it signs nothing more."""
        endpoint = await self._endpoint(request, Scope.WEBHOOKS)
        if not await self._endpoints.remove_secret(endpoint, request.match_info["name"]):
            raise NotFound
        return web.Response(status=204)

    # --- deliveries ---------------------------------------------------------------------------

    async def deliveries(self, request: web.Request) -> web.Response:
        """`GET /v1/deliveries` → those that match every filter, newest first."""
        caller = await self._caller(request, Scope.READ)
        page = read_page(request, also=FILTERS)
        query, after = request.query, place_of(page)
        narrowed = DeliveryFilter(
            endpoint=matching(query, "endpoint", ENDPOINT_ID),
            state=one_of(query, "state", STATES),
            since=time_of(query, "since"),
        )
        rows = await self._table.deliveries(
            caller.tenant, narrowed, limit=page.limit + 1, after=after
        )
        places = [(row.created_at, row.id) for row in rows]
        return json_response(page.answer([delivery_document(row) for row in rows], places))

    async def delivery(self, request: web.Request) -> web.Response:
        """`GET /v1/deliveries/{id}` → 200 and how far it is."""
        return json_response(delivery_document(await self._delivery(request, Scope.READ)))

    async def replay(self, request: web.Request) -> web.Response:
        """`POST /v1/deliveries/{id}/replay` → 200: it begins anew; one that waits goes on so.

        404 where its endpoint was removed, too: nobody is there.
        """
        row = await self._delivery(request, Scope.WEBHOOKS)
        tenant = request[REQUEST_EVENT].tenant
        assert tenant is not None
        if await self._table.get(tenant, row.endpoint) is None:
            raise NotFound
        await self._table.replay(tenant, row.id, self._now())
        return json_response(delivery_document(await self._table.delivery(tenant, row.id) or row))

    # --- whose ----------------------------------------------------------------------------------

    async def _endpoint(self, request: web.Request, scope: Scope) -> WebhookEndpoint:
        """Find a tenant's own endpoint; unknown and another's look the same."""
        caller = await self._caller(request, scope)
        check_parameters(request, ())
        identity = request.match_info["endpoint"]
        known = ENDPOINT_ID.fullmatch(identity) is not None
        found = await self._table.get(caller.tenant, identity) if known else None
        if found is None:
            raise NotFound
        return found

    async def _delivery(self, request: web.Request, scope: Scope) -> Delivery:
        caller = await self._caller(request, scope)
        check_parameters(request, ())
        identity = uuid_of("dlv", request.match_info["delivery"])
        found = await self._table.delivery(caller.tenant, identity) if identity else None
        if found is None:
            raise NotFound
        return found

    async def _caller(self, request: web.Request, scope: Scope) -> Caller:
        caller = await self._merchants.authenticate(bearer_key(request.headers))
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require(scope)
        return caller


def add_routes(
    router: web.UrlDispatcher, callbacks: InboxHandlers, webhooks: WebhookHandlers
) -> None:
    """Put these calls on the private listener."""
    router.add_get("/v1/callbacks", callbacks.list, allow_head=False)
    router.add_get("/v1/callbacks/{callback}", callbacks.get, allow_head=False)
    router.add_get("/v1/callbacks/{callback}/body", callbacks.body, allow_head=False)
    endpoints = "/v1/webhook-endpoints"
    router.add_post(endpoints, webhooks.open)
    router.add_get(endpoints, webhooks.list, allow_head=False)
    router.add_get(f"{endpoints}/{{endpoint}}", webhooks.get, allow_head=False)
    router.add_patch(f"{endpoints}/{{endpoint}}", webhooks.change)
    router.add_delete(f"{endpoints}/{{endpoint}}", webhooks.remove)
    router.add_post(f"{endpoints}/{{endpoint}}/secrets", webhooks.add_secret)
    router.add_get(f"{endpoints}/{{endpoint}}/secrets", webhooks.secrets, allow_head=False)
    router.add_delete(f"{endpoints}/{{endpoint}}/secrets/{{name}}", webhooks.remove_secret)
    router.add_get("/v1/deliveries", webhooks.deliveries, allow_head=False)
    router.add_get("/v1/deliveries/{delivery}", webhooks.delivery, allow_head=False)
    router.add_post("/v1/deliveries/{delivery}/replay", webhooks.replay)


def document(endpoint: WebhookEndpoint) -> dict[str, object]:
    """An endpoint as the API shows it: no secret is part of it."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "form": endpoint.form,
        "route": endpoint.route,
        "types": list(endpoint.types),
        "signature": endpoint.signature,
        "concurrency": endpoint.concurrency,
        "state": endpoint.state,
        "disabled_because": endpoint.disabled_because,
        "failures": endpoint.failures,
        "paused_until": rfc3339(endpoint.paused_until),
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def secret_document(made: Shown) -> Mapping[str, object]:
    """A secret, in the one answer that has it."""
    return {
        "name": made.name,
        "scheme": made.scheme,
        "key_id": made.key_id,
        "secret": made.text,
    }


def delivery_id(delivery: str) -> str:
    """Give the public id of a delivery."""
    return f"dlv_{crockford_encode(UUID(delivery).bytes)}"


def delivery_document(row: Delivery) -> dict[str, object]:
    """A delivery as the API shows it. `event` or `callback` is what it brings."""
    return {
        "id": delivery_id(row.id),
        "endpoint": row.endpoint,
        "event": None if row.event is None else event_id(UUID(row.event)),
        "callback": None if row.callback is None else callback_id(UUID(row.callback)),
        "state": row.state,
        "tries": row.tries,
        "due": rfc3339(row.due) if row.state == "waiting" else None,
        "last_status": row.last_status,
        "last_error": row.last_error,
        "created_at": rfc3339(row.created_at),
        "ended_at": rfc3339(row.ended_at),
    }


def _changed(endpoint: WebhookEndpoint, wanted: ChangeBody) -> WebhookEndpoint:
    return replace(
        endpoint,
        url=endpoint.url if wanted.url is UNSET else wanted.url,
        types=endpoint.types if wanted.types is UNSET else tuple(wanted.types),
        signature=endpoint.signature if wanted.signature is UNSET else wanted.signature,
        concurrency=endpoint.concurrency if wanted.concurrency is UNSET else wanted.concurrency,
    )
