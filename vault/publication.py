"""What is published in the database: notes, and the nodes that tiles are read from.

All in one transaction, and only if it folds to the root that was signed. What never may live
here: a decision to publish.
"""

from datetime import datetime

import asyncpg

from vault.ledger.checkpoint import Checkpoint
from vault.ledger.note import Note, NoteRefused, VerifierKey, parse_note, verified
from vault.ledger.tiles import TILE_WIDTH, tile_root
from vault.ledger.tree import CompactRange
from vault.signed_history import HistoryBroken
from vault.signer_memory import Remembered


async def store(
    connection: "asyncpg.Connection[asyncpg.Record]",
    remembered: Remembered,
    note: Note,
    now: datetime,
) -> None:
    """Write what is published. Raises HistoryBroken when something else was."""
    await _grow_nodes(connection, remembered.size)
    await _check_edge(connection, remembered.size, remembered.root)
    fresh = await connection.fetchval(
        "INSERT INTO checkpoint (size, root, note, created) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (size) DO NOTHING RETURNING true",
        remembered.size,
        remembered.root,
        note.raw.decode(),
        now,
    )
    if not fresh:
        await _check_published(connection, remembered)
    if await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM checkpoint WHERE size > $1)", remembered.size
    ):
        raise HistoryBroken("fork", "a checkpoint was published that is not ours")
    await connection.execute(
        "INSERT INTO publication (one, size, at) VALUES (1, $1, $2)"
        " ON CONFLICT (one) DO UPDATE SET size = excluded.size, at = excluded.at",
        remembered.size,
        now,
    )


async def _grow_nodes(connection: "asyncpg.Connection[asyncpg.Record]", size: int) -> None:
    """Add the roots of the subtrees of 256, 65,536, … leaves that are full now."""
    level, below = 1, size
    while below := below // TILE_WIDTH:
        have = await connection.fetchval(
            "SELECT coalesce(max(idx) + 1, 0) FROM node WHERE level = $1", level
        )
        for index in range(have, below):
            first, last = index * TILE_WIDTH, (index + 1) * TILE_WIDTH
            rows = await connection.fetch(
                "SELECT leaf_hash AS hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx"
                if level == 1
                else "SELECT hash FROM node WHERE idx >= $1 AND idx < $2 AND level = $3"
                " ORDER BY idx",
                *((first, last) if level == 1 else (first, last, level - 1)),
            )
            if len(rows) != TILE_WIDTH:
                raise HistoryBroken("corrupt", "what a tile is made of is missing")
            await connection.execute(
                "INSERT INTO node (level, idx, hash) VALUES ($1, $2, $3)",
                level,
                index,
                tile_root([row["hash"] for row in rows]),
            )
        level += 1


async def _check_edge(
    connection: "asyncpg.Connection[asyncpg.Record]", size: int, root: bytes
) -> None:
    """Fold what partial tiles will be read from: it must be the root that is published."""
    peaks: list[bytes] = []
    for level in reversed(range(-(-size.bit_length() // 8))):
        first, width = divmod(size >> 8 * level, TILE_WIDTH)
        rows = await connection.fetch(
            "SELECT leaf_hash AS hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx"
            if level == 0
            else "SELECT hash FROM node WHERE idx >= $1 AND idx < $2 AND level = $3 ORDER BY idx",
            *(first * TILE_WIDTH, first * TILE_WIDTH + width),
            *((level,) if level else ()),
        )
        if len(rows) != width:
            raise HistoryBroken("corrupt", "what a tile is made of is missing")
        part = CompactRange()
        part.extend([row["hash"] for row in rows])
        peaks += part.peaks
    if CompactRange(size, peaks).root() != root:
        raise HistoryBroken("corrupt", "the tiles do not fold to the root")


async def _check_published(
    connection: "asyncpg.Connection[asyncpg.Record]", remembered: Remembered
) -> None:
    """What is there already under this size must be ours: the same text, with a good signature."""
    row = await connection.fetchrow(
        "SELECT root, note FROM checkpoint WHERE size = $1", remembered.size
    )
    text = Checkpoint(remembered.origin, remembered.size, remembered.root).text
    good = row is not None and row["root"] == remembered.root
    try:
        note = parse_note(row["note"].encode()) if row is not None else None
        good = good and note is not None and note.text == text
        if note is not None:
            verified(note, [VerifierKey.parse(key.vkey) for key in remembered.keys])
    except NoteRefused:
        good = False
    if not good:
        raise HistoryBroken("fork", "something else was published for this size")
