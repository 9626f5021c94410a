"""THE WAY IN FRONT OF A MERCHANT: a request comes with a card, and goes on with a token.

1. Find the route: by host, path, method and content type.
2. Read the head, and as much of the body as it takes, within limits; inflate what is compressed.
3. Find the declared fields, and what the scanner finds besides; parse the cards. What cannot be
   read where it is declared is refused.
4. Store the cards: encrypted, on record. If that fails, nothing is passed on.
5. Put tokens in their places, and send the request to the merchant's endpoint.
6. Pass the answer on; a card number in it is masked.

What never may live here: anything that could open a card.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from aiohttp import hdrs, web

from gateway.codecs.splice import Format
from gateway.errors import ClientGone, ExpectationRefused, UnsupportedMedia
from gateway.inbound.areas import HEADER, QUERY
from gateway.inbound.endpoints import Endpoint
from gateway.inbound.filtering import (
    Finding,
    Head,
    Plan,
    WantedCard,
    is_rows,
    plan_request,
    reads,
)
from gateway.inbound.forwarding import authority_of, request_headers
from gateway.inbound.merchant import Merchant
from gateway.inbound.routing import Routing
from gateway.inbound.rules import InboundConfig
from gateway.inbound_bodies import Arriving, Store
from gateway.inbound_cards import InboundCards
from gateway.inbound_replies import Replies, is_event_stream
from gateway.inbound_sockets import asks_to_upgrade, check_upgrade, looking, pass_socket
from gateway.metrics import Metrics
from gateway.middleware import TEMPLATE
from gateway.request_event import REQUEST_EVENT, EventLog, Incident
from gateway.scan import Kind
from gateway.source_address import is_in

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CARDS_HEADER: Final = "Panward-Cards"
QUIET_SECONDS: Final = 60.0
PLANNED_AT_ONCE_BYTES_MAX: Final = 16_384
"""Of no more than this nobody else has to wait long."""
PANWARD: Final = "panward-"


@dataclass(frozen=True, slots=True)
class InboundLane:
    """One route, and what its requests are carried out by."""

    endpoint: Endpoint
    merchant: Merchant
    cards: InboundCards

    @property
    def route(self) -> InboundConfig:
        return self.endpoint.route


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A request as it goes on."""

    head: Head
    body: bytes | AsyncIterator[bytes] | None
    length: int | None
    cards: int
    is_rewritten: bool


