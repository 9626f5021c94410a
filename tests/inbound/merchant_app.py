"""The merchant's application behind an inbound route: HTTP/1.1 by hand, and nothing forgotten.

What lives here: a server in a thread of its own that keeps every byte that arrives, reads
requests in the one strict way (what is written otherwise is `irregular`), counts those that are
whole, and answers as the last part of the path says. What never may: aiohttp, whose reading is
what is being tested.
"""

import asyncio
import hashlib
import json
import re
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import parse_qs

from tests.flows.leaks import first_leak
from tests.inbound.merchant_modes import MODES, plain

PIECE_BYTES: Final = 1 << 16
HEAD_BYTES_MAX: Final = 1 << 18
START_SECONDS: Final = 60.0

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([/*][\x21-\x7e]*) HTTP/1\.1")
_HEADER_LINE = re.compile(
    rb"([!#$%&'*+.^`|~0-9A-Za-z-]+): ([\x21-\xff](?:[\t\x20-\xff]*[\x21-\xff])?)?"
)
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_LENGTH = re.compile(rb"[0-9]{1,12}")


class Irregular(Exception):
    """Something that servers may read in more than one way."""


@dataclass(frozen=True)
class Seen:
    """One whole request, as the application counts it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    body_bytes: int
    body_sha256: str
    trailers: tuple[tuple[str, str], ...]
    connection: int

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, name
        return values[0] if values else None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def mode(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        asked = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {name: values[-1] for name, values in asked.items()}


@dataclass
class MerchantApp:
    """What the application saw; written by its thread, read by the tests."""

    port: int = 0
    connections: int = 0
    requests: list[Seen] = field(default_factory=list)
    """The whole ones, in the order of their last byte."""
    broken_off: list[bytes] = field(default_factory=list)
    """The first lines of those whose end never came."""
    irregular: list[str] = field(default_factory=list)
    """What was not written in the one way: must stay empty."""
    messages: list[bytes] = field(default_factory=list)
    """Of WebSockets."""
    received: bytearray = field(default_factory=bytearray)
    """Every byte, heads, chunk sizes and WebSocket frames (unmasked) included."""
    answers: "dict[str, bytes | Paced]" = field(default_factory=dict)
    """Raw answers by path, for what no mode says; the connection is closed after one."""
    unheard: list[str] = field(default_factory=list)
    """The paths of those who hung up before their answer's end."""

    def since(self, mark: int) -> list[Seen]:
        """Give what came after so many requests."""
        return self.requests[mark:]

    def leak(self) -> bytes | None:
        """Give what stands around a card number in all that arrived."""
        return first_leak(bytes(self.received))

    def forget(self) -> None:
        for kept in (self.requests, self.broken_off, self.irregular, self.messages, self.unheard):
            kept.clear()
        self.answers.clear()
        self.received.clear()


@dataclass
class Paced:
    """A raw answer, of which a part is sent when the test says so."""

    parts: list[bytes]
    released: int = 0

    async def sent(self) -> AsyncIterator[bytes]:
        for number, part in enumerate(self.parts):
            while self.released <= number:  # noqa: ASYNC110 - the test is another thread
                await asyncio.sleep(0.005)
            yield part


class Line:
    """One accepted connection."""

    def __init__(
        self, app: MerchantApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.app = app
        self.number = app.connections
        self.reader = reader
        self.writer = writer
        app.connections += 1

    async def serve(self) -> None:
        """Read and answer requests until one of both hangs up."""
        try:
            while await self._one():
                pass
        except Irregular as what:
            self.app.irregular.append(str(what))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.writer.transport.abort() if self.writer.is_closing() else self.writer.close()
            with suppress(OSError):
                await self.writer.wait_closed()

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def more(self) -> bytes:
        """Wait for whatever comes next; empty at the end."""
        data = await self.reader.read(PIECE_BYTES)
        self.app.received += data
        return data

    async def _one(self) -> bool:
        head = await self._head()
        if head is None:
            return False
        method, target, headers = _parsed(head)
        mode = target.partition("?")[0].rpartition("/")[2]
        if mode == "early":
            await self.say(plain(413, b"too large", "Connection: close"))
        try:
            body = await self._body(headers, keep=mode != "discard")
        except (OSError, asyncio.IncompleteReadError):
            self.app.broken_off.append(head.partition(b"\r\n")[0])
            raise
        seen = Seen(method, target, headers, *body, self.number)
        self.app.requests.append(seen)
        if mode == "early":
            return False
        try:
            if seen.path in self.app.answers:
                await self._say_raw(self.app.answers[seen.path])
                return False
            await MODES.get(mode, MODES[""])(self, seen)
        except OSError:
            self.app.unheard.append(seen.path)
            raise
        return mode != "broken-chunks" and (seen.header("Connection") or "").lower() not in {
            "close",
            "upgrade",
        }

    async def _say_raw(self, answer: "bytes | Paced") -> None:
        if isinstance(answer, bytes):
            await self.say(answer)
            return
        async for part in answer.sent():
            await self.say(part)

    async def _head(self) -> bytes | None:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            self.app.received += cut.partial
            if cut.partial:
                self.app.broken_off.append(cut.partial.partition(b"\r\n")[0])
            return None
        self.app.received += head
        return head[:-4]

    async def _body(
        self, headers: tuple[tuple[str, str], ...], *, keep: bool
    ) -> tuple[bytes, int, str, tuple[tuple[str, str], ...]]:
        length, chunked = _framing(headers)
        body = Body(keep=keep)
        trailers: tuple[tuple[str, str], ...] = ()
        if chunked:
            while size := await self._chunk_size():
                await self._take(size, body)
                if await self._exactly(2) != b"\r\n":
                    _irregular("a chunk without its end")
            trailers = await self._trailers()
        else:
            await self._take(length, body)
        return bytes(body.kept), body.length, body.hash.hexdigest(), trailers

    async def _take(self, length: int, body: "Body") -> None:
        while length:
            piece = await self.reader.read(min(length, PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            length -= len(piece)
            body.add(piece)
            if body.keep:
                self.app.received += piece

    async def _chunk_size(self) -> int:
        line = await self._line()
        if not _CHUNK_SIZE.fullmatch(line):
            _irregular("a chunk size")
        return int(line, 16)

    async def _trailers(self) -> tuple[tuple[str, str], ...]:
        lines = []
        while line := await self._line():
            lines.append(line)
        return tuple(_header(line) for line in lines)

    async def _line(self) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        self.app.received += line
        return line[:-2]

    async def _exactly(self, length: int) -> bytes:
        data = await self.reader.readexactly(length)
        self.app.received += data
        return data


class Body:
    """A body as it grows."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.kept = bytearray()
        self.length = 0
        self.hash = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        self.hash.update(piece)
        if self.keep:
            self.kept += piece


def _irregular(what: str) -> NoReturn:
    raise Irregular(what)


def _parsed(head: bytes) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Read a head in the one strict way (RFC 9112 2.2, 3, 5)."""
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None or b"\n" in head.replace(b"\r\n", b"") or b"\0" in head:
        _irregular("a request line or a line end")
    headers = tuple(_header(each) for each in lines)
    hosts = [value for name, value in headers if name.lower() == "host"]
    if len(hosts) != 1:
        _irregular(f"{len(hosts)} Host headers")
    return line[1].decode(), line[2].decode(), headers


def _header(line: bytes) -> tuple[str, str]:
    found = _HEADER_LINE.fullmatch(line)
    if found is None or b"\r" in line:
        _irregular("a header line: " + json.dumps(line[:20].decode("latin-1")))
    return found[1].decode(), (found[2] or b"").decode("latin-1")


def _framing(headers: tuple[tuple[str, str], ...]) -> tuple[int, bool]:
    """Tell how long the body is, or that it comes in chunks (RFC 9112 6.3)."""
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    encodings = [value for name, value in headers if name.lower() == "transfer-encoding"]
    if len(lengths) + len(encodings) > 1:
        _irregular("more than one header that frames the body")
    if encodings:
        if encodings != ["chunked"]:
            _irregular("a transfer encoding")
        return 0, True
    if lengths and not _LENGTH.fullmatch(lengths[0].encode("latin-1")):
        _irregular("a length")
    return int(lengths[0]) if lengths else 0, False


# --- its thread ---------------------------------------------------------------------------


@contextmanager
def running_merchant(
    context: ssl.SSLContext | None = None, *, port: int = 0
) -> Iterator[MerchantApp]:
    """Serve on loopback, with TLS if there is a context, for as long as the block lasts."""
    app = MerchantApp()
    loop, ready = asyncio.new_event_loop(), threading.Event()
    end = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # at the end; else the loop complains of it
            await Line(app, reader, writer).serve()

    async def serve() -> None:
        server = await asyncio.start_server(
            connected, "127.0.0.1", port, ssl=context, limit=HEAD_BYTES_MAX
        )
        app.port = server.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()
        server.close()
        await _ended(asyncio.all_tasks() - {asyncio.current_task()})

    thread = threading.Thread(target=_run, args=(loop, serve()), name="merchant", daemon=True)
    thread.start()
    assert ready.wait(START_SECONDS)
    try:
        yield app
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(START_SECONDS)
        assert not thread.is_alive()


async def _ended(tasks: set["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _run(loop: asyncio.AbstractEventLoop, work: "asyncio.Future[None]") -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
