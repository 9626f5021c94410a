"""`/checkout/v1/`: the page of the hosted fields, its scripts, and what browsers report of it.

What lives here: three handlers. What never may: a card (the page posts it sealed, to
`/v1/tokens`), a file that is read while a request is served, and a word of a browser's report.
"""

from collections.abc import Collection
from typing import Final, Protocol

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from gateway.bodies import read_body
from gateway.caching import FOREVER_PUBLIC, MINUTES_PUBLIC, kept
from gateway.checkout.document import FIELD_NAMES, KEY_ID, FieldPage, refusal_page
from gateway.checkout.inventory import Inventory
from gateway.checkout.policy import (
    CURRENT_LOADER,
    DIRECTIVES,
    OTHER_DIRECTIVE,
    fields_headers,
    refusal_headers,
)
from gateway.errors import Malformed, NotAuthenticated, NotFound
from gateway.errors import OriginRefused as OriginNotListed
from gateway.middleware import OWN_POLICY
from gateway.origins import OriginRefused, is_listed, parse_origin
from gateway.request_event import REQUEST_EVENT
from vault.tokens import Env

HTML: Final = "text/html; charset=utf-8"
JAVASCRIPT: Final = "text/javascript; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"

REPORT_BYTES_MAX: Final = 16_384
REPORTS_MAX: Final = 50
"""Counted of one body; a browser sends a few together."""

_REPORT_TYPE: Final = "application/csp-report"
_REPORTS_TYPE: Final = "application/reports+json"
_RESOURCE_POLICY: Final = istr("Cross-Origin-Resource-Policy")
_PARAMETERS: Final = frozenset({"key", "origin", "field"})

_MALFORMED_WORDS: Final = (
    "The address of this frame is not one that panward.js makes.",
    "Let the script make the frame: Panward(key).fields({...}).mount(...).",
)
_KEY_WORDS: Final = (
    "The publishable key is unknown, revoked, or of another environment.",
    "See the keys with: panward tenants list. A live page needs a live key.",
)
_ORIGIN_WORDS: Final = (
    "The origin of the embedding page is not on the key's list.",
    "Put it there with: panward tenants keys origins. A port belongs to it, a path does not.",
)


class KeyOrigins(Protocol):
    """A publishable key in force: whose it is, and which pages may use it."""

    @property
    def tenant(self) -> str: ...

    @property
    def origins(self) -> Collection[str]: ...


class PublishableKeys(Protocol):
    """Where keys are looked up."""

    def has_met(self, key_id: str) -> bool:
        """Whether it was looked up with success before."""

    async def publishable(self, key_id: str) -> KeyOrigins | None:
        """Return a publishable key that is in force. Raises StoreUnavailable."""


class Strangers(Protocol):
    """Who bounds what asks for keys that are none."""

    def check_stranger(self, address: str) -> None:
        """Raises RateLimited."""

    def is_strange(self, address: str) -> None: ...


class ReportCounter(Protocol):
    """Who counts what browsers report."""

    def csp_report(self, directive: str) -> None: ...


class _Violation(msgspec.Struct, frozen=True):
    """What is read of a report: one name; all else in it is whatever an attacker put there."""

    current: str | None = msgspec.field(default=None, name="effectiveDirective")
    effective: str | None = msgspec.field(default=None, name="effective-directive")
    violated: str | None = msgspec.field(default=None, name="violated-directive")

    @property
    def directive(self) -> str:
        named = (self.current or self.effective or self.violated or "").partition(" ")[0]
        return named if named in DIRECTIVES else OTHER_DIRECTIVE


class _Single(msgspec.Struct, frozen=True):
    """A body of `application/csp-report` (CSP Level 3, section 5.3)."""

    report: _Violation = msgspec.field(name="csp-report")


class _Report(msgspec.Struct, frozen=True):
    """One of a body of `application/reports+json` (Reporting API, section 3.3)."""

    type: str
    body: _Violation | None = None


