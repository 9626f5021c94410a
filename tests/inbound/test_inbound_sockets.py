"""WebSockets and server-sent events: passed where a route says so, each message looked at."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType

from gateway.inbound.sockets import MESSAGE_BYTES_MAX
from tests.cards import AMEX, MASTERCARD, VISA
from tests.flows.deployment import eventually
from tests.inbound.client import Shopper
from tests.inbound.framing import hang_up
from tests.inbound.merchant_app import Paced

pytestmark = pytest.mark.embedded

Socket = aiohttp.ClientWebSocketResponse
SECONDS = 10.0
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
MASKED = f"{'*' * 12}{VISA[-4:]}"
SPACED = " ".join(VISA[at : at + 4] for at in range(0, 16, 4))


@asynccontextmanager
async def socket(
    shopper: Shopper, path: str = "/ws", protocols: tuple[str, ...] = ()
) -> AsyncIterator[Socket]:
    url = f"wss{shopper.base.removeprefix('https')}{path}"
    async with shopper.session.ws_connect(
        url, protocols=protocols, autoclose=False, autoping=False, max_msg_size=0
    ) as opened:
        raw = opened.get_extra_info("socket")
        yield opened

    async def closed() -> bool:
        return bool(raw.fileno() < 0)

    await eventually(closed, "the connection is still there")


async def heard(opened: Socket) -> aiohttp.WSMessage:
    return await opened.receive(SECONDS)


async def echoed(opened: Socket, text: str) -> str:
    await opened.send_str(text)
    message = await heard(opened)
    assert message.type is WSMsgType.TEXT
    return str(message.data)


async def arrived(shopper: Shopper, wanted: bytes) -> None:
    async def it_did() -> bool:
        return any(wanted in each for each in shopper.stage.merchant.messages)

    await eventually(it_did, "the application did not get it")


# --- messages -----------------------------------------------------------------------------


async def test_messages_pass_as_they_are(shopper: Shopper) -> None:
    large = "é" * 300_000
    async with socket(shopper) as opened:
        assert await echoed(opened, "hello, 4711") == "hello, 4711"
        assert await echoed(opened, large) == large
        for data in (bytes(range(256)) * 40, b"", b"x" * 70_000):
            await opened.send_bytes(data)
            message = await heard(opened)
            assert (message.type, message.data) == (WSMsgType.BINARY, data)
    assert shopper.stage.merchant.irregular == []


async def test_the_application_chooses_the_protocol(shopper: Shopper) -> None:
    async with socket(shopper, protocols=("chat.v2", "chat.v1")) as opened:
        assert opened.protocol == "chat.v2"
        assert await echoed(opened, "a") == "a"
    async with socket(shopper) as opened:
        assert opened.protocol is None


async def test_pings_are_answered_and_go_on_empty(shopper: Shopper) -> None:
    async with socket(shopper) as opened:
        await opened.ping(b"to you")
        message = await heard(opened)
        assert (message.type, message.data) == (WSMsgType.PONG, b"to you")
        await opened.send_str("ping from the shop")
        message = await heard(opened)
        assert (message.type, message.data) == (WSMsgType.PING, b"")
        await arrived(shopper, b"from the shop")
    assert b"to you" not in shopper.stage.merchant.received


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_goodbye_goes_both_ways(shopper: Shopper, code: int) -> None:
    async with socket(shopper) as opened:
        assert await echoed(opened, "a") == "a"
        await opened.close(code=code, message=b"done here")
        assert opened.close_code == code
    await arrived(shopper, code.to_bytes(2) + b"done here")
    async with socket(shopper) as opened:
        await opened.send_str(f"close {code} closing time")
        message = await heard(opened)
        assert (message.type, message.data) == (WSMsgType.CLOSE, code)
        assert message.extra == "closing time"


async def test_who_vanishes_is_told_of(shopper: Shopper) -> None:
    """A connection that breaks is a goodbye to the other side."""
    reader, writer = await shopper.way().connect()
    lines = ("GET /ws HTTP/1.1", f"Host: {shopper.stage.hostname}", *HANDSHAKE)
    writer.write("\r\n".join((*lines, "", "")).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    await hang_up(writer)
    await arrived(shopper, (1001).to_bytes(2))


# --- cards in messages --------------------------------------------------------------------


async def test_a_merchants_message_has_no_card_in_it(shopper: Shopper) -> None:
    """The route only reports what comes in: what the application says of it is masked."""
    async with socket(shopper) as opened:
        assert await echoed(opened, f"paid with {VISA}!") == f"paid with {MASKED}!"
        await opened.send_bytes(f"paid with {VISA}!".encode())
        assert (await heard(opened)).data == f"paid with {MASKED}!".encode()
        await opened.send_str(f"close 4000 paid with {VISA}!")
        message = await heard(opened)
        assert (message.data, message.extra) == (4000, f"paid with {MASKED}!")
    await arrived(shopper, (4000).to_bytes(2))
    shopper.stage.merchant.forget()


@pytest.mark.parametrize("number", [VISA, SPACED])
async def test_a_card_in_a_message_is_masked(shopper: Shopper, number: str) -> None:
    async with socket(shopper, "/mask/ws") as opened:
        await echoed(opened, f'{{"say":"it is {number}, ok"}}')
        await opened.send_bytes(f"it is {VISA}, ok".encode())
        await heard(opened)
        await opened.close(message=f"it was {VISA}.".encode())
    await arrived(shopper, f"it was {MASKED}.".encode())
    text, raw = shopper.stage.merchant.messages[:2]
    assert re.sub(rb"[^0-9]", b"", text) == re.sub(rb"[^0-9]", b"", raw) == VISA[-4:].encode()
    assert text.endswith(b', ok"}')
    assert raw == f"it is {MASKED}, ok".encode()


async def test_a_card_in_a_message_becomes_a_token(shopper: Shopper) -> None:
    async with socket(shopper, "/tokenize/ws") as opened:
        said = await echoed(opened, f"one {SPACED}; two {MASTERCARD}.")
        await opened.close(message=b"done")
    await arrived(shopper, b"done")
    assert said.encode() == shopper.stage.merchant.messages[0]
    found = re.fullmatch(r"one (\w+); two (\w+)\.", said)
    assert found is not None
    lasts = [(await shopper.card(token))["last4"] for token in found.groups()]
    assert lasts == [VISA[-4:], MASTERCARD[-4:]]


async def test_a_card_in_a_message_ends_the_socket(shopper: Shopper) -> None:
    async with socket(shopper, "/refuse/ws") as opened:
        assert await echoed(opened, "fine so far") == "fine so far"
        await opened.send_str(f"mine is {AMEX}")
        message = await heard(opened)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)
    await arrived(shopper, (1001).to_bytes(2))
    assert b"mine is" not in shopper.stage.merchant.received


@pytest.mark.parametrize("path", ["/ws", "/mask/ws"])
async def test_a_message_has_a_size(shopper: Shopper, path: str) -> None:
    async with socket(shopper, path) as opened:
        await opened.send_bytes(b"x" * (MESSAGE_BYTES_MAX + 1))
        message = await heard(opened)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)
    async with socket(shopper, path) as opened:
        await opened.send_str(f"send {MESSAGE_BYTES_MAX + 1}")
        message = await heard(opened)
        assert message.type is WSMsgType.CLOSE
    assert all(len(each) < 100 for each in shopper.stage.merchant.messages)


# --- who may open one ---------------------------------------------------------------------


UPGRADES: dict[str, tuple[str, tuple[str, ...], bytes]] = {
    "a route without": ("GET /form/ws", HANDSHAKE, b""),
    "another without": ("GET /replies/ws", HANDSHAKE, b""),
    "no handshake": ("GET /ws", ("Upgrade: websocket",), b""),
    "connection alone": ("GET /ws", ("Connection: Upgrade",), b""),
    "h2c": ("GET /ws", ("Upgrade: h2c", *HANDSHAKE[1:]), b""),
    "two protocols": ("GET /ws", ("Upgrade: h2c", *HANDSHAKE), b""),
    "a list of them": ("GET /ws", ("Upgrade: websocket, h2c", *HANDSHAKE[1:]), b""),
    "version 8": ("GET /ws", (*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]), b""),
    "no key": ("GET /ws", HANDSHAKE[:3], b""),
    "two keys": ("GET /ws", (*HANDSHAKE, HANDSHAKE[3]), b""),
    "a POST": ("POST /ws", (*HANDSHAKE, "Content-Length: 1"), b"x"),
    "with a body": ("PUT /ws", (*HANDSHAKE, "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
}


@pytest.mark.guards("T-03")
@pytest.mark.parametrize("name", UPGRADES)
async def test_nothing_else_is_upgraded(shopper: Shopper, name: str) -> None:
    """Else what follows, a second request, would be read by somebody who knows another state."""
    first, lines, body = UPGRADES[name]
    hidden = f"GET /marker HTTP/1.1\r\nHost: {shopper.stage.hostname}\r\n\r\n".encode()
    received = await shopper.raw(first, *lines, body=body + hidden)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert not shopper.stage.merchant.received


@pytest.mark.guards("T-03")
async def test_an_application_that_wants_no_socket(shopper: Shopper) -> None:
    merchant = shopper.stage.merchant
    answers = {
        "/plain": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "/no": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        "/forged": b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "/h2c": b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    }
    merchant.answers.update(answers)
    for path in answers:
        received = await shopper.raw(f"GET {path}", *HANDSHAKE)
        assert received.startswith(b"HTTP/1.1 502 "), path


@pytest.mark.guards("T-03")
async def test_who_asked_for_no_socket_gets_none(shopper: Shopper) -> None:
    switching = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    shopper.stage.merchant.answers["/sudden"] = switching + b"HTTP/1.1 200 OK\r\n\r\n"
    received = await shopper.raw("GET /sudden")
    assert received.startswith(b"HTTP/1.1 502 ")


# --- server-sent events -------------------------------------------------------------------


def events(*texts: str, kind: str = "text/event-stream") -> Paced:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\n\r\n"
    return Paced([head.encode(), *(f"data: {text}\n\n".encode() for text in texts)])


async def test_events_arrive_one_by_one(shopper: Shopper) -> None:
    """The next is sent only when the one before was read: none may be held back."""
    texts = ("first", f"paid with {VISA}", f"and {SPACED} too", "x" * 9000, "last")
    paced = shopper.stage.merchant.answers["/events"] = events(*texts)
    paced.released = 1
    read = []
    async with asyncio.timeout(SECONDS):
        async with shopper.session.get(f"{shopper.base}/events") as reply:
            assert reply.headers["Content-Type"] == "text/event-stream"
            for _ in texts:
                paced.released += 1
                read.append(await reply.content.readuntil(b"\n\n"))
            assert await reply.read() == b""
    said = [each.decode().removeprefix("data: ").removesuffix("\n\n") for each in read]
    assert (said[0], said[3], said[4]) == (texts[0], texts[3], texts[4])
    assert said[1] == f"paid with {MASKED}"
    assert re.sub(r"[^0-9]", "", said[2]) == VISA[-4:]
    assert len(said[2]) == len(texts[2])


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
@pytest.mark.parametrize("path", ["/form/events", "/tokenize/events", "/replies/events"])
async def test_events_are_refused_where_the_route_has_none(
    shopper: Shopper, path: str, kind: str
) -> None:
    paced = shopper.stage.merchant.answers[path] = events("first", kind=kind)
    paced.released = 9
    reply = await shopper.send("GET", path)
    assert reply.told() == (502, "merchant_reply_refused", None, None)
    assert b"first" not in reply.body


async def test_a_line_that_never_ends_is_still_looked_at(shopper: Shopper) -> None:
    """Cut anywhere, by the application or on the way: what began as a card is one."""
    raw = f"data: {'-' * 5000} {VISA[:7]}".encode(), f"{VISA[7:]} {'-' * 9000}".encode()
    paced = shopper.stage.merchant.answers["/events"] = events()
    paced.parts += raw
    paced.released = 9
    reply = await shopper.send("GET", "/events")
    assert MASKED.encode() in reply.body
    assert len(reply.body) == sum(map(len, raw))
