"""Which sealed cards were used: each has a nonce of its own, and none is used twice.

A sealed box (libsodium's `crypto_box_seal`) says nothing of its sender and opens as often as it
comes. So what is in it carries a nonce, and this table remembers it until its own expiry refuses
it. What never may live here: what was in the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vault.db import Connection, Database

NONCE_BYTES: Final = 16
SWEEP_ROWS_MAX: Final = 2_000
SWEEP_STATEMENTS_MAX: Final = 50
KEPT_AFTER: Final = timedelta(minutes=15)
"""How much longer than its box: another gateway's clock may be behind the one that sweeps, and a
box that was looked at in time comes to this table later."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """One use of a sealed card; a tenant can use up no other's."""

    tenant: str
    value: bytes
    ends: datetime


async def use(connection: Connection, nonces: Sequence[Nonce]) -> set[tuple[str, bytes]]:
    """Remember them as used; return (tenant, value) of those that were not before."""
    rows = await connection.fetch(
        "INSERT INTO sealed_nonce (tenant, nonce, ends)"
        " SELECT DISTINCT ON (tenant, nonce) * FROM"
        "  unnest($1::text[], $2::bytea[], $3::timestamptz[]) AS w (tenant, nonce, ends)"
        " ON CONFLICT DO NOTHING RETURNING tenant, nonce",
        [nonce.tenant for nonce in nonces],
        [nonce.value for nonce in nonces],
        [nonce.ends for nonce in nonces],
    )
    return {(row["tenant"], row["nonce"]) for row in rows}


class NonceTable:
    """The table's own upkeep."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self, at: datetime) -> int:
        """Forget those whose time was up a while ago; return how many. Raises StoreUnavailable."""

        async def work(connection: Connection) -> int:
            swept = 0
            for _ in range(SWEEP_STATEMENTS_MAX):
                rows = await _swept(connection, at - KEPT_AFTER)
                swept += rows
                if rows < SWEEP_ROWS_MAX:
                    break
            return swept

        return await self._database.read(work)


async def _swept(connection: Connection, at: datetime) -> int:
    status = await connection.execute(
        "DELETE FROM sealed_nonce WHERE (tenant, nonce) IN (SELECT tenant, nonce"
        " FROM sealed_nonce WHERE ends <= $1 ORDER BY ends LIMIT $2)",
        at,
        SWEEP_ROWS_MAX,
    )
    return int(status.rpartition(" ")[2])
