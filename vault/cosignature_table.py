"""Table `cosignature`: the latest line of each witness about each checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vault.db import Connection, Database


@dataclass(frozen=True, slots=True)
class LastWord:
    """The largest checkpoint that a witness cosigned, and when it last cosigned any."""

    size: int
    at: datetime


class CosignatureTable:
    """Lines by which witnesses vouch for checkpoints. Every method raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, size: int, witness: str, line: str, at: datetime) -> None:
        """Keep a line in place of an earlier one about the same checkpoint."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO cosignature (size, witness, line, at) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line,"
                " at = excluded.at WHERE cosignature.at <= excluded.at",
                size,
                witness,
                line,
                at,
            )

        await self._database.read(work)

    async def last_words(self) -> Mapping[str, LastWord]:
        """Return the last word of each witness, by its name."""

        async def work(connection: Connection) -> Mapping[str, LastWord]:
            rows = await connection.fetch(
                "SELECT witness, max(size) AS size, max(at) AS at FROM cosignature GROUP BY witness"
            )
            return {row["witness"]: LastWord(row["size"], row["at"]) for row in rows}

        return await self._database.read(work)
