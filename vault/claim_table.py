"""Idempotency keys: who may carry out a request, in a transaction of its own.

A claim is made before anything is done, so a claim without an intent means that nothing was
sent: its lease may expire. One with an intent never expires; what a repeat gets then follows
from the intent's state (`vault.authorization.repeat`). Races are settled by the primary key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from vault.authorization import (
    Claim,
    Claimed,
    Earlier,
    Finding,
    KeyReused,
    RepeatRules,
    State,
    StillOpen,
    Stored,
    Unsettled,
    repeat,
)
from vault.batching import Batching
from vault.db import Connection, Database, Record
from vault.errors import StoreUnavailable

LEASE: Final = timedelta(seconds=30)
KEPT: Final = timedelta(days=7)
SWEEP_ROWS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A key and a body as keyed digests (32 bytes each), and what the preset says of repeats."""

    tenant: str
    route: str
    key_digest: bytes
    body_digest: bytes
    rules: RepeatRules
    at: datetime


@dataclass(frozen=True, slots=True)
class ClaimHold:
    """A claim as its holder names it."""

    tenant: str
    route: str
    key_digest: bytes
    nonce: str


class ClaimTable:
    """Claims in PostgreSQL; concurrent first claims share a statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claims: Batching[ClaimRequest, Claim] = Batching(self._claim_batch)

    async def close(self) -> None:
        await self._claims.close()

    async def claim(self, request: ClaimRequest) -> Claim:
        """Raises StoreUnavailable; Overloaded."""
        return await self._claims.submit(request)

    async def free(self, hold: ClaimHold) -> None:
        """Give a claim back that led to no intent. Raises StoreUnavailable."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                WITH gone AS (
                  DELETE FROM claim WHERE tenant = $1 AND route = $2 AND key_digest = $3
                    AND nonce = $4 AND intent IS NULL)
                UPDATE claim SET lease_until = '-infinity'
                WHERE tenant = $1 AND route = $2 AND key_digest = $3 AND nonce = $4
                  AND intent IS NOT NULL
                """,
                hold.tenant,
                hold.route,
                hold.key_digest,
                UUID(hold.nonce),
            )

        await self._database.read(work)

    async def sweep(self, at: datetime) -> int:
        """Delete claims whose answers are kept no longer, at most 500; return how many.

        One with an open or unknown intent stays, and one that was given up: nobody knows to this
        day whether it charged. Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                """
                DELETE FROM claim WHERE (tenant, route, key_digest) IN (
                  SELECT c.tenant, c.route, c.key_digest FROM claim c
                  WHERE c.created_at < $1 AND c.lease_until < $2 AND NOT EXISTS (
                    SELECT 1 FROM intent_state i
                    WHERE i.first = c.first AND (i.state IN ('attempted', 'unknown')
                      OR i.finding = 'given_up'))
                  ORDER BY c.created_at LIMIT $3 FOR UPDATE OF c SKIP LOCKED)
                """,
                at - KEPT,
                at,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def _claim_batch(self, requests: Sequence[ClaimRequest]) -> Sequence[Claim | Exception]:
        nonces = [uuid4() for _ in requests]
        won = await self._insert(requests, nonces)
        answers: list[Claim | Exception] = []
        for request, nonce in zip(requests, nonces, strict=True):
            if nonce in won:
                answers.append(Claimed(of=None, attempt=1, nonce=str(nonce)))
                continue
            try:
                answers.append(await self._repeat(request, nonce))
            except StoreUnavailable as error:  # its own: its neighbors may have claimed
                answers.append(error)
        return answers

    async def _insert(self, requests: Sequence[ClaimRequest], nonces: Sequence[UUID]) -> set[UUID]:
        async def work(connection: Connection) -> set[UUID]:
            rows = await connection.fetch(
                """
                INSERT INTO claim (tenant, route, key_digest, body_digest, nonce, lease_until,
                  created_at)
                SELECT DISTINCT ON (tenant, route, key_digest) * FROM unnest($1::text[],
                  $2::text[], $3::bytea[], $4::bytea[], $5::uuid[], $6::timestamptz[],
                  $7::timestamptz[]) AS want (tenant, route, key_digest, body_digest, nonce,
                  lease_until, created_at)
                ORDER BY tenant, route, key_digest
                ON CONFLICT DO NOTHING RETURNING nonce
                """,
                [one.tenant for one in requests],
                [one.route for one in requests],
                [one.key_digest for one in requests],
                [one.body_digest for one in requests],
                nonces,
                [one.at + LEASE for one in requests],
                [one.at for one in requests],
            )
            return {row["nonce"] for row in rows}

        return await self._database.read(work)

    async def _repeat(self, request: ClaimRequest, nonce: UUID) -> Claim:
        async def work(connection: Connection) -> Claim:
            key = (request.tenant, request.route, request.key_digest)
            # In a statement of its own: one that waits for the lock and joins sees the claim as
            # it is now beside intents as they were before, and would run a request again.
            await connection.execute(_LOCK, *key)
            row = await connection.fetchrow(
                _EARLIER, *key, request.at, sorted(request.rules.not_executed)
            )
            if row is None:  # freed a moment ago: the caller repeats
                return StillOpen()
            answer = repeat(_earlier(row, request), request.rules, at=request.at)
            if answer is Claimed:
                return await _take_over(connection, request, nonce, row)
            return Stored(str(row["telling"])) if answer is Stored else _REFUSALS[answer]

        return await self._database.transact(work)


