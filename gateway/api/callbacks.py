"""`/v1/callbacks`: what processors have reported, as a merchant reads it.

PCI scope of these calls: none of card data; what is kept of a post has been scrubbed. What never
lives here: receiving, which is the public listener's.
"""

import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from aiohttp import web

from gateway.api.answers import json_response
from gateway.api.masked_card import rfc3339
from gateway.api.narrowing import NAME, TEXT, matching, one_of, place_of, time_of, uuid_of
from gateway.api.paging import check_parameters, read_page
from gateway.errors import BadField, NotFound
from gateway.merchants import Caller, Merchants, bearer_key
from gateway.request_event import REQUEST_EVENT
from vault.api_keys import Scope
from vault.callback_table import CallbackFilter, CallbackRow, CallbackTable
from vault.ids import authorization_id, intent_of
from vault.payment_events import Effect
from vault.telling import callback_id

FILTERS: Final = frozenset({"route", "type", "effect", "authorization", "since"})

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+( *; *[a-zA-Z0-9=\"_.-]+)*")
_UNTYPED: Final = "application/octet-stream"


class InboxHandlers:
    """Handlers of `/v1/callbacks`."""

    def __init__(self, table: CallbackTable, merchants: Merchants) -> None:
        self._table = table
        self._merchants = merchants

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/callbacks/{id}` → 200 and what was reported, without its body."""
        return json_response(document(await self._row(request)))

    async def body(self, request: web.Request) -> web.Response:
        """`GET /v1/callbacks/{id}/body` → 200 and the bytes; 404 once they are forgotten."""
        row = await self._row(request)
        if row.body is None:
            raise NotFound
        # It is a processor's: a browser must neither guess what it is nor show it.
        return web.Response(
            body=row.body,
            headers={"Content-Type": _media_type(row), "Content-Disposition": "attachment"},
        )

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/callbacks` → those that match every filter, newest first."""
        caller = await self._caller(request)
        page = read_page(request, also=FILTERS)
        narrowed, after = _filter(request.query), place_of(page)
        rows = await self._table.list(caller.tenant, narrowed, limit=page.limit + 1, after=after)
        places = [(row.received_at, row.id) for row in rows]
        return json_response(page.answer([document(row) for row in rows], places))

    async def _row(self, request: web.Request) -> CallbackRow:
        caller = await self._caller(request)
        check_parameters(request, ())
        identity = uuid_of("cb", request.match_info["callback"])
        row = await self._table.get(caller.tenant, identity) if identity is not None else None
        if row is None:
            raise NotFound
        return row

    async def _caller(self, request: web.Request) -> Caller:
        caller = await self._merchants.authenticate(bearer_key(request.headers))
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require(Scope.READ)
        return caller


def document(row: CallbackRow) -> Mapping[str, object]:
    """A callback as the API shows it, with the names that events have. Amounts: minor units."""
    return {
        "id": callback_id(UUID(row.id)),
        "authorization": None if row.first is None else authorization_id(row.first),
        "action": None if row.action is None else authorization_id(row.action),
        "route": row.route,
        "scheme": row.scheme,
        "event_id": row.event_id,
        "event_type": row.event_type,
        "event_at": rfc3339(row.event_at),
        "effect": row.effect,
        "signature": row.signature,
        "action_reference": row.action_reference,
        "payment_reference": row.payment_reference,
        "merchant_reference": row.merchant_reference,
        "amount": row.amount,
        "currency": row.currency,
        "decline_code": row.decline_code,
        "is_scrubbed": row.is_scrubbed,
        "ledger": {"index": row.idx},
        "received_at": rfc3339(row.received_at),
    }


def _filter(query: Mapping[str, str]) -> CallbackFilter:
    authorization = query.get("authorization")
    first = None if authorization is None else intent_of(authorization)
    if authorization is not None and first is None:
        raise BadField("authorization", "format")
    return CallbackFilter(
        route=matching(query, "route", NAME),
        type=matching(query, "type", TEXT),
        effect=one_of(query, "effect", {effect.value for effect in Effect}),
        authorization=first,
        since=time_of(query, "since"),
    )


def _media_type(row: CallbackRow) -> str:
    """What the processor called it, where that is the one plain name of a type."""
    given = [value.strip() for name, value in row.headers or () if name.lower() == "content-type"]
    return given[0] if len(given) == 1 and _MEDIA_TYPE.fullmatch(given[0]) else _UNTYPED
