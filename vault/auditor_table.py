"""Who may read the whole log: keys of auditors, stored as digests and found by their ids.

A name is given once, also after its key was revoked: an old line in a log means nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vault.db import Connection, Database, Record


@dataclass(frozen=True, slots=True)
class AuditorKeyRow:
    """What is kept of an auditor's key: never the key."""

    id: str
    name: str
    digest: bytes
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def is_in_force(self, at: datetime) -> bool:
        if self.revoked_at is not None:
            return False
        return self.expires_at is None or self.expires_at > at


class AuditorTable:
    """Auditors' keys in PostgreSQL. Every method raises StoreUnavailable when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: AuditorKeyRow) -> bool:
        """Return False when the name is taken, or was."""

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "INSERT INTO auditor_key (id, name, digest, created_at, expires_at)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                key.id,
                key.name,
                key.digest,
                key.created_at,
                key.expires_at,
            )
            return status == "INSERT 0 1"

        return await self._database.read(work)

    async def key(self, key_id: str) -> AuditorKeyRow | None:
        """Return a key by its id, in force or not."""

        async def work(connection: Connection) -> AuditorKeyRow | None:
            rows = await connection.fetch("SELECT * FROM auditor_key WHERE id = $1", key_id)
            return _key(rows[0]) if rows else None

        return await self._database.read(work)

    async def list(self) -> Sequence[AuditorKeyRow]:
        """Return all keys, oldest first."""

        async def work(connection: Connection) -> Sequence[AuditorKeyRow]:
            rows = await connection.fetch("SELECT * FROM auditor_key ORDER BY created_at, id")
            return [_key(row) for row in rows]

        return await self._database.read(work)

    async def revoke(self, name: str, *, at: datetime) -> bool:
        """Return False when nobody of this name has a key that is not revoked."""

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "UPDATE auditor_key SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL",
                name,
                at,
            )
            return status == "UPDATE 1"

        return await self._database.read(work)


def _key(row: Record) -> AuditorKeyRow:
    return AuditorKeyRow(
        id=row["id"],
        name=row["name"],
        digest=row["digest"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
