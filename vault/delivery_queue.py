"""The queue of what is on its way to merchants: what is due is claimed, and settled.

A delivery that somebody works on stays `waiting` and is only due later: its lease. So a worker
that dies costs the time of a lease, and what it had begun is done again: at least once. Of a
subject (an authorization, mostly) no delivery is claimed before the one ahead of it has ended.
What never lives here: how something is delivered, and when it is tried again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from vault.db import Connection, Database, Record
from vault.webhook_table import Form, Signature

LEASE: Final = timedelta(minutes=1)
"""Longer than any delivery takes."""
FAILURES_MAX: Final = 10
"""In a row: from there on an endpoint is paused, and hears of one delivery after each pause."""
PAUSE: Final = timedelta(seconds=30)
PAUSE_MAX: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is the caller's until `leased_until`, with all that is needed for it."""

    id: UUID
    endpoint: str
    tenant: str
    url: str
    form: Form
    signature: Signature
    message: UUID
    """The event or the callback: what a merchant knows a repeat by."""
    tries: int
    leased_until: datetime
    headers: str | None = field(repr=False)
    body: bytes | None = field(repr=False)
    scheme: str | None = None
    is_scrubbed: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a claimed delivery.

    `put_off`: it was not tried, and counts neither as a try nor against the endpoint.
    `gone`: the endpoint wants no more, and is disabled; the delivery waits.
    """

    claimed: Claimed
    outcome: Literal["delivered", "failed", "dead", "gone", "put_off"]
    due: datetime
    status: int | None = None
    error: str | None = None


class DeliveryQueue:
    """Deliveries that wait, in PostgreSQL. Everything raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, at: datetime, limit: int, busy: Mapping[str, int], *, lease: timedelta = LEASE
    ) -> Sequence[Claimed]:
        """Return deliveries that are due, in their order, and lease them.

        `busy`: how many of an endpoint the caller works on already.
        """

        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                _CLAIM, at, lease, limit, list(busy), list(busy.values()), FAILURES_MAX
            )

        return [Claimed(**row) for row in await self._database.read(work)]

    async def settle(self, results: Sequence[Settled], at: datetime) -> None:
        """Put on record what became of deliveries, and what that says of their endpoints.

        Settling twice is settling once. A failure counts for the holder of the lease alone;
        what was delivered, was, whoever holds it by now.
        """

        async def work(connection: Connection) -> None:
            await connection.execute(
                _SETTLE,
                at,
                [one.claimed.id for one in results],
                [one.claimed.leased_until for one in results],
                [one.outcome for one in results],
                [one.due for one in results],
                [one.status for one in results],
                [one.error for one in results],
            )
            said = _of_endpoints(results)
            if said:
                await connection.execute(
                    _JUDGE,
                    at,
                    list(said),
                    [one.is_well for one in said.values()],
                    [one.failed for one in said.values()],
                    [one.is_gone for one in said.values()],
                    [one.leased_until for one in said.values()],
                    FAILURES_MAX,
                    PAUSE,
                    PAUSE_MAX,
                    LEASE,
                )

        if results:
            await self._database.transact(work)


@dataclass(slots=True)
class _Said:
    """What a batch of results says of one endpoint."""

    leased_until: datetime
    is_well: bool = False
    failed: int = 0
    is_gone: bool = False


def _of_endpoints(results: Sequence[Settled]) -> dict[str, _Said]:
    said: dict[str, _Said] = {}
    for one in results:
        if one.outcome != "put_off":
            of = said.setdefault(one.claimed.endpoint, _Said(one.claimed.leased_until))
            of.leased_until = max(of.leased_until, one.claimed.leased_until)
            of.is_well |= one.outcome == "delivered"
            of.is_gone |= one.outcome == "gone"
            of.failed += one.outcome in {"failed", "dead"}
    return said


