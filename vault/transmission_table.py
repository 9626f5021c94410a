"""Posts whose signature does not fix their body: which body each came with first.

Some processors sign a checksum that anybody can forge. What proves such a post is that its
signature has been seen with no other body. What never lives here: signatures, and what a post says.
"""

from datetime import datetime, timedelta
from typing import Final

from vault.db import Connection, Database

TRANSMISSIONS_KEPT: Final = timedelta(days=5)  # a post is taken for four (`gateway.signatures`)


class TransmissionTable:
    """Transmissions and their bodies' keyed digests. Raises StoreUnavailable when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def binds(
        self, tenant: str, route: str, transmission: str, digest: bytes, at: datetime
    ) -> bool:
        """Whether this is the body that came with a transmission first; remember it if none did.

        Durable when it returns; to be asked before the post is put on record.
        """

        async def work(connection: Connection) -> bool:
            first = await connection.fetchval(
                _BIND, tenant, route, transmission, digest, at, at - TRANSMISSIONS_KEPT
            )
            return bool(first == digest)

        return await self._database.read(work)


_BIND: Final = """
WITH cleared AS (DELETE FROM callback_transmission WHERE (tenant, route, transmission) IN (
  SELECT tenant, route, transmission FROM callback_transmission WHERE received_at < $6
  ORDER BY received_at LIMIT 10 FOR UPDATE SKIP LOCKED))
INSERT INTO callback_transmission AS t (tenant, route, transmission, digest, received_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, route, transmission) DO UPDATE SET digest = t.digest RETURNING digest
"""
