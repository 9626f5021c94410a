"""`/ledger` for auditors, `/v1/ledger` for tenants: the log as checkpoints cover it.

An auditor reads all of it, as the files of C2SP tlog-tiles. A tenant reads its own events and
their proofs; entries of others, and those of no tenant, are not there for it. PCI scope of these
calls: none of card data. What is given proves itself, so nothing is checked here.
"""

import asyncio
import re
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import hdrs, web

from gateway.api.answers import json_response
from gateway.api.paging import Place, check_parameters, read_page
from gateway.auditors import Auditors
from gateway.caching import A_SECOND, FOREVER, kept
from gateway.errors import BadField, LedgerNotPublished, NotFound
from gateway.merchants import Caller, Merchants, bearer_key
from gateway.request_event import REQUEST_EVENT
from vault.api_keys import Scope
from vault.errors import Overloaded
from vault.ids import intent_of
from vault.ledger.checkpoint import TlogProof, parse_checkpoint
from vault.ledger.note import ED25519, Note, VerifierKey
from vault.ledger.tiles import parse_tile_path
from vault.own_events import OwnEvents
from vault.published import Event, PublishedLog

PublicKeys = Callable[[], Awaitable[Mapping[int, bytes]]]
"""Gives the public half of every version of the log's key; not all of them sign."""

TEXT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"

READS_AT_ONCE: Final = 2
"""Of each audience: payments share the store's connections, and a bundle may have 4 MiB."""
READS_WAITING_MAX: Final = 128
READS_OF_ONE_MAX: Final = 16  # of one tenant or auditor: so many storms none makes alone

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INDEX: Final = re.compile("0|[1-9][0-9]{0,15}")
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)  # an event's place is its index alone


class Turns:
    """Lets in so many at once, and lets so many wait; whoever comes then is to come back."""

    def __init__(self, at_once: int = READS_AT_ONCE, waiting_max: int = READS_WAITING_MAX) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting_max = waiting_max
        self._waiting = 0
        self._of: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(self, whose: str) -> AsyncIterator[None]:
        """Hold a turn. Raises Overloaded."""
        if self._waiting >= self._waiting_max or self._of[whose] >= READS_OF_ONE_MAX:
            raise Overloaded
        self._of[whose] += 1
        try:
            self._waiting += 1
            try:
                await self._free.acquire()
            finally:
                self._waiting -= 1
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._of[whose] -= 1
            if not self._of[whose]:
                del self._of[whose]


# --- the whole log, for auditors ----------------------------------------------------------


class TileHandlers:
    """Handlers of `/ledger` on the ops listener."""

    def __init__(self, log: PublishedLog, auditors: Auditors, *, public_keys: PublicKeys) -> None:
        self._log = log
        self._auditors = auditors
        self._public_keys = public_keys
        self._turns = Turns()

    async def checkpoint(self, request: web.Request) -> web.Response:
        """`GET /ledger/checkpoint` → the latest, with its cosignatures."""
        async with self._reading(request):
            note = await self._log.checkpoint()
        return _note(request, note)

    async def old_checkpoint(self, request: web.Request) -> web.Response:
        """`GET /ledger/checkpoints/{size}` → that one, with the cosignatures it has by now."""
        async with self._reading(request):
            size = _index(request.match_info["size"])
            note = None if size is None else await self._log.checkpoint(size)
        return _note(request, note)

    async def tile(self, request: web.Request) -> web.Response:
        """`GET /ledger/tile/…` → hashes, or entries: the same bytes for ever."""
        async with self._reading(request):
            name = parse_tile_path(f"tile/{request.match_info['rest']}")
            raw = None if name is None else await self._log.tile(name)
        if raw is None:
            raise NotFound
        return kept(request, raw, OCTETS, FOREVER)

    async def vkey(self, request: web.Request) -> web.Response:
        """`GET /ledger/vkey` → the keys that signed the latest checkpoint, one a line.

        For operators, who give them on: an auditor who pins what the log itself says has no pin.
        """
        async with self._reading(request):
            note = await self._log.checkpoint()
            versions = await self._public_keys() if note is not None else {}
        if note is None:
            raise NotFound
        origin = parse_checkpoint(note.text).origin
        signed = {(each.name, each.key_id) for each in note.signatures}
        keys = [VerifierKey(origin, ED25519, public_key) for public_key in versions.values()]
        text = "".join(f"{key.text}\n" for key in keys if (key.name, key.key_id) in signed)
        return web.Response(body=text.encode("ascii"), headers={hdrs.CONTENT_TYPE: TEXT})

    @asynccontextmanager
    async def _reading(self, request: web.Request) -> AsyncIterator[None]:
        """First who asks, then whether it is asked well, then a turn."""
        auditor = await self._auditors.authenticate(request.headers)
        request[REQUEST_EVENT].key = auditor.key
        check_parameters(request, ())
        async with self._turns.taken(auditor.key):
            yield


