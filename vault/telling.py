"""Who hears of what: follows the ledger, and makes events and deliveries of its entries.

The ledger is what is told from, so nothing that is on record is ever left out, and no payment
waits for it. A turn is one transaction: the rows it makes, and how far it has come, are there
together or not at all. What never lives here: sending, and anything that is not on record.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import msgspec

from vault.db import Connection, Database, Record
from vault.ids import authorization_id, crockford_encode
from vault.ledger.entry import (
    AccessDenied,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    Entry,
    OfIntent,
    TokenCreated,
    TokenDeleted,
    TokenUpdated,
    decode,
)
from vault.ledger.forms import time_text

ENTRIES_A_TURN_MAX: Final = 500
TELLING_LOCK: Final = 0x70616E77_74656C6C  # "panwtell"
TELLING_SECONDS: Final = 0.5

CALLBACK: Final = "callback.received"
REJECTED: Final = "callback.rejected"
EVENT_TYPES: Final = frozenset(
    {
        "authorization.completed",
        "authorization.resolved",
        "authorization.unknown",
        "authorization.not_sent",
        "token.created",
        "token.updated",
        "token.deleted",
        CALLBACK,
        REJECTED,
    }
)

_DENIED: Final = "access.denied"
_TOLD: Final = [*sorted(EVENT_TYPES - {REJECTED}), _DENIED]  # types of entries

Data = Mapping[str, object]


def event_id(message: UUID) -> str:
    """Give the public id of an event, which has its entry's."""
    return f"evt_{crockford_encode(message.bytes)}"


def callback_id(message: UUID) -> str:
    """Give the public id of a callback, which has its entry's."""
    return f"cb_{crockford_encode(message.bytes)}"


@dataclass(frozen=True, slots=True)
class _Listener:
    """An endpoint of a tenant, as far as it decides what the merchant hears."""

    id: str
    form: str
    route: str | None
    types: Sequence[str]
    since_idx: int

    def hears(self, told: "_Told") -> bool:
        """Whether this is for it. A processor's own callbacks are narrowed by their own types."""
        if told.idx < self.since_idx:
            return False
        callback = told.callback
        if self.form == "events":
            return _is_one_of(told.type, self.types)
        return (
            callback is not None
            and callback["route"] == self.route
            and _is_one_of(callback["event_type"], self.types)
        )


@dataclass(frozen=True, slots=True)
class _Told:
    """An entry that is told: `subject` is what deliveries are kept in order by."""

    id: UUID
    idx: int
    tenant: str
    type: str
    at: datetime
    subject: UUID
    data: Data
    callback: Record | None = None

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "id": event_id(self.id),
                "type": self.type,
                "created_at": time_text(self.at),
                "data": self.data,
            }
        )