_REFUSALS: Final[Mapping[type[Claim], Claim]] = {
    StillOpen: StillOpen(),
    Unsettled: Unsettled(),
    KeyReused: KeyReused(),
}

_LOCK: Final = """
SELECT 1 FROM claim WHERE tenant = $1 AND route = $2 AND key_digest = $3 FOR UPDATE
"""
_EARLIER: Final = """
SELECT c.*, c.lease_until > $4 AS leased, i.intent AS telling, i.state, i.status, i.finding,
  (SELECT max(attempt) FROM intent_state s WHERE s.first = c.first) AS attempt,
  f.opened_at AS first_at,
  coalesce(NOT f.opens_cvc OR EXISTS (
    SELECT 1 FROM cvc WHERE claimed_by = c.first AND expires_at > now()), true) AS cvc_claimable,
  EXISTS (SELECT 1 FROM intent_state u WHERE u.first = c.first AND u.state = 'unknown')
    AS unsettled
FROM claim c
LEFT JOIN LATERAL ( -- the latest send with which something was done; a later one that came to
  SELECT * FROM intent_state s WHERE s.first = c.first -- nothing says nothing of it
  ORDER BY s.state = 'not_sent'
      OR s.state = 'completed' AND coalesce(s.status = ANY($5::int[]), false)
      OR s.state = 'resolved' AND s.finding IN ('not_received', 'not_sent'),
    s.attempt DESC
  LIMIT 1) i ON true
LEFT JOIN intent_state f ON f.intent = c.first
WHERE c.tenant = $1 AND c.route = $2 AND c.key_digest = $3
"""


def _earlier(row: Record, request: ClaimRequest) -> Earlier:
    return Earlier(
        same_body=row["body_digest"] == request.body_digest,
        leased=row["leased"],
        state=State(row["state"]) if row["state"] else None,
        status=row["status"],
        finding=Finding(row["finding"]) if row["finding"] else None,
        first_at=row["first_at"],
        cvc_claimable=row["cvc_claimable"],
        unsettled=row["unsettled"],
    )


async def _take_over(
    connection: Connection, request: ClaimRequest, nonce: UUID, row: Record
) -> Claimed:
    await connection.execute(
        "UPDATE claim SET nonce = $4, lease_until = $5"
        " WHERE tenant = $1 AND route = $2 AND key_digest = $3",
        request.tenant,
        request.route,
        request.key_digest,
        nonce,
        request.at + LEASE,
    )
    if row["first"] is None:
        return Claimed(of=None, attempt=1, nonce=str(nonce))
    unsettled = await connection.fetch(
        "SELECT intent FROM intent_state WHERE first = $1 AND state = 'unknown' ORDER BY attempt",
        row["first"],
    )
    return Claimed(
        of=str(row["first"]),
        attempt=row["attempt"] + 1,
        nonce=str(nonce),
        unsettled=tuple(str(one["intent"]) for one in unsettled),
    )
