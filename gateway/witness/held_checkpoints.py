"""What a witness holds: of each log the checkpoint that it last cosigned, in one SQLite file.

Reading what is held, judging by it and replacing it is one transaction, and it is on the disk
before anybody is told: else two requests at once, or a power cut after an answer, could lead to
two histories signed by one witness. What never may live here: the rules, which `judgment` has.

With `synchronous = EXTRA`: under FULL, a commit right before a power cut can come undone,
because the removal of the rollback journal is not synced.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from gateway.witness.judgment import NOTHING_HELD, Asked, Extends, Held, HeldOther, Refusal, judged
from vault.errors import StartRefused, StoreUnavailable
from vault.ledger.note import Signature

T = TypeVar("T")

BUSY_SECONDS: Final = 5.0  # nobody else has the file; a backup that reads it may

_SETTINGS: Final = (
    "PRAGMA journal_mode = DELETE",
    "PRAGMA synchronous = EXTRA",
    "PRAGMA fullfsync = ON",  # macOS, where fsync alone does not reach the disk
)
_AS_SET: Final = {
    "PRAGMA journal_mode": ("delete",),
    "PRAGMA synchronous": (3,),
    "PRAGMA integrity_check": ("ok",),
}
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS held (
  origin TEXT PRIMARY KEY,
  size INTEGER NOT NULL CHECK (size >= 0),
  root BLOB NOT NULL CHECK (length(root) = 32),
  note BLOB NOT NULL
) WITHOUT ROWID
"""
_REPLACE: Final = """
INSERT INTO held (origin, size, root, note) VALUES (?, ?, ?, ?)
ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note
"""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """It is held now, and this may be told."""

    signature: Signature


class HeldCheckpoints:
    """The file, for one thread at a time. Every method raises StoreUnavailable when it fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or make it. Raises StartRefused when it is damaged."""
        path.touch(mode=0o600)
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            for statement in (*_SETTINGS, _SCHEMA):
                connection.execute(statement)
            found = [connection.execute(question).fetchall() for question in _AS_SET]
            whole = found == [[answer] for answer in _AS_SET.values()]
        except sqlite3.Error:
            whole = False
        if not whole:
            connection.close()
            raise StartRefused(f"{path} is damaged: what this witness has cosigned is not known")
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    def add(self, asking: Asked, cosign: Callable[[], Signature]) -> Cosigned | HeldOther | Refusal:
        """Judge a checkpoint by what is held, and hold it if it may be cosigned.

        Where this raises, it may be held or not; its signature is told to nobody.
        """
        return self._attempt(lambda: self._judge_and_replace(asking, cosign))

    def latest(self, origin: str) -> bytes | None:
        """Return the note that is held of a log, with our cosignature."""

        def read() -> bytes | None:
            query = "SELECT note FROM held WHERE origin = ?"
            row = self._connection.execute(query, (origin,)).fetchone()
            return None if row is None else bytes(row[0])

        return self._attempt(read)

    def is_empty(self) -> bool:
        query = "SELECT 1 FROM held LIMIT 1"
        return self._attempt(lambda: self._connection.execute(query).fetchone()) is None

    def _judge_and_replace(
        self, asking: Asked, cosign: Callable[[], Signature]
    ) -> Cosigned | HeldOther | Refusal:
        checkpoint = asking.checkpoint
        self._connection.execute("BEGIN IMMEDIATE")  # nobody else judges by what we replace
        query = "SELECT size, root FROM held WHERE origin = ?"
        row = self._connection.execute(query, (checkpoint.origin,)).fetchone()
        verdict = judged(asking, NOTHING_HELD if row is None else Held(row[0], bytes(row[1])))
        if not isinstance(verdict, Extends):
            self._connection.execute("ROLLBACK")
            return verdict
        signature = cosign()
        note = asking.note.with_signatures([signature])
        self._connection.execute(
            _REPLACE, (checkpoint.origin, checkpoint.size, checkpoint.root, note.raw)
        )
        self._connection.execute("COMMIT")
        return Cosigned(signature)

    def _attempt(self, work: Callable[[], T]) -> T:
        """Run `work`, and leave no transaction open and none of SQLite's words."""
        try:
            return work()
        except sqlite3.Error:
            pass
        finally:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
        raise StoreUnavailable
