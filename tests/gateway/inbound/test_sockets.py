"""WebSockets through both ends: a client, our two sides, and a merchant's application."""

import asyncio
import base64
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.errors import (
    MerchantBusy,
    MerchantProtocolError,
    MerchantReplyRefused,
    MerchantTimeout,
    UndeclaredCard,
)
from gateway.inbound.merchant import Merchant, MerchantRoute
from gateway.inbound.rules import Phase
from gateway.inbound.sockets import MESSAGE_BYTES_MAX, Look, client_socket, pump
from tests.gateway.raw_servers import (
    LOOPBACK,
    NAME,
    OK,
    Certificates,
    Connection,
    at,
    once,
    reply,
    say_nothing,
    serving,
)

Serve = Callable[[web.WebSocketResponse], Awaitable[None]]
ClientSocket = aiohttp.ClientWebSocketResponse
SWITCHING = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
WS_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records] == []


@dataclass
class Gate:
    """A gateway's part: a listener, the merchant behind it, and how each socket ended."""

    port: int
    merchant: Merchant
    errors: list[Exception] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


async def as_it_is(data: str | bytes, phase: Phase) -> str | bytes:
    return data


@asynccontextmanager
async def running(app: web.Application, certificates: Certificates | None) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    context = certificates.server if certificates else None
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        assert site._server is not None
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def merchant_on(
    port: int, certificates: Certificates, *, concurrency: int = 8, timeout_seconds: float = 2.0
) -> AsyncIterator[Merchant]:
    route = MerchantRoute(
        name="shop",
        scheme="https",
        host=NAME,
        port=port,
        timeout_seconds=timeout_seconds,
        connect_seconds=0.2,
        address_allow=LOOPBACK,
        ca_file=certificates.ca_file,
        concurrency=concurrency,
    )
    merchant = Merchant(route, clock=time.monotonic, lookup=at("127.0.0.1"))
    try:
        yield merchant
    finally:
        await merchant.close()


@asynccontextmanager
async def between(
    serve: Serve, certificates: Certificates, *, look: Look = as_it_is, idle_seconds: float = 3.0
) -> AsyncIterator[tuple[ClientSocket, Gate]]:
    """Open a client's socket that leads to `serve`, which is the merchant's application."""

    async def application(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("chat",), autoping=False, autoclose=False)
        await socket.prepare(request)
        await serve(socket)
        return socket

    async def gateway(request: web.Request) -> web.StreamResponse:
        theirs = await gate.merchant.socket("/live", [("Origin", "https://a")], ["chat"])
        ours = client_socket(theirs.protocol)
        await ours.prepare(request)
        try:
            await pump(ours, theirs, look=look, idle_seconds=idle_seconds)
        except UndeclaredCard as error:
            gate.errors.append(error)
        assert theirs.closed
        assert ours.closed
        gate.ended.set()
        return ours

    behind, front = web.Application(), web.Application()
    behind.router.add_get("/live", application)
    front.router.add_get("/", gateway)
    async with (
        running(behind, certificates) as port,
        merchant_on(port, certificates, concurrency=1) as merchant,
        running(front, None) as own_port,
        aiohttp.ClientSession() as session,
    ):
        gate = Gate(own_port, merchant)
        async with session.ws_connect(
            f"http://127.0.0.1:{own_port}/",
            protocols=("other", "chat"),
            autoping=False,
            autoclose=False,
            max_msg_size=0,
        ) as client:
            yield client, gate
            await client.close()
            async with asyncio.timeout(4):
                await gate.ended.wait()
        assert not merchant._slots.locked()  # the place is free again
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not {task for task in others if "pump" in repr(task) or "socket" in repr(task)}


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await socket.pong(message.data)


# --- messages -----------------------------------------------------------------------------


async def test_messages_pass_both_ways_and_are_looked_at(certificates: Certificates) -> None:
    seen: list[tuple[str | bytes, Phase]] = []

    async def look(data: str | bytes, phase: Phase) -> str | bytes:
        seen.append((data, phase))
        return data.replace("secret", "token") if isinstance(data, str) else data

    async with between(echo, certificates, look=look) as (client, _):
        assert client.protocol == "chat"
        assert client.compress == 0
        await client.send_str("my secret")
        assert await client.receive_str() == "my token"
        await client.send_bytes(b"\x00\xff")
        assert await client.receive_bytes() == b"\x00\xff"
        await client.send_str("")
        assert await client.receive_str() == ""
    assert seen == [
        ("my secret", "request"),
        ("my token", "response"),
        (b"\x00\xff", "request"),
        (b"\x00\xff", "response"),
        ("", "request"),
        ("", "response"),
    ]


async def test_the_merchant_may_speak_first(certificates: Certificates) -> None:
    """Also in the same bytes as its handshake."""

    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(200):
            await socket.send_str(str(number))
        await socket.receive()

    async with between(serve, certificates) as (client, _):
        assert [await client.receive_str() for _ in range(200)] == [str(n) for n in range(200)]


