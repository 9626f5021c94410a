"""What the tests of the CONNECT listener share: a real listener with the real OpenBao's authority.

Behind it stands a handler that keeps the promises of the way out that matter here: it asks for
the key afresh, and writes down what came.
"""

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from gateway.addresses import Host
from gateway.bodies import read_whole_body
from gateway.connect import ConnectListener, ConnectSettings, start_connect
from gateway.connections import Limits
from gateway.lanes import Lane
from gateway.leaf_certificates import LeafCertificates
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.request_event import EventLog, quiet_logging
from tests.gateway.raw_client import hang_up, rest
from tests.gateway.test_merchants import Clock, KnownKeys
from tests.vault.places import Place
from vault.api_keys import NewApiKey
from vault.authority import Authority, public_authority

STRIPE = Host("api.stripe.com", 443)
OTHER = Host("checkout-test.adyen.com", 443)
LOOPBACK = Host("127.0.0.1", 8443)
SHORT = Limits(keepalive_seconds=0.4, shutdown_seconds=1.0, handshake_seconds=0.4)
USUAL = Limits(keepalive_seconds=5.0, shutdown_seconds=1.0, handshake_seconds=5.0)
BODY_BYTES_MAX = 4 << 20
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class NamedLane:
    """A lane as far as the listener looks at it."""

    name: str


@dataclass
class Calls:
    """Answers requests that came through tunnels, and writes them down."""

    merchants: Merchants
    seen: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def in_tunnel(self, request: web.Request, lane: Lane, key: str) -> web.Response:
        caller = await self.merchants.authenticate(key)
        caller.require_route(lane.name)
        body = await read_whole_body(request, BODY_BYTES_MAX)
        self.headers.append(request.headers)
        self.entered.set()
        if request.path == "/wait":
            await self.go_on.wait()
        self.seen.append((lane.name, request.method, request.raw_path, body))
        return web.json_response({"route": lane.name, "bytes": len(body)})


@dataclass
class ConnectShell:
    """A running listener, and what it left behind."""

    listener: ConnectListener
    calls: Calls
    keys: KnownKeys
    clock: Clock
    key: NewApiKey
    leaves: LeafCertificates
    metrics: Metrics
    stream: BytesIO
    ca_file: Path

    @property
    def port(self) -> int:
        return self.listener.port

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == "request"]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"panward_{name}", labels) or 0.0

    @property
    def seats_taken(self) -> int:
        return self.listener._door._seats.taken

    @property
    def authorization(self) -> bytes:
        return basic(self.key.text, "")

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def exchange(self, sent: bytes) -> bytes:
        """Write `sent` and return all that comes until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(sent)
            return await rest(reader)
        finally:
            await hang_up(writer)

    async def tunnel(
        self,
        place: Host = STRIPE,
        *,
        name: str | None = None,
        context: ssl.SSLContext | None = None,
        key: str | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a tunnel as a good client does; `name` is what TLS asks for."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        authorization = self.authorization if key is None else basic(key, "")
        writer.write(connect(place, authorization))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        try:
            await writer.start_tls(context or self.trusting(), server_hostname=name or place.name)
        except OSError:
            await hang_up(writer)
            raise
        return reader, writer


def basic(user: str, password: str) -> bytes:
    return b"Proxy-Authorization: Basic " + b64encode(f"{user}:{password}".encode()) + b"\r\n"


def connect(place: Host = STRIPE, *fields: bytes, version: bytes = b"1.1") -> bytes:
    target = f"{place.name}:{place.port}".encode()
    return b"CONNECT " + target + b" HTTP/" + version + b"\r\n" + b"".join(fields) + b"\r\n"


def get(path: bytes = b"/v1/balance", host: bytes = b"api.stripe.com", *more: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + b"".join(more) + b"\r\n"


def post(body: bytes, *more: bytes) -> bytes:
    head = b"POST /v1/charges HTTP/1.1\r\nHost: api.stripe.com\r\nContent-Length: %d\r\n"
    return head % len(body) + b"".join(more) + b"\r\n" + body


async def one_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one response with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return int(head.split(b" ")[1]), await reader.readexactly(int(fields[b"Content-Length"]))


@asynccontextmanager
async def connect_serving(
    place: Place,
    folder: Path,
    limits: Limits = USUAL,
    *,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[ConnectShell]:
    """Run a listener for two processors, one of which the key is for, and a loopback address."""
    stream, metrics, keys, clock = BytesIO(), Metrics(), KnownKeys(), Clock()
    log = EventLog(stream, now=lambda: AT, watch=metrics)
    merchants = Merchants(keys, env="test", now=lambda: AT, monotonic=clock)
    calls = Calls(merchants)
    async with place.transit("reveal") as transit, public_authority(place.access("reveal")) as ca:
        roots = await ca.roots(at=datetime.now(UTC))
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(b"".join(root.certificate for root in roots))
        leaves = LeafCertificates(
            Authority(transit.ask), now=lambda: datetime.now(UTC), monotonic=clock
        )
        lanes = {
            STRIPE: NamedLane("stripe"),
            LOOPBACK: NamedLane("stripe"),
            OTHER: NamedLane("adyen"),
        }
        with quiet_logging(log):
            listener = await start_connect(
                ConnectSettings(("127.0.0.1", 0), context, limits),
                cast("dict[Host, Lane]", lanes),
                leaves=leaves,
                merchants=merchants,
                calls=calls,
                log=log,
                metrics=metrics,
                chance=lambda: 0.5,
            )
            try:
                yield ConnectShell(
                    listener, calls, keys, clock, keys.made(), leaves, metrics, stream, ca_file
                )
            finally:
                await listener.close()
