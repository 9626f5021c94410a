"""Where processors post their callbacks: an endpoint's row, found by its id.

The id is pure chance and stands in a URL that only the processor is told. It names tenant, route
and scheme; what is posted there still has to prove itself. No row is ever removed: an id that
ended is never given again. What was proven has a table of its own.

Beside it, notices: what processors post that proves nothing, an id alone. However many come, it is
one row a thing, and only so many; what they speak of is asked, by whoever claims them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vault.batching import Batching
from vault.db import Connection, Database, Record
from vault.tokens import new_id

ID_CHARACTERS: Final = 32
ENDPOINTS_MAX: Final = 256  # of a tenant, in force at a time
NOTICES_MAX: Final = 10_000  # of an endpoint: anybody who learns its URL can post them
NOTICES_OF_TENANT_MAX: Final = 20_000
NOTICES_AT_ONCE: Final = 8  # of an endpoint: what floods one holds up no other
_ID: Final = re.compile("cbe_[0-9a-z]{1,64}")
CLAIM: Final = timedelta(minutes=1)  # whoever has claimed a notice and died loses it after that


@dataclass(frozen=True, slots=True)
class CallbackEndpoint:
    """One address for one processor's callbacks to one tenant."""

    id: str
    tenant: str
    route: str
    scheme: str
    created_at: datetime
    ends_at: datetime | None

    def is_in_force(self, at: datetime) -> bool:
        return self.ends_at is None or self.ends_at > at


@dataclass(frozen=True, slots=True)
class Notice:
    """Something of a processor's that may have changed, claimed in order to ask."""

    endpoint: str
    tenant: str
    route: str
    reference: str
    tries: int
    received_at: datetime


