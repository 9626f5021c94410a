"""The log as it is published: checkpoints, tiles and proofs, read from the database.

Nothing is told of an entry that no checkpoint covers. What is read here proves itself to whoever
checks it, so nothing is checked here. What never may: whose the reader is, which is the edge's
to know.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from vault.db import Connection, Database, Record
from vault.errors import LogDamaged
from vault.ledger.note import Note, NoteRefused, parse_note
from vault.ledger.tiles import (
    TILE_WIDTH,
    Span,
    TileName,
    bundle,
    consistency_spans,
    exists,
    fold,
    inclusion_spans,
)
from vault.ledger.tree import node_hash

BITS_A_LEVEL: Final = 8  # a tile's 256 hashes are 8 levels of the tree
PAGE_BUNDLES: Final = 16


@dataclass(frozen=True, slots=True)
class Event:
    """An entry with its place, its exact bytes and their leaf hash."""

    index: int
    id: str
    type: str
    body: bytes
    leaf: bytes


class PublishedLog:
    """What checkpoints cover. Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def size(self) -> int:
        """Return how many entries the latest checkpoint covers; 0 before the first."""
        return await self._database.read(_size)

    async def checkpoint(self, size: int | None = None) -> Note | None:
        """Return the note of a size, or the latest, with what witnesses said of it."""

        async def work(connection: Connection) -> tuple[str, Sequence[str]] | None:
            row = await connection.fetchrow(
                "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
                if size is None  # with OR, a prepared plan reads all that are larger
                else "SELECT size, note FROM checkpoint WHERE size = $1",
                *(() if size is None else (size,)),
            )
            if row is None:
                return None
            lines = await connection.fetch(
                "SELECT line FROM cosignature WHERE size = $1 ORDER BY witness", row["size"]
            )
            return row["note"], [line["line"] for line in lines]

        found = await self._database.read(work)
        if found is None:
            return None
        note, lines = found
        try:
            return parse_note((note + "".join(lines)).encode())
        except NoteRefused:
            pass
        raise LogDamaged

    async def tile(self, name: TileName) -> bytes | None:
        """Return a tile or an entry bundle; None where no checkpoint has one of this width."""
        if not exists(name, await self.size()):
            return None
        first = name.index * TILE_WIDTH
        last = first + name.width

        async def work(connection: Connection) -> list[bytes]:
            if name.level is None:
                rows = await connection.fetch(_BODIES, first, last)
            elif name.level == 0:
                rows = await connection.fetch(_LEAVES, first, last)
            else:
                rows = await connection.fetch(_NODES, name.level, first, last)
            return [row[0] for row in rows]

        found = await self._database.read(work)
        if len(found) != name.width:
            raise LogDamaged
        return bundle(found) if name.level is None else b"".join(found)

    async def bundles(self, first: int, last: int) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """Yield (entry, leaf hash) of the indices from `first` on and below `last`, in pages.

        The caller keeps `last` within what a checkpoint covers.
        """
        step = PAGE_BUNDLES * TILE_WIDTH
        for start in range(first, last, step):
            end = min(start + step, last)

            async def work(
                connection: Connection, start: int = start, end: int = end
            ) -> list[Record]:
                return list(await connection.fetch(_PAIRS, start, end))

            rows = await self._database.read(work)
            yield [(row["body"], row["leaf_hash"]) for row in rows]

    async def hash_of(self, spans: Sequence[Span]) -> bytes:
        """Return the hash over full subtrees that lie beside each other, the biggest first."""
        (one,) = await self.hashes_of([spans])
        return one

    async def hashes_of(self, wanted: Sequence[Sequence[Span]]) -> tuple[bytes, ...]:
        """Return the hash of each of several rows of subtrees, in at most two reads."""
        spans = [span for row in wanted for span in row]
        if not spans:
            return ()

        async def work(connection: Connection) -> Mapping[Span, bytes]:
            return await _roots(connection, spans)

        roots = await self._database.read(work)
        return tuple(fold([roots[span] for span in row]) for row in wanted)

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the entry is in the tree of that size (RFC 6962 §2.1.1)."""
        return await self.hashes_of(inclusion_spans(index, size))

    async def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that one tree begins with the other (RFC 6962 §2.1.2)."""
        return await self.hashes_of(consistency_spans(old, size))

    async def event(self, tenant: str, event: str) -> Event | None:
        """Return a tenant's own event by its id, published or not; another's is not found."""

        async def work(connection: Connection) -> Record | None:
            return await connection.fetchrow(
                "SELECT idx, id, type, body, leaf_hash FROM entry WHERE id = $1 AND tenant = $2",
                UUID(event),
                tenant,
            )

        row = await self._database.read(work)
        return _event(row) if row is not None else None

    async def events(self, tenant: str, *, after: int, limit: int) -> Sequence[Event]:
        """Return a tenant's published events of indices above `after`, ascending."""

        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                "SELECT idx, id, type, body, leaf_hash FROM entry WHERE tenant = $1 AND idx > $2"
                " AND idx < $3 ORDER BY idx LIMIT $4",
                tenant,
                after,
                await _size(connection),
                limit,
            )

        return [_event(row) for row in await self._database.read(work)]


_BODIES: Final = "SELECT body FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx"
_LEAVES: Final = "SELECT leaf_hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx"
_PAIRS: Final = "SELECT body, leaf_hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx"
_NODES: Final = "SELECT hash FROM node WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx"


async def _size(connection: Connection) -> int:
    size = await connection.fetchval("SELECT coalesce(max(size), 0) FROM checkpoint")
    assert isinstance(size, int)
    return size


async def _roots(connection: Connection, spans: Sequence[Span]) -> dict[Span, bytes]:
    """Read what each subtree is made of at its tile's level, and hash that up."""
    found: dict[Span, list[bytes]] = {span: [] for span in spans}
    order = list(found)
    ranges = [
        (span.level // BITS_A_LEVEL, span.index << span.level % BITS_A_LEVEL) for span in order
    ]
    rows = await connection.fetch(
        """
        SELECT w.place, e.idx AS at, e.leaf_hash AS hash
        FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[])
          AS w (place, level, first, last)
        JOIN entry e ON w.level = 0 AND e.idx >= w.first AND e.idx < w.last
        UNION ALL
        SELECT w.place, n.idx, n.hash
        FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[])
          AS w (place, level, first, last)
        JOIN node n ON n.level = w.level AND n.idx >= w.first AND n.idx < w.last
        ORDER BY place, at
        """,
        list(range(len(order))),
        [level for level, _ in ranges],
        [first for _, first in ranges],
        [
            first + (1 << span.level % BITS_A_LEVEL)
            for span, (_, first) in zip(order, ranges, strict=True)
        ],
    )
    for row in rows:
        found[order[row["place"]]].append(row["hash"])
    if any(len(found[span]) != 1 << span.level % BITS_A_LEVEL for span in order):
        raise LogDamaged
    return {span: _hashed_up(hashes) for span, hashes in found.items()}


def _hashed_up(hashes: list[bytes]) -> bytes:
    """Fold a full subtree's row of hashes, of which there are a power of two."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [node_hash(left, right) for left, right in pairs]
    return hashes[0]


def _event(row: Record) -> Event:
    return Event(row["idx"], str(row["id"]), row["type"], row["body"], row["leaf_hash"])
