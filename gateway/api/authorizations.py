"""`/v1/authorizations`: what was sent to processors, and what became of it.

PCI scope of these calls: none of card data; tokens and references only.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from gateway.api.answers import json_response
from gateway.api.masked_card import rfc3339
from gateway.api.paging import read_page
from gateway.errors import BadField, NotFound
from gateway.merchants import Caller, Merchants, bearer_key
from gateway.request_event import REQUEST_EVENT
from vault.api_keys import Scope
from vault.authorization import Result, State
from vault.authorization_table import (
    Attempt,
    AuthorizationFilter,
    AuthorizationRow,
    AuthorizationTable,
    Reported,
)
from vault.authorizations import Authorizations
from vault.ids import authorization_id, intent_of
from vault.telling import callback_id
from vault.tokens import Env, is_token

_TEXT: Final = re.compile("[\x20-\x7e]{1,255}")
_NAME: Final = re.compile("[a-z0-9_-]{1,64}")
FILTERS: Final = frozenset(
    {
        "token",
        "route",
        "state",
        "result",
        "since",
        "idempotency_key",
        "processor_reference",
        "merchant_reference",
    }
)


class AuthorizationHandlers:
    """Handlers of `/v1/authorizations`."""

    def __init__(
        self,
        table: AuthorizationTable,
        authorizations: Authorizations,
        merchants: Merchants,
        *,
        env: Env,
    ) -> None:
        self._table = table
        self._authorizations = authorizations
        self._merchants = merchants
        self._env: Env = env

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/authorizations/{id}` → 200 and the authorization with its attempts."""
        caller = await self._caller(request)
        first = intent_of(request.match_info["authorization"])
        row = await self._table.get(caller.tenant, first) if first is not None else None
        if row is None:
            raise NotFound
        return json_response(document(row))

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/authorizations` → those that match every filter, newest first."""
        caller = await self._caller(request)
        page = read_page(request, also=FILTERS)
        narrowed = await self._filter(request, caller)
        after = page.after
        if after is not None and not _UUID.fullmatch(after[1]):
            raise BadField("cursor", "format")
        rows = await self._table.list(caller.tenant, narrowed, limit=page.limit + 1, after=after)
        places = [(row.created_at, row.first) for row in rows]
        return json_response(page.answer([document(row) for row in rows], places))

    async def _caller(self, request: web.Request) -> Caller:
        caller = await self._merchants.authenticate(bearer_key(request.headers))
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require(Scope.READ)
        return caller

    async def _filter(self, request: web.Request, caller: Caller) -> AuthorizationFilter:
        query = request.query
        token = query.get("token")
        if token is not None and not is_token(token, self._env):
            raise BadField("token", "format")
        key = _matching(query, "idempotency_key", _TEXT)
        digest = None
        if key is not None:
            digest = await self._authorizations.key_digest(caller.tenant, key.encode("ascii"))
        return AuthorizationFilter(
            token=token,
            route=_matching(query, "route", _NAME),
            state=_one_of(query, "state", State),
            result=_one_of(query, "result", Result),
            since=_time(query.get("since")),
            key_digest=digest,
            processor_reference=_matching(query, "processor_reference", _TEXT),
            merchant_reference=_matching(query, "merchant_reference", _TEXT),
        )


def document(row: AuthorizationRow) -> Mapping[str, object]:
    """An authorization as the API shows it. Amounts are in minor units."""
    return {
        "id": authorization_id(row.first),
        "state": row.state,
        "result": row.result,
        "kind": row.kind,
        "route": row.route,
        "operation": row.operation,
        "tokens": list(row.tokens),
        "amount": row.amount,
        "currency": row.currency,
        "merchant_reference": row.merchant_reference,
        "processor_reference": row.processor_reference,
        "decline_code": row.decline_code,
        "authorization_code": row.authorization_code,
        "attempts": [_attempt(attempt) for attempt in row.attempts],
        "events": [_event(event) for event in row.events],
        "ledger": {"index": row.idx, "leaf": row.leaf.hex()},
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def _attempt(attempt: Attempt) -> Mapping[str, object]:
    return {
        "attempt": attempt.attempt,
        "intent": attempt.intent,
        "state": attempt.state,
        "result": attempt.result,
        "finding": attempt.finding,
        "processor_status": attempt.status,
        "reason": attempt.reason,
        "created_at": rfc3339(attempt.opened_at),
        "ended_at": rfc3339(attempt.ended_at),
    }


def _event(event: Reported) -> Mapping[str, object]:
    return {
        "callback": callback_id(UUID(event.callback)),
        "type": event.type,
        "effect": event.effect,
        "amount": event.amount,
        "currency": event.currency,
        "decline_code": event.decline_code,
        "at": rfc3339(event.at),
        "received_at": rfc3339(event.received_at),
    }


_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _matching(query: Mapping[str, str], name: str, form: re.Pattern[str]) -> str | None:
    text = query.get(name)
    if text is not None and not form.fullmatch(text):
        raise BadField(name, "format")
    return text


def _one_of(query: Mapping[str, str], name: str, words: type[State] | type[Result]) -> str | None:
    text = query.get(name)
    if text is not None and text not in {word.value for word in words}:
        raise BadField(name, "unknown_value")
    return text


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadField("since", "format")
    return at