async def test_a_message_of_a_megabyte_passes(certificates: Certificates) -> None:
    message = b"x" * (MESSAGE_BYTES_MAX - 1)
    async with between(echo, certificates) as (client, _):
        await client.send_bytes(message)
        assert await client.receive_bytes() == message


@pytest.mark.guards("T-09")
async def test_a_message_of_more_ends_the_socket(certificates: Certificates) -> None:
    codes: list[int] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        codes.append((await socket.receive()).data)

    async with between(serve, certificates) as (client, _):
        await client.send_bytes(b"x" * (MESSAGE_BYTES_MAX + 1))
        message = await client.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)
    assert codes == [1001]


async def test_a_merchants_message_of_more_ends_the_socket(certificates: Certificates) -> None:
    codes: list[int] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"x" * (MESSAGE_BYTES_MAX + 1))
        codes.append((await socket.receive()).data)

    async with between(serve, certificates) as (client, _):
        message = await client.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1014)
    assert codes == [1009]


async def test_a_ping_is_answered_and_goes_on_empty(certificates: Certificates) -> None:
    pings: list[bytes] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.PING:
                pings.append(message.data)
                await socket.pong(message.data)
            else:
                await socket.send_str("done")

    async with between(serve, certificates) as (client, _):
        await client.ping(b"4f1c")
        message = await client.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"4f1c")
        await client.send_str("x")
        assert await client.receive_str() == "done"
    assert pings == [b""]


# --- how it ends --------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (4001, b"away"), (3000, "für".encode())])
async def test_a_clients_close_reaches_the_merchant(
    certificates: Certificates, code: int, reason: bytes
) -> None:
    got: list[tuple[object, object]] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        message = await socket.receive()
        got.append((message.data, message.extra))
        await socket.close(code=message.data)

    async with between(serve, certificates) as (client, gate):
        await client.close(code=code, message=reason)
        await gate.ended.wait()
        assert client.close_code == code
    assert got == [(code, reason.decode())]


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (4001, b"away")])
async def test_a_merchants_close_reaches_the_client(
    certificates: Certificates, code: int, reason: bytes
) -> None:
    replies: list[object] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code, message=reason)
        replies.append(socket.close_code)

    async with between(serve, certificates) as (client, _):
        message = await client.receive()
        assert (message.type, message.data, message.extra) == (
            WSMsgType.CLOSE,
            code,
            reason.decode(),
        )
    assert replies == [code]


async def test_the_reason_of_a_close_is_looked_at(certificates: Certificates) -> None:
    async def look(data: str | bytes, phase: Phase) -> str | bytes:
        assert isinstance(data, str)
        return data.replace("secret", "***")

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.close(code=4000, message=b"a secret")

    async with between(serve, certificates, look=look) as (client, _):
        assert (await client.receive()).extra == "a ***"


async def test_a_merchant_that_vanishes_is_told_of(certificates: Certificates) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()

    async with between(serve, certificates) as (client, _):
        await client.send_str("x")
        message = await client.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1014)


async def test_a_client_that_vanishes_is_told_of(certificates: Certificates) -> None:
    got: list[object] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        got.append((await socket.receive()).data)

    async with between(serve, certificates) as (client, gate):
        await client.send_str("x")
        client._response.close()
        await gate.ended.wait()
    assert got == [1001]


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("phase", ["request", "response"])
async def test_what_is_refused_ends_the_socket_before_it_passes(
    certificates: Certificates, phase: Phase
) -> None:
    got: list[tuple[WSMsgType, object]] = []

    async def look(data: str | bytes, at_phase: Phase) -> str | bytes:
        if at_phase == phase and data == "card":
            raise UndeclaredCard("body")
        return data

    async def serve(socket: web.WebSocketResponse) -> None:
        if phase == "response":
            await socket.send_str("card")
        message = await socket.receive()
        got.append((message.type, message.data))

    async with between(serve, certificates, look=look) as (client, gate):
        if phase == "request":
            await client.send_str("card")
        message = await client.receive()
        expected = 1008 if phase == "request" else 1001
        assert (message.type, message.data) == (WSMsgType.CLOSE, expected)
    assert got == [(WSMsgType.CLOSE, 2009 - expected)]
    assert [type(error) for error in gate.errors] == [UndeclaredCard]


async def test_a_quiet_socket_is_closed(certificates: Certificates) -> None:
    got: list[object] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        got.append((await socket.receive()).data)

    async with between(serve, certificates, idle_seconds=0.2) as (client, _):
        message = await client.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
    assert got == [1001]


async def test_one_way_is_enough_not_to_be_quiet(certificates: Certificates) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for _ in range(6):
            await asyncio.sleep(0.1)
            await socket.send_str("tick")
        await socket.receive()

    async with between(serve, certificates, idle_seconds=0.4) as (client, _):
        assert [await client.receive_str() for _ in range(6)] == ["tick"] * 6


