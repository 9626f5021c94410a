"""The log as it is stored, read in order: for those who check it.

Entries come a page at a time and grouped by type, in a few long columns: a row for each would
take longer to read than to check. Nothing is checked here.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Final, TypeVar

from vault.db import Connection, Database, Record
from vault.ledger.pages import Group, Kept, Page, Stored

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed head as it is stored: its note, and the lines that witnesses added."""

    size: int
    root: bytes
    note: str
    lines: tuple[str, ...]

    @property
    def raw(self) -> bytes:
        return "".join((self.note, *self.lines)).encode()


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
    while page := await _rows(database, after, below):
        yield page
        after = page[-1].index


async def read_pages(
    database: Database, first: int, end: int, *, details: bool = False
) -> list[Page]:
    """Read entries of the indices from `first` on and below `end`, as one page.

    Several, where entries are missing between; none, where there are none. Raises
    StoreUnavailable.
    """

    async def work(connection: Connection) -> list[Page]:
        rows = await connection.fetch(_ENTRIES, first, end)
        places: Sequence[int] = range(end - first)
        if len(rows) != end - first:
            places = [row["place"] for row in await connection.fetch(_PLACES, first, end)]
        kept = None
        if details:
            found = await connection.fetch(_DETAILS, first, end)
            kept = [Kept(row["place"], row["salt"], row["body"]) for row in found]
        return [
            _page(first + low, rows[start:stop], kept, low) for low, start, stop in _runs(places)
        ]

    return await database.read(work)


async def read_checkpoints(database: Database, after: int, upto: int) -> Sequence[StoredCheckpoint]:
    """Read what was signed of sizes above `after` and not above `upto`, ascending.

    Raises StoreUnavailable.
    """

    async def work(connection: Connection) -> Sequence[StoredCheckpoint]:
        rows = await connection.fetch(_CHECKPOINTS, after, upto)
        return [
            StoredCheckpoint(row["size"], row["root"], row["note"], tuple(row["lines"]))
            for row in rows
        ]

    return await database.read(work)


async def read_signed_size(database: Database) -> int:
    """Return the largest size that was signed. Raises StoreUnavailable."""

    async def work(connection: Connection) -> int:
        size = await connection.fetchval("SELECT coalesce(max(size), 0) FROM checkpoint")
        assert isinstance(size, int)
        return size

    return await database.read(work)


async def read_nodes(database: Database, level: int, first: int, end: int) -> bytes:
    """Read hashes of tiles above level 0; missing ones are left out. Raises StoreUnavailable."""

    async def work(connection: Connection) -> bytes:
        return b"".join(row["hash"] for row in await connection.fetch(_NODES, level, first, end))

    return await database.read(work)


_ENTRIES: Final = """
SELECT type, body, leaf_hash, uuid_send(id),
  coalesce(uuid_send(intent), ''), coalesce(tenant, '')
FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx
"""
_PLACES: Final = """
SELECT (idx - $1)::int AS place FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx
"""
# OFFSET 0 keeps it a look-up by key: a plain join may be planned as a scan of all details, and
# that for every page.
_DETAILS: Final = """
SELECT (e.idx - $1)::int AS place, d.salt, d.body FROM entry e
CROSS JOIN LATERAL (SELECT salt, body FROM detail WHERE id = e.id OFFSET 0) AS d
WHERE e.idx >= $1 AND e.idx < $2
"""
_CHECKPOINTS: Final = """
SELECT size, root, note, ARRAY (
  SELECT line FROM cosignature s WHERE s.size = c.size ORDER BY witness) AS lines
FROM checkpoint c WHERE size > $1 AND size <= $2 ORDER BY size
"""
_NODES: Final = "SELECT hash FROM node WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx"


def _runs(places: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """Cut rows where entries are missing: the first place, and which rows."""
    if not places:
        return
    if places[-1] - places[0] + 1 == len(places):
        yield places[0], 0, len(places)
        return
    cuts = [row for row, (before, at) in enumerate(pairwise(places), 1) if at != before + 1]
    for start, stop in pairwise([0, *cuts, len(places)]):
        yield places[start], start, stop


def _page(first: int, rows: Sequence[Record], kept: Sequence[Kept] | None, low: int) -> Page:
    """Group rows, whose columns are put together faster than they are read one by one."""
    types, *columns = zip(*rows, strict=True)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(types):
        if name in places:
            places[name].append(place)
        else:
            places[name] = [place]
    groups = []
    for name, of_type in places.items():
        bodies, leaves, ids, intents, tenants = (_only(column, of_type) for column in columns)
        stored = Stored(intents, tenants, ids)
        groups.append(Group(name, of_type, bodies, b"".join(leaves), stored))
    page = Page(first, len(rows), groups)
    if kept is not None:
        page.details = [
            Kept(one.place - low, one.salt, one.body)
            for one in kept
            if low <= one.place < low + len(rows)
        ]
    return page


def _only(column: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    if len(places) == len(column):
        return column
    return itemgetter(*places)(column) if len(places) > 1 else (column[places[0]],)


async def _rows(database: Database, after: int, below: int) -> Sequence[StoredEntry]:
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
