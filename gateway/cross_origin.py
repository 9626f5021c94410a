"""Which pages may call us, by the Fetch standard's CORS: exact origins, never `*`, none reflected.

A preflight carries no key, so it is answered for any origin that some publishable key lists; the
call itself is then held to the list of its own key. What comes without an `Origin` is no page's:
a back end, an app. What never may live here: anything that makes a call from a page do more than
the same call from elsewhere.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.errors import NotFound, OriginRefused
from gateway.origins import is_listed, own_origin

PAGE: Final = web.RequestKey("page", str)
"""The listed origin that an answer is for: the listener writes the headers that let it be read."""

FOR_PAGES: Final = web.RequestKey("for_pages", bool)
"""The call is one that pages make: its answer depends on their origin."""

PREFLIGHT_SECONDS: Final = 600
EXPOSED: Final = "Date, Retry-After, Panward-Request-Id"
HEADERS_ALLOWED: Final = "authorization, content-type"


class ListedOrigins(Protocol):
    """Who knows the lists of all publishable keys."""

    async def all_origins(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Where a call from a browser comes from; `is_ours`: from our own hosted fields."""

    origin: str
    is_ours: bool


class CrossOrigin:
    """Lets listed pages in, and their scripts read the answers."""

    def __init__(self, listed: ListedOrigins) -> None:
        self._listed = listed

    async def page_of(self, request: web.Request) -> Page | None:
        """Tell which page calls; None for what is none. Raises OriginRefused, StoreUnavailable."""
        request[FOR_PAGES] = True
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if not origins:
            return None
        if len(origins) > 1:
            raise OriginRefused
        origin = origins[0]
        if origin == own_origin(request.headers.get(hdrs.HOST, "")):
            return Page(origin, is_ours=True)
        if is_listed(origin, await self._listed.all_origins()):
            request[PAGE] = origin
        return Page(origin, is_ours=False)

    async def preflight(self, request: web.Request) -> web.Response:
        """Answer `OPTIONS` of a call that pages make; 404 to whoever is on no list."""
        await self.page_of(request)
        if PAGE not in request:
            raise NotFound
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": HEADERS_ALLOWED,
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            },
        )


def check_page(request: web.Request, page: Page | None, origins: Collection[str] | None) -> None:
    """Hold a call to the list of its key; None is the list of a key that is no page's.

    Raises OriginRefused.
    """
    if page is None or page.is_ours:
        return
    if origins is None or not is_listed(page.origin, origins):
        if PAGE in request:
            del request[PAGE]
        raise OriginRefused
