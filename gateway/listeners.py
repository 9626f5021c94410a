"""The HTTP servers that face callers: TLS, limits of time and size, and how they end.

What lives here: everything set once for a listener. What never may: anything about what a
request asks for.

aiohttp's own site is not used: it answers a setting that it does not know with its defaults and
a warning, and its error handler prints the bytes that it could not parse. Who is let in at all
is in `connections.py`.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from gateway.caching import KEEP
from gateway.connections import Door, Limits, Seat, Seats, listen
from gateway.cross_origin import EXPOSED, FOR_PAGES, PAGE
from gateway.errors import Malformed
from gateway.middleware import (
    CSP,
    CSP_NOTHING,
    FIXED_HEADERS,
    FOREIGN,
    OWN_POLICY,
    REQUEST_ID_HEADER,
    Net,
    parser_kind,
)
from gateway.request_event import REQUEST_EVENT
from vault.errors import StartRefused

PACKED: Final = (
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\npacked"
)
"""A request that a parser which inflates cannot take."""

_ADDED: Final = frozenset({"server", "content-type"})

AEAD_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; all suites of TLS 1.3 are AEAD."""


def server_context(
    certificate: Path, private_key: Path, *, client_ca: Path | None = None
) -> ssl.SSLContext:
    """TLS as a listener speaks it: 1.2 or newer, AEAD only, HTTP/1.1 by ALPN.

    With `client_ca` a client may prove itself by a certificate of that authority. Raises
    StartRefused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # Python offers no early data (0-RTT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(AEAD_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, private_key)
        loaded = True
    except (OSError, ssl.SSLError):
        loaded = False
    if not loaded:
        raise StartRefused(f"{certificate} and {private_key} are not a certificate and its key")
    if client_ca is not None:
        _ask_for_certificates(context, client_ca)
    return context


def _ask_for_certificates(context: ssl.SSLContext, client_ca: Path) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL  # an API key will do as well
    try:
        context.load_verify_locations(client_ca)
        loaded = True
    except (OSError, ssl.SSLError):
        loaded = False
    if not loaded:
        raise StartRefused(f"{client_ca} holds no certificate authority")


# --- one connection -----------------------------------------------------------------------


class Request(web.Request):
    """A request whose answers all carry our headers, and whose body only `read_body` reads."""

    def came_from(self, address: str) -> None:
        """Be of another address than the connection's, which is a reverse proxy's."""
        self._cache["remote"] = address

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        headers = response.headers
        if FOREIGN in response:
            for name in _ADDED - response[FOREIGN].names:  # by aiohttp, unasked
                headers.popall(name, None)
            headers[REQUEST_ID_HEADER] = self[REQUEST_EVENT].request_id
            return
        headers.update(FIXED_HEADERS)
        if KEEP in response:  # what is published may be kept; a header cannot say so
            headers[hdrs.CACHE_CONTROL] = response[KEEP]
        if OWN_POLICY not in response:  # only a page of ours has one, never what a processor sent
            headers[CSP] = CSP_NOTHING
        if PAGE in self:  # a listed page's script may read it
            headers["Access-Control-Allow-Origin"] = self[PAGE]
            headers["Access-Control-Expose-Headers"] = EXPOSED
        if FOR_PAGES in self:  # also without an `Origin`: a cache must not give this to a page
            headers.add(hdrs.VARY, hdrs.ORIGIN)
        headers.popall(hdrs.SERVER, None)
        if self.version != HttpVersion11:  # RFC 9110 2.5: answer in a version that we speak
            self._cache["version"] = HttpVersion11
            headers[hdrs.CONNECTION] = "close"
        headers[REQUEST_ID_HEADER] = self[REQUEST_EVENT].request_id


class SafeHandler(RequestHandler):
    """HTTP/1.1 on one connection; says nothing of what it could not parse, waits for nobody."""

    __slots__ = ("_net", "_seat", "_stall", "_write_seconds")

    def __init__(
        self,
        server: Server,
        net: Net,
        limits: Limits,
        seat: Seat,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keepalive_seconds,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's way to switch it off
            debug=False,
            max_line_size=limits.line_bytes_max,
            max_field_size=limits.field_bytes_max,
            max_headers=limits.headers_max,
            lingering_time=limits.lingering_seconds,
            auto_decompress=False,
        )
        self._net = net
        self._seat = seat
        self._write_seconds = limits.write_seconds
        self._stall: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._end_stall()
        self._seat.leave()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._fail_open_body(self._messages[-1][0].exc)

    def _fail_open_body(self, error: BaseException) -> None:
        """Tell who reads the body that it is broken; aiohttp would let it wait for more."""
        if len(self._messages) > 1:
            payload = self._messages[-2][1]
        elif self._current_request is not None:
            payload = self._current_request.content
        else:
            return
        if not payload.is_eof():
            payload.set_exception(Malformed(parser_kind(error)))
            payload.feed_eof()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._stall = self._loop.call_later(self._write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - what cannot be parsed is 400
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the request
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionResetError
        return self._net.unparsed(request, exc)

    def log_exception(self, *_args: object, **words: object) -> None:
        error = words.get("exc_info")
        self._net.lost(error if isinstance(error, BaseException) else None)


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> Request:
    loop = asyncio.get_running_loop()
    return Request(message, payload, protocol, writer, task, loop, client_max_size=1)


def verify(make: Callable[[Seat], SafeHandler], limits: Limits) -> None:
    """Make sure that a connection has our settings, by its values and by what its parser does.

    Raises StartRefused.
    """
    seats = Seats(2, None)
    one, other = make(seats.take("")), make(seats.take(""))
    one.data_received(b"GET /" + b"a" * limits.line_bytes_max + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    other.data_received(PACKED)
    as_set = (
        (one.max_line_size, one.max_field_size, one.max_headers)
        == (limits.line_bytes_max, limits.field_bytes_max, limits.headers_max)
        and one.keepalive_timeout == limits.keepalive_seconds
        and one._lingering_time == limits.lingering_seconds  # noqa: SLF001 - has no public name
        and not one.debug
        and one.access_logger is None
    )
    refuses_long = not isinstance(one._messages[0][0], RawRequestMessage)  # noqa: SLF001
    payload = other._messages[0][1]  # noqa: SLF001
    leaves_packed = payload.exception() is None and payload.read_nowait() == b"packed"
    if not (as_set and refuses_long and leaves_packed):
        raise StartRefused("this aiohttp does not take our settings: use the locked version")


# --- a listener ---------------------------------------------------------------------------


class Listener:
    """A running listener: its port, and its end."""

    def __init__(self, runner: web.AppRunner, door: Door, port: int) -> None:
        self.port = port
        self._runner = runner
        self._door = door
        self._accepts = True

    def stop_accepting(self) -> None:
        """Let no new connection in; those that are open go on."""
        if self._accepts:
            self._accepts = False
            self._door.close()

    async def close(self) -> None:
        """Let requests under way end, at most `shutdown_seconds`, then close all."""
        self.stop_accepting()
        await self._door.settle()
        await self._runner.cleanup()


async def start_listener(
    app: web.Application,
    context: ssl.SSLContext | None,
    address: tuple[str, int],
    *,
    net: Net,
    limits: Limits,
    reuse_port: bool = False,
) -> Listener:
    """Serve `app` at an IP address and a port (0: any free one).

    Raises StartRefused.
    """
    refuse_loose_routes(app, net.gate.proxied)
    listening = listen(address, reuse_port=reuse_port)
    runner = web.AppRunner(app, shutdown_timeout=limits.shutdown_seconds)
    try:
        await runner.setup()
        server = runner.server
        assert server is not None
        assert not server.handler_cancellation
        server.request_handler = net.around(server.request_handler)
        server.request_factory = _make_request
        make = functools.partial(SafeHandler, server, net, limits, loop=asyncio.get_running_loop())
        verify(make, limits)
    except BaseException:
        listening.close()
        await runner.cleanup()
        raise
    net.metrics.declare_templates(resource.canonical for resource in app.router.resources())
    door = Door(listening, make, context, limits, net.metrics)
    door.open()
    port: int = listening.getsockname()[1]
    return Listener(runner, door, port)


def refuse_loose_routes(app: web.Application, proxied: tuple[str, ...]) -> None:
    """Every route of ours names its methods; aiohttp adds HEAD to each `web.get` unasked.

    Raises StartRefused.
    """
    for route in app.router.routes():
        path = "" if route.resource is None else route.resource.canonical
        if route.method == hdrs.METH_HEAD:
            raise StartRefused(f"route {path}: use web.get(…, allow_head=False)")
        if route.method == hdrs.METH_ANY and not (proxied and path.startswith(proxied)):
            raise StartRefused(f"route {path}: name its methods")
