"""What every request of every listener passes: the gate, the request event, the one net.

These stand before aiohttp's router, not in its list of middlewares: the router answers `Expect`
before a middleware is asked, and a refused request has no route. Nothing here reads a body
unless a handler asks for it (`gateway/bodies.py`).

A request's bytes are never formatted: not in an answer, not in the log.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from time import perf_counter
from typing import Final, Protocol, runtime_checkable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from multidict import CIMultiDict, istr

from gateway.errors import (
    BodyTooSlow,
    ExpectationRefused,
    GatewayError,
    Malformed,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    TooLarge,
    UnsupportedMedia,
    VersionRefused,
)
from gateway.metrics import PROTOCOL, Metrics
from gateway.problems import CLIENT_CLOSED, PROBLEMS, Fault, answer, describe
from gateway.request_event import REQUEST_EVENT, EventLog, Incident, RequestEvent, type_name
from gateway.source_address import source_of

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

REQUEST_ID_HEADER: Final = istr("Panward-Request-Id")
PROCESSOR_STATUS: Final = istr("Panward-Processor-Status")
CSP: Final = istr("Content-Security-Policy")
CSP_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
OWN_POLICY: Final = web.ResponseKey("own_policy", bool)
"""The answer is a page of ours, with a policy of its own; a header cannot say so."""
TEMPLATE: Final = web.RequestKey("template", str)
"""What a request counts as, where its path says nothing: the name of an inbound route."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """The lower-case names of the headers that a merchant's own answer has."""

    names: frozenset[str]


FOREIGN: Final = web.ResponseKey("foreign", Foreign)
"""The answer is a merchant's own: its headers are all there are."""
FIXED_HEADERS: Final = CIMultiDict(
    {
        istr("Cache-Control"): "no-store",  # card data, even masked, stays in no cache
        istr("X-Content-Type-Options"): "nosniff",
        istr("Strict-Transport-Security"): "max-age=31536000",
    }
)

_PORT = re.compile(r"[0-9]{1,5}")
_OWN_PATH = re.compile(r"/[A-Za-z0-9/_.-]*")
_ERRORS: Final = 400
_SERVER_ERRORS: Final = 500
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})


@dataclass(frozen=True, slots=True)
class Gate:
    """What a listener lets in: HTTP/1.1, written in the one way that nobody reads differently."""

    hosts: frozenset[str]
    """Lower-case names; `Host` must be one of them, with or without a port (RFC 9112 3.2)."""
    proxied: tuple[str, ...] = ()
    """Prefixes whose paths another service defines; all other paths are ours, and plain."""
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    """Reverse proxies before us: of a call that comes through them, and of no other,
    `X-Forwarded-For` says who made it."""
    old_clients: tuple[str, ...] = ()
    """Prefixes where processors call: some speak HTTP/1.0, or wait for 100 Continue."""
    passes_on: bool = False
    """In front of others' endpoints `Content-Encoding`, `Expect` and `Upgrade` are for the route
    to judge."""

    def check(self, request: web.BaseRequest) -> None:
        """Raise what is wrong with the head of `request`, before anything of it is used."""
        path = request.raw_path
        is_old = bool(self.old_clients) and path.startswith(self.old_clients)
        if request.version != HttpVersion11:
            _check_old(request, allowed=is_old)
        if request.method == hdrs.METH_CONNECT:  # some read no HTTP after it (RFC 9110 9.3.6)
            raise Malformed("method")
        if not path.startswith("/"):  # absolute-form overrides Host; authority-form is CONNECT
            raise Malformed("host")
        strict = _EXPECTING_CHECKS if is_old else _HEADER_CHECKS
        checks = _FRAMING_CHECKS if self.passes_on else strict
        if _framing_headers(request, checks) > 1:  # RFC 9112 6.1: length and chunks: an attack
            raise Malformed("te")
        if request.method in _BODILESS and request.body_exists:
            raise Malformed("framing")
        self._check_host(request.headers.get(hdrs.HOST, "").lower())
        if self.proxied and path.startswith(self.proxied):
            return
        if not _OWN_PATH.fullmatch(path.partition("?")[0]):
            raise NotFound

    def _check_host(self, host: str) -> None:
        if host in self.hosts:
            return
        name, _, port = host.rpartition(":")
        if name not in self.hosts or not _PORT.fullmatch(port):
            raise Malformed("host")


