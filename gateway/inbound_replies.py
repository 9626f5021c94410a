"""A merchant's own answer on its way back: its declared fields treated, no card number in it.

A card number in an answer means that the merchant has one: it is masked, and told of. What never
may live here: requests, and what is told to whom.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.errors import (
    BodyUnreadable,
    CardFieldRefused,
    MerchantReplyRefused,
    UndeclaredCard,
    UnsupportedMedia,
)
from gateway.inbound.endpoints import Endpoint
from gateway.inbound.filtering import Finding, Plan, plan_raw, plan_reply, reads
from gateway.inbound.forwarding import DIGESTS, Header, relocated
from gateway.inbound.inflate import encodings_of
from gateway.inbound.merchant import MerchantReply
from gateway.inbound_bodies import inflated, is_binary
from gateway.middleware import FOREIGN, Foreign
from gateway.scan import Kind, find_cards
from gateway.scan_stream import Piece, ScanStream

EVENT_STREAM: Final = "text/event-stream"
REPLY: Final = "reply"
SMALL_BYTES_MAX: Final = 1 << 17  # aiohttp holds as much of it in any case
OF_ITS_CODING: Final = DIGESTS | {"content-encoding", "content-length"}
"""Headers that do not hold for a body once it is inflated."""


class Masks(Protocol):
    """Whoever can show tokens."""

    async def __call__(self, tokens: Sequence[str]) -> Mapping[str, str]: ...


Note = Callable[[Sequence[Finding]], None]


class Replies:
    """Passes the answers of one route on."""

    def __init__(self, endpoint: Endpoint, masks: Masks, note: Note) -> None:
        self._endpoint = endpoint
        self._route = endpoint.route
        self._masks = masks
        self._note = note

    async def pass_on(self, request: web.Request, reply: MerchantReply) -> web.StreamResponse:
        """Send an answer.

        Raises MerchantReplyRefused before a byte is sent; any MerchantFailed, and
        InflationRefused, also after.
        """
        headers = self._headers(request, reply)
        content_type = _value(headers, "content-type")
        is_stream = content_type.lower().startswith(EVENT_STREAM)
        if is_stream and not self._route.server_sent_events:
            raise MerchantReplyRefused
        if reply.has_body and reads(self._route, "response", content_type):
            return await self._whole(request, reply, headers, content_type)
        sent = self._head(headers)
        length = None if reply.encoding else reply.length
        if not reply.has_body:
            return await _begun(request, reply.status, sent, length)
        if length is not None and length <= SMALL_BYTES_MAX and not is_stream:
            return await self._small(request, reply, sent, content_type)
        pieces = self._plain(reply)
        first = b""
        if not is_stream or reply.encoding:  # of events the head goes on before there is one
            first = await anext(pieces, b"")  # what cannot be read is refused, not cut off
        response = await _begun(request, reply.status, sent, length)
        stream = ScanStream(binary=is_binary(content_type), at_lines=is_stream)
        await self._write(response, stream.feed(first))
        async for data in pieces:
            await self._write(response, stream.feed(data))
        await self._write(response, stream.end())
        await response.write_eof()
        return response

    async def _small(
        self, request: web.Request, reply: MerchantReply, sent: Sequence[Header], content_type: str
    ) -> web.StreamResponse:
        """Send what is short in one go, its head and all."""
        body = await self._read(reply, SMALL_BYTES_MAX)
        found = find_cards(body, binary=is_binary(content_type))
        data = self._passed(Piece(body, found.hits, found.exhausted))
        response = await _begun(request, reply.status, sent, len(data))
        await response.write_eof(data)
        return response

    def _headers(self, request: web.Request, reply: MerchantReply) -> Sequence[Header]:
        # A checksum of what is masked would tell the number: all else of the body is known.
        masks = DIGESTS if self._route.replies == "mask" else frozenset()
        dropped = OF_ITS_CODING if reply.encoding else masks
        kept = [each for each in reply.headers if each[0].lower() not in dropped]
        if self._route.host_header == "client":
            return kept
        return relocated(
            kept,
            scheme=self._endpoint.scheme,
            endpoint=self._endpoint.host,
            public=request.headers.get(hdrs.HOST, ""),
        )

    def _head(self, headers: Sequence[Header]) -> Sequence[Header]:
        return self._planned("", headers, b"").apply(()).headers

    def _planned(self, content_type: str, headers: Sequence[Header], body: bytes) -> Plan:
        plan = None
        with suppress(BodyUnreadable, CardFieldRefused, UndeclaredCard):  # what is not told
            plan = plan_reply(self._route, content_type, headers, body)
        if plan is None:
            raise MerchantReplyRefused
        self._note(plan.findings)
        return plan

    async def _whole(
        self,
        request: web.Request,
        reply: MerchantReply,
        headers: Sequence[Header],
        content_type: str,
    ) -> web.StreamResponse:
        body = await self._read(reply, self._route.body_bytes_max)
        plan = self._planned(content_type, headers, body)
        done = plan.apply((), await self._masks(plan.tokens) if plan.tokens else {})
        response = await _begun(request, reply.status, done.headers, len(done.body))
        await response.write_eof(done.body)
        return response

    async def _read(self, reply: MerchantReply, limit: int) -> bytes:
        body = bytearray()
        async for piece in self._plain(reply):
            body += piece
            if len(body) > limit:
                raise MerchantReplyRefused
        return bytes(body)

    async def _write(self, response: web.StreamResponse, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            data = self._passed(piece)
            if data:
                await response.write(data)

    def _passed(self, piece: Piece) -> bytes:
        if piece.exhausted and self._route.replies == "mask":
            raise MerchantReplyRefused
        return self._masked(piece) if piece.hits else piece.raw

    def _masked(self, piece: Piece) -> bytes:
        """Mask without a change of length: the head has been sent."""
        plan = plan_raw(self._route.replies, piece.raw, piece.hits, REPLY)
        self._note(plan.findings)
        if self._route.replies == "report":
            return piece.raw
        body = bytearray(piece.raw)
        for hit in piece.hits:
            if hit.kind is not Kind.WINDOW:
                body[hit.start : hit.end] = hit.masked(same_length=True)
        return bytes(body)

    async def _plain(self, reply: MerchantReply) -> AsyncGenerator[bytes]:
        """Yield the body, inflated if it came compressed although nobody asked for that."""
        encodings: tuple[str, ...] | None
        try:
            encodings = encodings_of(reply.encoding)
        except UnsupportedMedia:
            encodings = None
        if encodings is None:
            raise MerchantReplyRefused
        chunks: AsyncIterator[bytes] = reply.chunks()
        if encodings:
            chunks = inflated(chunks, encodings, self._route.upload_bytes_max)
        async for chunk in chunks:
            yield chunk


def is_event_stream(reply: MerchantReply) -> bool:
    """Whether it has no end of its own."""
    return _value(reply.headers, "content-type").lower().startswith(EVENT_STREAM)


async def _begun(
    request: web.Request, status: int, headers: Sequence[Header], length: int | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=CIMultiDict(headers))
    response[FOREIGN] = Foreign(frozenset(name.lower() for name, _ in headers))
    if length is not None:
        response.content_length = length
    await response.prepare(request)
    return response


def _value(headers: Sequence[Header], name: str) -> str:
    return ", ".join(value for each, value in headers if each.lower() == name)