class CallbackEndpointTable:
    """Callback endpoints in PostgreSQL. Every method raises StoreUnavailable when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks: Batching[str, CallbackEndpoint | None] = Batching(self._look_up)

    async def close(self) -> None:
        await self._looks.close()

    async def endpoint(self, endpoint_id: str, at: datetime) -> CallbackEndpoint | None:
        """Return an endpoint that is in force; None for all that is not, whatever it looks like.

        Posts that come at once share a query. Raises Overloaded when too many wait for one.
        """
        if not _ID.fullmatch(endpoint_id):  # an error of one would be that of all who share it
            return None
        found = await self._looks.submit(endpoint_id)
        return found if found is not None and found.is_in_force(at) else None

    async def _look_up(self, wanted: Sequence[str]) -> Sequence[CallbackEndpoint | None]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                "SELECT * FROM callback_endpoint WHERE id = ANY($1)", wanted
            )

        found = {row["id"]: _endpoint(row) for row in await self._database.read(work)}
        return [found.get(one) for one in wanted]

    async def endpoints(self, tenant: str | None = None) -> Sequence[CallbackEndpoint]:
        """Return a tenant's endpoints, or all, oldest first; those that ended too."""

        async def work(connection: Connection) -> Sequence[CallbackEndpoint]:
            rows = await connection.fetch(
                "SELECT * FROM callback_endpoint WHERE $1::text IS NULL OR tenant = $1"
                " ORDER BY tenant, created_at, id",
                tenant,
            )
            return [one for row in rows if (one := _endpoint(row)) is not None]

        return await self._database.read(work)

    async def add_endpoint(
        self, tenant: str, route: str, scheme: str, *, at: datetime
    ) -> CallbackEndpoint | None:
        """Add one; None when the tenant has as many in force as he may have."""

        async def work(connection: Connection) -> CallbackEndpoint | None:
            return _endpoint(
                await connection.fetchrow(
                    "INSERT INTO callback_endpoint (id, tenant, route, scheme, created_at)"
                    " SELECT $1, $2, $3, $4, $5 WHERE $6 > (SELECT count(*)"
                    " FROM callback_endpoint"
                    " WHERE tenant = $2 AND (ends_at IS NULL OR ends_at > $5)) RETURNING *",
                    new_id("cbe", ID_CHARACTERS),
                    tenant,
                    route,
                    scheme,
                    at,
                    ENDPOINTS_MAX,
                )
            )

        return await self._database.read(work)

    async def rotate_endpoint(
        self, endpoint_id: str, overlap: timedelta, *, at: datetime, tenant: str | None = None
    ) -> CallbackEndpoint | None:
        """Put another beside it, which takes its place when the overlap is over.

        None when it has ended, was rotated already, or is not this tenant's (None: anybody's).
        Both in one statement: two who rotate at once get one successor.
        """

        async def work(connection: Connection) -> CallbackEndpoint | None:
            return _endpoint(
                await connection.fetchrow(
                    "WITH old AS (UPDATE callback_endpoint SET ends_at = $3"
                    " WHERE id = $1 AND ends_at IS NULL AND ($5::text IS NULL OR tenant = $5)"
                    " RETURNING tenant, route, scheme)"
                    " INSERT INTO callback_endpoint (id, tenant, route, scheme, created_at)"
                    " SELECT $2, tenant, route, scheme, $4 FROM old RETURNING *",
                    endpoint_id,
                    new_id("cbe", ID_CHARACTERS),
                    at + overlap,
                    at,
                    tenant,
                )
            )

        return await self._database.read(work)

    async def end_endpoint(
        self, endpoint_id: str, *, at: datetime, tenant: str | None = None
    ) -> bool:
        """End one now, in an overlap too; False when it has ended or is not this tenant's."""

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "UPDATE callback_endpoint SET ends_at = $2 WHERE id = $1"
                " AND (ends_at IS NULL OR ends_at > $2) AND ($3::text IS NULL OR tenant = $3)",
                endpoint_id,
                at,
                tenant,
            )
            return status == "UPDATE 1"

        return await self._database.read(work)

    # --- notices ----------------------------------------------------------------------------

    async def notice(self, endpoint: CallbackEndpoint, reference: str, at: datetime) -> bool:
        """Keep that something may have changed: due at once, with all its tries before it.

        So also if it was put off. False when the endpoint, or its tenant, has as many as may wait:
        nothing is kept, let it be posted again.
        """

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "INSERT INTO callback_notice (endpoint, tenant, route, reference, due, received_at)"
                " SELECT $1, $2, $3, $4, $5, $5 WHERE $6 > (SELECT count(*) FROM callback_notice"
                " WHERE endpoint = $1 AND reference <> $4) AND $7 > (SELECT count(*)"
                " FROM callback_notice WHERE tenant = $2 AND (endpoint, reference) <> ($1, $4))"
                " ON CONFLICT (endpoint, reference) DO UPDATE SET received_at = excluded.due,"
                " due = least(callback_notice.due, excluded.due), tries = 0",
                endpoint.id,
                endpoint.tenant,
                endpoint.route,
                reference,
                at,
                NOTICES_MAX,
                NOTICES_OF_TENANT_MAX,
            )
            return status == "INSERT 0 1"

        return await self._database.read(work)

    async def claim_notices(self, at: datetime, limit: int) -> Sequence[Notice]:
        """Take what is due; nobody else gets it for a minute.

        Of each endpoint the oldest first, and the first of each before the second of any.
        """

        async def work(connection: Connection) -> Sequence[Notice]:
            rows = await connection.fetch(_CLAIM, at, at + CLAIM, limit, NOTICES_AT_ONCE)
            return [Notice(**row) for row in rows]

        return await self._database.read(work)

    async def settle_notice(self, notice: Notice, *, again: datetime | None) -> None:
        """Remove it, or put it off. What came after the claim is news: that stays, and is due."""
        its = (notice.endpoint, notice.reference, notice.received_at)

        async def work(connection: Connection) -> None:
            if again is None:
                await connection.execute(
                    "DELETE FROM callback_notice"
                    " WHERE endpoint = $1 AND reference = $2 AND received_at = $3",
                    *its,
                )
            else:
                await connection.execute(
                    "UPDATE callback_notice SET due = $4"
                    " WHERE endpoint = $1 AND reference = $2 AND received_at = $3",
                    *its,
                    again,
                )

        await self._database.read(work)


# The endpoints that have any are found by jumps in the index: a flood is not read for it.
_CLAIM: Final = """
WITH RECURSIVE noted (endpoint) AS (
  (SELECT min(endpoint) FROM callback_notice)
  UNION ALL
  SELECT (SELECT min(n.endpoint) FROM callback_notice n WHERE n.endpoint > f.endpoint)
  FROM noted f WHERE f.endpoint IS NOT NULL
), mine AS (
  SELECT n.endpoint, n.reference, n.turn FROM noted f CROSS JOIN LATERAL (
    SELECT x.*, row_number() OVER (ORDER BY x.due) AS turn FROM (
      SELECT endpoint, reference, due FROM callback_notice
      WHERE endpoint = f.endpoint AND due <= $1 ORDER BY due LIMIT $4 FOR UPDATE SKIP LOCKED
    ) x
  ) n ORDER BY n.turn, n.due LIMIT $3
), taken AS (
  UPDATE callback_notice c SET due = $2, tries = tries + 1 FROM mine m
  WHERE c.endpoint = m.endpoint AND c.reference = m.reference
  RETURNING c.endpoint, c.tenant, c.route, c.reference, c.tries, c.received_at, m.turn
)
SELECT endpoint, tenant, route, reference, tries, received_at FROM taken ORDER BY turn
"""


def _endpoint(row: Record | None) -> CallbackEndpoint | None:
    if row is None:
        return None
    return CallbackEndpoint(
        id=row["id"],
        tenant=row["tenant"],
        route=row["route"],
        scheme=row["scheme"],
        created_at=row["created_at"],
        ends_at=row["ends_at"],
    )