def _check_old(request: web.BaseRequest, *, allowed: bool) -> None:
    if not allowed or request.version != HttpVersion10:
        raise VersionRefused
    if hdrs.TRANSFER_ENCODING in request.headers:  # RFC 9112 6.1: HTTP/1.0 knows no chunks
        raise Malformed("te")


def _framing_headers(request: web.BaseRequest, checks: "_Checks") -> int:
    """Check each header by itself, and count those that frame a body."""
    framing = 0
    for name, value in request.raw_headers:
        if b"_" in name:  # on its way a proxy may have made `-` of it, or will
            raise Malformed("headers")
        check = checks.get(name.lower())
        if check is not None:
            framing += check(value)
    return framing


def _transfer_encoding(value: bytes) -> int:
    if value != b"chunked":
        raise Malformed("te")
    return 1


def _content_length(_value: bytes) -> int:
    return 1


def _content_encoding(value: bytes) -> int:
    if value != b"identity":
        raise UnsupportedMedia("content_encoding")
    return 0


def _expect(_value: bytes) -> int:
    raise ExpectationRefused


def _continue(value: bytes) -> int:
    if value.lower() != b"100-continue":
        raise ExpectationRefused
    return 0


def _upgrade(_value: bytes) -> int:
    raise Malformed("upgrade")


def _connection(value: bytes) -> int:
    if b"upgrade" in value.lower():
        raise Malformed("upgrade")
    return 0


_Checks = Mapping[bytes, Callable[[bytes], int]]
_FRAMING_CHECKS: Final[_Checks] = {
    b"transfer-encoding": _transfer_encoding,
    b"content-length": _content_length,
}
_EXPECTING_CHECKS: Final[_Checks] = {
    **_FRAMING_CHECKS,
    b"expect": _continue,
    b"content-encoding": _content_encoding,
    b"upgrade": _upgrade,
    b"connection": _connection,
}
_HEADER_CHECKS: Final[_Checks] = {**_EXPECTING_CHECKS, b"expect": _expect}
"""Each returns 1 if the header frames the body."""


_FAULTS: Final = {str(getattr(kind, "code", "")): row.fault for kind, row in PROBLEMS.items()}
_PROTOCOL_KINDS: Final[dict[type[Exception], str]] = {
    VersionRefused: "version",
    ExpectationRefused: "expect",
    UnsupportedMedia: "encoding",
    BodyTooSlow: "slow",
}
_PARSER_KINDS: Final = {
    "LineTooLong": "headers",
    "InvalidHeader": "headers",
    "TransferEncodingError": "te",
    "ContentLengthError": "te",
}


@runtime_checkable
class Forwarded(Protocol):
    """A request that can be told where it really came from."""

    def came_from(self, address: str) -> None: ...


Denied = Callable[[RequestEvent, str | None], None]
"""Is told each refusal, and the address that it went to."""


def nobody(_event: RequestEvent, _address: str | None) -> None:
    """Record no refusals."""


