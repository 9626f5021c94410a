"""The log as it is published, read with faith in nothing but a checkpoint's root.

What is handed on has been proven by that root: the hashes at the right edge fold to it, each full
tile hashes to its place in the one above, each entry is a leaf of its tile. What never may live
here: files, and whose signature makes a checkpoint worth believing, which is for those who hold
keys.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from vault.db import Connection, Database
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.note import Note, NoteRefused
from vault.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TileName, parse_tile, tile_root
from vault.ledger.tree import CompactRange, InvalidProof, leaf_hash, verify_consistency

Pair = tuple[bytes, bytes]  # an entry, and what is said to be its leaf hash


class LogBroken(Exception):
    """What the log gives does not lead to the root of its checkpoint; the message says where."""


class Published(Protocol):
    """Where it is read from."""

    async def checkpoint(self, size: int | None = None) -> Note | None: ...
    async def tile(self, name: TileName) -> bytes | None: ...
    async def consistency(self, old: int, size: int) -> tuple[bytes, ...]: ...
    def bundles(self, first: int, last: int) -> AsyncIterator[Sequence[Pair]]: ...


@dataclass(frozen=True, slots=True)
class Bundle:
    """The entries of a leaf tile, each with the hash that was computed from it."""

    index: int
    bodies: Sequence[bytes]
    leaves: Sequence[bytes]

    @property
    def first(self) -> int:
        """The index of its first entry."""
        return self.index * TILE_WIDTH


class ProvenLog:
    """The log at one size. Every method raises LogBroken, and what the source raises."""

    def __init__(
        self, log: Published, checkpoint: Checkpoint, edge: dict[int, list[bytes]]
    ) -> None:
        self._log = log
        self._edge = edge  # of each level that has one, the hashes of its partial tile
        self._kept: dict[int, tuple[int, list[bytes]]] = {}  # of each level, the last full tile
        self.checkpoint = checkpoint

    @classmethod
    async def open(cls, log: Published, checkpoint: Checkpoint) -> Self:
        """Read the partial tiles of that size, one a level, and fold them to the root."""
        edge: dict[int, list[bytes]] = {}
        peaks: list[bytes] = []
        for level in reversed(range(-(-checkpoint.size.bit_length() // TILE_HEIGHT))):
            index, width = divmod(checkpoint.size >> TILE_HEIGHT * level, TILE_WIDTH)
            if width:
                edge[level] = await _hashes(log, TileName(level, index, width))
                part = CompactRange()
                part.extend(edge[level])
                peaks += part.peaks
        if CompactRange(checkpoint.size, peaks).root() != checkpoint.root:
            raise LogBroken("the tiles do not fold to the root of the checkpoint")
        return cls(log, checkpoint, edge)

    async def require_extends(self, held: Checkpoint) -> None:
        """Refuse a log that is not the one that was seen before with entries appended."""
        now = self.checkpoint
        if held.origin != now.origin:
            raise LogBroken("this is the checkpoint of another log than the one held")
        if held.size > now.size:
            raise LogBroken(f"the log has {now.size} entries, and {held.size} were seen before")
        proof = await self._log.consistency(held.size, now.size)
        try:
            verify_consistency(
                proof, old_size=held.size, old_root=held.root, size=now.size, root=now.root
            )
        except InvalidProof:
            pass
        else:
            return
        raise LogBroken(f"the log does not extend the checkpoint of {held.size} entries")

    async def bundles(self, since: int) -> AsyncIterator[Bundle]:
        """Yield the bundles that a log of `since` entries had not, or not so full."""
        size = self.checkpoint.size
        at = since // TILE_WIDTH
        waiting: list[Pair] = []
        if since == size:
            return
        async for page in self._log.bundles(at * TILE_WIDTH, size):
            waiting += page
            while len(waiting) >= TILE_WIDTH:
                yield await self._proven(at, waiting[:TILE_WIDTH])
                del waiting[:TILE_WIDTH]
                at += 1
        if at * TILE_WIDTH + len(waiting) != size:
            raise LogBroken("entries are missing at the end")
        if waiting:
            yield await self._proven(at, waiting)

    async def tile(self, name: TileName) -> bytes:
        """Return a tile of hashes: a full one, or the partial one of this size."""
        assert name.level is not None
        hashes = await self._tile(name.level, name.index)
        assert len(hashes) == name.width, "the tile of another size"
        return b"".join(hashes)

    async def _proven(self, index: int, pairs: Sequence[Pair]) -> Bundle:
        leaves = [leaf_hash(body) for body, _ in pairs]
        for place, (leaf, (_, said)) in enumerate(zip(leaves, pairs, strict=True)):
            if leaf != said:
                where = index * TILE_WIDTH + place
                raise LogBroken(f"entry {where} does not hash to the leaf that is stored with it")
        if len(leaves) == TILE_WIDTH:
            right = tile_root(leaves) == await self._node(1, index)
        else:
            right = leaves == self._edge[0]
        if not right:
            raise LogBroken(f"{TileName(None, index, len(pairs)).path} is not under the root")
        return Bundle(index, [body for body, _ in pairs], leaves)

    async def _node(self, level: int, index: int) -> bytes:
        """Return the root over a full tile of the level below."""
        return (await self._tile(level, index // TILE_WIDTH))[index % TILE_WIDTH]

    async def _tile(self, level: int, index: int) -> list[bytes]:
        if index == self.checkpoint.size >> TILE_HEIGHT * (level + 1):
            return self._edge[level]
        kept = self._kept.get(level)
        if kept is not None and kept[0] == index:
            return kept[1]
        name = TileName(level, index)
        hashes = await _hashes(self._log, name)
        if tile_root(hashes) != await self._node(level + 1, index):
            raise LogBroken(f"{name.path} is not under the root")
        self._kept[level] = (index, hashes)
        return hashes


async def _hashes(log: Published, name: TileName) -> list[bytes]:
    raw = await log.tile(name)
    try:
        return parse_tile(raw or b"", name.width)
    except NoteRefused:
        pass
    raise LogBroken(f"{name.path} is missing, or does not have its length")


async def index_of(database: Database, event: str) -> int | None:
    """Return the place of an event by its id, whosesoever and published or not.

    Raises StoreUnavailable.
    """

    async def work(connection: Connection) -> int | None:
        found = await connection.fetchval("SELECT idx FROM entry WHERE id = $1", UUID(event))
        assert found is None or isinstance(found, int)
        return found

    return await database.read(work)
