"""Webhook endpoints of merchants, and what was and is on its way to them, as a merchant sees it.

What never lives here: which entry of the ledger tells whom what (`vault/telling.py`), what is
claimed next (`vault/delivery_queue.py`), and secrets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from vault.db import Connection, Database, Record

UNHEARD_MAX: Final = timedelta(days=30)
"""For so long deliveries wait for an endpoint that is disabled, or has failed all the while."""
DELIVERED_KEPT: Final = timedelta(days=30)
DEAD_KEPT: Final = timedelta(days=90)
SWEEP_ROWS_MAX: Final = 1_000

Form = Literal["callbacks", "events"]
Signature = Literal["original", "own"]


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where a merchant hears of things; `types` narrows what he hears, none narrows nothing."""

    id: str
    tenant: str
    url: str
    form: Form
    route: str | None
    types: tuple[str, ...]
    signature: Signature
    concurrency: int
    created_at: datetime
    updated_at: datetime
    state: Literal["active", "disabled", "removed"] = "active"
    disabled_because: str | None = None
    failures: int = 0
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as the API shows it."""

    id: str
    endpoint: str
    event: str | None
    callback: str | None
    subject: str
    state: str
    tries: int
    due: datetime
    last_status: int | None
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a list is narrowed to; None narrows nothing."""

    endpoint: str | None = None
    state: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """For gauges: what waits, for how long it has been overdue, what is dead or stands still."""

    waiting: int
    overdue_seconds: float
    dead: int
    paused: int
    disabled: int
    behind: int
    """Entries of the ledger that are not told yet."""


class WebhookTable:
    """Webhook endpoints and deliveries in PostgreSQL. Everything raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- endpoints ----------------------------------------------------------------------------

    async def add(self, endpoint: WebhookEndpoint) -> None:
        """Add an endpoint, which hears of everything from now on; adding it twice changes nothing.

        `now` is what the log is long, whatever has been told of it by then.
        """
        await self._fetch(
            _ADD,
            endpoint.id,
            endpoint.tenant,
            endpoint.url,
            endpoint.form,
            endpoint.route,
            list(endpoint.types),
            endpoint.signature,
            endpoint.concurrency,
            endpoint.created_at,
        )

    async def get(self, tenant: str, endpoint: str) -> WebhookEndpoint | None:
        """Return a tenant's endpoint; of one that was removed there is none."""
        rows = await self._fetch(
            "SELECT * FROM webhook_endpoint WHERE tenant = $1 AND id = $2 AND state <> 'removed'",
            tenant,
            endpoint,
        )
        return _endpoint(rows[0]) if rows else None

    async def list(self, tenant: str) -> Sequence[WebhookEndpoint]:
        """Return a tenant's endpoints, the oldest first."""
        rows = await self._fetch(
            "SELECT * FROM webhook_endpoint WHERE tenant = $1 AND state <> 'removed'"
            " ORDER BY created_at, id",
            tenant,
        )
        return [_endpoint(row) for row in rows]

    async def update(self, endpoint: WebhookEndpoint, at: datetime) -> bool:
        """Give it another URL, other types, another signature or concurrency."""
        rows = await self._fetch(
            "UPDATE webhook_endpoint SET url = $3, types = $4, signature = $5, concurrency = $6,"
            " updated_at = $7 WHERE tenant = $1 AND id = $2 AND state <> 'removed' RETURNING 1",
            endpoint.tenant,
            endpoint.id,
            endpoint.url,
            list(endpoint.types),
            endpoint.signature,
            endpoint.concurrency,
            at,
        )
        return bool(rows)

    async def disable(self, tenant: str, endpoint: str, because: str, at: datetime) -> bool:
        """Deliver nothing until it is enabled: what is told meanwhile waits."""
        rows = await self._fetch(
            "UPDATE webhook_endpoint SET state = 'disabled', disabled_because = $3,"
            " updated_at = $4 WHERE tenant = $1 AND id = $2 AND state = 'active' RETURNING 1",
            tenant,
            endpoint,
            because,
            at,
        )
        return bool(rows)

    async def enable(self, tenant: str, endpoint: str, at: datetime) -> bool:
        """Deliver again, and at once what has waited; also of one that is only paused."""
        return bool(await self._fetch(_ENABLE, tenant, endpoint, at))

    async def remove(self, tenant: str, endpoint: str, at: datetime) -> bool:
        """End an endpoint; what waits for it is dead. Its id is never given again."""
        return bool(await self._fetch(_REMOVE, tenant, endpoint, at))

    # --- deliveries ---------------------------------------------------------------------------

    async def replay(self, tenant: str, delivery: str, at: datetime) -> bool:
        """Let a delivery that has ended begin anew; not for an endpoint that was removed."""
        rows = await self._fetch(
            _REPLAY,
            tenant,
            UUID(delivery),
            at,
        )
        return bool(rows)

    async def delivery(self, tenant: str, delivery: str) -> Delivery | None:
        rows = await self._fetch(
            f"SELECT {_SHOWN} FROM delivery WHERE tenant = $1 AND id = $2",  # noqa: S608 - ours
            tenant,
            UUID(delivery),
        )
        return _delivery(rows[0]) if rows else None

    async def deliveries(
        self,
        tenant: str,
        narrowed: DeliveryFilter,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
    ) -> Sequence[Delivery]:
        """Return a page, newest first, older than `after`."""
        rows = await self._fetch(
            f"SELECT {_SHOWN} FROM delivery WHERE tenant = $1"  # noqa: S608 - ours
            " AND ($2::text IS NULL OR endpoint = $2) AND ($3::text IS NULL OR state = $3)"
            " AND ($4::timestamptz IS NULL OR created_at >= $4)"
            " AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))"
            " ORDER BY created_at DESC, id DESC LIMIT $7",
            tenant,
            narrowed.endpoint,
            narrowed.state,
            narrowed.since,
            after[0] if after else None,
            UUID(after[1]) if after else None,
            limit,
        )
        return [_delivery(row) for row in rows]

    async def counts(self, at: datetime) -> QueueCounts:
        row = (await self._fetch(_COUNTS, at))[0]
        return QueueCounts(**row)

    async def sweep(self, at: datetime) -> int:
        """End what nobody takes any more, forget what ended long ago; return how many rows.

        At an endpoint that is well, nothing ends but by its own tries, however long that takes.
        """
        limit = SWEEP_ROWS_MAX
        expired = await self._fetch(_EXPIRE, at, limit, at - UNHEARD_MAX)
        ended = await self._fetch(_FORGET, limit, at - DELIVERED_KEPT, at - DEAD_KEPT)
        events = await self._fetch(_FORGET_EVENTS, limit, at - DELIVERED_KEPT)
        return len(expired) + len(ended) + len(events)

    async def _fetch(self, statement: str, *values: object) -> Sequence[Record]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, *values)

        return await self._database.read(work)


