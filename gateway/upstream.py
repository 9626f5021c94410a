"""The one way out of the process towards processors and merchants.

What lives here: one HTTPS request to the host of one route, sent at most once, and what became of
it: `Replied`, `NotSent` or `Unknown`. What never may: a URL named by a caller, a log, the text of a
foreign exception (it quotes URLs), a second attempt after the first header byte, and any knowledge
of what is in a body.

The boundary is aiohttp's `on_request_headers_sent`, which fires before the head is even put into
bytes: until then nothing of the request was handed to the transport (`NotSent`), from then on it
may have been (`Unknown`), until the whole reply is here (`Replied`). The recorded phase decides and
not the exception, so whatever breaks has a true answer.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from gateway.addresses import NOTHING_PRIVATE, AddressAllow, Host
from gateway.dialing import (
    AddressDenied,
    CheckedConnector,
    CheckedResolver,
    Lookup,
    system_lookup,
)
from gateway.exchange import (
    MAYBE_SENT,
    Failure,
    NotSent,
    Outcome,
    Phase,
    Replied,
    Unknown,
    failure_of_head,
    is_sendable,
    reply_headers,
    request_headers,
)
from gateway.upstream_proxy import Tunnel
from gateway.upstream_tls import CrlCheck, tls_context

CONNECT_SECONDS: Final = 3.0
CONCURRENCY: Final = 64
REPLY_BYTES_MAX: Final = 1_048_576
WIRE_BYTES_MIN: Final = 262_144  # for one reply with its head, also if it has no body
WIRE_FACTOR: Final = 8  # chunks of one byte, the smallest, are six times what they hold
REPLY_LINE_BYTES_MAX: Final = 8_190  # a status line, a header's name, its value
REPLY_HEADERS_MAX: Final = 100

_BEHIND_THE_LINE: Final = frozenset({Phase.SENT, Phase.REPLY})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRoute:
    """One host, and how it is reached and known: pools of connections are never shared."""

    name: str  # for metrics
    host: str  # host and port are as gateway.addresses.checked_host returns them
    port: int
    timeout_seconds: float  # for all of a send, to the last byte of the reply
    connect_seconds: float = CONNECT_SECONDS  # waiting for a free connection is bounded so, too
    address_allow: AddressAllow = NOTHING_PRIVATE
    ca_file: Path | None = None  # instead of the system's authorities
    crl_file: Path | None = None  # with it, what it does not vouch for is refused
    crl_check: CrlCheck = "leaf"
    spki_pins: tuple[bytes, ...] = ()  # SHA-256 each; any key of the verified chain may match
    client_certificate: tuple[Path, Path] | None = None  # the chain and its key
    egress_proxy: Host | None = None  # at an address of the same table as any other
    egress_proxy_login: str | None = field(default=None, repr=False)  # user:password
    concurrency: int = CONCURRENCY
    reply_bytes_max: int = REPLY_BYTES_MAX


class UpstreamObserver(Protocol):
    """What sends report about themselves, in words of closed lists. It must not raise."""

    def upstream_phase_ended(self, route: str, phase: Phase, seconds: float) -> None: ...

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None: ...


class Upstream:
    """Sends requests to one route's host. Made inside the running loop, closed by its owner."""

    def __init__(
        self,
        route: UpstreamRoute,
        observer: UpstreamObserver,
        *,
        context: ssl.SSLContext | None = None,
        lookup: Lookup = system_lookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`context`: of `context_of(route)`, where several share one; pools never are."""
        self._route = route
        self._observer = observer
        self._clock = clock
        self._slots = asyncio.Semaphore(route.concurrency)
        # Methods that HTTP calls idempotent get a connection of their own each: on a used one a
        # server's "closing" crosses the request, and what is called idempotent gets repeated.
        context = context_of(route) if context is None else context
        self._posting, self._others = _sessions(route, context, lookup, clock)

    async def close(self) -> None:
        await self._posting.close()
        await self._others.close()

    async def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | bytearray,
    ) -> Outcome:
        """Send once. Nothing but cancellation is raised; path and query go as they are written.

        Whoever passes a bytearray may wipe it when this returns.
        """
        route = self._route
        attempt = _Attempt(route.name, self._observer, self._clock, has_body=bool(body))
        if not is_sendable(method, path, query, headers):
            return attempt.failed(Failure.REQUEST_INVALID)
        attempt.enter(Phase.QUEUE)
        _current.set(attempt)
        try:
            async with asyncio.timeout(route.timeout_seconds), self._slot():
                url = _url(route, path, query)
                return await self._exchange(attempt, method, url, request_headers(headers), body)
        except Exception as error:  # noqa: BLE001 - nothing may leave the state undecided
            code = _failure(error, attempt.phase)
        finally:
            attempt.report()
        return attempt.failed(code)

    async def _exchange(
        self,
        attempt: "_Attempt",
        method: str,
        url: URL,
        headers: Sequence[tuple[str, str]],
        body: bytes | bytearray,
    ) -> Replied:
        session = self._posting if method == "POST" else self._others
        response = await session.request(
            method,
            url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            middlewares=(attempt.only_once,),
        )
        try:
            return await self._read(attempt, response)
        finally:
            response.close()  # hangs up, unless all was read: then the connection is back already

    async def _read(self, attempt: "_Attempt", response: aiohttp.ClientResponse) -> Replied:
        attempt.enter(Phase.REPLY)
        attempt.status = response.status
        first_byte_ms = attempt.ms()
        raw, body_bytes_max = response.raw_headers, self._route.reply_bytes_max
        version = response.version or (0, 9)
        code = failure_of_head(response.method, version, response.status, raw, body_bytes_max)
        if code is not None:
            raise _Failed(code)
        body = bytearray()
        async for chunk in response.content.iter_any():
            if len(body) + len(chunk) > body_bytes_max:
                raise _Failed(Failure.TOO_LARGE)
            body += chunk
        return Replied(
            response.status, reply_headers(raw), bytes(body), first_byte_ms, attempt.ms()
        )

    async def _wait_for_slot(self) -> None:
        try:
            async with asyncio.timeout(self._route.connect_seconds):
                await self._slots.acquire()
        except TimeoutError:
            held = False
        else:
            held = True
        if not held:
            raise _Failed(Failure.OVERLOADED)

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        """Hold one of the route's places, or be refused for want of one."""
        if self._slots.locked():
            await self._wait_for_slot()
        else:
            await self._slots.acquire()  # at once
        try:
            yield
        finally:
            self._slots.release()


class _Failed(Exception):
    """What another's exception means, without that exception. It never leaves this module."""

    def __init__(self, code: Failure) -> None:
        super().__init__(code)
        self.code = code


class _Attempt:
    """How far one send has come, as aiohttp tells it."""

    def __init__(
        self, route: str, observer: UpstreamObserver, clock: Callable[[], float], *, has_body: bool
    ) -> None:
        self.phase = Phase.CHECK
        self.status: int | None = None
        self._route = route
        self._observer = observer
        self._clock = clock
        self._has_body = has_body
        self._began = self._entered = clock()

    def ms(self) -> float:
        return (self._clock() - self._began) * 1000

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`. Behind the line there is no way back to it: whoever tries is stopped.

        Nothing of a second try has been written by then.
        """
        if self.phase in MAYBE_SENT and phase not in _BEHIND_THE_LINE:
            raise _Failed(Failure.RESET)
        self.report()
        self.phase = phase

    def report(self) -> None:
        now = self._clock()
        self._observer.upstream_phase_ended(self._route, self.phase, now - self._entered)
        self._entered = now

    def cross_the_line(self) -> None:
        self.enter(Phase.SENDING)
        if not self._has_body:
            self.enter(Phase.SENT)

    async def only_once(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Hide each failure from aiohttp 3.14, which sends again when a connection breaks.

        It does so for GET, HEAD, OPTIONS, PUT and DELETE, and on a fresh connection as well.
        """
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - all of them, whatever it repeats after
            code = _failure(error, self.phase)
        raise _Failed(code)

    def failed(self, code: Failure) -> NotSent | Unknown:
        outcome: NotSent | Unknown
        if self.phase in MAYBE_SENT:
            outcome = Unknown(self.phase, code, self.status)
        else:
            outcome = NotSent(self.phase, code)
        self._observer.upstream_failed(self._route, outcome.phase, code)
        return outcome


_current: ContextVar[_Attempt] = ContextVar("_current")  # aiohttp's hooks know of no request


def _url(route: UpstreamRoute, path: str, query: str) -> URL:
    return URL.build(
        scheme="https",
        host=f"[{route.host}]" if ":" in route.host else route.host,
        port=route.port,
        path=path,
        query_string=query,
        encoded=True,
    )


def context_of(
    route: UpstreamRoute, *, client_certificate_pem: tuple[str, str] | None = None
) -> ssl.SSLContext:
    """Build a route's TLS context, which reads its files.

    `client_certificate_pem` is a tenant's own chain and key: then the context is that tenant's.
    Raises StartRefused; ClientCertificateRefused for that pair.
    """
    return tls_context(
        ca_file=route.ca_file,
        crl_file=route.crl_file,
        crl_check=route.crl_check,
        spki_pins=route.spki_pins,
        client_certificate=route.client_certificate,
        client_certificate_pem=client_certificate_pem,
    )


def _sessions(
    route: UpstreamRoute, context: ssl.SSLContext, lookup: Lookup, clock: Callable[[], float]
) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:  # noqa: TID251 - this module dials out
    """Open a session whose connections are used again, and one whose are not."""
    tunnel = None
    if route.egress_proxy is not None:
        target = Host(route.host, route.port)
        tunnel = Tunnel(route.egress_proxy, target, route.egress_proxy_login)
    host = route.host if tunnel is None else tunnel.proxy.name
    resolver = CheckedResolver(host, route.address_allow, lookup=lookup, clock=clock)

    def session(*, reuse: bool) -> aiohttp.ClientSession:  # noqa: TID251
        return aiohttp.ClientSession(  # noqa: TID251
            connector=CheckedConnector(
                resolver,
                context,
                route.address_allow,
                limit=route.concurrency,
                reuse=reuse,
                reply_wire_bytes_max=WIRE_BYTES_MIN + WIRE_FACTOR * route.reply_bytes_max,
                dialed=_dialed,
                tunnel=tunnel,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(
                total=None,  # `send` keeps the deadline: to the second, with the wait before
                connect=route.connect_seconds,
                sock_connect=route.connect_seconds,
                sock_read=None,  # a shorter one would make an unknown out of a slow approval
            ),
            trace_configs=[_trace()],
            max_line_size=REPLY_LINE_BYTES_MAX,
            max_field_size=REPLY_LINE_BYTES_MAX,
            max_headers=REPLY_HEADERS_MAX,
        )

    return session(reuse=True), session(reuse=False)


def _trace() -> aiohttp.TraceConfig:
    async def connecting(*_: object) -> None:
        _current.get().enter(Phase.CONNECT)

    async def resolving(*_: object) -> None:
        _current.get().enter(Phase.DNS)

    async def sending(*_: object) -> None:
        _current.get().cross_the_line()

    async def sent(*_: object) -> None:
        _current.get().enter(Phase.SENT)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(connecting)
    trace.on_dns_resolvehost_start.append(resolving)
    trace.on_dns_resolvehost_end.append(connecting)
    trace.on_request_headers_sent.append(sending)
    trace.on_request_chunk_sent.append(sent)
    return trace


def _dialed() -> None:
    _current.get().enter(Phase.TLS)


def _failure(error: Exception, phase: Phase) -> Failure:
    if isinstance(error, _Failed):
        return error.code
    return _failure_after(error) if phase in MAYBE_SENT else _failure_before(error, phase)


def _failure_before(error: Exception, phase: Phase) -> Failure:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressDenied):
        return Failure.EGRESS_DENIED
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Failure.TLS_ERROR
    if phase is Phase.DNS:
        return Failure.DNS
    return Failure.CONNECT_TIMEOUT if isinstance(error, TimeoutError) else Failure.UNREACHABLE


def _failure_after(error: Exception) -> Failure:
    if type(error) is TimeoutError:  # the deadline's; the system's own is a broken connection
        return Failure.TIMEOUT
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return Failure.PROTOCOL_ERROR
    return Failure.RESET