def _note(request: web.Request, note: Note | None) -> web.Response:
    if note is None:
        raise NotFound
    return kept(request, note.raw, TEXT, A_SECOND)


# --- a tenant's own events ----------------------------------------------------------------


class LedgerHandlers:
    """Handlers of `/v1/ledger` on the private listener."""

    def __init__(self, log: PublishedLog, own: OwnEvents, merchants: Merchants) -> None:
        self._log = log
        self._own = own
        self._merchants = merchants
        self._turns = Turns()

    async def checkpoint(self, request: web.Request) -> web.Response:
        """`GET /v1/ledger/checkpoint` → the latest: of the whole log, its size and root alone."""
        async with self._reading(request):
            note = await self._log.checkpoint()
        if note is None:
            raise NotFound
        return web.Response(body=note.raw, headers={hdrs.CONTENT_TYPE: TEXT})

    async def proof(self, request: web.Request) -> web.Response:
        """`GET /v1/ledger/proof/{event}` → a tlog-proof; 409 until a checkpoint covers it."""
        async with self._reading(request) as caller:
            event = await self._event(request, caller)
            proof = await self._proof(event)
        disposition = f'attachment; filename="{event.id}.tlog-proof"'
        return web.Response(
            body=proof.raw,
            headers={hdrs.CONTENT_TYPE: TEXT, hdrs.CONTENT_DISPOSITION: disposition},
        )

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/ledger/events` → those that a checkpoint covers, in the log's order."""
        async with self._reading(request, {"limit", "cursor", "since_index"}) as caller:
            page = read_page(request, also={"since_index"})
            after = _after(request, page.after)
            events = await self._log.events(caller.tenant, after=after, limit=page.limit + 1)
        places = [(_NO_TIME, str(event.index)) for event in events]
        return json_response(page.answer([_document(event) for event in events], places))

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/ledger/events/{event}` → the exact bytes that were hashed into the leaf."""
        async with self._reading(request) as caller:
            event = await self._event(request, caller)
        return web.Response(body=event.body, headers={hdrs.CONTENT_TYPE: "application/json"})

    async def detail(self, request: web.Request) -> web.Response:
        """`GET /v1/ledger/events/{event}/detail` → what the leaf commits to, unless erased.

        It says what `read` shows elsewhere, so that scope is needed too.
        """
        async with self._reading(request) as caller:
            caller.require(Scope.READ)
            event = await self._event(request, caller)
            found = await self._own.detail(caller.tenant, event.id)
        if found is None:
            raise NotFound
        return json_response(
            {
                **_place(event),
                "commitment": _fields(event.body).get("detail"),
                "salt": b64encode(found.salt).decode("ascii"),
                "body": b64encode(found.body).decode("ascii"),
                "detail": _fields(found.body),
            }
        )

    @asynccontextmanager
    async def _reading(
        self, request: web.Request, parameters: set[str] | None = None
    ) -> AsyncIterator[Caller]:
        """First who asks, then whether it is asked well, then a turn."""
        caller = await self._merchants.authenticate(bearer_key(request.headers))
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require(Scope.LEDGER)
        check_parameters(request, parameters or ())
        async with self._turns.taken(caller.tenant):
            yield caller

    async def _event(self, request: web.Request, caller: Caller) -> Event:
        """Find a tenant's own event; unknown, another's and nobody's look the same."""
        name = request.match_info["event"]
        identity = name if _UUID.fullmatch(name) else intent_of(name)
        event = None if identity is None else await self._log.event(caller.tenant, identity)
        if event is None:
            raise NotFound
        return event

    async def _proof(self, event: Event) -> TlogProof:
        note = await self._log.checkpoint()
        size = 0 if note is None else parse_checkpoint(note.text).size
        if note is None or event.index >= size:
            raise LedgerNotPublished
        return TlogProof(event.index, await self._log.inclusion(event.index, size), note)


def _document(event: Event) -> Mapping[str, object]:
    return {
        **_place(event),
        "raw": b64encode(event.body).decode("ascii"),
        "entry": _fields(event.body),
    }


def _place(event: Event) -> Mapping[str, object]:
    return {"index": event.index, "id": event.id, "type": event.type, "leaf": event.leaf.hex()}


def _fields(body: bytes) -> Mapping[str, object]:
    return msgspec.json.decode(body, type=dict[str, object])


def _after(request: web.Request, place: Place | None) -> int:
    """Give the index after which the page begins: where the last ended, or before the first."""
    since = _index(request.query.get("since_index", "0"))
    if since is None:
        raise BadField("since_index", "format")
    last = since - 1 if place is None else _index(place[1])
    if last is None:
        raise BadField("cursor", "format")
    return max(last, since - 1)


def _index(text: str) -> int | None:
    """Read an index or a size in its one spelling, within what JSON readers agree about."""
    return int(text) if _INDEX.fullmatch(text) else None
