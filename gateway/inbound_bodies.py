"""Bodies on their way to a merchant's endpoint: in pieces, inflated, looked at, never unread.

A body is read whole where a filter needs its fields, in blocks of rows where it is a file, and
otherwise passes as a stream that is scanned as it goes. What never may live here: which route a
request has, and the answer to it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.bodies import read_pieces
from gateway.card_files.planning import Manner, Planner, RowRefused
from gateway.card_files.rows import Block, Blocks
from gateway.codecs.splice import Format
from gateway.errors import BodyUnreadable, CardFieldRefused, GatewayError, Malformed, TooLarge
from gateway.inbound.areas import type_of
from gateway.inbound.filtering import Finding, WantedCard, plan_raw
from gateway.inbound.inflate import Inflate, encodings_of
from gateway.inbound.looking import BINARY_TYPES
from gateway.inbound.rules import InboundConfig
from gateway.scan_stream import Piece, ScanStream

_BINARY: Final = (
    *("image/", "audio/", "video/", "font/"),
    *("application/octet-stream", "application/pdf", "application/zip", "application/gzip"),
    *(
        "application/vnd.openxmlformats",
        "application/x-tar",
        "application/x-7z",
        "application/wasm",
    ),
)

SMALL_BYTES_MAX: Final = 1 << 16
ROWS_MAX: Final = 128
INFLATE_SECONDS: Final = 2.0
INFLATED_BYTES_A_SECOND_MIN: Final = 100_000_000  # the slowest does 700 MB/s
ROWS_BYTES_MAX: Final = 1 << 18  # others wait while a block is planned


class Store(Protocol):
    """Tells of what was found, and stores cards: a token for each."""

    async def __call__(
        self, cards: Sequence[WantedCard], findings: Sequence[Finding], *, in_bulk: bool
    ) -> Sequence[str]: ...


def is_binary(content_type: str) -> bool:
    """Whether bytes of this type spell numbers in plain digits only, all else being chance."""
    return content_type.lower().startswith(BINARY_TYPES)


class Arriving:
    """One request's body, of which nothing is read yet."""

    def __init__(self, request: web.BaseRequest, route: InboundConfig) -> None:
        """Raises UnsupportedMedia for an encoding that nobody inflates, TooLarge."""
        headers = request.headers
        self.content_type = headers.get(hdrs.CONTENT_TYPE, "")
        self.is_there = request.body_exists
        self._route = route
        self._content = request.content
        self._encodings = encodings_of(",".join(headers.getall(hdrs.CONTENT_ENCODING, [])))
        declared = headers.get(hdrs.CONTENT_LENGTH)
        self._declared = None if declared is None else int(declared)
        if self._declared is not None and self._declared > route.upload_bytes_max:
            raise TooLarge

    @property
    def length(self) -> int | None:
        """How many bytes there will be, where that is known: not of what is inflated."""
        return None if self._encodings else self._declared

    @property
    def is_inflated(self) -> bool:
        return bool(self._encodings)

    @property
    def is_small(self) -> bool:
        """Whether all of it is here, and little enough to be looked at before any of it is sent."""
        return self._is_here() and (self._declared or SMALL_BYTES_MAX) < SMALL_BYTES_MAX

    def _is_here(self) -> bool:
        """Most bodies come with their head."""
        content = self._content
        return not self._encodings and content.is_eof() and content.exception() is None

    def check_whole(self) -> None:
        """Raise TooLarge if, by its declared length, it cannot be read whole."""
        if self._declared is not None and self._declared > self._route.body_bytes_max:
            raise TooLarge

    async def whole(self) -> bytes:
        """Read all of it.

        Raises TooLarge, InflationRefused, BodyTooSlow, Malformed, ClientGone.
        """
        self.check_whole()
        limit = self._route.body_bytes_max
        if self._is_here():
            return self._at_once(limit)
        read = bytearray()
        async for piece in self.pieces(limit):
            read += piece
        return bytes(read)

    def _at_once(self, limit: int) -> bytes:
        body = self._content.read_nowait()
        if len(body) > limit:
            raise TooLarge
        return body

    async def pieces(self, limit: int) -> AsyncIterator[bytes]:
        """Yield it as it comes, inflated, at most `limit` bytes."""
        if self._is_here():
            if body := self._at_once(limit):
                yield body
            return
        wire = read_pieces(self._content, limit)
        if not self._encodings:
            async for piece in wire:
                yield piece
            return
        async for piece in inflated(wire, self._encodings, limit):
            yield piece

    async def scanned(self, store: Store, *, place: str = "body") -> AsyncIterator[bytes]:
        """Yield it with what the scanner finds treated as the route says."""
        stream = ScanStream(binary=is_binary(self.content_type))
        undeclared = self._route.undeclared

        async def passed(piece: Piece) -> bytes:
            if piece.exhausted and undeclared != "report":
                raise BodyUnreadable("scan_limit")
            if not piece.hits:
                return piece.raw
            plan = plan_raw(undeclared, piece.raw, piece.hits, place)
            made = await store(plan.cards, plan.findings, in_bulk=False)
            return plan.apply(made).body

        async for data in self.pieces(self._route.upload_bytes_max):
            for piece in stream.feed(data):
                yield await passed(piece)
        for piece in stream.end():
            yield await passed(piece)

    async def rows(
        self, format_: Format, store: Store, now: Callable[[], datetime]
    ) -> AsyncIterator[bytes]:
        """Yield a file's rows, in blocks, with their fields treated as the route says."""
        route = self._route
        in_bulk = names_type(route, self.content_type)
        planner = Planner(Manner(route, format_, now, masks_header=route.undeclared == "mask"))
        blocks = Blocks(format_, rows_max=ROWS_MAX, bytes_max=ROWS_BYTES_MAX)
        refusal: GatewayError | None = None
        try:
            async for data in self.pieces(route.upload_bytes_max):
                for block in blocks.feed(data):
                    yield await _written(planner, block, store, in_bulk=in_bulk)
            for block in blocks.end():
                yield await _written(planner, block, store, in_bulk=in_bulk)
        except RowRefused as refused:
            row = refused.row
            field = f"{row.column}[{row.row - 1}]"
            refusal = CardFieldRefused(field, row.reason) if row.column else None
            refusal = refusal or BodyUnreadable(row.reason)
        except Malformed as error:
            refusal = BodyUnreadable(error.reason or "rows")
        if refusal is not None:
            raise refusal


