"""Requests whose outcome is not known: which are to be looked into next, and what is known of them.

A request is claimed by its earliest send in doubt: that row says when it is due, and claiming it
moves that on, so that two replicas never look into one at the same time and a crash in the middle
costs one turn. What never lives here: what became of a request, which is the ledger's to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from vault.db import Connection, Database, Record
from vault.keys import Sealed

BACKOFF: Final = (
    timedelta(minutes=2),  # after the first look, which is when the lease of the send is over
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),  # and so on
)
GIVEN_UP_AFTER: Final = timedelta(days=7)
SHORTEST_PAUSE: Final = timedelta(seconds=30)
CLAIMS_MAX: Final = 8
OPEN_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class DoubtfulSend:
    """One send that may have arrived; `boot` is the one that made it."""

    intent: str
    attempt: int
    boot: str
    opened_at: datetime
    account: bytes | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A request with all its sends in doubt, the latest first. Amounts are in minor units."""

    first: str
    tenant: str
    route: str
    operation: str
    kind: str
    state: str
    amount: int | None
    currency: str | None
    merchant_reference: str | None
    processor_reference: str | None
    created_at: datetime
    sends: tuple[DoubtfulSend, ...]
    singles: tuple[str, ...]  # tokens for one use that it holds
    tries: int = 0
    due: datetime | None = None

    @property
    def since(self) -> datetime:
        """When the earliest of its sends in doubt was about to leave."""
        return min(send.opened_at for send in self.sends)

    @property
    def until(self) -> datetime:
        return max(send.opened_at for send in self.sends)

    @property
    def given_up_at(self) -> datetime:
        return self.since + GIVEN_UP_AFTER


@dataclass(frozen=True, slots=True)
class EndedSend:
    """A send whose outcome is on record, in the entry of this index."""

    intent: str
    state: str
    last_idx: int
    boot: str


class DoubtTable:
    """Claims of doubts, and the requests that were kept for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, at: datetime, *, limit: int = CLAIMS_MAX) -> Sequence[Doubt]:
        """Return doubts that are due, and put off when they are due again.

        Of a request with a send under way there is none. Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> Sequence[UUID]:
            rows = await connection.fetch(
                _CLAIM, at, limit, list(BACKOFF), SHORTEST_PAUSE, GIVEN_UP_AFTER
            )
            return [row["first"] for row in rows]

        return await self._doubts(await self._database.read(work))

    async def of(self, tenant: str, first: str) -> Doubt | None:
        """Return a request if it is in doubt. Raises StoreUnavailable."""
        doubts = await self._doubts([UUID(first)])
        return next((doubt for doubt in doubts if doubt.tenant == tenant), None)

    async def open(self) -> Sequence[Doubt]:
        """Return all that is in doubt, the oldest first; at most 1,000. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT first FROM intent_state WHERE state = 'unknown'"
            " GROUP BY first ORDER BY min(opened_at) LIMIT $1",
            OPEN_MAX,
        )
        return await self._doubts([row["first"] for row in rows])

    async def ended(self, tenant: str, first: str) -> EndedSend | None:
        """Return the latest send of a request that has ended. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT intent, state, last_idx, boot FROM intent_state WHERE tenant = $1"
            " AND first = $2 AND state IN ('completed', 'not_sent', 'resolved')"
            " ORDER BY attempt DESC LIMIT 1",
            tenant,
            UUID(first),
        )
        if not rows:
            return None
        row = rows[0]
        return EndedSend(str(row["intent"]), row["state"], row["last_idx"], str(row["boot"]))

    async def tenant_of(self, first: str) -> str | None:
        """Return whose request it is. Raises StoreUnavailable."""
        rows = await self._fetch("SELECT tenant FROM authorizations WHERE first = $1", UUID(first))
        return str(rows[0]["tenant"]) if rows else None

    async def has_rival(
        self, doubt: Doubt, operations: Sequence[str], *, since: datetime, until: datetime
    ) -> bool:
        """Whether another request with its reference was, or may have been, sent at that time.

        By whatever route or tenant: two may lead to one account. Raises StoreUnavailable.
        """
        rows = await self._fetch(
            "SELECT 1 FROM authorizations a JOIN intent_state i USING (first)"
            " WHERE a.merchant_reference = $1 AND a.first <> $2"
            " AND a.operation = ANY($3) AND i.state <> 'not_sent'"
            " AND i.opened_at BETWEEN $4 AND $5 LIMIT 1",
            doubt.merchant_reference,
            UUID(doubt.first),
            list(operations),
            since,
            until,
        )
        return bool(rows)

    # --- kept requests ------------------------------------------------------------------------

    async def keep(self, tenant: str, first: str, sealed: Sealed, lifetime: timedelta) -> None:
        """Keep a request for so long from its first send; one that is kept stays as it is.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO kept_request (first, tenant, ciphertext, key_version, expires_at)"
                " SELECT first, tenant, $3, $4, created_at + $5::interval FROM authorizations"
                " WHERE first = $1 AND tenant = $2 ON CONFLICT (first) DO NOTHING",
                UUID(first),
                tenant,
                sealed.ciphertext,
                sealed.key_version,
                lifetime,
            )

        await self._database.read(work)

    async def kept(self, tenant: str, first: str, at: datetime) -> Sealed | None:
        """Return a request that was kept, within its time. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT ciphertext, key_version FROM kept_request"
            " WHERE first = $1 AND tenant = $2 AND expires_at > $3",
            UUID(first),
            tenant,
            at,
        )
        return Sealed(rows[0]["ciphertext"], rows[0]["key_version"]) if rows else None

    async def forget_kept(self, at: datetime) -> int:
        """Delete what is kept for nothing now; return how many. Raises StoreUnavailable."""

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "DELETE FROM kept_request k WHERE k.expires_at <= $1 OR NOT EXISTS ("
                " SELECT 1 FROM intent_state i WHERE i.first = k.first"
                " AND i.state IN ('attempted', 'unknown'))",
                at,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def _fetch(self, statement: str, *values: object) -> Sequence[Record]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, *values)

        return await self._database.read(work)

    async def _doubts(self, firsts: Sequence[UUID]) -> Sequence[Doubt]:
        if not firsts:
            return []
        rows = await self._fetch(_DOUBTS, list(firsts))
        by_first: dict[UUID, list[Record]] = {}
        for row in rows:
            by_first.setdefault(row["first"], []).append(row)
        return [_doubt(by_first[first]) for first in firsts if first in by_first]


