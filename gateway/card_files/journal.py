"""The journal of an import: how far it is, and what was found, so that it can go on after a crash.

A line of JSON a finished block, on the disk before another block is begun in its place; a line
that a crash cut off was never there. It holds no card data, and no digest of any: one of a few
unknown digits is undone by trying them (PCI DSS 3.5.1.1). So a changed input is recognized by its
size, its time and by a digest of its shape, in which all digits are one digit and all letters one
letter. What never lives here: rows.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import ascii_letters
from typing import Final, Self

import msgspec

from gateway.card_files.report import Counted, Refused
from vault.private_files import sync_folder

_PRIVATE_FILE: Final = 0o600
_PIECE_BYTES: Final = 1 << 20
_BEGINS: Final = b'{"size":'  # a journal, and perhaps no more of it
_NO_JOURNAL: Final = "is not the journal of an import"


class ImportRefused(Exception):
    """Nothing was done, or nothing more; the message says why, and holds no byte of a file."""


class Origin(msgspec.Struct, frozen=True):
    """What an import is of: only the same goes on with it."""

    size: int
    modified_ns: int
    options: str
    """A digest of what was asked for, the tenant among it."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A finished block: where it ends in both files, and what it adds to the report."""

    read: int
    written: int
    next_row: int
    rows: int
    tokens: int
    shape: str
    """The digest of the input up to here."""
    counted: tuple[Counted, ...] = ()
    refused: tuple[Refused, ...] = ()
    is_last: bool = False


_CLASSES: Final = {
    **dict.fromkeys(b"0123456789", b"0"),
    **dict.fromkeys(ascii_letters.encode(), b"a"),
}
_OTHER_LETTERS: Final = b"\x80"  # other digits among them
_SHAPES: Final = b"".join(
    _CLASSES.get(byte, min(bytes([byte]), _OTHER_LETTERS)) for byte in range(256)
)

_LINE_ENCODER: Final = msgspec.json.Encoder()
_ORIGIN: Final = msgspec.json.Decoder(Origin)
_STEP: Final = msgspec.json.Decoder(Step)


class Shape:
    """The digest of a file's shape, as far as it is read."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self._digest.update(data.translate(_SHAPES))

    def text(self) -> str:
        return self._digest.hexdigest()


class Journal:
    """The journal's file, which one process at a time may have."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """See `opened`."""
        self.path = path
        self.steps: list[Step] = []  # those of before
        self._descriptor = descriptor

    @classmethod
    def opened(cls, path: Path, origin: Origin, *, resume: bool) -> Self:
        """Begin one, or go on with one. Raises ImportRefused; OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, _PRIVATE_FILE)
        journal = cls(path, descriptor)
        try:
            journal._lock()
            journal._begin(origin, resume=resume)
        except BaseException:
            journal.close()
            raise
        return journal

    def add(self, steps: Iterable[Step]) -> None:
        """Put blocks on the disk for good. Raises OSError."""
        self._write(b"".join(_LINE_ENCODER.encode(step) + b"\n" for step in steps))

    def remove(self) -> None:
        self.path.unlink()
        sync_folder(self.path.parent)

    def close(self) -> None:
        os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_taken = False
        except BlockingIOError:
            is_taken = True
        if is_taken:
            raise ImportRefused(f"{self.path} is in use: this import is under way")

    def _begin(self, origin: Origin, *, resume: bool) -> None:
        content = self._content()
        lines = _whole_lines(content)
        if content[: len(_BEGINS)] != _BEGINS[: len(content)]:
            raise ImportRefused(f"{self.path} {_NO_JOURNAL}")
        if len(lines) <= 1:  # no block was finished: nothing of it is kept
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._write(_LINE_ENCODER.encode(origin) + b"\n")
            sync_folder(self.path.parent)
            return
        if not resume:
            raise ImportRefused(f"{self.path} is of an import that did not end: --resume goes on")
        self._read(lines, origin)
        os.ftruncate(self._descriptor, sum(map(len, lines)))
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def _read(self, lines: Sequence[bytes], origin: Origin) -> None:
        reason = ""
        try:
            begun = _ORIGIN.decode(lines[0])
            self.steps = [_STEP.decode(line) for line in lines[1:]]
        except msgspec.DecodeError:
            reason = _NO_JOURNAL
        else:
            if (begun.size, begun.modified_ns) != (origin.size, origin.modified_ns):
                reason = "is of an input that was changed since: remove it to begin anew"
            elif begun.options != origin.options:
                reason = "is of an import with other options: remove it to begin anew"
        if reason:
            raise ImportRefused(f"{self.path} {reason}")

    def _content(self) -> bytes:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        pieces = []
        while piece := os.read(self._descriptor, _PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fsync(self._descriptor)


def _whole_lines(content: bytes) -> list[bytes]:
    """Leave out what a crash cut off: a line is whole once its end is there."""
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
