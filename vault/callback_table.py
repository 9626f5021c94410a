"""The inbox of callbacks, one row an event, and the requests that events speak of, as read.

Rows are written with their ledger entries (`vault/callback_unit.py`). What never lives here: which
of several requests an event means (`vault/callback_targets.py`), and a card number: what is kept
of a post has been scrubbed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from vault.authorization import Kind, Result, State
from vault.batching import Batching
from vault.db import Connection, Database, Record
from vault.doubt_table import EndedSend
from vault.payment_events import PAYMENTS, Effect

BODIES_KEPT: Final = timedelta(days=90)
SWEEP_ROWS_MAX: Final = 500
NAMESAKES_MAX: Final = 50  # requests with one reference that are looked at
CLOCKS_APART: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, repr=False)
class CallbackRow:
    """One event. Amounts are in minor units.

    `first` names the payment that it speaks of, `action` what was done to that; where only that
    is known, both name it.
    """

    id: str
    tenant: str
    route: str
    scheme: str
    event_id: str
    event_type: str
    event_at: datetime
    effect: Effect | None
    action_reference: str | None
    payment_reference: str | None
    merchant_reference: str | None
    amount: int | None
    currency: str | None
    decline_code: str | None
    signature: str
    is_scrubbed: bool
    headers: tuple[tuple[str, str], ...] | None  # None, like the body: forgotten
    body: bytes | None
    first: str | None
    action: str | None
    idx: int
    received_at: datetime

    @property
    def has_own_time(self) -> bool:
        """Whether the processor said when; else it is when it came, to the microsecond."""
        return self.event_at != self.received_at


COLUMNS: Final = tuple(field.name for field in fields(CallbackRow))


@dataclass(frozen=True, slots=True)
class CallbackFilter:
    """What a list is narrowed to; None narrows nothing.

    `authorization` is a first intent: of the payment, or of what was done to it.
    """

    route: str | None = None
    type: str | None = None
    effect: str | None = None
    authorization: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that an event may mean; `idx` tells whether it is still as it was."""

    first: str
    kind: Kind
    state: State
    result: Result | None
    processor_reference: str | None
    amount: int | None
    currency: str | None
    created_at: datetime
    idx: int
    evidence_at: datetime | None
    by_reference: bool  # the processor's; else by the merchant's alone
    decline_code: str | None = None

    @property
    def is_open(self) -> bool:
        undecided = self.state in {State.ATTEMPTED, State.UNKNOWN}
        return undecided or self.result is Result.PENDING


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an event before it is put on record."""

    is_known: bool
    is_under_way: bool
    """Whether an answer that is awaited may name the request that the event means."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A page of events that no request was found for; `due` are those that one may be there for."""

    due: Sequence[CallbackRow]
    last: tuple[datetime, str] | None  # where the next page begins; None: this is the last


