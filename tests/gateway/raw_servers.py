"""What the tests of the way out share: raw servers on loopback that behave as badly as told.

A server here knows no HTTP but how to find the end of a request. It keeps every application byte
it received, so that "not sent" can be held against it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme

from gateway.addresses import AddressAllow
from gateway.dialing import Lookup
from gateway.exchange import Failure, Outcome, Phase
from gateway.upstream import Upstream, UpstreamRoute

NAME = "processor.test"  # RFC 6761: no such name is ever in DNS
LOOPBACK = AddressAllow.parse(["127.0.0.1/32"])
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CANARY = b"canary-4f1c"

Script = Callable[["Connection"], Awaitable[None]]


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Connection:
    """One accepted connection, for a script to play with."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: "Server"
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._server = server

    async def request(self) -> bytes:
        """Wait for a whole request."""
        head = await self._read_head()
        length = 0
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.partition(":")[2])
        body = await self._reader.readexactly(length)
        self._server.keep(body)
        self._server.requests.append(head + body)
        return head + body

    async def some(self) -> bytes:
        """Wait for whatever comes next."""
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionResetError
        self._server.keep(data)
        return data

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            if self._writer.is_closing():
                raise ConnectionResetError
            self._writer.write(part)
            await self._writer.drain()
            await asyncio.sleep(0)  # so that a script that only talks hears that nobody listens

    async def silence(self) -> None:
        """Hold the connection until the other side, or the test, ends it."""
        while data := await self._reader.read(65536):
            self._server.keep(data)

    def reset(self) -> None:
        self._writer.transport.abort()

    async def _read_head(self) -> bytes:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            self._server.keep(cut.partial)
            raise
        self._server.keep(head)
        return head


@dataclass
class Server:
    """What a server saw."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()


@asynccontextmanager
async def serving(
    script: Script, context: ssl.SSLContext | None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Serve each connection by `script`; when it returns the connection is closed."""
    server = Server()
    writers: set[asyncio.StreamWriter] = set()
    running: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.connected.set()
        writers.add(writer)
        running.add(asyncio.current_task())
        try:
            await script(Connection(reader, writer, server))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side went away, as it may
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, port, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(task for task in running if task is not None))
        await asyncio.sleep(0)


def repeating(*parts: bytes) -> Script:
    """Answer each request of a connection alike."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.say(*parts)

    return script


async def say_nothing(connection: Connection) -> None:
    await connection.silence()


async def drip(connection: Connection) -> None:
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await connection.say(b"x")
        await asyncio.sleep(0.05)


def once(*parts: bytes) -> Script:
    """Answer one request and close."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(*parts)

    return script


class TlsByHand:
    """TLS on a plain connection: with the alerts that asyncio's servers leave out, no goodbye."""

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> bool:
        while True:
            self._incoming.write(await self._connection.some())
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._connection.say(self._outgoing.read())
            except ssl.SSLError:
                await self._connection.say(self._outgoing.read())
                return False
            else:
                await self._connection.say(self._outgoing.read())
                return True

    async def read(self) -> bytes:
        """Wait for some application bytes; none are the other side's goodbye."""
        while True:
            try:
                return self._tls.read()
            except ssl.SSLWantReadError:
                self._incoming.write(await self._connection.some())

    async def say(self, data: bytes) -> None:
        self._tls.write(data)
        await self._connection.say(self._outgoing.read())


class Observer:
    """Keeps what an upstream reports."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.failures: list[tuple[Phase, Failure]] = []

    def upstream_phase_ended(self, route: str, phase: Phase, seconds: float) -> None:
        assert route == "shop"
        assert seconds >= 0
        self.phases.append(phase)

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None:
        assert route == "shop"
        self.failures.append((phase, code))


class Certificates:
    """A certificate authority for the tests, its file, and a server's context."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.server = context_of(self.ca.issue_cert(NAME, "127.0.0.1", "::1", "localhost"))


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def at(*addresses: str) -> Lookup:
    """Look every name up as these addresses."""

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return lookup


def route_to(port: int, certificates: Certificates, **changes: object) -> UpstreamRoute:
    route = UpstreamRoute(
        name="shop",
        host=NAME,
        port=port,
        timeout_seconds=5.0,
        connect_seconds=2.0,
        address_allow=LOOPBACK,
        ca_file=certificates.ca_file,
    )
    return replace(route, **changes)  # type: ignore[arg-type]  # its own fields, as given


@asynccontextmanager
async def upstream_to(
    route: UpstreamRoute, observer: Observer | None = None, lookup: Lookup | None = None
) -> AsyncIterator[Upstream]:
    upstream = Upstream(route, observer or Observer(), lookup=lookup or at("127.0.0.1"))
    try:
        yield upstream
    finally:
        await upstream.close()


async def post(upstream: Upstream, body: bytes | bytearray = CANARY) -> Outcome:
    return await upstream.send("POST", "/v1/charges", "", [], body)