class Net:
    """Where every error of a listener ends, and where its requests are told, once each."""

    def __init__(
        self,
        listener: str,
        gate: Gate,
        *,
        log: EventLog,
        metrics: Metrics,
        chance: Callable[[], float],
        denied: Denied = nobody,
    ) -> None:
        """`chance` gives numbers in [0, 1), to spread the retries of many callers."""
        self._denied = denied
        self.listener = listener
        self.metrics = metrics
        self.gate = gate
        self._log = log
        self._chance = chance

    def around(self, inner: Handler) -> Handler:
        """Wrap an application: nothing gets in but by the gate, no error out but as an answer."""

        async def answer_problems(request: web.BaseRequest) -> web.StreamResponse:
            event = self._begin(request)
            begun = perf_counter()
            try:
                self.gate.check(request)
            except GatewayError as error:
                event.route = "refused"
                response: web.StreamResponse = self._refuse(request, event, error)
            else:
                response = await self._handle(inner, request, event)
                if request.version != HttpVersion11:
                    response.force_close()
                if response.status >= _SERVER_ERRORS and PROCESSOR_STATUS in response.headers:
                    event.fault = Fault.PROCESSOR
            self._end(event, response.status, perf_counter() - begun)
            if event.code is not None:
                self._denied(event, request.remote)
            return response

        return answer_problems

    def unparsed(self, request: web.BaseRequest, error: BaseException | None) -> web.Response:
        """Answer what the parser would not take; its error quotes the bytes, its type does not."""
        event = self._begin(request, has_headers=False)
        event.method = ""
        event.route = "refused"
        response = self._refuse(request, event, Malformed(parser_kind(error)))
        event.error = type_name(error)
        self._end(event, response.status, 0.0)
        return response

    def lost(self, error: BaseException | None) -> None:
        """Tell of a failure in aiohttp itself, behind the answer: by its type."""
        self._log.incident(
            Incident("connection_error", listener=self.listener, error=type_name(error))
        )

    def _begin(self, request: web.BaseRequest, *, has_headers: bool = True) -> RequestEvent:
        event = RequestEvent(self.listener, new_request_id(os.urandom(16)), request.method)
        request[REQUEST_EVENT] = event
        if has_headers and self.gate.trusted and isinstance(request, Forwarded):
            lines = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
            request.came_from(source_of(request.remote or "", lines, self.gate.trusted))
        return event

    def _refuse(
        self, request: web.BaseRequest, event: RequestEvent, error: GatewayError
    ) -> web.Response:
        """Answer a request that is not written as it must be, and trust its connection no more."""
        response = self._problem(request, event, error)
        if not isinstance(error, NotFound):
            response.force_close()
        return response

    async def _handle(
        self, inner: Handler, request: web.BaseRequest, event: RequestEvent
    ) -> web.StreamResponse:
        try:
            return await inner(request)
        except asyncio.CancelledError:
            event.code = "canceled"
            self._end(event, CLIENT_CLOSED, 0.0)
            raise
        except Exception as error:
            problem = self._problem(request, event, _own(error))
        finally:
            event.route = _template(request)
        if request.writer.output_size > 0:  # an answer has begun: nothing true can follow it
            self._end(event, problem.status, 0.0)
            raise ConnectionResetError
        return problem

    def _problem(
        self, request: web.BaseRequest, event: RequestEvent, error: Exception
    ) -> web.Response:
        described = describe(error)
        event.code = described.code
        if not described.foreseen:
            event.error = type_name(error)
        self._count(error)
        response = answer(error, event.request_id, draw=self._chance())
        content = request.content
        unread = not content.is_eof() or content.exception() is not None
        if unread or _is_doubtful(error) or hdrs.UPGRADE in request.headers:
            response.force_close()
        return response

    def _count(self, error: Exception) -> None:
        kind = error.reason if isinstance(error, Malformed) else _PROTOCOL_KINDS.get(type(error))
        if kind in PROTOCOL.known:
            self.metrics.protocol_error(kind)

    def _end(self, event: RequestEvent, status: int, seconds: float) -> None:
        event.status = status
        event.ms = round(seconds * 1000, 2)
        if event.fault is Fault.NONE and status >= _ERRORS:  # a handler's own answer
            event.fault = _FAULTS.get(event.code or "") or (
                Fault.OURS if status >= _SERVER_ERRORS else Fault.CLIENT
            )
        if event.code == NotAuthenticated.code:
            self.metrics.auth_failure("key")
        self.metrics.http_request(event.listener, event.route, status, seconds, event.fault)
        self._log.request(event)


def _is_doubtful(error: Exception) -> bool:
    """Whether what follows may be a body that was held back, or no HTTP (T-02, T-03)."""
    if isinstance(error, Malformed):
        return error.reason == "upgrade"
    return isinstance(error, ExpectationRefused)


def new_request_id(random: bytes) -> str:
    """Write 16 random bytes as a UUID of version 4 (RFC 9562 section 5.4)."""
    text = random.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def parser_kind(error: BaseException | None) -> str:
    """Say in a word of ours what kind of framing the parser refused."""
    return _PARSER_KINDS.get(type(error).__name__, "framing")


def _own(error: Exception) -> Exception:
    """Turn aiohttp's own 404, 405 and 413 into ours; whatever else it raises is a bug."""
    match error:
        case web.HTTPNotFound():
            return NotFound()
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowed(error.allowed_methods)
        case web.HTTPRequestEntityTooLarge():
            return TooLarge()
        case _:
            return error


def _template(request: web.BaseRequest) -> str:
    if TEMPLATE in request:
        return request[TEMPLATE]
    found = getattr(request, "_match_info", None)  # `match_info` asserts that there is one
    if not isinstance(found, web.UrlMappingMatchInfo) or found.route.resource is None:
        return "unmatched"
    return found.route.resource.canonical
