"""Inside a CONNECT tunnel: HTTP as on any listener, held to the host that CONNECT named.

Each request must name that host, in SNI and in `Host`: else 421. Who calls is asked afresh each
time, by `in_tunnel`: a key that was revoked ends with its next request. What never may live here:
how a tunnel comes to be, and what a request means.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from gateway.addresses import Host
from gateway.connect_head import is_named, means
from gateway.connections import Limits, Seat
from gateway.lanes import Lane
from gateway.leaf_certificates import AskedNames
from gateway.listeners import Request, SafeHandler, verify
from gateway.middleware import Gate, Net
from gateway.problems import MEDIA_TYPE, Problem
from gateway.request_event import REQUEST_EVENT

MISDIRECTED: Final = 421
ANY_PATH: Final = "/{path:.*}"


class TunnelCalls(Protocol):
    """Who answers a request that came through a tunnel."""

    async def in_tunnel(self, request: web.Request, lane: Lane, key: str) -> web.Response: ...


@dataclass(frozen=True, slots=True, repr=False)
class Tunnel:
    """What a tunnel was opened for: every request inside is held to it."""

    place: Host
    lane: Lane
    key: str


class TunnelHandler(SafeHandler):
    """HTTP inside one tunnel."""

    __slots__ = ("is_gone", "tunnel")

    def __init__(
        self,
        server: Server,
        net: Net,
        limits: Limits,
        seat: Seat,
        *,
        tunnel: Tunnel | None = None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(server, net, limits, seat, loop=loop)
        self.tunnel = tunnel
        self.is_gone = False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_gone = True  # perhaps before it was made: TLS ended as soon as it had begun
        super().connection_lost(exc)


class TunnelGate(Gate):
    """The gate without its list of hosts: which one is right depends on the tunnel."""

    def _check_host(self, host: str) -> None:
        """Leave it to the handler, which answers 421."""


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> Request:
    loop = asyncio.get_running_loop()
    return Request(message, payload, protocol, writer, task, loop, client_max_size=1)


class _Inside:
    """The handler of every request in a tunnel."""

    def __init__(self, calls: TunnelCalls, asked: AskedNames) -> None:
        self._calls = calls
        self._asked = asked

    async def handle(self, request: web.Request) -> web.StreamResponse:
        protocol = request.protocol
        assert isinstance(protocol, TunnelHandler)
        tunnel = protocol.tunnel
        assert tunnel is not None
        if not self._is_directed(request, tunnel.place):
            return _misdirected(request)
        return await self._calls.in_tunnel(request, tunnel.lane, tunnel.key)

    def _is_directed(self, request: web.Request, place: Host) -> bool:
        """Whether TLS and HTTP ask for the host that CONNECT named (RFC 9110 7.4)."""
        assert request.transport is not None
        asked = self._asked.of(request.transport.get_extra_info("ssl_object"))
        if (asked or "").lower() != (place.name if is_named(place) else ""):
            return False
        hosts = request.headers.getall(hdrs.HOST, [])
        return len(hosts) == 1 and means(hosts[0], place)


def _misdirected(request: web.Request) -> web.Response:
    event = request[REQUEST_EVENT]
    event.code = "misdirected_request"
    problem = Problem(
        title="The request is for another host than its tunnel",
        status=MISDIRECTED,
        code=event.code,
        retryable=False,
        request_id=event.request_id,
    )
    response = web.Response(
        status=MISDIRECTED,
        body=msgspec.json.encode(problem),
        headers={"Content-Type": MEDIA_TYPE},
    )
    response.force_close()
    return response


class Insides:
    """The HTTP server of all tunnels of one listener."""

    def __init__(self, runner: web.AppRunner, server: Server, net: Net, limits: Limits) -> None:
        self._runner = runner
        self._server = server
        self._net = net
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    def handler(self, seat: Seat, tunnel: Tunnel | None = None) -> TunnelHandler:
        return TunnelHandler(
            self._server, self._net, self._limits, seat, tunnel=tunnel, loop=self._loop
        )

    async def close(self) -> None:
        """Let requests under way end, at most `shutdown_seconds`, then close all."""
        await self._runner.cleanup()


async def open_insides(calls: TunnelCalls, asked: AskedNames, net: Net, limits: Limits) -> Insides:
    """Make the server, and make sure of its settings. Raises StartRefused."""
    app = web.Application()
    app.router.add_route("*", ANY_PATH, _Inside(calls, asked).handle)
    runner = web.AppRunner(app, shutdown_timeout=limits.shutdown_seconds)
    try:
        await runner.setup()
        server = runner.server
        assert server is not None
        server.request_handler = net.around(server.request_handler)
        server.request_factory = _make_request
        insides = Insides(runner, server, net, limits)
        verify(insides.handler, limits)
    except BaseException:
        await runner.cleanup()
        raise
    net.metrics.declare_templates(one.canonical for one in app.router.resources())
    return insides
