"""Who calls about a card, and from where: the key, the page it is used on, the network.

A page's call (publishable key) is held to the key's list of origins, and takes a place among those
that its address and its key may have. What never may live here: what is done for them.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from gateway.cross_origin import CrossOrigin, Page, check_page
from gateway.errors import NotAuthenticated
from gateway.merchants import Caller, Merchants, bearer_key
from gateway.page_guard import PageGuard
from gateway.request_event import REQUEST_EVENT
from gateway.sealed import Sender
from vault.api_keys import parse_api_key


@dataclass(frozen=True, slots=True)
class Visit:
    """An authenticated call."""

    caller: Caller
    address: str
    page: Page | None


class Visits:
    """Lets calls in."""

    def __init__(self, merchants: Merchants, cross: CrossOrigin, guard: PageGuard) -> None:
        self._merchants = merchants
        self._cross = cross
        self._guard = guard

    @asynccontextmanager
    async def enter(self, request: web.Request) -> AsyncIterator[Visit]:
        """Give the call of a known key for as long as it goes on.

        Raises NotAuthenticated, OriginRefused, RateLimited, StoreUnavailable.
        """
        visit = await self.authenticate(request)
        if not visit.caller.is_publishable:
            yield visit
            return
        with self._guard.enter(visit.address):
            yield visit

    async def authenticate(self, request: web.Request) -> Visit:
        """Tell whose call it is.

        Raises NotAuthenticated, OriginRefused, RateLimited, StoreUnavailable.
        """
        address = request.remote or ""
        text = bearer_key(request.headers)
        presented = parse_api_key(text) if text is not None else None
        # Only of those who come with a key that was never seen: behind one address may be many.
        if presented is None or not self._merchants.has_met(presented.id):
            self._guard.check_stranger(address)
        page = await self._cross.page_of(request)
        try:
            caller = await self._merchants.authenticate(text)
        except NotAuthenticated:
            self._guard.is_strange(address)
            raise
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        check_page(request, page, caller.origins if caller.is_publishable else None)
        return Visit(caller, address, page)

    def sender(self, visit: Visit) -> Sender:
        """Say who may have sealed what comes with this call.

        A back end relays what its own pages and apps have sealed: those of all its keys.
        """
        caller = visit.caller

        async def origins() -> Collection[str]:
            if caller.is_publishable:
                return caller.origins
            return await self._merchants.origins(caller.tenant)

        page = visit.page
        return Sender(caller.tenant, origins, None if page is None or page.is_ours else page.origin)
