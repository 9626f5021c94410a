"""What was signed, and what extends it: recomputed from the bytes of the leaves, or refused.

The publisher asks before it signs, every gateway before it starts, an operator's command before
it says that all is well. What never may live here: a signature, and what follows from a refusal.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import asyncpg
from msgspec import UNSET

from vault.db import FOREIGN, Database, store_error
from vault.errors import StartRefused
from vault.ledger.checkpoint import parse_checkpoint
from vault.ledger.entry import EntryRefused, KeyRotated, LogOpened, decode
from vault.ledger.forms import SealCause
from vault.ledger.note import Note, VerifierKey, verified
from vault.ledger.tree import CompactRange, leaf_hash
from vault.signer_memory import AnnouncedKey, Remembered, SignerMemory

KEY: Final = "ledger"
PAGE_ENTRIES: Final = 500  # hashed in one go: payments wait that long

_NAMES_A_KEY: Final = b'"type":"key.rotated"'  # no leaf has free text, so nowhere else


class HistoryBroken(Exception):
    """What the database has does not extend what was signed; the cause seals."""

    def __init__(self, cause: SealCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Signing(Protocol):
    """The part of HashiCorp Vault that is asked here."""

    async def public_keys(self, key: str) -> Mapping[int, bytes]: ...

    async def sign(self, key: str, version: int, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Extended:
    """A head that extends what was signed: its tree, and the keys that the log names."""

    tree: CompactRange
    keys: tuple[AnnouncedKey, ...]


def remembered_of(origin: str, extended: Extended) -> Remembered:
    tree = extended.tree
    return Remembered(origin, tree.size, tree.root(), tree.peaks_bytes(), extended.keys)


async def recalled(
    connection: "asyncpg.Connection[asyncpg.Record]",
    memory: SignerMemory,
    *,
    origin: str,
    keys: Callable[[str], Awaitable[Mapping[int, bytes]]],
) -> Remembered:
    """Return the head that counts as signed, after a look at whether the log has it.

    Raises HistoryBroken when the two memories, or one of them and the log, contradict each
    other, or when heads were published and nobody remembers them; StartRefused when a memory
    is damaged; any KeysError; asyncpg's errors.
    """
    found = await memory.recall()
    largest = found.largest
    if largest is None:
        if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM checkpoint)"):
            return await _first(connection, origin, await keys(KEY))
        found = await memory.recall()  # the first one may have been signed since we looked
        largest = found.largest
    if largest is None:
        raise HistoryBroken("rollback", "heads were signed, and no memory has them")
    if found.kv is None:
        raise HistoryBroken("rollback", "HashiCorp Vault has lost the signed head")
    head = await connection.fetchrow("SELECT size FROM head WHERE one = 1")
    if head is None:
        raise HistoryBroken("root_mismatch", "the ledger has no head")
    if head["size"] < largest.size:
        raise HistoryBroken("rollback", "the log is shorter than what was signed")
    smaller = found.file if largest is found.kv else found.kv
    if smaller is not None and smaller != largest:
        await extend(connection, smaller, largest.size, largest.root)
    return largest


async def relearned(
    database: Database, memory: SignerMemory, note: Note, signing: Signing, *, origin: str
) -> Remembered:
    """Remember a head that was kept elsewhere, for memories that are lost; return it.

    Raises HistoryBroken when this log does not have it, or something larger is remembered;
    NoteRefused when none of the log's keys signed it; any KeysError; StoreUnavailable.
    """
    connection = await database.connect_apart()
    try:
        empty = await _first(connection, origin, await signing.public_keys(KEY))
        checkpoint = parse_checkpoint(note.text)
        extended = await extend(connection, empty, checkpoint.size, checkpoint.root)
    except FOREIGN as error:
        kind = type(error)
    else:
        verified(note, [VerifierKey.parse(key.vkey) for key in extended.keys])
        found = await memory.recall()
        remembered = remembered_of(origin, extended)
        if found.largest is not None and found.largest.size > remembered.size:
            raise HistoryBroken("rollback", "a larger head is remembered")
        await memory.save(remembered)
        return remembered
    finally:
        connection.terminate()
    raise store_error(kind)


async def check_history(
    database: Database, memory: SignerMemory, signing: Signing, *, origin: str
) -> None:
    """Refuse to start on a log that does not extend what was signed: an older copy, or another.

    Raises StartRefused; any KeysError; StoreUnavailable.
    """
    try:
        await history(database, memory, signing, origin=origin)
    except HistoryBroken as broken:
        problem = f"{broken} ({broken.cause})"
    else:
        return
    raise StartRefused(
        f"{problem}: this database is not the one whose ledger was signed last. Put that one"
        " back; `panward ledger status` shows what is remembered where"
    )


async def history(
    database: Database, memory: SignerMemory, signing: Signing, *, origin: str
) -> Extended:
    """Return the head as it extends what was signed.

    Raises HistoryBroken when it does not; StartRefused when the memory is damaged; any
    KeysError; StoreUnavailable.
    """
    connection = await database.connect_apart()
    try:
        old = await recalled(connection, memory, origin=origin, keys=signing.public_keys)
        head = await connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
        if head is None:
            raise HistoryBroken("root_mismatch", "the ledger has no head")
        return await extend(connection, old, head["size"], head["root"])
    except FOREIGN as error:
        kind = type(error)
    finally:
        connection.terminate()
    raise store_error(kind)


async def extend(
    connection: "asyncpg.Connection[asyncpg.Record]",
    old: Remembered,
    size: int,
    root: bytes,
    *,
    alive: Callable[[], None] = lambda: None,
) -> Extended:
    """Recompute, from the bytes of the leaves, the tree of `size` entries that has this root.

    Raises HistoryBroken when the log cannot be the old one with entries appended.
    """
    if size < old.size:
        raise HistoryBroken("rollback", "the log is shorter than what was signed")
    tree, keys = old.tree(), list(old.keys)
    while tree.size < size:
        rows = await connection.fetch(
            "SELECT idx, body, leaf_hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
            tree.size,
            min(tree.size + PAGE_ENTRIES, size),
        )
        if not rows or rows[0]["idx"] != tree.size or rows[-1]["idx"] != tree.size + len(rows) - 1:
            raise HistoryBroken("corrupt", "entries are missing")
        leaves = [leaf_hash(row["body"]) for row in rows]
        if leaves != [row["leaf_hash"] for row in rows]:
            raise HistoryBroken("corrupt", "a leaf hash is not that of its entry")
        tree.extend(leaves)
        alive()
        for row in rows:
            if _NAMES_A_KEY in row["body"]:
                keys.extend(_announced(row["body"]))
    if tree.root() != root:
        raise HistoryBroken("root_mismatch", "the entries do not lead to this root")
    return Extended(tree, tuple(keys))


def _announced(body: bytes) -> Sequence[AnnouncedKey]:
    """Read the key that an entry names, if it is one of the log's."""
    try:
        entry = decode(body)
    except EntryRefused:
        entry = None
    if isinstance(entry, KeyRotated) and entry.key == KEY and entry.vkey is not UNSET:
        at = datetime.fromisoformat(entry.ts)
        return [AnnouncedKey(entry.to_version, entry.vkey, at)]
    return []


async def _first(
    connection: "asyncpg.Connection[asyncpg.Record]", origin: str, versions: Mapping[int, bytes]
) -> Remembered:
    """Begin: nothing was signed, and entry 0 names the key."""
    empty = CompactRange()
    body = await connection.fetchval("SELECT body FROM entry WHERE idx = 0")
    keys: tuple[AnnouncedKey, ...] = ()
    if body is not None:
        try:
            entry = decode(body)
        except EntryRefused:
            entry = None
        if not isinstance(entry, LogOpened) or entry.origin != origin:
            raise HistoryBroken("corrupt", "entry 0 does not open this log")
        public_key = VerifierKey.parse(entry.vkey).public_key
        version = next((v for v, known in versions.items() if known == public_key), None)
        if version is None:
            raise HistoryBroken("signer", "the key that the log names is gone")
        keys = (AnnouncedKey(version, entry.vkey, datetime.fromisoformat(entry.ts)),)
    return Remembered(origin, 0, empty.root(), empty.peaks_bytes(), keys)