class CallbackTable:
    """Events in PostgreSQL. Every method raises StoreUnavailable when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks: Batching[tuple[CallbackRow, Kind | None], Found] = Batching(self._look_up_all)

    async def close(self) -> None:
        await self._looks.close()

    # --- for the API --------------------------------------------------------------------------

    async def get(self, tenant: str, callback: str) -> CallbackRow | None:
        """Return a tenant's event, or None."""
        rows = await self._fetch(
            "SELECT * FROM callback WHERE tenant = $1 AND id = $2", tenant, UUID(callback)
        )
        return _row(rows[0]) if rows else None

    async def list(
        self,
        tenant: str,
        narrowed: CallbackFilter,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> Sequence[CallbackRow]:
        """Return a page without headers and bodies, newest first, older than `after`."""
        rows = await self._fetch(
            f"SELECT {_LISTED} FROM callback c WHERE tenant = $1"  # noqa: S608 - ours
            " AND ($2::text IS NULL OR route = $2) AND ($3::text IS NULL OR event_type = $3)"
            " AND ($4::text IS NULL OR effect = $4) AND ($5::uuid IS NULL OR first = $5"
            " OR action = $5)"
            " AND ($6::timestamptz IS NULL OR received_at >= $6)"
            " AND ($7::timestamptz IS NULL OR (received_at, id) < ($7, $8))"
            " ORDER BY received_at DESC, id DESC LIMIT $9",
            tenant,
            narrowed.route,
            narrowed.type,
            narrowed.effect,
            UUID(narrowed.authorization) if narrowed.authorization else None,
            narrowed.since,
            after[0] if after else None,
            UUID(after[1]) if after else None,
            limit,
        )
        return [_row(row) for row in rows]

    async def forget_bodies(self, at: datetime) -> int:
        """Forget what was posted 90 days ago, at most 500 posts; return how many."""

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "UPDATE callback SET body = NULL, headers = NULL WHERE id IN (SELECT id"
                " FROM callback WHERE received_at < $1 AND body IS NOT NULL LIMIT $2)",
                at - BODIES_KEPT,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    # --- for receiving ------------------------------------------------------------------------

    async def look_up(self, event: CallbackRow, kind: Kind | None) -> Found:
        """Return whether an event is on record, and the requests that have its references.

        `kind`: of what it says was done to a payment. Events that come at once share a query.
        """
        return await self._looks.submit((event, kind))

    async def _look_up_all(
        self, asked: Sequence[tuple[CallbackRow, Kind | None]]
    ) -> Sequence[Found | Exception]:
        events = [event for event, _ in asked]
        rows = await self._fetch(
            _LOOK_UP,
            [event.tenant for event in events],
            [event.route for event in events],
            [event.action_reference for event in events],
            [event.payment_reference for event in events],
            [event.merchant_reference for event in events],
            [event.received_at + CLOCKS_APART for event in events],
            [event.event_id for event in events],
            [None if kind is None else kind.value for _, kind in asked],
            [kind.value for kind in PAYMENTS],
            NAMESAKES_MAX,
        )
        found: list[list[Record]] = [[] for _ in asked]
        for row in rows:
            found[row["n"] - 1].append(row)
        return [
            Found(
                of[0]["is_known"],
                of[0]["is_under_way"],
                tuple(_candidate(row) for row in of if row["first"] is not None),
            )
            for of in found
        ]

    async def telling(self, tenant: str, first: str) -> tuple[EndedSend, tuple[str, ...]] | None:
        """Return the send whose outcome a request shows, and its tokens for one use still there.

        None if that one has not ended.
        """
        rows = await self._fetch(_TELLING, tenant, UUID(first))
        if not rows or rows[0]["state"] not in {"completed", "not_sent", "resolved"}:
            return None
        row = rows[0]
        send = EndedSend(str(row["intent"]), row["state"], row["last_idx"], str(row["boot"]))
        return send, tuple(row["singles"])

    async def unmatched(
        self, since: datetime, before: tuple[datetime, str] | None, *, limit: int
    ) -> Unmatched:
        """Return a page of events that stand for themselves, newest first."""
        rows = await self._fetch(
            _UNMATCHED,
            since,
            before[0] if before else None,
            UUID(before[1]) if before else None,
            limit,
            [kind.value for kind in PAYMENTS],
        )
        last = (rows[-1]["received_at"], str(rows[-1]["id"])) if len(rows) == limit else None
        return Unmatched([_row(row) for row in rows if row["is_due"]], last)

    async def link(
        self,
        callback: str,
        named: tuple[str, str | None],
        seen: Sequence[Candidate],
        evidence: Mapping[str, datetime],
    ) -> bool:
        """Name the requests of an event that changes no outcome, if all is as it was seen.

        Rows that the ledger's writer has are not waited for: False, and it is tried again.
        """

        async def work(connection: Connection) -> bool:
            rows = await connection.fetch(
                "SELECT first, idx, evidence_at FROM authorizations WHERE first = ANY($1)"
                " FOR UPDATE SKIP LOCKED",
                [UUID(one.first) for one in seen],
            )
            held = {(str(row["first"]), row["idx"], row["evidence_at"]) for row in rows}
            if held != {(one.first, one.idx, one.evidence_at) for one in seen}:
                return False
            status = await connection.execute(LINK, *links([(callback, *named)]))
            await connection.execute(EVIDENCE, *_columns(evidence))
            return status == "UPDATE 1"

        return await self._database.transact(work)

    async def _fetch(self, statement: str, *values: object) -> Sequence[Record]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, *values)

        return await self._database.read(work)


def links(named: Sequence[tuple[str, str, str | None]]) -> tuple[list[UUID | None], ...]:
    """Give events, and what they speak of, as `LINK` takes them: `(event, first, action)` each."""
    pairs = [[UUID(one) if one else None for one in each] for each in named]
    return tuple(list(column) for column in zip(*pairs, strict=True))


def _columns(evidence: Mapping[str, datetime]) -> tuple[list[UUID], list[datetime]]:
    return [UUID(first) for first in evidence], list(evidence.values())