class Telling:
    """Turns entries into deliveries; whichever replica is there first does it."""

    def __init__(self, database: Database, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def turn(self) -> int:
        """Tell what has been appended since, and return how many entries: 0, nothing is left.

        Raises StoreUnavailable.
        """
        return await self._database.transact(self._tell)

    async def _tell(self, connection: Connection) -> int:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", TELLING_LOCK):
            return 0
        first, size = await _range(connection)
        if first == size:
            return 0
        # Read after the log's size: an endpoint that was there before an entry is not missed.
        listeners = await _listeners(connection)
        end = min(size, first + ENTRIES_A_TURN_MAX) if listeners else size
        if listeners:
            await self._put(connection, await _told(connection, first, end, listeners), listeners)
        await connection.execute("UPDATE told SET next_idx = $1 WHERE one = 1", end)
        return end - first

    async def _put(
        self,
        connection: Connection,
        told: Iterable[_Told],
        listeners: Mapping[str, Sequence[_Listener]],
    ) -> None:
        pairs = [
            (one, listener)
            for one in told
            for listener in listeners[one.tenant]
            if listener.hears(one)
        ]
        events = {one.id: one for one, listener in pairs if listener.form == "events"}.values()
        if events:
            await connection.execute(
                _PUT_EVENTS,
                [one.id for one in events],
                [one.tenant for one in events],
                [one.type for one in events],
                [one.body for one in events],
                [one.idx for one in events],
                [one.at for one in events],
            )
        if pairs:
            is_event = [listener.form == "events" for _, listener in pairs]
            await connection.execute(
                _PUT_DELIVERIES,
                [uuid4() for _ in pairs],
                [listener.id for _, listener in pairs],
                [one.tenant for one, _ in pairs],
                [one.id for one, _ in pairs],
                is_event,
                [one.subject for one, _ in pairs],
                [one.idx for one, _ in pairs],
                self._now(),
            )


def _is_one_of(name: str, types: Sequence[str]) -> bool:
    """Whether a type is wanted: exactly, or by what it begins with (`charge.*`)."""
    return not types or any(
        name.startswith(one[:-1]) if one.endswith("*") else name == one for one in types
    )


async def _range(connection: Connection) -> tuple[int, int]:
    row = await connection.fetchrow("SELECT t.next_idx, h.size FROM told t, head h")
    assert row is not None
    return row["next_idx"], row["size"]


async def _listeners(connection: Connection) -> Mapping[str, Sequence[_Listener]]:
    """Return the endpoints of each tenant; one that is disabled will hear of it, too."""
    by_tenant: dict[str, list[_Listener]] = {}
    for row in await connection.fetch(_LISTENERS):
        listener = _Listener(*(row[name] for name in ("id", "form", "route", "types", "since_idx")))
        by_tenant.setdefault(row["tenant"], []).append(listener)
    return by_tenant


async def _told(
    connection: Connection, first: int, end: int, listeners: Mapping[str, object]
) -> Sequence[_Told]:
    rows = await connection.fetch(_ENTRIES, first, end, list(listeners), _TOLD)
    ids = [row["id"] for row in rows if row["type"] == CALLBACK]
    callbacks = {row["id"]: row for row in await _asked(connection, _CALLBACKS, ids)}
    entries = {row["id"]: decode(row["body"]) for row in rows if row["type"] != CALLBACK}
    intents = [UUID(one.intent) for one in entries.values() if isinstance(one, OfIntent)]
    requests = {str(row["intent"]): row for row in await _asked(connection, _REQUESTS, intents)}
    told = [
        _of_callback(row, callbacks[row["id"]])
        if row["type"] == CALLBACK
        else _of_entry(row, entries[row["id"]], requests)
        for row in rows
        if row["type"] != CALLBACK or row["id"] in callbacks
    ]
    return [one for one in told if one is not None]


async def _asked(connection: Connection, question: str, ids: Sequence[UUID]) -> Sequence[Record]:
    return await connection.fetch(question, ids) if ids else ()


def _of_entry(row: Record, entry: Entry, requests: Mapping[str, Record]) -> _Told | None:
    subject, kind = row["id"], entry.type
    data: Data
    match entry:
        case OfIntent():
            request = requests.get(entry.intent)
            if request is None:  # rows of the authorizations are being made anew
                data = {"id": None, **_outcome(entry)}
            else:
                subject, data = request["first"], _authorization(request) | _outcome(entry)
        case TokenCreated() | TokenUpdated() | TokenDeleted():
            data = {"id": entry.token, **_change(entry)}
        case AccessDenied(cause="signature"):
            kind, data = REJECTED, {"count": entry.count}
        case _:
            return None
    at = datetime.fromisoformat(entry.ts)
    return _Told(row["id"], row["idx"], row["tenant"], kind, at, subject, data)


def _of_callback(row: Record, callback: Record) -> _Told:
    first = callback["first"]
    data: dict[str, object] = {
        "id": callback_id(row["id"]),
        "authorization": None if first is None else authorization_id(str(first)),
        **{name: callback[name] for name in _CALLBACK_SHOWN},
        "event_at": time_text(callback["event_at"]),
    }
    return _Told(
        row["id"],
        row["idx"],
        row["tenant"],
        CALLBACK,
        callback["received_at"],
        first or row["id"],
        data,
        callback,
    )


def _authorization(row: Record) -> dict[str, object]:
    return {
        "id": authorization_id(str(row["first"])),
        **{name: row[name] for name in _AUTHORIZATION_SHOWN},
        "created_at": time_text(row["created_at"]),
    }


def _outcome(entry: OfIntent) -> dict[str, object]:
    """What the entry itself says: by now the row may tell of something later."""
    data: dict[str, object] = {"state": entry.state, "result": None, "intent": entry.intent}
    match entry:
        case AuthorizationCompleted():
            return data | {"result": entry.result, "processor_status": entry.status}
        case AuthorizationResolved():
            return data | {"result": entry.result, "finding": entry.finding, "method": entry.method}
        case AuthorizationUnknown() | AuthorizationNotSent():
            return data | {"reason": entry.reason}
        case _:
            return data


def _change(entry: TokenCreated | TokenUpdated | TokenDeleted) -> Data:
    match entry:
        case TokenCreated():
            return {"format": entry.format, "single_use": entry.single_use}
        case TokenUpdated():
            return {"changed": entry.changed}
        case TokenDeleted():
            return {"reason": entry.reason}


_CALLBACK_SHOWN: Final = (
    *("route", "scheme", "event_id", "event_type", "effect", "signature"),
    *("action_reference", "payment_reference", "merchant_reference"),
    *("amount", "currency", "decline_code"),
)
_AUTHORIZATION_SHOWN: Final = (
    *("kind", "route", "operation", "tokens", "amount", "currency", "merchant_reference"),
    *("processor_reference", "decline_code", "authorization_code"),
)

_LISTENERS: Final = """
SELECT id, tenant, form, route, types, since_idx FROM webhook_endpoint WHERE state <> 'removed'
"""

_ENTRIES: Final = """
SELECT idx, id, type, tenant, body FROM entry
WHERE idx >= $1 AND idx < $2 AND tenant = ANY($3) AND type = ANY($4) ORDER BY idx
"""

_REQUESTS: Final = """
SELECT i.intent, a.* FROM intent_state i JOIN authorizations a USING (first)
WHERE i.intent = ANY($1)
"""

_CALLBACKS: Final = "SELECT * FROM callback WHERE id = ANY($1)"

_PUT_EVENTS: Final = """
INSERT INTO event (id, tenant, type, body, idx, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[],
  $6::timestamptz[])
"""

_PUT_DELIVERIES: Final = """
INSERT INTO delivery (id, endpoint, tenant, event, callback, subject, idx, state, due, created_at)
SELECT id, endpoint, tenant, CASE WHEN is_event THEN message END,
  CASE WHEN NOT is_event THEN message END, subject, idx, 'waiting', $8, $8
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bool[], $6::uuid[], $7::bigint[])
  AS w (id, endpoint, tenant, message, is_event, subject, idx)
"""
