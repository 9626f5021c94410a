"""The way from an inbound route to its merchant's own endpoint.

What lives here: one request and its answer, both as streams, and how a WebSocket begins. What
never may: a redirect that is followed, a cookie that is kept, the text of a foreign exception (it
quotes URLs), and any knowledge of what is in a body.

What is not a GET or a HEAD without a body is sent at most once, also where the failure seems to
say that nothing arrived: on a connection that the other side was just closing nobody can tell.
Connections are used again for all methods, unlike in `gateway/upstream.py`: aiohttp's own
repetitions are stopped below, and idle connections are given up before common servers do so.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from gateway.addresses import Host
from gateway.dialing import CheckedResolver, Lookup, system_lookup
from gateway.errors import (
    MerchantBusy,
    MerchantFailed,
    MerchantProtocolError,
    MerchantUnreachable,
)
from gateway.inbound.forwarding import (
    Header,
    ReplyHead,
    authority_of,
    check_request,
    read_reply_head,
)
from gateway.inbound.merchant_exchange import Body, Exchange
from gateway.inbound.merchant_sessions import (
    LASTING_SHARE,
    Attempt,
    MerchantRoute,
    Place,
    current,
    failure_of,
    is_handshake,
    only_once,
    session_of,
)
from gateway.inbound.sockets import CLOSE_SECONDS, MESSAGE_BYTES_MAX, MerchantSocket
from gateway.upstream_tls import tls_context

__all__ = ["Merchant", "MerchantReply", "MerchantRoute"]

_REPEATABLE: Final = frozenset({"GET", "HEAD"})


class Merchant:
    """Sends requests to one route's endpoint. Made inside the running loop, closed by its owner."""

    def __init__(
        self,
        route: MerchantRoute,
        *,
        clock: Callable[[], float],
        lookup: Lookup = system_lookup,
    ) -> None:
        """Raises StartRefused for the authority's file."""
        self._route = route
        self._slots = asyncio.Semaphore(route.concurrency)
        self._lasting = asyncio.Semaphore(max(1, int(route.concurrency * LASTING_SHARE)))
        self._authority = authority_of(route.scheme, Host(route.host, route.port))
        context = None
        if route.scheme == "https":
            context = tls_context(ca_file=route.ca_file, crl_file=None, client_certificate=None)
        resolver = CheckedResolver(
            route.host,
            route.address_allow,
            lookup=lookup,
            clock=clock,
            listed_only=context is None,
        )
        self._pooled = session_of(route, resolver, context, reuse=True)
        self._fresh = session_of(route, resolver, context, reuse=False)

    async def close(self) -> None:
        await self._pooled.close()
        await self._fresh.close()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        target: str,
        headers: Sequence[Header],
        body: Body,
        *,
        length: int | None,
    ) -> AsyncGenerator["MerchantReply"]:
        """Send a request, and give its answer as soon as its head is here.

        `headers` are of `forwarding.request_headers`; `length` is the body's, if it is known: it
        has to hold that much. What the body itself raises is raised, and the endpoint sees a
        request that is cut off. An answer may come before all of the body was asked for; the rest
        is not asked for once the answer is complete. Raises MerchantFailed, also while the
        answer is read; Malformed for what would not be one request.
        """
        check_request(method, target, headers)
        place = await self._place(lasting=not (body is None or isinstance(body, bytes)))
        exchange = Exchange(self._route.timeout_seconds, body, length)
        response = None
        try:
            response = await self._answer(exchange, method, self._url(target), headers)
            version = response.version or (0, 9)
            head = read_reply_head(method, version, response.status, response.raw_headers)
            yield MerchantReply(head, response, exchange)
        finally:
            if response is not None:
                response.close()  # hangs up, unless all was read: then it is in the pool again
            await exchange.stop()
            place.release()

    async def socket(
        self, target: str, headers: Sequence[Header], protocols: Sequence[str]
    ) -> MerchantSocket:
        """Open a WebSocket, which holds one of the route's places until it is closed.

        Of its headers the handshake's own are made here. Raises MerchantFailed, Malformed;
        MerchantReplyRefused if the endpoint does not want one.
        """
        kept = [(name, value) for name, value in headers if not is_handshake(name)]
        check_request("GET", target, kept)
        place = await self._place(lasting=True)
        socket: MerchantSocket | type[MerchantFailed] = MerchantUnreachable
        current.set(Attempt(place, frozenset(protocols)))
        try:
            async with asyncio.timeout(self._route.timeout_seconds):
                opened = await self._fresh.ws_connect(
                    self._url(target),
                    headers=kept,
                    protocols=protocols,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    autoclose=False,
                    autoping=False,
                    max_msg_size=MESSAGE_BYTES_MAX,
                )
            assert isinstance(opened, MerchantSocket)
            socket = opened
        except Exception as error:  # noqa: BLE001 - of another's errors only their kind is kept
            socket = failure_of(error)
        finally:
            if not isinstance(socket, MerchantSocket):
                place.release()
        if isinstance(socket, MerchantSocket):
            return socket
        raise socket

    async def _answer(
        self, exchange: "Exchange", method: str, url: URL, headers: Sequence[Header]
    ) -> aiohttp.ClientResponse:
        attempt = Attempt()
        current.set(attempt)
        answer = await _ask(self._pooled, exchange, method, url, headers)
        is_stale = answer is MerchantProtocolError and not attempt.dialed
        if is_stale and method in _REPEATABLE and not exchange.has_body:
            answer = await _ask(self._fresh, exchange, method, url, headers)
        if isinstance(answer, aiohttp.ClientResponse):
            exchange.answered_by(answer)
            return answer
        raise exchange.error or answer()

    def _url(self, target: str) -> URL:
        # as a path, all of it: yarl would leave out a `?` behind which there is nothing
        return URL.build(
            scheme=self._route.scheme, authority=self._authority, path=target, encoded=True
        )

    async def _place(self, *, lasting: bool) -> "Place":
        """Take one of the route's places. Raises MerchantBusy.

        What lasts as long as a client likes, a body that comes in pieces or a socket, never takes
        all of them: a few slow senders would keep everybody out.
        """
        wanted = (self._lasting, self._slots) if lasting else (self._slots,)
        taken: list[asyncio.Semaphore] = []
        place = None
        try:
            async with asyncio.timeout(self._route.connect_seconds):
                for slots in wanted:
                    await slots.acquire()  # at once, if one is free
                    taken.append(slots)
            place = Place(*taken)
        except TimeoutError:
            pass
        finally:
            if place is None:
                Place(*taken).release()
        if place is None:
            raise MerchantBusy
        return place


class MerchantReply:
    """An answer whose head is here."""

    def __init__(
        self, head: ReplyHead, response: aiohttp.ClientResponse, exchange: "Exchange"
    ) -> None:
        self.status = head.status
        self.headers = head.headers
        self.length = head.length
        self.has_body = head.has_body
        self.encoding = head.encoding
        self._content = response.content
        self._exchange = exchange

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raises MerchantFailed; what the request's body raised."""
        while piece := await self._exchange.read(self._content):
            yield piece


async def _ask(
    session: aiohttp.ClientSession,  # noqa: TID251
    exchange: Exchange,
    method: str,
    url: URL,
    headers: Sequence[Header],
) -> aiohttp.ClientResponse | type[MerchantFailed]:
    try:
        async with exchange.timed():
            return await session.request(
                method,
                url,
                headers=[*headers, *exchange.framing()],
                data=exchange.data(),
                allow_redirects=False,
                middlewares=(only_once,),
            )
    except Exception as error:  # noqa: BLE001 - of another's errors only their kind is kept
        return failure_of(error)
