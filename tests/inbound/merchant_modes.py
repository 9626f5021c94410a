"""How the merchant's application answers: by the last part of the path. Without one: `ok`.

What lives here: one function a mode. What never may: how a request is read.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from tests.inbound import raw_websocket

CHUNKS: Final = "Transfer-Encoding: chunked"
PIECE: Final = bytes(range(32, 127)) * 690  # 64 KiB or so, without a digit run of a card's length


class Asked(Protocol):
    """What a mode knows of a request."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def trailers(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def body_bytes(self) -> int: ...
    @property
    def body_sha256(self) -> str: ...
    @property
    def query(self) -> dict[str, str]: ...
    def header(self, name: str) -> str | None: ...


class Messages(Protocol):
    """Where a WebSocket's messages are written down."""

    messages: list[bytes]
    received: bytearray


class Caller(Protocol):
    """What a mode may do with the connection."""

    @property
    def app(self) -> Messages: ...
    async def say(self, *parts: bytes) -> None: ...
    async def more(self) -> bytes: ...


Mode = Callable[[Caller, Asked], Awaitable[None]]


def head(status: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def plain(status: int, body: bytes, *headers: str) -> bytes:
    return head(status, f"Content-Length: {len(body)}", *headers) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _case(asked: Asked) -> list[str]:
    """Name the request in its answer, so that an answer to another one is known."""
    case = asked.header("X-Case")
    return [] if case is None else [f"X-Case: {case}"]


async def _ok(line: Caller, asked: Asked) -> None:
    """Say that it was read; a hidden request says so too."""
    body = b"smuggled" if asked.target.startswith("/marker") else b"ok"
    sent = plain(200, body, "Content-Type: text/plain", *_case(asked))
    await line.say(sent.removesuffix(body) if asked.method == "HEAD" else sent)


async def _echo(line: Caller, asked: Asked) -> None:
    kind = asked.header("Content-Type") or "application/octet-stream"
    await line.say(plain(200, asked.body, f"Content-Type: {kind}", *_case(asked)))


async def _seen(line: Caller, asked: Asked) -> None:
    """Tell all about the request but its body."""
    told = {
        "method": asked.method,
        "target": asked.target,
        "headers": asked.headers,
        "trailers": asked.trailers,
        "body_bytes": asked.body_bytes,
        "body_sha256": asked.body_sha256,
    }
    body = json.dumps(told).encode()
    await line.say(plain(200, body, "Content-Type: application/json", *_case(asked)))


async def _slow(line: Caller, asked: Asked) -> None:
    await asyncio.sleep(float(asked.query.get("seconds", "1")))
    await _ok(line, asked)


async def _stream(line: Caller, asked: Asked) -> None:
    """Send `bytes` bytes in chunks, `pause` seconds apart; `length` tells them beforehand."""
    left, pause = int(asked.query.get("bytes", "1048576")), float(asked.query.get("pause", "0"))
    told = "length" in asked.query
    framing = f"Content-Length: {left}" if told else CHUNKS
    await line.say(head(200, "Content-Type: application/octet-stream", framing, *_case(asked)))
    while left:
        piece = PIECE[:left]
        left -= len(piece)
        await line.say(piece if told else chunk(piece))
        await asyncio.sleep(pause)
    await line.say(b"" if told else b"0\r\n\r\n")


async def _sse(line: Caller, asked: Asked) -> None:
    """Send server-sent events, `pause` seconds apart."""
    await line.say(head(200, "Content-Type: text/event-stream", CHUNKS, "Cache-Control: no-cache"))
    for number in range(int(asked.query.get("events", "3"))):
        await line.say(chunk(b"id: %d\ndata: event %d\n\n" % (number, number)))
        await asyncio.sleep(float(asked.query.get("pause", "0.05")))
    await line.say(b"0\r\n\r\n")


async def _broken_chunks(line: Caller, asked: Asked) -> None:
    """Begin an answer well, and go on with what is no chunk."""
    await line.say(head(200, "Content-Type: text/plain", CHUNKS), chunk(b"well begun"), b"zz\r\n")


async def _socket(line: Caller, asked: Asked) -> None:
    """Echo what a WebSocket says, until it closes; `close 4001 why`, `ping` and `send 10` do so."""
    key, protocol = asked.header("Sec-WebSocket-Key"), asked.header("Sec-WebSocket-Protocol")
    if key is None:
        await line.say(plain(426, b"", "Upgrade: websocket", "Connection: close"))
        return
    first = None if protocol is None else protocol.partition(",")[0].strip().encode()
    await line.say(raw_websocket.accepting(key.encode(), first))
    buffer = bytearray()
    while data := await line.more():
        buffer += data
        while (frame := raw_websocket.take_frame(buffer)) is not None:
            line.app.received += frame.payload  # on the wire it was masked
            if frame.kind == raw_websocket.PING:
                await line.say(raw_websocket.frame(raw_websocket.PONG, frame.payload))
                continue
            line.app.messages.append(frame.payload)
            await line.say(_said(frame))
            if frame.kind == raw_websocket.CLOSE:
                return


def _said(frame: raw_websocket.Frame) -> bytes:
    """Answer one frame; a pong is noted like a message."""
    word, _, rest = frame.payload.partition(b" ")
    match word:
        case b"close":
            code, _, reason = rest.partition(b" ")
            return raw_websocket.frame(raw_websocket.CLOSE, int(code).to_bytes(2) + reason)
        case b"ping":
            return raw_websocket.frame(raw_websocket.PING, rest)
        case b"send":
            return raw_websocket.frame(raw_websocket.BINARY, b"x" * int(rest))
        case _ if frame.kind == raw_websocket.PONG:
            return b""
    return raw_websocket.frame(frame.kind, frame.payload)


MODES: Final[Mapping[str, Mode]] = {
    "": _ok,
    "echo": _echo,
    "seen": _seen,
    "slow": _slow,
    "stream": _stream,
    "sse": _sse,
    "broken-chunks": _broken_chunks,
    "ws": _socket,
}
"""Besides: `early` (answered before the body is read), `discard` (the body is not kept)."""