def names_type(route: InboundConfig, content_type: str) -> bool:
    """Whether a filter is for files of this very type.

    Their rows are not counted by address. One that is for every format takes files as well, but
    nobody asked for them: sent so, cards would pass the limit for those of forms (T-24).
    """
    named = {each.content_type for each in route.filters if each.phase == "request"}
    return type_of(content_type) in named


async def _written(planner: Planner, block: Block, store: Store, *, in_bulk: bool) -> bytes:
    planned = planner.planned(block)
    findings = tuple(each for plan in planned.plans for each in plan.findings)
    return planner.written(planned, await store(planned.cards, findings, in_bulk=in_bulk))


async def inflated(
    wire: AsyncIterator[bytes], encodings: Sequence[str], limit: int
) -> AsyncIterator[bytes]:
    """Inflate what comes, in pieces between which others have their turn.

    Raises InflationRefused.
    """
    seconds_max = INFLATE_SECONDS + limit / INFLATED_BYTES_A_SECOND_MIN
    inflate = Inflate(
        encodings,
        wire_bytes_max=limit,
        bytes_max=limit,
        seconds_max=seconds_max,
        clock=time.thread_time,
    )
    async for data in wire:
        for piece in inflate.feed(data):
            yield piece
            await asyncio.sleep(0)
    for piece in inflate.end():
        yield piece