class InboundProxy:
    """Requests for merchants' own endpoints, and their answers."""

    def __init__(
        self,
        lanes: Sequence[InboundLane],
        *,
        trusted: Sequence[IPv4Network | IPv6Network],
        log: EventLog,
        metrics: Metrics,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._routing = Routing(lanes)
        self._trusted = tuple(trusted)
        self._log = log
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._planning = asyncio.Semaphore(1)
        self._endless: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """Hang up on the merchants' endpoints."""
        for lane in self._lanes:
            await lane.merchant.close()

    def end_streams(self) -> None:
        """End sockets and streams of events, which would outlast any time given to end in."""
        for task in tuple(self._endless):
            task.cancel()

    @contextmanager
    def _endless_one(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None, "requests are carried out by tasks"
        self._endless.add(task)
        try:
            yield
        finally:
            self._endless.discard(task)

    async def expect(self, request: web.Request) -> None:
        """Ask for a body that its sender holds back, once it is known where it may go (T-02).

        Raises ExpectationRefused, and what `handle` does for the head.
        """
        lane = self._lane(request)
        asked = request.headers.getall(hdrs.EXPECT)
        if len(asked) != 1 or asked[0].lower() != "100-continue":
            raise ExpectationRefused
        _manner(lane.route, Arriving(request, lane.route))
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # of the answer nothing has begun

    @property
    def hosts(self) -> frozenset[str]:
        return self._routing.hosts

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Carry one request out.

        Raises any GatewayError of the request, any CustodyError of storing its cards, and
        MerchantFailed.
        """
        lane = self._lane(request)
        request[TEMPLATE] = template_of(lane.route)
        request[REQUEST_EVENT].tenant = lane.route.tenant
        if asks_to_upgrade(request):
            return await self._pass_socket(request, lane)
        outgoing = await self._outgoing(request, lane)
        headers = self._headers(request, lane, outgoing)
        replies = Replies(lane.endpoint, lane.cards.masks, self._noting(lane, "merchant_reply"))
        target, body, length = _target(outgoing.head), outgoing.body, outgoing.length
        with suppress(ConnectionError):  # the client's: the merchant's is a MerchantFailed
            async with lane.merchant.send(
                request.method, target, headers, body, length=length
            ) as reply:
                is_endless = lane.route.server_sent_events and is_event_stream(reply)
                with self._endless_one() if is_endless else nullcontext():
                    return await replies.pass_on(request, reply)
        raise ClientGone

    async def _pass_socket(self, request: web.Request, lane: InboundLane) -> web.StreamResponse:
        check_upgrade(request, lane.route)
        outgoing = await self._outgoing(request, lane)
        store = self._storing(request, lane)

        async def stored(cards: Sequence[WantedCard]) -> Sequence[str]:
            return await store(cards, (), in_bulk=False)

        look = looking(
            {"request": lane.route.undeclared, "response": lane.route.replies},
            {
                "request": self._noting(lane, "inbound"),
                "response": self._noting(lane, "merchant_reply"),
            },
            stored,
        )
        headers = self._headers(request, lane, outgoing)
        with self._endless_one():
            return await pass_socket(request, lane.merchant, _target(outgoing.head), headers, look)

    # --- what goes on ---------------------------------------------------------------------

    async def _outgoing(self, request: web.Request, lane: InboundLane) -> _Outgoing:
        route, arriving = lane.route, Arriving(request, lane.route)
        store = self._storing(request, lane)
        rows, is_whole = _manner(route, arriving)
        body = await arriving.whole() if is_whole else b""
        head, type_ = _head(request, route), arriving.content_type if is_whole else ""
        plan = await self._planned(route, head, type_, body)
        done = plan.apply(await store(plan.cards, plan.findings, in_bulk=False))
        cards = len(plan.cards)
        head = replace(head, query=done.query, headers=tuple(done.headers))
        if not arriving.is_there:
            return _Outgoing(head, None, None, cards, is_rewritten=False)
        if is_whole:
            is_rewritten = arriving.is_inflated or done.body != body
            return _Outgoing(head, done.body, len(done.body), cards, is_rewritten=is_rewritten)
        if rows is not None:
            pieces = arriving.rows(rows, store, self._now)
            return _Outgoing(head, pieces, None, cards, is_rewritten=True)
        pieces = arriving.scanned(store)
        if arriving.is_small:
            sent = b"".join([piece async for piece in pieces])
            is_rewritten = route.undeclared in ("mask", "tokenize")
            return _Outgoing(head, sent, len(sent), cards, is_rewritten=is_rewritten)
        if route.undeclared in ("report", "refuse"):
            is_rewritten = arriving.is_inflated
            return _Outgoing(head, pieces, arriving.length, cards, is_rewritten=is_rewritten)
        return _Outgoing(head, pieces, None, cards, is_rewritten=True)

    async def _planned(self, route: InboundConfig, head: Head, type_: str, body: bytes) -> Plan:
        """Plan a request; a large one beside the event loop, one at a time (T-08).

        A body of a hundred thousand values is a second of work, and costs its sender nothing.
        """
        if len(body) <= PLANNED_AT_ONCE_BYTES_MAX:
            return plan_request(route, head, type_, body, at=self._now())
        async with self._planning:
            return await asyncio.to_thread(plan_request, route, head, type_, body, at=self._now())

    def _storing(self, request: web.Request, lane: InboundLane) -> Store:
        note = self._noting(lane, "inbound")
        address = request.remote or ""

        async def store(
            cards: Sequence[WantedCard], findings: Sequence[Finding], *, in_bulk: bool
        ) -> Sequence[str]:
            note(findings)
            return await lane.cards.store(cards, address, in_bulk=in_bulk)

        return store

    def _headers(
        self, request: web.Request, lane: InboundLane, outgoing: _Outgoing
    ) -> list[tuple[str, str]]:
        peer = _peer(request)
        endpoint = lane.endpoint
        own_host = lane.route.host_header == "upstream"
        headers = request_headers(
            outgoing.head.headers,
            host=request.headers.get(hdrs.HOST, ""),
            peer=peer,
            scheme="https",
            forwarded_trusted=bool(self._trusted) and is_in(peer, self._trusted),
            request_id=request[REQUEST_EVENT].request_id,
            rewritten=outgoing.is_rewritten,
            host_sent=authority_of(endpoint.scheme, endpoint.host) if own_host else None,
            source=request.remote,
        )
        if outgoing.cards:
            headers.append((CARDS_HEADER, str(outgoing.cards)))
        return headers

    def _noting(self, lane: InboundLane, place: str) -> Callable[[Sequence[Finding]], None]:
        """Count what was found where none is declared; tell of it once a minute."""

        def note(findings: Sequence[Finding]) -> None:
            for each in findings:
                if not each.declared:
                    self._metrics.scan_hits(place, each.kind)
                    if each.kind is not Kind.WINDOW:  # mostly chance
                        self._tell(lane.route.name, place, each)

        return note

    def _tell(self, route: str, place: str, finding: Finding) -> None:
        at = self._monotonic()
        if at < self._quiet_until.get((route, place), 0.0):
            return
        self._quiet_until[route, place] = at + QUIET_SECONDS
        name = "card_in_reply" if place == "merchant_reply" else "undeclared_card"
        self._log.incident(Incident(name, level="error", where=route, error=finding.action))

    def _lane(self, request: web.Request) -> InboundLane:
        return self._routing.find(
            request.headers.get(hdrs.HOST, ""),
            request.raw_path.partition("?")[0],
            request.method,
            ", ".join(request.headers.getall(hdrs.CONTENT_TYPE, [])),
            has_body=request.body_exists,
        )


def template_of(route: InboundConfig) -> str:
    """Name a route in metrics and in the log."""
    return f"inbound/{route.name}"


def _head(request: web.Request, route: InboundConfig) -> Head:
    """Take the head as it came, without what only we may say, or ask for."""
    dropped = [PANWARD]
    if any(each.phase == "response" for each in route.filters):
        dropped.append("range")  # of a part of an answer fields cannot be told
        dropped.append("if-range")
    path, _, query = request.raw_path.partition("?")
    headers = [
        (name, value)
        for name, value in request.headers.items()
        if not name.lower().startswith(tuple(dropped))
    ]
    return Head(request.method, path, query, tuple(headers))


def _manner(route: InboundConfig, arriving: Arriving) -> tuple[Format | None, bool]:
    """Tell in which format's rows a body passes, or else whether it is read whole.

    Raises UnsupportedMedia; TooLarge, if the length that was told is too much.
    """
    if not arriving.is_there:
        return None, False
    rows = is_rows(route, arriving.content_type)
    if rows is not None:
        return rows, False
    is_whole = reads(route, "request", arriving.content_type)
    if is_whole:
        arriving.check_whole()
    else:
        _check_other_content(route)
    return None, is_whole


def _check_other_content(route: InboundConfig) -> None:
    """Refuse a body that no filter of the route can read, unless the scanner shall look at it."""
    has_filters = any(
        each.phase == "request" and not each.selector.startswith((HEADER, QUERY))
        for each in route.filters
    )
    if has_filters and route.other_content == "refuse":
        raise UnsupportedMedia("content_type")


def _target(head: Head) -> str:
    return f"{head.path}?{head.query}" if head.query else head.path


def _peer(request: web.Request) -> str:
    """The other end of the connection, whatever a proxy says of the one behind it."""
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if name else ""
