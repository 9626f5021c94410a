"""What a tenant may read of its own events beyond what is published: the details of an entry.

A leaf commits to them under a salt (`vault/ledger/detail.py`). With salt and body in hand a tenant
can check the commitment, and show it to whom it likes. Erased ones are gone from here too.
"""

from dataclasses import dataclass, field
from uuid import UUID

from vault.db import Connection, Database


@dataclass(frozen=True, slots=True)
class Detail:
    """What an entry commits to: canonical JSON, and the salt of the commitment."""

    salt: bytes = field(repr=False)
    body: bytes = field(repr=False)


class OwnEvents:
    """Reads of one tenant's events, and of no other's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def detail(self, tenant: str, event: str) -> Detail | None:
        """Return the details of a tenant's event, if it has any still. Raises StoreUnavailable."""

        async def work(connection: Connection) -> Detail | None:
            row = await connection.fetchrow(
                "SELECT detail.salt, detail.body FROM detail JOIN entry USING (id)"
                " WHERE entry.id = $1 AND entry.tenant = $2",
                UUID(event),
                tenant,
            )
            return None if row is None else Detail(row["salt"], row["body"])

        return await self._database.read(work)
