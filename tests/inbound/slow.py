"""Clients that take their time: slow heads, slow bodies, slow reading (T-08).

What lives here: one coroutine a kind, and how long the other side bore it. What never may: what
is bearable.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tests.inbound.framing import Way, hang_up

BEAT_SECONDS: Final = 0.5
"""Between two bytes of those who send a little at a time."""
LARGE_BYTES: Final = 64 << 20
"""An answer that no buffer on the way holds."""
SMALL_BUFFER: Final = 4096


@dataclass(frozen=True)
class Borne:
    """How it ended."""

    seconds: float
    """Until the other side hung up; of a slow reader: how long it did not read."""
    received: bytes
    whole: bool = False
    """Of a slow reader: whether all of the answer came after all."""


@dataclass(frozen=True)
class Target:
    """What slow clients ask for."""

    way: Way
    hostname: str
    prefix: str = "/v"

    def head(self, mode: str, *lines: str, method: str = "POST") -> bytes:
        first = f"{method} {self.prefix}/{mode} HTTP/1.1"
        return "\r\n".join((first, f"Host: {self.hostname}", *lines, "", "")).encode()


Slow = Callable[[Target, float], Awaitable[Borne]]
Sending = AsyncIterator[bytes]


async def _dribbled(target: Target, begin: bytes, then: bytes, seconds_max: float) -> Borne:
    """Send `begin`, then a byte of `then` at each beat (nothing, if it is empty), until cut off."""
    reader, writer = await target.way.connect()
    began, received, at = time.monotonic(), bytearray(), 0
    writer.write(begin)
    try:
        while time.monotonic() - began < seconds_max:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    data = await reader.read(1 << 16)
                    received += data
                    if not data:
                        break
                    continue
            writer.write(then[at : at + 1])
            at = (at + 1) % max(1, len(then))
    except OSError:
        pass
    finally:
        await hang_up(writer)
    return Borne(time.monotonic() - began, bytes(received))


async def silent(target: Target, seconds_max: float) -> Borne:
    """Connect, and say nothing."""
    return await _dribbled(target, b"", b"", seconds_max)


async def no_handshake(target: Target, seconds_max: float) -> Borne:
    """Connect, and begin no TLS."""
    bare = Target(Way("bare", target.way.port), target.hostname, target.prefix)
    return await _dribbled(bare, b"", b"", seconds_max)


async def slow_line(target: Target, seconds_max: float) -> Borne:
    """Send the first line a byte at a time."""
    return await _dribbled(target, b"", b"GET /" + b"a" * 4000, seconds_max)


async def slow_headers(target: Target, seconds_max: float) -> Borne:
    """Send one header after another, and never the end of the head."""
    begin = target.head("x").removesuffix(b"\r\n")
    return await _dribbled(target, begin, b"X: a\r\n" * 1000, seconds_max)


async def no_body(target: Target, seconds_max: float) -> Borne:
    """Promise a body, and send nothing of it."""
    return await _dribbled(target, target.head("x", "Content-Length: 5000"), b"", seconds_max)


async def slow_body(target: Target, seconds_max: float) -> Borne:
    """Send a body a byte at a time."""
    head = target.head("x", "Content-Length: 5000")
    return await _dribbled(target, head, b"a" * 5000, seconds_max)


async def slow_chunks(target: Target, seconds_max: float) -> Borne:
    """Send chunks of one byte, a byte at a time."""
    head = target.head("x", "Transfer-Encoding: chunked")
    return await _dribbled(target, head, b"1\r\na\r\n" * 1000, seconds_max)


async def stalled_body(target: Target, seconds_max: float) -> Borne:
    """Send the greater part of a body at once, and nothing more."""
    head = target.head("x", "Content-Length: 100000")
    return await _dribbled(target, head + b"a" * 90_000, b"", seconds_max)


async def idle_after_an_answer(target: Target, seconds_max: float) -> Borne:
    """Ask once, and keep the connection."""
    return await _dribbled(target, target.head("x", method="GET"), b"", seconds_max)


async def _unread(target: Target, sip_bytes: int, seconds_max: float) -> Borne:
    """Ask for much, read little or nothing of it for the time, then all that still comes."""
    async with _small_connection(target) as (reader, writer):
        asked = f"stream?bytes={LARGE_BYTES}&length=1"
        writer.write(target.head(asked, "Connection: close", method="GET"))
        began, received = time.monotonic(), 0
        try:
            while time.monotonic() - began < seconds_max:
                received += len(await reader.read(sip_bytes)) if sip_bytes else 0
                await asyncio.sleep(BEAT_SECONDS)
            while data := await reader.read(1 << 20):
                received += len(data)
        except (OSError, EOFError):
            pass
        return Borne(seconds_max, b"", whole=received > LARGE_BYTES)


@asynccontextmanager
async def _small_connection(
    target: Target,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    connection.setblocking(False)  # noqa: FBT003 - socket's own way
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", target.way.port))
    context = target.way.context
    reader, writer = await asyncio.open_connection(
        sock=connection,
        ssl=context,
        server_hostname=target.way.hostname if context is not None else None,
        limit=SMALL_BUFFER,
    )
    try:
        yield reader, writer
    finally:
        await hang_up(writer)


async def reads_nothing(target: Target, seconds_max: float) -> Borne:
    return await _unread(target, 0, seconds_max)


async def reads_in_sips(target: Target, seconds_max: float) -> Borne:
    return await _unread(target, 64, seconds_max)


HEADS: Final[dict[str, Slow]] = {
    "silent": silent,
    "no_handshake": no_handshake,
    "slow_line": slow_line,
    "slow_headers": slow_headers,
    "idle_after_an_answer": idle_after_an_answer,
}
BODIES: Final[dict[str, Slow]] = {
    "no_body": no_body,
    "slow_body": slow_body,
    "slow_chunks": slow_chunks,
    "stalled_body": stalled_body,
}
READERS: Final[dict[str, Slow]] = {
    "reads_nothing": reads_nothing,
    "reads_in_sips": reads_in_sips,
}
