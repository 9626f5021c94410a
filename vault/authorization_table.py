"""Authorizations as they are read: by the API, by a repeat of a request, by the sweepers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from vault.db import Connection, Database, Record
from vault.intent_table import LEASE, SealedAnswer

SWEEP_ROWS_MAX: Final = 200
EVENTS_SHOWN_MAX: Final = 100  # of one authorization, the first


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send of an authorization."""

    intent: str
    attempt: int
    state: str
    result: str | None
    status: int | None
    reason: str | None
    opened_at: datetime
    ended_at: datetime | None
    finding: str | None = None  # of a resolution


@dataclass(frozen=True, slots=True)
class Reported:
    """What a processor has reported of an authorization later on. Amounts are in minor units.

    A capture's or refund's own are those that are about it; a payment has those of its changes too.
    """

    callback: str
    type: str
    effect: str
    amount: int | None
    currency: str | None
    decline_code: str | None
    at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class AuthorizationRow:
    """One request with all its sends. Amounts are in minor units; `leaf` is 32 bytes."""

    first: str
    tenant: str
    route: str
    operation: str
    kind: str
    tokens: Sequence[str]
    state: str
    result: str | None
    amount: int | None
    currency: str | None
    merchant_reference: str | None
    processor_reference: str | None
    decline_code: str | None
    authorization_code: str | None
    idx: int
    leaf: bytes
    created_at: datetime
    updated_at: datetime
    attempts: Sequence[Attempt]
    events: Sequence[Reported] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationFilter:
    """What a list is narrowed to; None narrows nothing."""

    token: str | None = None
    route: str | None = None
    state: str | None = None
    result: str | None = None
    since: datetime | None = None
    key_digest: bytes | None = None
    processor_reference: str | None = None
    merchant_reference: str | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """An intent whose process is gone: `first` is attempt 1's, `boot` the one that owned it."""

    intent: str
    first: str
    tenant: str
    boot: str


@dataclass(frozen=True, slots=True)
class OpenCount:
    """Intents of a route without a known outcome; age in seconds."""

    state: str
    count: int
    oldest_seconds: float


