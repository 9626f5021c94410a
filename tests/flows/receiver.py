"""A merchant's webhook receiver for tests: a real TLS server, which answers each path as told.

It runs in a thread of its own, so that a test's event loop is not what answers, and keeps every
request as it came: the head to the byte, the headers in their order, the body.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

import trustme

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
HEAD_BYTES_MAX = 64 * 1024
PATIENCE_SECONDS = 10.0
CLOSED_SEEN_SECONDS = 0.05
CLOSING_TURNS = 10
PIECE = b"x" * 65536


@dataclass(frozen=True)
class Arrival:
    """One request, whole."""

    number: int  # over all paths, from 1
    at: float  # time.monotonic()
    head: bytes  # as it came, without the empty line
    body: bytes
    connection: int  # those with the same number came over one connection

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """In their order, names as they were spelled."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        parted = (line.partition(":") for line in lines)
        return tuple((name, value.strip()) for name, _, value in parted)

    def header(self, name: str) -> str | None:
        """Return the one with this name; more than one is a failure."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None


class Exchange:
    """One request that waits for its answer, for a script to deal with."""

    def __init__(self, arrival: Arrival, nth: int, writer: asyncio.StreamWriter) -> None:
        self.arrival = arrival
        self.nth = nth  # of its path, from 0
        self._writer = writer
        self.is_over = False  # whether the connection ends with it

    async def answer(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def send(self, data: bytes) -> None:
        """Raise ConnectionError when nobody reads any more."""
        self._writer.write(data)
        await asyncio.sleep(0)  # else `drain` may never wait, and a loss is not heard of
        await self._writer.drain()

    def hang_up(self) -> None:
        self.is_over = True


Script = Callable[[Exchange], Awaitable[None]]


# --- scripts ------------------------------------------------------------------------------


def ok(status: int = 200, body: bytes = b"", *headers: tuple[str, str]) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, *headers)

    return script


def slow(seconds: float, then: Script | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await (then or ok())(exchange)

    return script


def dead() -> Script:
    """Take the request and never answer."""

    async def script(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    return script


def hung_up() -> Script:
    """Take the request and close the connection."""

    async def script(exchange: Exchange) -> None:
        exchange.hang_up()

    return script


def flapping(*, down: int, up: int, status: int = 503) -> Script:
    """Fail so many times, then answer so many times, and so on."""

    async def script(exchange: Exchange) -> None:
        fails = exchange.nth % (down + up) < down
        await exchange.answer(status if fails else 200)

    return script


def failing(status: int = 500, *, times: int | None = None) -> Script:
    """Fail, so many times or for ever."""

    async def script(exchange: Exchange) -> None:
        fails = times is None or exchange.nth < times
        await exchange.answer(status if fails else 200)

    return script


def gone() -> Script:
    return ok(410)


def redirect(to: str, status: int = 307) -> Script:
    return ok(status, b"", ("Location", to))


def huge(size: int, status: int = 200) -> Script:
    """Answer with a body of so many bytes, for as long as somebody reads."""

    async def script(exchange: Exchange) -> None:
        head = f"HTTP/1.1 {status} Scripted\r\nContent-Length: {size}\r\n\r\n"
        await exchange.send(head.encode())
        for start in range(0, size, len(PIECE)):
            await exchange.send(PIECE[: size - start])

    return script


def retry_after(value: str, *, status: int = 503, times: int = 1) -> Script:
    """Fail so many times and say when to come again: seconds, or a date."""

    async def script(exchange: Exchange) -> None:
        if exchange.nth < times:
            await exchange.answer(status, b"", ("Retry-After", value))
        else:
            await exchange.answer(200)

    return script


def in_turn(*scripts: Script) -> Script:
    """Each request of the path gets the next; the last stays."""

    async def script(exchange: Exchange) -> None:
        await scripts[min(exchange.nth, len(scripts) - 1)](exchange)

    return script


# --- the server ---------------------------------------------------------------------------


@dataclass
class _Path:
    """How one path answers, and how often it was asked since that was said."""

    script: Script
    asked: Iterator[int] = field(default_factory=count)


class Receiver:
    """The server, steered from the test's own thread. Paths that nobody scripted answer 200."""

    def __init__(self, context: ssl.SSLContext, ca_file: Path) -> None:
        self.ca_file = ca_file
        self.port = 0
        self._context = context
        self._paths: dict[str, _Path] = {}
        self._arrivals: list[Arrival] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._connections = count(1)
        self._numbers = count(1)

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, authority: trustme.CA | None = None) -> Iterator[Self]:
        """Start it, with a certificate of its own authority if none is given."""
        authority = authority or trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(LOOPBACK, "localhost").configure_cert(context)
        ca_file = folder / "receiver-ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        receiver = cls(context, ca_file)
        receiver._thread.start()
        try:
            receiver._run(receiver._listen())
            yield receiver
        finally:
            receiver._run(receiver._leave())
            receiver._loop.call_soon_threadsafe(receiver._loop.stop)
            receiver._thread.join(PATIENCE_SECONDS)
            receiver._loop.close()

    def url(self, path: str = "/") -> str:
        return f"https://{LOOPBACK}:{self.port}{path}"

    def script(self, path: str, script: Script) -> None:
        """Answer this path so from now on; what it counts begins anew."""
        with self._changed:
            self._paths[path] = _Path(script)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections until the block ends; open ones are cut."""
        self._run(self._leave())
        try:
            yield
        finally:
            self._run(self._listen())

    # --- what came ------------------------------------------------------------------------

    def arrivals(self, path: str | None = None) -> tuple[Arrival, ...]:
        with self._changed:
            return self._of(path)

    def until(
        self, times: int, path: str | None = None, *, seconds: float = PATIENCE_SECONDS
    ) -> tuple[Arrival, ...]:
        """Wait, in a thread, until so many have come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._of(path)) >= times, seconds)
            assert came, f"{len(self._of(path))} of {times} came"
            return self._of(path)

    async def arrived(
        self, times: int, path: str | None = None, *, seconds: float = PATIENCE_SECONDS
    ) -> tuple[Arrival, ...]:
        """Wait, in an event loop, until so many have come."""
        return await asyncio.to_thread(self.until, times, path, seconds=seconds)

    def forget(self) -> None:
        """Forget what came; scripts stay, and go on counting."""
        with self._changed:
            self._arrivals.clear()

    def _of(self, path: str | None) -> tuple[Arrival, ...]:
        return tuple(each for each in self._arrivals if path in (None, each.path))

    # --- its own thread -------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, LOOPBACK, self.port, ssl=self._context, limit=HEAD_BYTES_MAX
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        """Stop listening, and cut what is open."""
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        # Connections in the middle of a handshake are nobody's task yet; and each is closed some
        # turns of the loop after it is told to be.
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        number = next(self._connections)
        try:
            while await self._exchanged(reader, writer, number):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the other side is gone, or no client of ours
        except asyncio.CancelledError:
            pass  # by `_leave`: asyncio would report a canceled connection as a fault
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _exchanged(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        body = await _body(reader, head)
        with self._changed:
            now = time.monotonic()
            arrival = Arrival(next(self._numbers), now, head, body, connection)
            self._arrivals.append(arrival)
            path = self._paths.setdefault(arrival.path, _Path(ok()))
            nth = next(path.asked)
            self._changed.notify_all()
        exchange = Exchange(arrival, nth, writer)
        await _unless_closed(reader, path.script(exchange))
        return not exchange.is_over


async def _unless_closed(reader: asyncio.StreamReader, work: Awaitable[None]) -> None:
    """Do it, but not for a caller that has closed its end."""
    script = asyncio.ensure_future(work)
    try:
        while not script.done() and not reader.at_eof():
            await asyncio.wait({script}, timeout=CLOSED_SEEN_SECONDS)
        if not script.done():
            raise EOFError
        await script
    finally:
        script.cancel()
        await asyncio.wait({script})


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read by length or in chunks (RFC 9112, 6.3)."""
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return await reader.readexactly(int(headers.get(b"content-length", b"0")))
    pieces: list[bytes] = []
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        piece = await reader.readexactly(size + 2)  # the last one is followed by an empty line
        if size == 0:
            return b"".join(pieces)
        pieces.append(piece[:-2])
