"""A log of purchases that is signed and published: in memory, as files, in a database.

Signed by the golden example's key, which the log's first entry names.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from tests.vault.ledger.samples import AT, VKEY, new_hash, new_token, new_uuid
from tests.vault.ledger.written_log import (
    REPLICA,
    Log,
    Row,
    attempted,
    created,
    deleted,
    opened_log,
    outcome,
)
from tests.vault.memory_log import MemoryLog
from tests.vault.stores import Store
from vault.authorization import State
from vault.export import export
from vault.ledger.entry import Stamp, decode, encode
from vault.ledger.note import VerifierKey
from vault.ledger.tiles import TILE_WIDTH, tile_root
from vault.ledger.tree import CompactRange

KEY = VerifierKey.parse(VKEY)
COLUMNS = ("idx", "id", "type", "intent", "leaf_hash", "body", "tenant")


def purchases(entries: int) -> Log:
    """Write a good log of about so many entries: cards come in, are charged, some are deleted."""
    log = opened_log()
    while len(log.rows) < entries:
        token, intent = new_token(), new_uuid()
        log.add(replace(created(token), detail=new_hash()))
        log.add(replace(attempted(intent, token), detail=new_hash()))
        ends = State.NOT_SENT if len(log.rows) % 7 == 0 else State.COMPLETED
        log.add(outcome(intent, ends))
        if len(log.rows) % 5 == 0:
            log.add(deleted(token))
    del log.rows[entries:]
    boot, _ = log.boots[REPLICA]
    log.boots[REPLICA] = (boot, entries)
    return log


def published(log: Log, *sizes: int) -> MemoryLog:
    """Sign a log at these sizes."""
    made = MemoryLog([row.body for row in log.rows])
    for size in sizes:
        made.sign(size)
    return made


async def exported(log: Log, folder: Path, *sizes: int) -> None:
    """Export a log as it grew: at each of these sizes."""
    made = MemoryLog([row.body for row in log.rows])
    for size in sizes:
        made.sign(size)
        await export(made, folder)


async def put(store: Store, log: Log, *sizes: int) -> MemoryLog:
    """Have this log in a database, signed at these sizes, as its publisher would."""
    tree, made = CompactRange(), published(log, *sizes)
    tree.extend([row.leaf for row in log.rows])
    rows = [_row(row) for row in log.rows]
    heads = []
    for size, note in made.checkpoints.items():
        part = CompactRange()
        part.extend(made.leaves[:size])
        heads.append((size, part.root(), note.raw.decode()))
    tiles = (made.leaves[at : at + TILE_WIDTH] for at in range(0, made.size, TILE_WIDTH))
    nodes = [(1, n, tile_root(one)) for n, one in enumerate(tiles) if len(one) == TILE_WIDTH]
    async with store.session(owner=True) as owner:
        await owner.copy_records_to_table("entry", records=rows, columns=COLUMNS)
        await owner.copy_records_to_table(
            "checkpoint", records=heads, columns=("size", "root", "note")
        )
        await owner.copy_records_to_table("node", records=nodes)
    await store.do(
        "UPDATE head SET size = $1, root = $2, peaks = $3",
        tree.size, tree.root(), tree.peaks_bytes(),
    )  # fmt: skip
    return made


def _row(row: Row) -> tuple[object, ...]:
    entry: Any = decode(row.body)
    tenant = getattr(entry, "tenant", None)
    return (row.index, UUID(entry.id), row.type, row.intent, row.leaf, row.body, tenant)


TABLES = ("entry", "head", "checkpoint", "node", "detail")


async def remember(store: Store) -> None:
    """Keep a database's log as it is, and let it be changed."""
    for table, trigger in (
        ("entry", "no_rewrite"),
        ("checkpoint", "no_rewrite"),
        ("head", "no_drop"),
    ):
        await store.do(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    for table in TABLES:
        await store.do(f"CREATE TABLE kept_{table} AS TABLE {table}")


async def restore(store: Store) -> None:
    """Have it as it was: quicker than a new database for each change."""
    await store.do(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    for table in TABLES:
        await store.do(f"INSERT INTO {table} TABLE kept_{table}")


def later(body: bytes, **by: float) -> bytes:
    """Return the entry as if it had been appended later."""
    entry = decode(body)
    at = AT + timedelta(**by)
    return encode(entry, Stamp(at, entry.replica, entry.boot, entry.n))