async def test_no_frame_at_all_ends_the_socket(certificates: Certificates) -> None:
    got: list[object] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        got.append((await socket.receive()).data)

    async with between(serve, certificates) as (client, gate):
        assert client._conn is not None
        assert client._conn.transport is not None
        client._conn.transport.write(b"\xff" * 64)
        await gate.ended.wait()
    assert got == [1001]


async def test_a_reader_that_stopped_does_not_hold_the_socket(certificates: Certificates) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        try:
            while True:
                await socket.send_bytes(b"x" * 500_000)
                await asyncio.sleep(0)  # on a lost connection asyncio writes without ever waiting
        except ConnectionError:
            pass

    async with between(serve, certificates, idle_seconds=0.3) as (_, gate), asyncio.timeout(10):
        await gate.ended.wait()


# --- the handshake ------------------------------------------------------------------------


async def test_the_handshake_is_ours_and_the_rest_is_passed(certificates: Certificates) -> None:
    headers = [
        ("Host", "shop.example"),
        ("Origin", "https://shop.example"),
        ("Cookie", "a=1"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlaXJzIGFuZCBub3Qgb3Vycw=="),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec-WebSocket-Protocol", "other"),
    ]
    async with (
        serving(once(reply(b"", status="403 Forbidden")), certificates.server) as server,
        merchant_on(server.port, certificates) as merchant,
    ):
        with pytest.raises(MerchantReplyRefused):
            await merchant.socket("/live?a=1", headers, ["chat"])
    lines = server.requests[0].decode().split("\r\n")
    assert lines[:4] == [
        "GET /live?a=1 HTTP/1.1",
        "Host: shop.example",
        "Origin: https://shop.example",
        "Cookie: a=1",
    ]
    told = [line for line in lines if line.lower().startswith("sec-websocket")]
    assert [line for line in told if "-Key" not in line] == [
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat",
    ]
    assert "dGhlaXJz" not in "".join(told)


@pytest.mark.guards("T-45")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_handshake_follows_no_redirect(certificates: Certificates, status: int) -> None:
    async with serving(once(OK), certificates.server) as sink:
        away = reply(b"", f"Location: https://{NAME}:{sink.port}/", status=f"{status} Elsewhere")
        async with (
            serving(once(away), certificates.server) as server,
            merchant_on(server.port, certificates) as merchant,
        ):
            with pytest.raises(MerchantReplyRefused) as raised:
                await merchant.socket("/live", [], [])
    assert raised.value.__context__ is None
    assert sink.connections == 0
    assert len(server.requests) == 1


@pytest.mark.guards("T-47")
async def test_a_handshake_is_sent_once(certificates: Certificates) -> None:
    async with (
        serving(once(), certificates.server) as server,
        merchant_on(server.port, certificates) as merchant,
    ):
        with pytest.raises(MerchantProtocolError):
            await merchant.socket("/live", [], [])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "header", ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: other"]
)
async def test_what_was_not_offered_is_not_taken(certificates: Certificates, header: str) -> None:
    async def script(connection: Connection) -> None:
        request = await connection.request()
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + WS_KEY, usedforsecurity=False).digest())
        head = f"Sec-WebSocket-Accept: {accept.decode()}\r\n{header}\r\n\r\n".encode()
        await connection.say(SWITCHING + head)
        await connection.silence()

    async with (
        serving(script, certificates.server) as server,
        merchant_on(server.port, certificates, concurrency=1) as merchant,
    ):
        for _ in range(2):  # and its place is free again
            with pytest.raises(MerchantProtocolError):
                await merchant.socket("/live", [], ["chat"])


async def test_a_handshake_with_another_key_is_none(certificates: Certificates) -> None:
    async with (
        serving(
            once(SWITCHING + b"Sec-WebSocket-Accept: x\r\n\r\n"), certificates.server
        ) as server,
        merchant_on(server.port, certificates, concurrency=1) as merchant,
    ):
        for _ in range(2):
            with pytest.raises(MerchantProtocolError):
                await merchant.socket("/live", [], [])


async def test_a_merchant_that_does_not_shake_hands(certificates: Certificates) -> None:
    async with (
        serving(say_nothing, certificates.server) as server,
        merchant_on(server.port, certificates, concurrency=1, timeout_seconds=0.1) as merchant,
    ):
        for _ in range(2):
            with pytest.raises(MerchantTimeout):
                await merchant.socket("/live", [], [])


async def test_an_open_socket_holds_a_place(certificates: Certificates) -> None:
    async with between(echo, certificates) as (client, gate):
        with pytest.raises(MerchantBusy):
            await gate.merchant.socket("/live", [], [])
        await client.send_str("x")
        assert await client.receive_str() == "x"


def test_only_this_tree_speaks_websocket() -> None:
    """Everywhere else an upgrade is refused (S18)."""
    root = Path(__file__).parents[3] / "gateway"
    speaking = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "WebSocketResponse" in path.read_text()
    }
    assert speaking == {"inbound/sockets.py"}
