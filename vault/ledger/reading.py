"""The log as it is stored, read in order: for those who check it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from vault.db import Connection, Database

PAGE_ENTRIES: Final = 5_000


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A row of the table, unchecked: leaf and root hashes are 32 bytes."""

    index: int
    body: bytes
    leaf: bytes
    type: str
    intent: str | None


@dataclass(frozen=True, slots=True)
class StoredHead:
    """What the database says the log is."""

    size: int
    root: bytes


async def read_head(database: Database) -> StoredHead:
    """Raises StoreUnavailable."""

    async def work(connection: Connection) -> StoredHead:
        row = await connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
        assert row is not None
        return StoredHead(row["size"], row["root"])

    return await database.read(work)


async def read_entries(database: Database, *, below: int) -> AsyncIterator[Sequence[StoredEntry]]:
    """Yield the entries of indices under `below` in their order, a page at a time.

    Raises StoreUnavailable.
    """
    after = -1
    while page := await _page(database, after, below):
        yield page
        after = page[-1].index


async def _page(database: Database, after: int, below: int) -> Sequence[StoredEntry]:
    async def work(connection: Connection) -> Sequence[StoredEntry]:
        rows = await connection.fetch(
            "SELECT idx, body, leaf_hash, type, intent FROM entry WHERE idx > $1"
            " AND idx < $2 ORDER BY idx LIMIT $3",
            after,
            below,
            PAGE_ENTRIES,
        )
        return [
            StoredEntry(
                row["idx"],
                row["body"],
                row["leaf_hash"],
                row["type"],
                str(row["intent"]) if row["intent"] is not None else None,
            )
            for row in rows
        ]

    return await database.read(work)
