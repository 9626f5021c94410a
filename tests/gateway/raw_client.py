"""What the tests of the edge share: a real listener, and a client that writes any bytes.

The application behind the listener writes down each request that reached it, so that "refused"
and "smuggled" can be told apart.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.bodies import Pace, read_body, read_whole_body
from gateway.connections import Limits
from gateway.errors import NotAuthenticated, UpstreamTimeout
from gateway.listeners import Listener, start_listener
from gateway.metrics import Metrics
from gateway.middleware import OWN_POLICY, Gate, Net
from gateway.request_event import REQUEST_EVENT, EventLog, quiet_logging
from tests.cards import VISA
from vault.authorization import State

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
SECONDS_MAX = 8.0
BODY_BYTES_MAX = 4096
CANARY = VISA
POLICY = "default-src 'self'"


@dataclass
class Application:
    """Handlers that write down what they saw."""

    pace: Pace
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, request: web.Request, body: bytes = b"") -> web.Response:
        self.seen.append((request.method, request.raw_path, body))
        return web.Response(body=b"{}", headers={"Content-Type": "application/json"})

    async def create(self, request: web.Request) -> web.Response:
        self.entered.set()
        return self.see(
            request, await read_body(request, BODY_BYTES_MAX, ("application/json",), self.pace)
        )

    async def plain(self, request: web.Request) -> web.Response:
        return self.see(request)

    async def outbound(self, request: web.Request) -> web.Response:
        return self.see(request, await read_whole_body(request, BODY_BYTES_MAX, self.pace))

    async def wait(self, request: web.Request) -> web.Response:
        self.entered.set()
        await self.go_on.wait()
        return self.see(request)

    async def big(self, request: web.Request) -> web.Response:
        self.see(request)
        return web.Response(body=bytes(1 << 24))

    async def fail(self, _request: web.Request) -> web.Response:
        raise ValueError(f"cannot make sense of {CANARY}")

    async def upstream(self, _request: web.Request) -> web.Response:
        raise UpstreamTimeout(State.UNKNOWN, retryable=True)

    async def unknown_key(self, _request: web.Request) -> web.Response:
        raise NotAuthenticated

    async def processor(self, _request: web.Request) -> web.Response:
        return web.Response(status=500, headers={"Panward-Processor-Status": "500"})

    async def shaped(self, request: web.Request) -> web.Response:
        request[REQUEST_EVENT].code = "upstream_reset"
        return web.Response(status=502)

    async def unwritable(self, _request: web.Request) -> web.Response:
        return web.Response(headers={"X-A": f"a\r\nX-B: {CANARY}"})

    async def fail_late(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise ValueError(CANARY)

    async def fields(self, _request: web.Request) -> web.Response:
        response = web.Response(
            body=b"<p>", headers={"Content-Security-Policy": POLICY, "Server": "nosy"}
        )
        response[OWN_POLICY] = True
        return response

    async def from_elsewhere(self, _request: web.Request) -> web.Response:
        return web.Response(headers={"Content-Security-Policy": POLICY})

    async def read(self, request: web.Request) -> web.Response:
        return self.see(request, await request.read())

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/tokens", self.create)
        app.router.add_get("/v1/tokens", self.plain, allow_head=False)
        app.router.add_delete("/v1/tokens/{id}", self.plain)
        app.router.add_get("/marker", self.plain, allow_head=False)
        app.router.add_post("/unread", self.plain)
        app.router.add_get("/wait", self.wait, allow_head=False)
        app.router.add_get("/big", self.big, allow_head=False)
        app.router.add_get("/fail", self.fail, allow_head=False)
        app.router.add_get("/upstream", self.upstream, allow_head=False)
        app.router.add_get("/unknown-key", self.unknown_key, allow_head=False)
        app.router.add_get("/processor", self.processor, allow_head=False)
        app.router.add_get("/shaped", self.shaped, allow_head=False)
        app.router.add_get("/unwritable", self.unwritable, allow_head=False)
        app.router.add_get("/fail-late", self.fail_late, allow_head=False)
        app.router.add_get("/fields", self.fields, allow_head=False)
        app.router.add_get("/from-elsewhere", self.from_elsewhere, allow_head=False)
        app.router.add_post("/read", self.read)
        app.router.add_route("*", "/out/{route}/{path:.*}", self.outbound)
        return app


@dataclass
class Shell:
    """A running listener and what it left behind."""

    application: Application
    listener: Listener
    net: Net
    metrics: Metrics
    stream: BytesIO
    log: EventLog
    noisy: bool = False  # whether the log may hold more than requests

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def connections(self) -> list[RequestHandler]:
        server = self.listener._runner.server
        return server.connections if server is not None else []

    @property
    def seats_taken(self) -> int:
        return self.listener._door._seats.taken

    @property
    def seen(self) -> list[tuple[str, str, bytes]]:
        return self.application.seen

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def events(self) -> list[dict[str, object]]:
        return [line for line in self.lines() if line["event"] == "request"]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"panward_{name}", labels) or 0.0

    async def connect(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if context is not None else None
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name
        )

    async def exchange(self, sent: bytes, *, half_close: bool = False) -> bytes:
        """Write `sent` and return all that comes until the other side closes."""
        reader, writer = await self.connect()
        try:
            writer.write(sent)
            if half_close:
                writer.write_eof()
            return await rest(reader)
        finally:
            await hang_up(writer)


async def until(happened: Callable[[], object]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(SECONDS_MAX):
        while not happened():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)


async def rest(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while chunk := await reader.read(65536):
                received += chunk
    except ConnectionError:
        pass
    return bytes(received)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    pace: Pace | None = None,
    context: ssl.SSLContext | None = None,
    proxied: Sequence[str] = ("/out/",),
) -> AsyncIterator[Shell]:
    """Run a listener whose times are short enough for tests."""
    application = Application(pace or Pace())
    stream, metrics = BytesIO(), Metrics()
    log = EventLog(stream, now=lambda: NOW, watch=metrics)
    gate = Gate(frozenset({"127.0.0.1", "localhost"}), tuple(proxied))
    net = Net("public", gate, log=log, metrics=metrics, chance=lambda: 0.5)
    with quiet_logging(log):
        listener = await start_listener(
            application.application(),
            context,
            ("127.0.0.1", 0),
            net=net,
            limits=limits or Limits(keepalive_seconds=2.0, shutdown_seconds=1.0),
        )
        try:
            shell = Shell(application, listener, net, metrics, stream, log)
            yield shell
        finally:
            await listener.close()
        assert shell.noisy or shell.lines() == shell.events(), "something else was told"


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/1.1 ") else 0


def headers(reply: bytes) -> dict[str, str]:
    lines = reply.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def document(reply: bytes) -> dict[str, object]:
    found = json.loads(reply.partition(b"\r\n\r\n")[2])
    assert isinstance(found, dict)
    return found


def post(body: bytes, *more: bytes, path: bytes = b"/v1/tokens") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + JSON + length + b"".join(more)
    return head + b"\r\n" + body


def get(path: bytes, *more: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"".join(more) + b"\r\n"