class CheckoutPages:
    """Handlers of `/checkout/v1/`."""

    def __init__(
        self,
        inventory: Inventory,
        keys: PublishableKeys,
        metrics: ReportCounter,
        strangers: Strangers,
        *,
        env: Env,
        ledger_origin: str,
    ) -> None:
        self._inventory = inventory
        self._keys = keys
        self._metrics = metrics
        self._strangers = strangers
        self._env: Env = env
        self._ledger_origin = ledger_origin

    async def fields(self, request: web.Request) -> web.Response:
        """`GET /checkout/v1/fields?key=&origin=&field=` → the page for one frame.

        Whether the asking page is that origin, only the browser knows: `frame-ancestors` tells it.
        """
        query = request.query
        if len(query) != len(_PARAMETERS) or query.keys() != _PARAMETERS:
            return _refused(request, 400, Malformed.code, _MALFORMED_WORDS)
        key_id, origin = query["key"], self._page_origin(query["origin"])
        field = next((name for name in FIELD_NAMES if name == query["field"]), None)
        if origin is None or field is None or not KEY_ID.fullmatch(key_id):
            return _refused(request, 400, Malformed.code, _MALFORMED_WORDS)
        address = request.remote or ""
        if not self._keys.has_met(key_id):
            self._strangers.check_stranger(address)
        key = await self._keys.publishable(key_id)
        if key is None:
            self._strangers.is_strange(address)
            return _refused(request, 403, NotAuthenticated.code, _KEY_WORDS)
        event = request[REQUEST_EVENT]
        event.tenant, event.key = key.tenant, key_id
        if not is_listed(origin, key.origins):
            return _refused(request, 403, OriginNotListed.code, _ORIGIN_WORDS)
        page = FieldPage(field, origin, key.tenant, self._env, self._ledger_origin)
        response = web.Response(
            body=page.render(self._inventory),
            headers={hdrs.CONTENT_TYPE: HTML, **fields_headers(self._inventory, origin)},
        )
        response[OWN_POLICY] = True
        return response

    async def script(self, request: web.Request) -> web.Response:
        """`GET /checkout/v1/{file}` → a script of the inventory, or the loader's types."""
        file = request.match_info["file"]
        if file == self._inventory.manifest.types:
            return kept(request, self._inventory.types, PLAIN, MINUTES_PUBLIC)
        is_current = file == CURRENT_LOADER
        script = self._inventory.loader if is_current else self._inventory.scripts.get(file)
        if script is None:
            raise NotFound
        packed = _takes_gzip(request)
        body = script.packed if packed else script.body
        response = kept(request, body, JAVASCRIPT, MINUTES_PUBLIC if is_current else FOREVER_PUBLIC)
        if packed and response.status == 200:  # noqa: PLR2004 - OK; a 304 has no body
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if self._inventory.is_for_pages(script.file):
            # Public bytes, asked for without cookies: `integrity` works on CORS answers only.
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
            response.headers[_RESOURCE_POLICY] = "cross-origin"
        else:
            response.headers[_RESOURCE_POLICY] = "same-origin"
        return response

    async def report(self, request: web.Request) -> web.Response:
        """`POST /checkout/v1/csp-reports` → 204; nothing of it is kept but how often, of what."""
        body = await read_body(request, REPORT_BYTES_MAX, (_REPORT_TYPE, _REPORTS_TYPE))
        for directive in _directives(body, request.content_type):
            self._metrics.csp_report(directive)
        return web.Response(status=204)

    def _page_origin(self, text: str) -> str | None:
        """Read the origin of a page, as browsers write it: in any other writing it is none."""
        try:
            origin = parse_origin(text, env=self._env)
        except OriginRefused:
            return None
        return origin if origin == text and origin.startswith("http") else None  # no app has frames


def _directives(body: bytes, content_type: str) -> list[str]:
    """Return which directives were violated. Raises Malformed."""
    try:
        if content_type == _REPORT_TYPE:
            return [msgspec.json.decode(body, type=_Single).report.directive]
        reports = msgspec.json.decode(body, type=list[_Report])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        found = [each.body for each in reports[:REPORTS_MAX] if each.type == "csp-violation"]
        return [OTHER_DIRECTIVE if each is None else each.directive for each in found]
    raise Malformed("not_json")


def _refused(request: web.Request, status: int, code: str, words: tuple[str, str]) -> web.Response:
    request[REQUEST_EVENT].code = code
    response = web.Response(
        status=status,
        body=refusal_page(*words),
        headers={hdrs.CONTENT_TYPE: HTML, **refusal_headers()},
    )
    response[OWN_POLICY] = True
    return response


def _takes_gzip(request: web.Request) -> bool:
    codings = request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(",")
    return any(coding.strip() == "gzip" for coding in codings)
