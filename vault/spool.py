"""Outcomes that the ledger could not take yet: on disk, synced, without card data.

A file a boot (0600), there only while it holds something. It is made of a reserve beside the
folder: room that was taken from the disk before, because it must hold the outcomes of the moment
in which the disk is full. A record is its body's length (4 bytes, big end first), the body's
SHA-256, the body; it is synced before `write` returns. Behind the last record are zeros, or the
record that was being written when the process died: it is dropped. Damage before a whole record
is another matter: the start is refused.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
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
HEADER_BYTES: Final = LENGTH_BYTES + HASH_BYTES
RECORD_BYTES_MAX: Final = 256 * 1024
RESERVED_BYTES: Final = 128 * 1024  # some hundred outcomes


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
        self._reserve = folder.with_name(f"{folder.name}.reserve")
        self._file: int | None = None
        self._size = 0  # of the whole records in it
        self._room = 0  # of the file
        self._is_broken = False
        for path in [path for path, units in self._left.items() if not units]:
            self._delete(path)  # no whole record: nobody was told that something is kept
        self._take_room()

    def write(self, unit: SettleIntent) -> bool:
        """Keep an outcome, synced; False when that failed too: it is nowhere but in memory."""
        kept = _of_this_boot(unit, str(self._boot))
        self._left.setdefault(self._own, []).append(kept)
        body = msgspec.msgpack.encode(_record(kept))
        record = len(body).to_bytes(LENGTH_BYTES, "big") + hashlib.sha256(body).digest() + body
        if len(body) > RECORD_BYTES_MAX or self._is_broken:
            return False
        try:
            self._append(record)
        except OSError:
            self._take_back()
            return False
        self._size += len(record)
        return True

    def _append(self, record: bytes) -> None:
        file = self._open()
        end = self._size + len(record)
        if end > self._room:
            with contextlib.suppress(OSError):  # what room there is may be enough
                os.posix_fallocate(file, 0, end + RESERVED_BYTES)
                self._room = os.fstat(file).st_size
        if os.pwrite(file, record, self._size) < len(record):
            raise OSError(errno.ENOSPC, "a part of the record was written")
        try:
            os.fdatasync(file)
        except OSError:  # what it has kept is not known, and asking again would not tell
            self._is_broken = True
            raise

    def _open(self) -> int:
        if self._file is None:
            if not self._own.exists():
                with contextlib.suppress(OSError):  # it could not be made: there may be room now
                    self._reserve.rename(self._own)
            self._file = os.open(self._own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = _end_of_records(self._own.read_bytes())
            self._room = os.fstat(self._file).st_size
            _sync_folder(self._folder)
        return self._file

    def _take_room(self) -> None:
        """Take room from the disk before it is needed; it reads as zeros."""
        with contextlib.suppress(OSError):
            file = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, RESERVED_BYTES)
                os.fsync(file)
            finally:
                os.close(file)
            _sync_folder(self._reserve.parent)

    def _take_back(self) -> None:
        """Leave whole records only; the room stays. What comes later takes the same place."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if self._size + HEADER_BYTES <= self._room:
                os.pwrite(self._file, bytes(HEADER_BYTES), self._size)
            else:
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
        self._left.pop(path, None)
        if path == self._own and self._file is not None:
            os.close(self._file)
            self._file = None
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            _sync_folder(self._folder)
        if path == self._own:
            self._take_room()


def read_records(path: Path) -> list[SettleIntent]:
    """Return a spool file's outcomes; what is not whole behind the last of them is dropped.

    Raises StartRefused when a whole record stands behind a damaged one.
    """
    content = path.read_bytes()
    end = _end_of_records(content)
    written = len(content.rstrip(b"\0"))
    if any(_body_at(content, later) is not None for later in range(end + 1, written)):
        raise StartRefused(f"{path} is damaged in the middle: keep a copy and find out why")
    return [_unit(msgspec.msgpack.decode(body, type=_Record)) for body in _bodies(content)]


def _bodies(content: bytes) -> Iterator[bytes]:
    """Yield the bodies of whole records, up to the first that is none."""
    at = 0
    while (body := _body_at(content, at)) is not None:
        yield body
        at += HEADER_BYTES + len(body)


def _end_of_records(content: bytes) -> int:
    return sum(HEADER_BYTES + len(body) for body in _bodies(content))


def _body_at(content: bytes, at: int) -> bytes | None:
    """Return the body of the record that stands there; None if none does."""
    length = int.from_bytes(content[at : at + LENGTH_BYTES], "big")
    start = at + HEADER_BYTES
    if not 0 < length <= min(RECORD_BYTES_MAX, len(content) - start):
        return None
    body = content[start : start + length]
    digest = content[at + LENGTH_BYTES : start]
    return body if hashlib.sha256(body).digest() == digest else None


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