_CLAIM: Final = """
WITH ranked AS ( -- a tenant's many at one route do not come before everybody else's few
  SELECT intent, row_number() OVER (PARTITION BY tenant, route ORDER BY due) AS place
  FROM intent_state WHERE state = 'unknown' AND due < $1
), due AS (
  SELECT i.intent FROM intent_state i JOIN ranked r USING (intent)
  WHERE i.state = 'unknown' AND i.due < $1
    AND NOT EXISTS (SELECT 1 FROM intent_state o WHERE o.first = i.first
      AND (o.state = 'attempted' OR o.state = 'unknown' AND o.attempt < i.attempt))
  ORDER BY r.place, i.due LIMIT $2 FOR UPDATE OF i SKIP LOCKED
)
UPDATE intent_state i SET tries = i.tries + 1, due = greatest($1 + $4::interval, least(
  $1 + ($3::interval[])[least(i.tries + 1, array_length($3::interval[], 1))],
  i.opened_at + $5::interval))
FROM due WHERE i.intent = due.intent
RETURNING i.first
"""

_DOUBTS: Final = """
SELECT a.*, i.intent, i.attempt, i.boot, i.opened_at, i.tries, i.due, i.account,
  ARRAY(SELECT t.id FROM token t WHERE t.id = ANY(a.tokens) AND t.single_use
    AND t.held_by = a.first) AS singles
FROM authorizations a JOIN intent_state i USING (first)
WHERE a.first = ANY($1) AND i.state = 'unknown' ORDER BY i.attempt DESC
"""


def _doubt(rows: Sequence[Record]) -> Doubt:
    row = rows[0]
    return Doubt(
        first=str(row["first"]),
        tenant=row["tenant"],
        route=row["route"],
        operation=row["operation"],
        kind=row["kind"],
        state=row["state"],
        amount=row["amount"],
        currency=row["currency"],
        merchant_reference=row["merchant_reference"],
        processor_reference=row["processor_reference"],
        created_at=row["created_at"],
        sends=tuple(
            DoubtfulSend(
                str(one["intent"]),
                one["attempt"],
                str(one["boot"]),
                one["opened_at"],
                one["account"],
            )
            for one in rows
        ),
        singles=tuple(row["singles"]),
        tries=rows[-1]["tries"],
        due=rows[-1]["due"],
    )
