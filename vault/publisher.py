"""The publisher: extends what was signed to the head, remembers it, signs it, publishes it.

One works at a time. An advisory lock on a connection of its own elects it, and the version of
the entry in HashiCorp Vault fences one that has lost the lock without knowing. Before anything
is signed it is recomputed from the bytes of the leaves; a history that does not extend what was
signed is never signed, and seals the deployment. The order of the steps is what makes a crash
between any two of them harmless:

P1 the head is read; P2 the leaves lead from what was signed to it; P3 it is remembered outside
the database; P4 it is signed, and the signature verified; P5 it is published; P6 witnesses see
it; P7 it is exported.

What never may live here: an entry's meaning, but for the keys that entries name.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import asyncpg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import UNSET

from vault.db import FOREIGN, Database, store_error
from vault.errors import CustodyError, KeysError, StartRefused
from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.entry import EntryRefused, KeyRotated, LogOpened, decode
from vault.ledger.forms import SealCause
from vault.ledger.note import Note, NoteRefused, VerifierKey, parse_note, signed, verified
from vault.ledger.tiles import TILE_WIDTH, tile_root
from vault.ledger.tree import CompactRange, leaf_hash
from vault.milestones import UNWATCHED, Milestone, Milestones
from vault.observer import Observer
from vault.seals import Seals
from vault.signer_memory import AnnouncedKey, MemoryOutrun, Remembered, SignerMemory

KEY: Final = "ledger"
PUBLISHER_LOCK: Final = 0x70616E77_7075626C  # "panwpubl"
PUBLISH_SECONDS: Final = 1.0
REPEAT: Final = timedelta(seconds=30)
KEYS_CHECKED: Final = timedelta(seconds=30)
ANNOUNCED_WITHIN: Final = timedelta(seconds=60)
PAGE_ENTRIES: Final = 5_000
TURN_SECONDS_MAX: Final = 120.0  # the first one after an upgrade recomputes the whole log
EXPORT_SECONDS: Final = 10.0
REFUSED_AGAIN: Final = timedelta(seconds=10)

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


class Witnessing(Protocol):
    """Shows a checkpoint to witnesses (`vault/witnessing.py`)."""

    async def show(self, note: Note) -> None: ...


class NoWitnesses:
    """For a deployment that names none."""

    async def show(self, note: Note) -> None:
        pass


Exporting = Callable[[Note], Awaitable[None]]


async def export_nothing(_note: Note) -> None:
    """Keep no files."""


@dataclass(frozen=True, slots=True)
class Extended:
    """A head that extends what was signed: its tree, and the keys that the log names."""

    tree: CompactRange
    keys: tuple[AnnouncedKey, ...]


def _remembered(origin: str, extended: Extended) -> Remembered:
    tree = extended.tree
    return Remembered(origin, tree.size, tree.root(), tree.peaks_bytes(), extended.keys)


class Publisher:
    """The publisher of one gateway, whether or not it is the one that works."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        origin: str,
        database: Database,
        signing: Signing,
        memory: SignerMemory,
        seals: Seals,
        now: Callable[[], datetime],
        observer: Observer,
        overlap: timedelta,
        witnesses: Witnessing | None = None,
        export: Exporting = export_nothing,
        milestones: Milestones = UNWATCHED,
    ) -> None:
        self._origin = origin
        self._database = database
        self._signing = signing
        self._memory = memory
        self._seals = seals
        self._now = now
        self._observer = observer
        self._overlap = overlap
        self._witnesses = witnesses if witnesses is not None else NoWitnesses()
        self._exporting = export
        self._milestones = milestones
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._remembered: Remembered | None = None
        self._latest: tuple[Note, datetime] | tuple[None, None] = (None, None)  # signed by us
        self._shown_at: datetime | None = None
        self._exported: Note | None = None
        self._keys_checked: datetime | None = None
        self._unannounced_since: datetime | None = None
        self._not_before: datetime | None = None

    @property
    def is_elected(self) -> bool:
        """Whether this gateway is the one that publishes."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Hand over: the lock ends with its connection."""
        self._step_down()

    def duties(self) -> Sequence[tuple[float, Callable[[], Awaitable[None]]]]:
        """Return (seconds between turns, duty); a slow witness holds up no signature."""
        return (
            (PUBLISH_SECONDS, self.publish),
            (PUBLISH_SECONDS, self.show),
            (EXPORT_SECONDS, self.export),
        )

    async def publish(self) -> None:
        """Sign and publish the head, if it is ours to do and due. Raises nothing."""
        if self._not_before is not None and (
            timedelta(0) < self._not_before - self._now() <= REFUSED_AGAIN  # else a clock was set
        ):
            return
        self._not_before = None
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                if self.is_elected or await self._elected():
                    await self._work()
        except HistoryBroken as broken:
            await self._refuse(broken.cause)
        except StartRefused:  # a damaged memory
            await self._refuse("signer")
        except MemoryOutrun:
            self._observer.ledger_publish_failed("outrun")
            self._step_down()
        except CustodyError as error:
            self._observer.ledger_publish_failed(error.code)
            self._remembered = None  # recalled at the next turn: what was written is not known
        except FOREIGN as error:
            self._observer.ledger_publish_failed(store_error(type(error)).code)
            self._step_down()

    async def show(self) -> None:
        """Show witnesses what was signed since they were last shown anything."""
        note, at = self._latest
        if note is not None and at != self._shown_at and self.is_elected:
            self._shown_at = at
            await self._witnesses.show(note)
            self._milestones.passed(Milestone.WITNESSED)

    async def export(self) -> None:
        """Write files of what was published since the last time."""
        note, _ = self._latest
        if note is not None and note != self._exported and self.is_elected:
            await self._exporting(note)
            self._exported = note
            self._milestones.passed(Milestone.EXPORTED)

    # --- who publishes ------------------------------------------------------------------------

    async def _elected(self) -> bool:
        """Try for the lock. It ends with the connection, so with a process that is killed."""
        connection = await self._database.connect_apart()
        is_ours = False
        try:
            is_ours = await connection.fetchval("SELECT pg_try_advisory_lock($1)", PUBLISHER_LOCK)
        finally:
            if not is_ours:  # nor if nobody heard that it is: the lock would stay with it
                connection.terminate()
        if not is_ours:
            return False
        self._connection = connection
        self._keys_checked = None
        return True

    def _step_down(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._remembered = None

    async def _refuse(self, cause: SealCause) -> None:
        """Never sign this; look again now and then, for it may be put right."""
        self._observer.ledger_publish_failed(cause)
        self._step_down()
        self._not_before = self._now() + REFUSED_AGAIN
        await self._seals.seal(cause)

    # --- the steps ----------------------------------------------------------------------------

    async def _work(self) -> None:
        connection = self._connection
        assert connection is not None
        if self._remembered is None:
            self._remembered = await recalled(
                connection, self._memory, origin=self._origin, keys=self._signing.public_keys
            )
            self._latest = (None, None)
        old, now = self._remembered, self._now()
        if not old.keys:  # the first entry, which names the key, is still to come
            self._remembered = None
            return
        head = await connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
        self._milestones.passed(Milestone.HEAD_READ)
        if head is None:
            raise HistoryBroken("root_mismatch", "the ledger has no head")
        signed_at = self._latest[1]
        repeat = signed_at is None or abs(now - signed_at) >= REPEAT
        extended = await extend(connection, old, head["size"], head["root"])
        await self._check_keys(extended.keys, now)  # what was announced since counts too
        if head["size"] == old.size and not repeat:
            return
        self._milestones.passed(Milestone.EXTENDED)
        remembered = _remembered(self._origin, extended)
        await self._save(remembered)
        self._milestones.passed(Milestone.REMEMBERED)
        note = await self._signed(remembered, now)
        self._milestones.passed(Milestone.SIGNED)
        await self._publish(connection, remembered, note, now)
        self._latest = (note, now)
        self._milestones.passed(Milestone.PUBLISHED)
        self._observer.ledger_published(remembered.size, now)

    async def _save(self, remembered: Remembered) -> None:
        """Remember before signing, so that no signature exists that the memory does not cover."""
        if remembered == self._remembered and self._latest[1] is not None:
            return  # the same head again
        try:
            await self._memory.save(remembered)
        except OSError:
            pass
        else:
            self._remembered = remembered
            return
        raise KeysError  # nothing is signed that the file does not cover

    async def _signed(self, remembered: Remembered, now: datetime) -> Note:
        """Sign with the newest key, and during the overlap with the one before it too."""
        text = Checkpoint(remembered.origin, remembered.size, remembered.root).text
        newest = remembered.keys[-1]
        keys = [newest]
        if len(remembered.keys) > 1 and now - newest.at < self._overlap:
            keys.append(remembered.keys[-2])
        signatures = []
        for key in keys:
            raw = await self._signing.sign(KEY, key.version, text.encode())
            public_key = VerifierKey.parse(key.vkey).public_key
            if not _verifies(public_key, raw, text.encode()):
                raise HistoryBroken("signer", "the signature is not that of the announced key")
            signatures.append(signed(text, self._origin, public_key, raw))
        return Note(text, tuple(signatures))

    async def _publish(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        remembered: Remembered,
        note: Note,
        now: datetime,
    ) -> None:
        """Store the note and what tiles above level 0 are read from, in one transaction."""
        # No ROLLBACK: whatever goes wrong from here on ends the connection. One that is waited for
        # would hang with a server that hangs, and hold up the end of the process.
        try:
            await connection.execute("BEGIN")
            await _store(connection, remembered, note, now)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()
            raise

    async def _check_keys(self, keys: Sequence[AnnouncedKey], now: datetime) -> None:
        """A version that the log does not name is nobody's: who made it could sign with it."""
        if self._keys_checked is not None and abs(now - self._keys_checked) < KEYS_CHECKED:
            return
        versions = await self._signing.public_keys(KEY)
        for key in keys:
            found = versions.get(key.version)
            if found is not None and found != VerifierKey.parse(key.vkey).public_key:
                raise HistoryBroken("signer", "a version of the key is not the announced one")
        announced = {key.version for key in keys}
        if any(version > keys[0].version for version in versions.keys() - announced):
            self._unannounced_since = self._unannounced_since or now
            if now - self._unannounced_since > ANNOUNCED_WITHIN:
                raise HistoryBroken("signer", "a version of the key is not announced")
            return  # looked at again at the next turn
        self._unannounced_since = None
        self._keys_checked = now


# --- what was signed, and what extends it -----------------------------------------------------


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
        if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM checkpoint)"):
            raise HistoryBroken("rollback", "heads were signed, and no memory has them")
        return await _first(connection, origin, await keys(KEY))
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
        remembered = _remembered(origin, extended)
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
    connection: "asyncpg.Connection[asyncpg.Record]", old: Remembered, size: int, root: bytes
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


async def _store(
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


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
