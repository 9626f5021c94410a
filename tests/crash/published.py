"""What was published, looked at without the publisher: every checkpoint, and who holds the lock.

The keys are those that the log itself names; roots are recomputed from the bytes of the entries.
"""

from dataclasses import dataclass

import asyncpg
from msgspec import UNSET

from tests.flows.deployment import Store
from vault.ledger.checkpoint import parse_checkpoint
from vault.ledger.entry import KeyRotated, LogOpened, decode
from vault.ledger.note import VerifierKey, parse_note, verified
from vault.ledger.tree import CompactRange, leaf_hash
from vault.publisher import PUBLISHER_LOCK


@dataclass(frozen=True)
class Published:
    """How many checkpoints there are, all of one history; the log's size, and the last one's."""

    checkpoints: int
    size: int
    signed_size: int


async def published(dsn: str) -> Published:
    """Check every checkpoint against the entries: its signature, and its root at its size."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            entries = await connection.fetch("SELECT body, leaf_hash FROM entry ORDER BY idx")
            rows = await connection.fetch("SELECT size, root, note FROM checkpoint ORDER BY size")
            latest = await connection.fetchrow("SELECT size FROM publication")
    finally:
        await connection.close()
    bodies = [row["body"] for row in entries]
    assert [row["leaf_hash"] for row in entries] == [leaf_hash(body) for body in bodies]
    roots, keys = _roots(bodies), _keys(bodies)
    for row in rows:
        note = parse_note(row["note"].encode())
        assert verified(note, keys), "signed by no key of the log"
        checkpoint = parse_checkpoint(note.text)
        assert (checkpoint.size, checkpoint.root) == (row["size"], row["root"])
        assert checkpoint.root == roots[checkpoint.size], f"another history at {checkpoint.size}"
    assert latest is not None
    assert latest["size"] == rows[-1]["size"]
    return Published(len(rows), len(bodies), latest["size"])


def _roots(bodies: list[bytes]) -> list[bytes]:
    """The root of every size."""
    tree = CompactRange()
    roots = [tree.root()]
    for body in bodies:
        tree.append(leaf_hash(body))
        roots.append(tree.root())
    return roots


def _keys(bodies: list[bytes]) -> list[VerifierKey]:
    entries = [decode(body) for body in bodies]
    opened = entries[0]
    assert isinstance(opened, LogOpened)
    rotated = [
        entry.vkey
        for entry in entries
        if isinstance(entry, KeyRotated) and entry.key == "ledger" and entry.vkey is not UNSET
    ]
    return [VerifierKey.parse(text) for text in (opened.vkey, *rotated)]


async def publishers(store: Store) -> list[int]:
    """The backends that hold the publisher's lock: one, or none for a moment."""
    rows = await store.fetch(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND (classid::bigint << 32 | objid::bigint) = $1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        PUBLISHER_LOCK,
    )
    return [row["pid"] for row in rows]
