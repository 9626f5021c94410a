"""Outcomes that the ledger could not take yet: on disk, synced, without card data.

A file a boot (0600, created when first needed). A record is its body's length (4 bytes, big
end first), the body's SHA-256, the body; it is synced before `write` returns. A record that was
being written when the process died is torn and at the end of its file: it is dropped. A torn one
anywhere else is damage: the start is refused.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from vault.errors import StartRefused
from vault.intent_table import SettleIntent, Settlement
from vault.ledger.entry import Outcome, decode_draft, encode_draft
from vault.ledger.unit import Detail, Line

LENGTH_BYTES: Final = 4
HASH_BYTES: Final = 32
RECORD_BYTES_MAX: Final = 256 * 1024


class _SpooledLine(msgspec.Struct):
    entry: bytes
    salt: bytes | None = None
    body: bytes | None = None


class _Record(msgspec.Struct):
    first: str
    settlements: tuple[Settlement, ...]
    lines: tuple[_SpooledLine, ...]
    burned: tuple[str, ...]


class Spool:
    """The outcomes of this boot, and of earlier ones, that are not in the ledger."""

    def __init__(self, folder: Path, boot: UUID) -> None:
        """Read what earlier boots left. Raises StartRefused on a damaged file."""
        self._folder = folder
        self._boot = boot
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._left: dict[Path, list[SettleIntent]] = {
            path: read_records(path) for path in sorted(folder.iterdir()) if path.is_file()
        }
        self._own = folder / str(boot)
        self._file: int | None = None
        self._size = 0  # of the whole records in it
        for path in [path for path, units in self._left.items() if not units]:
            self._delete(path)  # nothing but a torn record: nobody was told that it is kept

    def write(self, unit: SettleIntent) -> bool:
        """Keep an outcome, synced; False when that failed too: it is nowhere but in memory."""
        kept = _of_this_boot(unit, str(self._boot))
        self._left.setdefault(self._own, []).append(kept)
        body = msgspec.msgpack.encode(_record(kept))
        record = len(body).to_bytes(LENGTH_BYTES, "big") + hashlib.sha256(body).digest() + body
        if len(body) > RECORD_BYTES_MAX:
            return False
        try:
            self._append(record)
        except OSError:
            self._cut_back()
            return False
        self._size += len(record)
        return True

    def _append(self, record: bytes) -> None:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._own, flags, 0o600)
            self._size = os.fstat(self._file).st_size
            _sync_folder(self._folder)
        if os.write(self._file, record) < len(record):
            raise OSError(errno.ENOSPC, "a part of the record was written")
        os.fdatasync(self._file)

    def _cut_back(self) -> None:
        """Leave whole records only: what comes later must not stand behind a torn one."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)

    def waiting(self) -> Sequence[SettleIntent]:
        """Outcomes to append, oldest boot first."""
        return [unit for units in self._left.values() for unit in units]

    def holds_any(self) -> bool:
        return bool(self._left)

    def done(self, unit: SettleIntent) -> None:
        """Forget an outcome that is in the ledger; delete its file with the last."""
        for path, units in list(self._left.items()):
            if unit in units:
                units.remove(unit)
            if not units:
                self._delete(path)

    def _delete(self, path: Path) -> None:
        """Where that fails, the next start appends the same again, which changes nothing."""
        del self._left[path]
        if path == self._own and self._file is not None:
            os.close(self._file)
            self._file = None
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            _sync_folder(self._folder)


def read_records(path: Path) -> list[SettleIntent]:
    """Return a spool file's outcomes; a torn last record is dropped.

    Raises StartRefused when a record before the last is damaged.
    """
    content = path.read_bytes()
    units: list[SettleIntent] = []
    at = 0
    while at < len(content):
        start = at + LENGTH_BYTES + HASH_BYTES
        length = int.from_bytes(content[at : at + LENGTH_BYTES], "big")
        if start > len(content) or not any(content[at:]):
            return units  # torn; zeros: its size was on the disk before its bytes
        if length <= RECORD_BYTES_MAX and start + length > len(content):
            return units  # torn
        body = content[start : start + length]
        at += LENGTH_BYTES
        if hashlib.sha256(body).digest() != content[at : at + HASH_BYTES]:
            if start + length == len(content):
                return units
            raise StartRefused(f"{path} is damaged in the middle: keep a copy and find out why")
        units.append(_unit(msgspec.msgpack.decode(body, type=_Record)))
        at = start + length
    return units


def _of_this_boot(unit: SettleIntent, boot: str) -> SettleIntent:
    """Say whose act each outcome was: another boot may append it."""
    lines = [
        Line(replace(line.entry, origin_boot=boot), line.detail)
        if isinstance(line.entry, Outcome)
        else line
        for line in unit.lines
    ]
    # Without the sealed answer: a repeat then gets the status and the references.
    return SettleIntent(unit.first, unit.settlements, tuple(lines), None, unit.burned)


def _record(unit: SettleIntent) -> _Record:
    return _Record(
        first=unit.first,
        settlements=unit.settlements,
        lines=tuple(
            _SpooledLine(
                encode_draft(line.entry),
                line.detail.salt if line.detail else None,
                line.detail.body if line.detail else None,
            )
            for line in unit.lines
        ),
        burned=unit.burned,
    )


def _unit(record: _Record) -> SettleIntent:
    lines = tuple(
        Line(
            decode_draft(line.entry),
            Detail(line.salt, line.body)
            if line.salt is not None and line.body is not None
            else None,
        )
        for line in record.lines
    )
    return SettleIntent(record.first, record.settlements, lines, None, record.burned)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
