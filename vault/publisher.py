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
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import asyncpg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault.db import FOREIGN, Database, store_error
from vault.errors import CustodyError, KeysError, StartRefused
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.forms import SealCause
from vault.ledger.note import Note, VerifierKey, signed
from vault.milestones import UNWATCHED, Milestone, Milestones
from vault.observer import Observer
from vault.publication import store
from vault.seals import Seals
from vault.signed_history import KEY, HistoryBroken, Signing, extend, recalled, remembered_of
from vault.signer_memory import AnnouncedKey, MemoryOutrun, Remembered, SignerMemory

PUBLISHER_LOCK: Final = 0x70616E77_7075626C  # "panwpubl"
PUBLISH_SECONDS: Final = 1.0
REPEAT: Final = timedelta(seconds=30)
KEYS_CHECKED: Final = timedelta(seconds=30)
ANNOUNCED_WITHIN: Final = timedelta(seconds=60)
TURN_SECONDS_MAX: Final = 30.0  # without a page read: the first turn recomputes the whole log
EXPORT_SECONDS: Final = 10.0
REFUSED_AGAIN: Final = timedelta(seconds=10)


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
        self._turn: asyncio.Timeout | None = None

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
            async with asyncio.timeout(TURN_SECONDS_MAX) as self._turn:
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

    def _alive(self) -> None:
        """A log of any size is read in the end; only silence ends a turn."""
        if self._turn is not None:
            self._turn.reschedule(asyncio.get_running_loop().time() + TURN_SECONDS_MAX)

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
        extended = await extend(connection, old, head["size"], head["root"], alive=self._alive)
        await self._check_keys(extended.keys, now)  # what was announced since counts too
        if head["size"] == old.size and not repeat:
            return
        self._milestones.passed(Milestone.EXTENDED)
        remembered = remembered_of(self._origin, extended)
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
            await store(connection, remembered, note, now)
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


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