def _endpoint(row: Record) -> WebhookEndpoint:
    known = {name: value for name, value in row.items() if name != "since_idx"}
    return WebhookEndpoint(**known | {"types": tuple(row["types"])})


def _delivery(row: Record) -> Delivery:
    ids = {name: value and str(value) for name, value in row.items() if name in _IDS}
    return Delivery(**dict(row.items()) | ids)


_IDS: Final = frozenset({"id", "event", "callback", "subject"})

_SHOWN: Final = (
    "id, endpoint, event, callback, subject, state, tries, due, last_status, last_error,"
    " created_at, ended_at"
)

_ADD: Final = """
INSERT INTO webhook_endpoint (id, tenant, url, form, route, types, signature, state, concurrency,
  since_idx, created_at, updated_at)
SELECT $1, $2, $3, $4, $5, $6, $7, 'active', $8, size, $9, $9 FROM head
ON CONFLICT (id) DO NOTHING
"""

_ENABLE: Final = """
WITH enabled AS (
  UPDATE webhook_endpoint SET state = 'active', disabled_because = NULL, failures = 0,
    paused_until = NULL, updated_at = $3
  WHERE tenant = $1 AND id = $2 AND state <> 'removed' RETURNING id, state
), woken AS ( -- a day back, so that the older ones go first; not as far as what is given up
  UPDATE delivery d SET due = greatest(d.created_at, $3 - interval '1 day')
  FROM enabled e WHERE d.endpoint = e.id AND d.state = 'waiting'
    AND (d.due > $3 + interval '2 minutes' OR d.due < $3 - interval '1 day')
)
SELECT 1 FROM enabled
"""

_REMOVE: Final = """
WITH removed AS (
  UPDATE webhook_endpoint SET state = 'removed', updated_at = $3
  WHERE tenant = $1 AND id = $2 AND state <> 'removed' RETURNING id
), ended AS (
  UPDATE delivery d SET state = 'dead', last_error = 'endpoint_removed', ended_at = $3
  FROM removed r WHERE d.endpoint = r.id AND d.state = 'waiting'
)
SELECT 1 FROM removed
"""

_REPLAY: Final = """
UPDATE delivery d SET state = 'waiting', tries = 0, due = $3, ended_at = NULL
FROM webhook_endpoint e
WHERE d.tenant = $1 AND d.id = $2 AND d.state IN ('dead', 'delivered')
  AND e.id = d.endpoint AND e.state <> 'removed'
RETURNING 1
"""

# A pause lasts from the tenth failure in a row to the next success.
_EXPIRE: Final = """
UPDATE delivery d SET state = 'dead', last_error = coalesce(d.last_error, 'expired'), ended_at = $1
WHERE d.id IN (SELECT o.id FROM webhook_endpoint e CROSS JOIN LATERAL (
    SELECT w.id FROM delivery w WHERE w.endpoint = e.id AND w.state = 'waiting'
      AND (e.state = 'removed' OR w.due < $3::timestamptz)
    ORDER BY w.due, w.idx LIMIT $2 FOR UPDATE SKIP LOCKED) o
  WHERE e.state <> 'active' OR e.paused_until IS NOT NULL LIMIT $2)
RETURNING 1
"""

_FORGET: Final = """
DELETE FROM delivery WHERE id IN (SELECT id FROM delivery
  WHERE ended_at IS NOT NULL AND ended_at < $2::timestamptz
    AND (state = 'delivered' OR ended_at < $3::timestamptz)
  ORDER BY ended_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""

_FORGET_EVENTS: Final = """
DELETE FROM event WHERE id IN (SELECT v.id FROM event v
  WHERE v.created_at < $2 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.event = v.id)
  ORDER BY v.created_at LIMIT $1)
RETURNING 1
"""

_COUNTS: Final = """
SELECT (SELECT count(*) FROM delivery WHERE state = 'waiting') AS waiting,
  coalesce((SELECT extract(epoch FROM $1 - min(due)) FROM delivery WHERE state = 'waiting'
    AND due < $1), 0)::float8 AS overdue_seconds,
  (SELECT count(*) FROM delivery WHERE state = 'dead' AND ended_at IS NOT NULL) AS dead,
  (SELECT count(*) FROM webhook_endpoint WHERE state = 'active' AND paused_until > $1) AS paused,
  (SELECT count(*) FROM webhook_endpoint WHERE state = 'disabled') AS disabled,
  (SELECT h.size - t.next_idx FROM head h, told t) AS behind
"""