class AuthorizationTable:
    """Reads of authorizations, and the leases of open intents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, first: str) -> AuthorizationRow | None:
        """Return a tenant's authorization, or None. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT * FROM authorizations WHERE tenant = $1 AND first = $2", tenant, UUID(first)
        )
        return (await self._with_attempts(rows))[0] if rows else None

    async def list(
        self,
        tenant: str,
        narrowed: AuthorizationFilter,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> Sequence[AuthorizationRow]:
        """Return a page, newest first, older than `after`. Raises StoreUnavailable."""
        rows = await self._fetch(
            """
            SELECT * FROM authorizations WHERE tenant = $1
              AND ($2::text IS NULL OR tokens @> ARRAY[$2]) AND ($3::text IS NULL OR route = $3)
              AND ($4::text IS NULL OR state = $4) AND ($5::text IS NULL OR result = $5)
              AND ($6::timestamptz IS NULL OR created_at >= $6)
              AND ($7::bytea IS NULL OR key_digest = $7)
              AND ($8::text IS NULL OR processor_reference = $8)
              AND ($9::text IS NULL OR merchant_reference = $9)
              AND ($10::timestamptz IS NULL OR (created_at, first) < ($10, $11))
            ORDER BY created_at DESC, first DESC LIMIT $12
            """,
            tenant,
            narrowed.token,
            narrowed.route,
            narrowed.state,
            narrowed.result,
            narrowed.since,
            narrowed.key_digest,
            narrowed.processor_reference,
            narrowed.merchant_reference,
            after[0] if after else None,
            UUID(after[1]) if after else None,
            limit,
        )
        return await self._with_attempts(rows)

    async def answer(self, tenant: str, intent: str) -> SealedAnswer | None:
        """Return the sealed answer of an intent, if it was kept. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT * FROM answer WHERE intent = $1 AND tenant = $2 AND expires_at > now()",
            UUID(intent),
            tenant,
        )
        if not rows:
            return None
        return SealedAnswer(tenant, rows[0]["ciphertext"], rows[0]["key_version"])

    async def first_of(self, tenant: str, intent: str) -> str | None:
        """Return the first attempt of an attempt. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT first FROM intent_state WHERE intent = $1 AND tenant = $2",
            UUID(intent),
            tenant,
        )
        return str(rows[0]["first"]) if rows else None

    async def renew_leases(self, boot: UUID, *, at: datetime) -> int:
        """Keep this process's open intents its own for 30 s more; return how many there are.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "UPDATE intent_state SET due = $2 WHERE boot = $1 AND state = 'attempted'",
                boot,
                at + LEASE,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def orphans(self, *, replica: str, boot: UUID, at: datetime) -> Sequence[Orphan]:
        """Return open intents whose lease is over, or that an earlier boot of this replica left.

        At most 200. Raises StoreUnavailable.
        """
        rows = await self._fetch(
            "SELECT intent, first, tenant, boot FROM intent_state WHERE state = 'attempted'"
            " AND boot <> $2 AND (due < $3 OR replica = $1) ORDER BY due LIMIT $4",
            replica,
            boot,
            at,
            SWEEP_ROWS_MAX,
        )
        return [
            Orphan(str(row["intent"]), str(row["first"]), row["tenant"], str(row["boot"]))
            for row in rows
        ]

    async def open_counts(self) -> Mapping[str, Sequence[OpenCount]]:
        """Return, by route, what is attempted or unknown. Raises StoreUnavailable."""
        rows = await self._fetch(
            "SELECT route, state, count(*) AS count,"
            " extract(epoch FROM now() - min(opened_at))::float8 AS oldest"
            " FROM intent_state WHERE state IN ('attempted', 'unknown') GROUP BY route, state"
        )
        counts: dict[str, list[OpenCount]] = {}
        for row in rows:
            counts.setdefault(row["route"], []).append(
                OpenCount(row["state"], row["count"], max(row["oldest"], 0.0))
            )
        return counts

    async def sweep_answers(self, at: datetime) -> int:
        """Delete answers that are kept no longer; return how many. Raises StoreUnavailable."""

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "DELETE FROM answer WHERE intent IN"
                " (SELECT intent FROM answer WHERE expires_at <= $1 LIMIT $2)",
                at,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def _fetch(self, statement: str, *values: object) -> Sequence[Record]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, *values)

        return await self._database.read(work)

    async def _with_attempts(self, rows: Sequence[Record]) -> Sequence[AuthorizationRow]:
        firsts = [row["first"] for row in rows]
        attempts: dict[UUID, list[Attempt]] = {}
        for row in await self._fetch(
            "SELECT * FROM intent_state WHERE first = ANY($1) ORDER BY attempt", firsts
        ):
            attempts.setdefault(row["first"], []).append(_attempt(row))
        events: dict[UUID, list[Reported]] = {}
        for row in await self._fetch(_EVENTS, firsts, EVENTS_SHOWN_MAX):
            events.setdefault(row["first"], []).append(_reported(row))
        return [
            _authorization(row, attempts.get(row["first"], []), events.get(row["first"], []))
            for row in rows
        ]


_EVENTS: Final = """
SELECT w.first, c.* FROM unnest($1::uuid[]) AS w (first) CROSS JOIN LATERAL (
  SELECT id, event_type, effect, amount, currency, decline_code, event_at, received_at, idx
  FROM callback WHERE (callback.first = w.first OR callback.action = w.first)
    AND effect IS NOT NULL
  ORDER BY event_at, idx LIMIT $2) c
ORDER BY c.event_at, c.idx
"""


def _reported(row: Record) -> Reported:
    return Reported(
        callback=str(row["id"]),
        type=row["event_type"],
        effect=row["effect"],
        amount=row["amount"],
        currency=row["currency"],
        decline_code=row["decline_code"],
        at=row["event_at"],
        received_at=row["received_at"],
    )


def _attempt(row: Record) -> Attempt:
    return Attempt(
        intent=str(row["intent"]),
        attempt=row["attempt"],
        state=row["state"],
        result=row["result"],
        status=row["status"],
        reason=row["reason"],
        opened_at=row["opened_at"],
        ended_at=row["ended_at"],
        finding=row["finding"],
    )


def _authorization(
    row: Record, attempts: Sequence[Attempt], events: Sequence[Reported]
) -> AuthorizationRow:
    return AuthorizationRow(
        first=str(row["first"]),
        tenant=row["tenant"],
        route=row["route"],
        operation=row["operation"],
        kind=row["kind"],
        tokens=row["tokens"],
        state=row["state"],
        result=row["result"],
        amount=row["amount"],
        currency=row["currency"],
        merchant_reference=row["merchant_reference"],
        processor_reference=row["processor_reference"],
        decline_code=row["decline_code"],
        authorization_code=row["authorization_code"],
        idx=row["idx"],
        leaf=row["leaf"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        attempts=attempts,
        events=events,
    )
