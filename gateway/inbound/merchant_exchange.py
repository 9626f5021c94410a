"""One request to a merchant's endpoint on its way, piece by piece, and the time its answer has.

What never may live here: a connection, a head, and what is in a body.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final

import aiohttp

from gateway.inbound.forwarding import Header
from gateway.inbound.merchant_sessions import failure_of

PIECE_BYTES: Final = 65_536

Body = bytes | AsyncIterator[bytes] | None


class Exchange:
    """A request's body on its way, and how long its answer may take.

    The endpoint's time runs while it is waited for, for an answer or to take what was sent; not
    while the client's next piece is.
    """

    def __init__(self, seconds: float, body: Body, length: int | None) -> None:
        self.error: Exception | None = None
        """What the body raised."""
        self._seconds = seconds
        self._timer: asyncio.Timeout | None = None
        self._is_held = False
        self._reply: aiohttp.StreamReader | None = None
        self._is_over = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._whole = body if isinstance(body, bytes) and len(body) <= PIECE_BYTES else None
        self._pieces = _pieces(body) if isinstance(body, bytes) else body
        self._left = len(body) if isinstance(body, bytes) else length

    @property
    def has_body(self) -> bool:
        return self._pieces is not None

    def data(self) -> "bytes | Exchange | None":
        """Give the body as aiohttp takes it."""
        if self._whole is not None:
            return self._whole or None
        return None if self._pieces is None else self

    def framing(self) -> list[Header]:
        """Tell the length of what goes in pieces, where it is known; else aiohttp sends chunks."""
        streams = self._pieces is not None and self._whole is None
        return [("Content-Length", str(self._left))] if streams and self._left is not None else []

    def answered_by(self, response: aiohttp.ClientResponse) -> None:
        self._reply = response.content
        self._break_reply()

    async def read(self, content: aiohttp.StreamReader) -> bytes:
        """Wait for the next piece of the answer; none is its end. Raises MerchantFailed."""
        piece, failure = b"", None
        try:
            piece = content.read_nowait()
            if not piece and not content.is_eof():
                async with self.timed():
                    piece = await content.readany()
        except Exception as error:  # noqa: BLE001 - of another's errors only their kind is kept
            failure = failure_of(error)
        if failure is not None:
            raise self.error or failure()
        return piece

    async def stop(self) -> None:
        """Ask for no more of the body: when this returns, nobody is reading from it."""
        self._is_over = True
        await self._idle.wait()
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()

    def timed(self) -> asyncio.Timeout:
        """Bound what is awaited in this context."""
        self._timer = asyncio.timeout(None if self._is_held else self._seconds)
        return self._timer

    def _hold_time(self, *, held: bool) -> None:
        self._is_held = held
        if self._timer is None or self._timer.expired():
            return
        now = asyncio.get_running_loop().time()
        with suppress(RuntimeError):  # nothing is awaited just now
            self._timer.reschedule(None if held else now + self._seconds)

    def _break_reply(self) -> None:
        """Let no one wait for an answer to a request that broke off."""
        if self.error is not None and self._reply is not None and not self._reply.is_eof():
            self._reply.set_exception(aiohttp.ClientPayloadError())

    # aiohttp asks for the body's pieces, in a task of its own

    def __aiter__(self) -> "Exchange":
        return self

    async def __anext__(self) -> bytes:
        if self._pieces is None or self._is_over or self._left == 0:
            raise StopAsyncIteration
        self._hold_time(held=True)
        self._idle.clear()
        try:
            piece = await anext(self._pieces, None)
            self._count(piece)
        except Exception as error:
            self.error = error
            self._break_reply()
            raise
        finally:
            self._idle.set()
            self._hold_time(held=False)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def _count(self, piece: bytes | None) -> None:
        if self._left is not None:
            self._left -= len(piece or b"")
            if self._left < 0 or piece is None:
                raise ValueError("a body is as long as it was told")


async def _pieces(body: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
