"""Which sealed cards were used: each has a nonce of its own, and none is used twice.

A sealed box (libsodium's `crypto_box_seal`) says nothing of its sender and opens as often as it
comes. So what is in it carries a nonce, and this table remembers it until its own expiry refuses
it. What never may live here: what was in the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from vault.db import Connection, Database

NONCE_BYTES: Final = 16
SWEEP_ROWS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Nonce:
    """One use of a sealed card; a tenant can use up no other's."""

    tenant: str
    value: bytes
    ends: datetime


async def used_before(connection: Connection, nonces: Sequence[Nonce]) -> set[tuple[str, bytes]]:
    """Return (tenant, value) of those that were used already."""
    if not nonces:
        return set()
    rows = await connection.fetch(
        "SELECT tenant, nonce FROM sealed_nonce WHERE (tenant, nonce) IN"
        " (SELECT * FROM unnest($1::text[], $2::bytea[]))",
        [nonce.tenant for nonce in nonces],
        [nonce.value for nonce in nonces],
    )
    return {(row["tenant"], row["nonce"]) for row in rows}


async def use(connection: Connection, nonces: Sequence[Nonce]) -> int:
    """Remember them as used; return how many were not."""
    if not nonces:
        return 0
    status = await connection.execute(
        "INSERT INTO sealed_nonce (tenant, nonce, ends)"
        " SELECT * FROM unnest($1::text[], $2::bytea[], $3::timestamptz[])"
        " ON CONFLICT DO NOTHING",
        [nonce.tenant for nonce in nonces],
        [nonce.value for nonce in nonces],
        [nonce.ends for nonce in nonces],
    )
    return int(status.rpartition(" ")[2])


class NonceTable:
    """The table's own upkeep."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self, at: datetime) -> int:
        """Forget those whose time is up; return how many. Raises StoreUnavailable."""

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "DELETE FROM sealed_nonce WHERE (tenant, nonce) IN (SELECT tenant, nonce"
                " FROM sealed_nonce WHERE ends <= $1 ORDER BY ends LIMIT $2)",
                at,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)
