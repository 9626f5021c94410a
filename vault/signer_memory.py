"""What the publisher has signed, remembered outside the database: a file, and HashiCorp Vault.

Whoever restores an older database, or edits it, does not reach these. The larger of the two
counts, and both must lie on one history: who recalls them looks at that. It is saved before it
is signed, so no signature exists that it does not cover. What never may live here: the
decision what to do when they contradict the database.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from vault.errors import KeysError, StartRefused
from vault.ledger.note import ED25519, NoteRefused, VerifierKey
from vault.ledger.tree import CompactRange, InvalidRange
from vault.private_files import write_private
from vault.transit import Secret

KV_PATH: Final = "ledger/head"
FILE_NAME: Final = "signed-head"


class HeadStore(Protocol):
    """The part of HashiCorp Vault that is asked here."""

    async def read_secret(self, path: str) -> Secret | None: ...

    async def last_version(self, path: str) -> int: ...

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None: ...


class AnnouncedKey(msgspec.Struct, frozen=True):
    """A version of the signing key as the log names it, and since when."""

    version: int
    vkey: str
    at: datetime


class Remembered(msgspec.Struct, frozen=True):
    """The head that was last signed, or is about to be, and the keys that the log names."""

    origin: str
    size: int
    root: bytes
    peaks: bytes
    keys: tuple[AnnouncedKey, ...]

    def tree(self) -> CompactRange:
        """Raises InvalidRange when the peaks are not those of the root."""
        tree = CompactRange.from_bytes(self.size, self.peaks)
        if tree.root() != self.root:
            raise InvalidRange("the peaks have another root")
        return tree

    def has_keys(self) -> bool:
        """Whether its keys can be used. Raises NoteRefused."""
        parsed = [VerifierKey.parse(key.vkey) for key in self.keys]
        timed = all(key.at.tzinfo is not None for key in self.keys)
        return bool(parsed) and timed and all(key.kind == ED25519 for key in parsed)


class MemoryOutrun(Exception):
    """Another publisher has written in the meantime: it is the one that publishes."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What each of the two places holds; None: nothing."""

    file: Remembered | None
    kv: Remembered | None

    @property
    def largest(self) -> Remembered | None:
        """The one that counts."""
        found = [one for one in (self.file, self.kv) if one is not None]
        return max(found, key=lambda one: one.size, default=None)


class SignerMemory:
    """The two places. One publisher at a time writes them: HashiCorp Vault sees to that."""

    def __init__(self, folder: Path, store: HeadStore, *, origin: str) -> None:
        self._file = folder / FILE_NAME
        self._store = store
        self._origin = origin
        self._version: int | None = None  # of the KV entry, as we know it

    async def recall(self) -> Recalled:
        """Read both places.

        Raises StartRefused when one is damaged or of another log; any KeysError.
        """
        secret = await self._store.read_secret(KV_PATH)
        # What was deleted softly still counts its versions.
        self._version = secret.version if secret else await self._store.last_version(KV_PATH)
        kv = self._checked(_of_secret(secret), f"kv/{KV_PATH}") if secret is not None else None
        return Recalled(await asyncio.to_thread(self._of_file), kv)

    async def save(self, remembered: Remembered) -> None:
        """Make it durable in both places.

        Raises MemoryOutrun when another publisher was first; any KeysError, after which it is
        not known to be in HashiCorp Vault; OSError when the file cannot be written.
        """
        assert self._version is not None, "recall first"
        text = msgspec.json.encode(remembered).decode()
        await self._write(text)  # first: who is fenced there leaves the file as it is
        await asyncio.to_thread(write_private, self._file, text.encode())

    async def _write(self, text: str) -> None:
        assert self._version is not None
        failure: KeysError | None = None
        written = None
        try:
            written = await self._store.write_secret(KV_PATH, {"head": text}, cas=self._version)
        except KeysError as error:
            failure = error
        if written is not None:
            self._version = written
            return
        await self._settle(text, failure)

    async def _settle(self, text: str, failure: KeysError | None) -> None:
        """An answer that was lost, or a newer version: ours is there, or another's."""
        found = await self._store.read_secret(KV_PATH)
        if found is not None and found.data.get("head") == text:
            self._version = found.version
            return
        if failure is not None and (found.version if found else 0) == self._version:
            raise failure  # it was not written
        raise MemoryOutrun

    def _of_file(self) -> Remembered | None:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return self._checked(_decoded(content), str(self._file))

    def _checked(self, remembered: Remembered | None, place: str) -> Remembered:
        """Raises StartRefused."""
        try:
            good = remembered is not None and remembered.tree() is not None
            good = good and remembered is not None and remembered.has_keys()
        except (InvalidRange, NoteRefused):
            good = False
        if remembered is None or not good:
            raise StartRefused(f"{place} holds no signed head of a ledger: find out who changed it")
        if remembered.origin != self._origin:
            raise StartRefused(f"{place} is of the ledger {remembered.origin}, not of this one")
        return remembered


def _of_secret(secret: Secret) -> Remembered | None:
    return _decoded(secret.data.get("head", "").encode())


def _decoded(content: bytes) -> Remembered | None:
    try:
        return msgspec.json.decode(content, type=Remembered)
    except msgspec.MsgspecError:
        return None
