"""Which of some numbers are cards that a tenant has stored: asked by their keyed hashes.

For numbers that may be cards or may be ids. What never may live here: the hash given to anybody,
and an answer about another tenant.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from vault.db import Connection, Database
from vault.keys import TokenizeKeys
from vault.pan import Pan

NUMBERS_MAX: Final = 64
"""Of one question. What is beyond is taken for a card: who sends so many means no ids."""


class KnownCards:
    """Asks HashiCorp Vault for the hashes, and the database for rows with them."""

    def __init__(self, database: Database, keys: TokenizeKeys) -> None:
        self._database = database
        self._keys = keys

    async def __call__(self, tenant: str, numbers: Sequence[Pan]) -> Sequence[bool]:
        """Say of each number whether it is one. Raises any KeysError, StoreUnavailable."""
        asked = numbers[:NUMBERS_MAX]
        hashes = await asyncio.gather(
            *(self._keys.fingerprint(pan, tenant=tenant) for pan in asked)
        )

        async def work(connection: Connection) -> set[bytes]:
            rows = await connection.fetch(
                "SELECT f.value FROM fingerprint f JOIN unnest($2::int[], $3::bytea[])"
                " AS w (version, value) USING (version, value) WHERE f.tenant = $1",
                tenant,
                [each.version for each in hashes],
                [each.value for each in hashes],
            )
            return {bytes(row["value"]) for row in rows}

        found = await self._database.read(work)
        known = [each.value in found for each in hashes]
        return [*known, *(True for _ in numbers[NUMBERS_MAX:])]