def _row(row: Record) -> CallbackRow:
    values = {name: row[name] for name in COLUMNS}
    if row["headers"] is not None:
        values["headers"] = tuple((name, value) for name, value in json.loads(row["headers"]))
    values["id"] = str(row["id"])
    for name in ("first", "action"):
        values[name] = str(row[name]) if row[name] else None
    values["effect"] = Effect(row["effect"]) if row["effect"] else None
    return CallbackRow(**values)


def _candidate(row: Record) -> Candidate:
    return Candidate(
        first=str(row["first"]),
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        result=Result(row["result"]) if row["result"] else None,
        processor_reference=row["processor_reference"],
        amount=row["amount"],
        currency=row["currency"],
        created_at=row["created_at"],
        idx=row["idx"],
        evidence_at=row["evidence_at"],
        by_reference=row["by_reference"],
        decline_code=row["decline_code"],
    )


_LISTED: Final = ", ".join(
    f"NULL AS {name}" if name in {"headers", "body"} else f"c.{name}" for name in COLUMNS
)

# Of namesakes by the merchant's reference two are enough to know that it says nothing. One that
# was begun after the event came is none: events of payments made elsewhere come here, too.
# No EXISTS: the planner may hash one, which reads the whole table.
_LOOK_UP: Final = """
SELECT w.n, coalesce((SELECT true FROM callback c WHERE c.tenant = w.tenant
    AND c.route = w.route AND c.event_id = w.event_id LIMIT 1), false) AS is_known,
  w.kind IS NOT NULL AND coalesce((
    SELECT true FROM intent_state i JOIN authorizations u USING (first)
    WHERE i.state = 'attempted' AND u.tenant = w.tenant AND u.route = w.route AND u.kind = w.kind
      AND u.processor_reference IS NULL AND i.opened_at <= w.until LIMIT 1), false)
    AS is_under_way,
  t.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
    $7::text[], $8::text[]) WITH ORDINALITY
  AS w (tenant, route, action, payment, merchant, until, event_id, kind, n)
LEFT JOIN LATERAL (
  (SELECT a.*, true AS by_reference FROM authorizations a
    WHERE a.tenant = w.tenant AND a.route = w.route
      AND a.processor_reference = ANY(ARRAY[w.action, w.payment])
    ORDER BY a.created_at DESC LIMIT $10)
  UNION ALL
  (SELECT a.*, false FROM authorizations a
    WHERE a.tenant = w.tenant AND a.route = w.route AND a.merchant_reference = w.merchant
      AND a.kind = ANY($9) AND a.state <> 'not_sent' AND a.created_at <= w.until
    LIMIT 2)
) t ON true
"""

# The row that is there is written again, so that of two who come at once one sees the other's.
# Each clears away a few that nobody can send any more: so no more than those are ever there.
_TELLING: Final = """
SELECT i.intent, i.state, i.last_idx, i.boot, ARRAY(SELECT t.id FROM token t
  WHERE t.id = ANY(i.tokens) AND t.single_use AND coalesce(t.held_by, i.first) = i.first) AS singles
FROM intent_state i WHERE i.tenant = $1 AND i.first = $2
ORDER BY i.state = 'attempted' DESC, i.state = 'unknown' DESC,
  i.state = 'not_sent' OR coalesce(i.result = 'error', false), i.attempt DESC
LIMIT 1
"""

_UNMATCHED: Final = f"""
SELECT {_LISTED}, EXISTS (SELECT 1 FROM authorizations a
    WHERE a.tenant = c.tenant AND a.state <> 'attempted' AND a.route = c.route
      AND a.processor_reference IN (c.action_reference, c.payment_reference))
  OR EXISTS (SELECT 1 FROM authorizations a
    WHERE a.tenant = c.tenant AND a.state <> 'attempted' AND a.route = c.route
      AND a.merchant_reference = c.merchant_reference AND a.kind = ANY($5)) AS is_due
FROM callback c WHERE first IS NULL AND effect IS NOT NULL AND received_at >= $1
  AND ($2::timestamptz IS NULL OR (received_at, id) < ($2, $3::uuid))
ORDER BY received_at DESC, id DESC LIMIT $4
"""  # noqa: S608 - ours

LINK: Final = """
UPDATE callback c SET first = w.first, action = w.action
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (id, first, action)
WHERE c.id = w.id AND c.first IS NULL
"""
EVIDENCE: Final = """
UPDATE authorizations a SET evidence_at = w.at
FROM unnest($1::uuid[], $2::timestamptz[]) AS w (first, at) WHERE a.first = w.first
"""