_CLAIM: Final = """
WITH probed AS ( -- its pause is over: whoever gets the row sends one, nobody else does
  UPDATE webhook_endpoint e SET paused_until = $1 + $2::interval
  WHERE e.state = 'active' AND e.failures >= $6 AND coalesce(e.paused_until, $1) <= $1
    AND EXISTS (SELECT 1 FROM delivery d
      WHERE d.endpoint = e.id AND d.state = 'waiting' AND d.due <= $1)
  RETURNING e.id
), ready AS (
  SELECT id, 1 AS room, true AS is_probe FROM probed
  UNION ALL
  SELECT e.id, e.concurrency - coalesce(b.busy, 0), false
  FROM webhook_endpoint e LEFT JOIN unnest($4::text[], $5::int[]) AS b (id, busy) ON b.id = e.id
  WHERE e.state = 'active' AND e.failures < $6 AND coalesce(e.paused_until, $1) <= $1
    AND e.concurrency > coalesce(b.busy, 0)
    AND EXISTS (SELECT 1 FROM delivery d
      WHERE d.endpoint = e.id AND d.state = 'waiting' AND d.due <= $1)
), shared AS ( -- a part for each of them, in no order: none is always the last
  SELECT id, least(room, ceil($3::numeric / count(*) OVER ()))::int AS room FROM ready
  ORDER BY is_probe DESC, random()
), taken AS MATERIALIZED (
  SELECT first.id FROM shared s CROSS JOIN LATERAL (
    SELECT d.id FROM delivery d
    WHERE d.endpoint = s.id AND d.state = 'waiting' AND d.due <= $1
      AND NOT EXISTS (SELECT 1 FROM delivery o WHERE o.endpoint = d.endpoint
        AND o.subject = d.subject AND o.state = 'waiting' AND o.idx < d.idx)
    ORDER BY d.due, d.idx LIMIT s.room FOR UPDATE SKIP LOCKED
  ) AS first LIMIT $3
), leased AS (
  UPDATE delivery d SET due = $1 + $2::interval FROM taken t WHERE d.id = t.id
  RETURNING d.*
)
SELECT l.id, l.endpoint, l.tenant, e.url, e.form, e.signature, coalesce(l.event, l.callback)
    AS message, l.tries, l.due AS leased_until, c.headers, coalesce(v.body, c.body) AS body,
  c.scheme, coalesce(c.is_scrubbed, false) AS is_scrubbed
FROM leased l JOIN webhook_endpoint e ON e.id = l.endpoint
  LEFT JOIN event v ON v.id = l.event LEFT JOIN callback c ON c.id = l.callback
ORDER BY l.idx
"""

# What stood behind one that is dead has its days from now on, as if it had come just now.
_SETTLE: Final = """
WITH settled AS (
  UPDATE delivery d SET due = r.due,
    state = CASE r.outcome WHEN 'delivered' THEN 'delivered' WHEN 'dead' THEN 'dead' ELSE 'waiting'
      END,
    ended_at = CASE WHEN r.outcome IN ('delivered', 'dead') THEN $1::timestamptz END,
    tries = d.tries + CASE r.outcome WHEN 'put_off' THEN 0 ELSE 1 END,
    last_status = CASE r.outcome WHEN 'put_off' THEN d.last_status ELSE r.status END,
    last_error = r.error
  FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::int[], $7::text[])
    AS r (id, leased_until, outcome, due, status, error)
  WHERE d.id = r.id AND d.state = 'waiting'
    AND (r.outcome = 'delivered' OR d.due = r.leased_until)
  RETURNING d.endpoint, d.subject, d.idx, r.outcome
)
UPDATE delivery n SET due = $1::timestamptz FROM settled s CROSS JOIN LATERAL (
  SELECT w.id FROM delivery w WHERE w.endpoint = s.endpoint AND w.subject = s.subject
    AND w.state = 'waiting' AND w.idx > s.idx AND w.id <> ALL ($2::uuid[])
  ORDER BY w.idx LIMIT 1) AS next
WHERE s.outcome = 'dead' AND n.id = next.id AND n.due < $1::timestamptz
"""

# What was under way when a pause began makes it no longer. One that is back gets at once what it
# missed, in its order; but what is due within a lease may be somebody's.
_JUDGE: Final = """
WITH said AS (
  SELECT e.id, e.failures, s.is_well, s.is_gone, e.failures < $7 OR p.is_probe AS counts,
    CASE WHEN s.is_well THEN 0 WHEN e.failures < $7 THEN least(e.failures + s.failed, $7)
      WHEN s.failed > 0 AND p.is_probe THEN least(e.failures + 1, $7 + 16)
      ELSE e.failures END AS tally
  FROM unnest($2::text[], $3::bool[], $4::int[], $5::bool[], $6::timestamptz[])
      AS s (id, is_well, failed, is_gone, leased_until)
    JOIN webhook_endpoint e USING (id)
    CROSS JOIN LATERAL (SELECT e.paused_until = s.leased_until AS is_probe) AS p
  WHERE e.state <> 'removed' AND (s.is_gone OR s.failed > 0 AND NOT s.is_well OR e.failures > 0)
  ORDER BY e.id FOR NO KEY UPDATE OF e
), judged AS (
  UPDATE webhook_endpoint e SET failures = s.tally,
    paused_until = CASE WHEN s.tally < $7 THEN NULL WHEN NOT s.counts THEN e.paused_until
      ELSE $1::timestamptz + least($8::interval * 2 ^ (s.tally - $7), $9::interval) END,
    state = CASE WHEN s.is_gone THEN 'disabled' ELSE e.state END,
    disabled_because = CASE WHEN s.is_gone THEN 'gone' ELSE e.disabled_because END,
    updated_at = CASE WHEN s.is_gone THEN $1::timestamptz ELSE e.updated_at END
  FROM said s WHERE e.id = s.id
  RETURNING e.id, s.is_well AND s.failures >= $7 AS is_back
)
UPDATE delivery d SET due = greatest(d.created_at, $1::timestamptz - interval '1 day')
FROM judged j WHERE j.is_back AND d.endpoint = j.id AND d.state = 'waiting'
  AND d.due > $1::timestamptz + $10::interval
"""
