"""`/v1/tokens`: stored cards, masked.

PCI scope of these calls: `POST` carries a card number, so what calls it is in scope; the others
never show more than a masked card.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.answers import json_response
from gateway.api.masked_card import masked_card
from gateway.api.paging import check_parameters, read_page
from gateway.bodies import read_body
from gateway.errors import BadField
from gateway.merchants import Caller
from gateway.strict_json import decode
from gateway.tokenize import (
    TOKEN_BODY_BYTES_MAX,
    CustomerReference,
    Tokenize,
    checked_expiry,
)
from gateway.visits import Visits
from vault.api_keys import Scope
from vault.card import Expiry
from vault.card_vault import CardVault, Change
from vault.errors import TokenUnknown
from vault.token_table import TokenRow
from vault.tokens import Env, is_token

JSON: Final = ("application/json",)
_CUSTOMER: Final = re.compile("[A-Za-z0-9_-]{1,64}")

Month = Annotated[int, Meta(ge=1, le=12)]
Year = Annotated[int, Meta(ge=2000, le=2099)]


class ChangeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/tokens/{id}`: what is absent stays; null takes a value away."""

    exp_month: Month | UnsetType = UNSET
    exp_year: Year | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    customer_reference: CustomerReference | UnsetType | None = UNSET


class Tokens:
    """Handlers of `/v1/tokens`."""

    def __init__(
        self,
        cards: CardVault,
        tokenize: Tokenize,
        visits: Visits,
        *,
        env: Env,
        now: Callable[[], datetime],
    ) -> None:
        self._cards = cards
        self._tokenize = tokenize
        self._visits = visits
        self._env: Env = env
        self._now = now

    async def create(self, request: web.Request) -> web.Response:
        """`POST /v1/tokens` → 201 and the masked card."""
        async with self._visits.enter(request) as visit:
            caller = visit.caller
            body = await read_body(request, TOKEN_BODY_BYTES_MAX, JSON)
            row = await self._tokenize.handle(body, visit, self._visits.sender(visit))
            if Scope.FINGERPRINT in caller.scopes:  # the card may have had its fingerprint before
                row = await self._cards.load(caller.tenant, row.id)
        return json_response(masked_card(row, caller), status=201)

    async def attach_cvc(self, request: web.Request) -> web.Response:
        """`POST /v1/tokens/{id}/cvc` → 204: a fresh code for a stored card."""
        async with self._visits.enter(request) as visit:
            body = await read_body(request, TOKEN_BODY_BYTES_MAX, JSON)
            row = await self._row(request, visit.caller)
            await self._tokenize.attach_cvc(row, body, visit, self._visits.sender(visit))
        return web.Response(status=204)

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/tokens/{id}` → 200 and the masked card."""
        caller = await self._caller(request, Scope.READ)
        return json_response(masked_card(await self._row(request, caller), caller))

    async def change(self, request: web.Request) -> web.Response:
        """`PATCH /v1/tokens/{id}` → 200 and the masked card as it is now."""
        caller = await self._caller(request, Scope.UPDATE)
        body = await read_body(request, TOKEN_BODY_BYTES_MAX, JSON)
        wanted = decode(body, ChangeBody)
        row = await self._row(request, caller)
        changed = await self._cards.change(row, self._change(row, wanted), caller.actor)
        return json_response(masked_card(changed, caller))

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /v1/tokens/{id}` → 204; 409 while an authorization with it is under way."""
        caller = await self._caller(request, Scope.DELETE)
        row = await self._row(request, caller)
        await self._cards.delete((row.tenant, row.id), caller.actor, reason="request")
        return web.Response(status=204)

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/tokens?customer_reference=` → a person's cards, newest first."""
        caller = await self._caller(request, Scope.READ)
        customer = _customer(request)
        page = read_page(request, also={"customer_reference"})
        rows = await self._cards.of_customer(
            caller.tenant, customer, limit=page.limit + 1, after=page.after
        )
        return json_response(
            page.answer(
                [masked_card(row, caller) for row in rows],
                [(row.created_at, row.id) for row in rows],
            )
        )

    async def erase(self, request: web.Request) -> web.Response:
        """`DELETE /v1/tokens?customer_reference=` → how many were erased, and which are in use.

        A card that an authorization has at this moment stays, and is named: repeat the call.
        """
        caller = await self._caller(request, Scope.DELETE)
        customer = _customer(request)
        check_parameters(request, {"customer_reference"})  # `limit` would promise to erase fewer
        erased, in_use = await self._cards.delete_of_customer(caller.tenant, customer, caller.actor)
        return json_response({"erased": erased, "in_use": in_use}, status=409 if in_use else 200)

    async def _caller(self, request: web.Request, scope: Scope) -> Caller:
        caller = (await self._visits.authenticate(request)).caller
        caller.require(scope)
        return caller

    async def _row(self, request: web.Request, caller: Caller) -> TokenRow:
        token = request.match_info["token"]
        if not is_token(token, self._env):
            raise TokenUnknown
        return await self._cards.load(caller.tenant, token)

    def _change(self, row: TokenRow, wanted: ChangeBody) -> Change:
        month, year = row.exp_month, row.exp_year
        if wanted.exp_month is not UNSET and wanted.exp_year is not UNSET:
            month, year = wanted.exp_month, wanted.exp_year
            Expiry.parse(month, year, at=self._now())
        elif wanted.exp_month is not wanted.exp_year:
            raise BadField("exp_month", "together_with_exp_year")
        expires_at = row.expires_at
        if wanted.expires_at is not UNSET:
            expires_at = checked_expiry(wanted.expires_at, self._now())
        customer = row.customer_reference
        if wanted.customer_reference is not UNSET:
            customer = wanted.customer_reference
        return Change(month, year, expires_at, customer)


def _customer(request: web.Request) -> str:
    text = request.query.get("customer_reference", "")
    if not _CUSTOMER.fullmatch(text):
        raise BadField("customer_reference", "format")
    return text
