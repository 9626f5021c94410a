"""A request's body as bytes: of the type that was asked for, within its size, in time.

What never may live here: reading sense into the bytes, which is for the codecs and `strict_json`.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, hdrs, web

from gateway.errors import BodyTooSlow, ClientGone, GatewayError, TooLarge, UnsupportedMedia

_CHARSETS: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may arrive: a start, then a least rate, and an end in any case."""

    start_seconds: float = 3.0
    bytes_per_second_min: int = 1024
    seconds_max: float = 10.0
    gap_seconds_max: float = 10.0
    """Between two pieces: what came early is no credit for silence."""

    def seconds_until(self, received: int) -> float:
        """Return by when, from its beginning, more than `received` bytes must have come."""
        return min(self.seconds_max, self.start_seconds + received / self.bytes_per_second_min)


PACE: Final = Pace()
UPLOADS: Final = Pace(start_seconds=10.0, seconds_max=float("inf"))
"""Of bodies whose size is not bounded by what they are for: the rate alone."""


async def read_body(
    request: web.BaseRequest, limit: int, content_types: tuple[str, ...], pace: Pace = PACE
) -> bytes:
    """Return the bytes of a body of one of `content_types`, at most `limit`, in time.

    Raises UnsupportedMedia, TooLarge, BodyTooSlow, Malformed, ClientGone.
    """
    _check_type(request.headers.get(hdrs.CONTENT_TYPE, ""), content_types)
    return await read_whole_body(request, limit, pace)


async def read_whole_body(request: web.BaseRequest, limit: int, pace: Pace = PACE) -> bytes:
    """Return the bytes of a body of a type that the caller checks, at most `limit`, in time.

    Raises TooLarge, BodyTooSlow, Malformed, ClientGone.
    """
    declared = request.headers.get(hdrs.CONTENT_LENGTH)
    if declared is not None and int(declared) > limit:  # digits only: the parser saw to it
        raise TooLarge
    content = request.content
    body: bytes | bytearray
    if content.is_eof() and content.exception() is None:  # most bodies come with their head
        body = content.read_nowait()
    else:
        body = await _read_paced(content, limit, pace)
    if len(body) > limit:
        raise TooLarge
    return bytes(body)


async def read_pieces(
    content: StreamReader, limit: int, pace: Pace = UPLOADS
) -> AsyncGenerator[bytes]:
    """Yield a body as it comes, at most `limit` bytes, fast enough.

    Raises TooLarge, BodyTooSlow, Malformed, ClientGone.
    """
    loop = asyncio.get_running_loop()
    begun, received = loop.time(), 0
    refusal: GatewayError | None = None
    while refusal is None:
        try:
            in_time = begun + pace.seconds_until(received)
            async with asyncio.timeout_at(min(in_time, loop.time() + pace.gap_seconds_max)):
                piece = await content.readany()
        except TimeoutError:
            refusal = BodyTooSlow()
        except ConnectionError:
            refusal = ClientGone()
        else:
            if not piece:
                return
            received += len(piece)
            if received > limit:
                raise TooLarge
            yield piece
    raise refusal


def _check_type(value: str, content_types: tuple[str, ...]) -> None:
    if value in content_types:
        return
    media_type, _, parameter = value.partition(";")
    if media_type.strip().lower() not in content_types:
        raise UnsupportedMedia("content_type")
    if parameter.strip().lower() not in _CHARSETS:  # aiohttp would honor utf-7
        raise UnsupportedMedia("content_type")


async def _read_paced(content: StreamReader, limit: int, pace: Pace) -> bytearray:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    body = bytearray()
    refusal: GatewayError
    try:
        async with asyncio.timeout_at(begun + pace.seconds_until(0)) as deadline:
            while len(body) <= limit and (chunk := await content.readany()):
                body += chunk
                deadline.reschedule(begun + pace.seconds_until(len(body)))
    except TimeoutError:
        refusal = BodyTooSlow()
    except ConnectionError:
        refusal = ClientGone()
    else:
        return body
    raise refusal
