"""The log as files, which any disk keeps and any web server hands out.

    tile/entries/…       entry bundles      write-once
    tile/<level>/…       tiles of hashes    write-once
    checkpoints/<size>   the signed heads   write-once
    checkpoint           the newest one     replaced

A file is written before what is made of it: a bundle, its leaf tile, the tiles above, the
checkpoints, and last the one file that says how far the others go. Each is whole on the disk
before it has its name, and no name is ever given to other content. So the work can end at any
moment and be done again. Files are readable by all (0644, folders 0755): they are for auditors,
and no entry holds card data.

The folder is an anchor of its own: a log that does not extend its checkpoint is refused, as is
anything that the checkpoint's root does not prove. What never may live here: keys, and the
database.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.note import Note, NoteRefused, parse_note
from vault.ledger.tiles import TileName, bundle, tiles_of
from vault.private_files import sync_folder
from vault.proven_log import ProvenLog, Published

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
BATCH_FILES: Final = 1024  # after so many, their folders are synced

CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"
_UNFINISHED: Final = ".new"
_LOCK: Final = ".lock"


class ExportRefused(Exception):
    """The files cannot be written; the message says why."""


class ExportConflict(ExportRefused):
    """A file that is never changed has other content than it must."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} has other content than the log: nothing there was changed")
        self.file = file


@dataclass(frozen=True, slots=True)
class Exported:
    """What the folder now holds."""

    size: int
    root: bytes
    files_written: int


Progress = Callable[[int, int], None]  # files done, of how many


def _untold(_done: int, _of: int) -> None:
    pass


async def export(log: Published, folder: Path, *, progress: Progress = _untold) -> Exported:
    """Bring the folder up to the log's newest checkpoint.

    Reads only what the checkpoint there does not cover. Blocks while it writes: for a process of
    its own. Raises ExportRefused, ExportConflict, LogBroken, and what the log raises.
    """
    try:
        with _locked(folder):
            return await _export(log, _Files(folder), progress)
    except OSError as error:
        reason = _reason(error, folder)
    raise ExportRefused(reason)


async def _export(log: Published, files: "_Files", progress: Progress) -> Exported:
    complete, newest = files.checkpoint(), files.newest_kept()  # first: the log may only grow
    note = await log.checkpoint()
    if note is None:
        raise ExportRefused("the log has no checkpoint yet")
    checkpoint = parse_checkpoint(note.text)
    proven = await ProvenLog.open(log, checkpoint)
    for held in (complete, newest):
        if held is not None:
            await proven.require_extends(held)
    since = complete.size if complete is not None else 0
    of = sum(1 for _ in tiles_of(checkpoint.size, since=since))
    done = 0
    async for part in proven.bundles(since):
        width = len(part.bodies)
        files.put(TileName(None, part.index, width).path, bundle(part.bodies))
        files.put(TileName(0, part.index, width).path, b"".join(part.leaves))
        done += 2
        progress(done, of)
    for name in tiles_of(checkpoint.size, since=since):
        if name.level:
            files.put(name.path, await proven.tile(name))
    files.put_checkpoint(note, checkpoint)
    files.sync()
    files.replace(CHECKPOINT, note.raw)
    progress(of, of)
    return Exported(checkpoint.size, checkpoint.root, files.written)


def copy_checkpoint(folder: Path, note: Note) -> bool:
    """Leave one checkpoint in a folder on write-once storage; return whether it was not there.

    It is written in place: such storage may allow neither a second name nor a removal. What a
    power cut left of one is completed. What witnesses said since the first copy is not added.
    The folder must be there, else an empty mount point would be filled. Blocks, perhaps for long:
    call it in a thread. Raises ExportRefused and ExportConflict.
    """
    path = folder / CHECKPOINTS / str(parse_checkpoint(note.text).size)
    try:
        there = _content_of(path)
        if there is not None and _says(there, note):
            return False
        if there is not None and not _is_beginning(there, note):
            raise ExportConflict(path)
        path.parent.mkdir(FOLDER_MODE, exist_ok=True)
        exclusive = os.O_EXCL if there is None else os.O_TRUNC
        _write(path, note.raw, os.O_WRONLY | os.O_CREAT | exclusive)
        sync_folder(path.parent)
        sync_folder(folder)
    except OSError as error:
        reason = _reason(error, folder)
    else:
        return True
    raise ExportRefused(reason)


# --- files --------------------------------------------------------------------------------


class _Files:
    """The folder of an export, to which this process has the only right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / _UNFINISHED
        self._folders: set[Path] = set()  # made or written to, and not synced since
        self._batch = 0
        self.written = 0
        # Its content is never reused: it may by now be another name of a file in its place.
        self._unfinished.unlink(missing_ok=True)

    def checkpoint(self) -> Checkpoint | None:
        """Read how far the other files go."""
        path = self._folder / CHECKPOINT
        there = _content_of(path)
        if there is None:
            return None
        read = _parsed(there)
        if read is None:
            raise ExportRefused(f"{path} is not the checkpoint of a log")
        return read

    def newest_kept(self) -> Checkpoint | None:
        """Read the biggest of all that were kept; a copy may be under way, or cut off."""
        folder = self._folder / CHECKPOINTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        newest = max((int(name) for name in names if name.isdecimal()), default=None)
        return _parsed(_content_of(folder / str(newest)) or b"") if newest is not None else None

    def put(self, name: str, content: bytes) -> None:
        """Write a file once; if it is there it must be the same."""
        path = self._folder / name
        self._make(path.parent)
        there = _content_of(path)
        if there is None:
            self._write_new(content)
            os.link(self._unfinished, path)
            self._unfinished.unlink()
        elif there != content:
            raise ExportConflict(path)
        self._batch += 1
        if self._batch >= BATCH_FILES:
            self.sync()

    def put_checkpoint(self, note: Note, checkpoint: Checkpoint) -> None:
        """Keep it for good; what witnesses said since the first time is not added."""
        name = f"{CHECKPOINTS}/{checkpoint.size}"
        there = _content_of(self._folder / name)
        self.put(name, note.raw if there is None or not _says(there, note) else there)

    def replace(self, name: str, content: bytes) -> None:
        """Give a file new content, all of it at once."""
        path = self._folder / name
        if _content_of(path) != content:
            self._write_new(content)
            self._unfinished.replace(path)
        sync_folder(self._folder)

    def sync(self) -> None:
        """Make the names last; what an earlier run left perhaps has its content alone there."""
        for folder in self._folders:
            sync_folder(folder)
        self._folders.clear()
        self._batch = 0

    def _write_new(self, content: bytes) -> None:
        _write(self._unfinished, content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.written += 1

    def _make(self, folder: Path) -> None:
        if folder in self._folders:
            return
        self._folders.add(folder)
        if folder != self._folder:
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            folder.chmod(FOLDER_MODE)  # whatever the umask


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and have it for ourselves."""
    if not folder.is_dir():
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        sync_folder(folder.parent)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        if not _lock(descriptor):
            raise ExportRefused(f"{folder} is being exported to by another process")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock, which the kernel drops with its holder, unless somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, content: bytes, flags: int) -> None:
    """Write all of it, down to the disk."""
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        os.fchmod(file.fileno(), FILE_MODE)  # whatever the umask
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _content_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(raw: bytes) -> Checkpoint | None:
    try:
        return parse_checkpoint(parse_note(raw).text)
    except NoteRefused:
        return None


def _says(raw: bytes, note: Note) -> bool:
    """Whether it is a note of the same text, whoever else signed it."""
    try:
        return parse_note(raw).text == note.text
    except NoteRefused:
        return False


def _is_beginning(raw: bytes, note: Note) -> bool:
    """Whether it is what is left of such a note, cut off before it had a whole signature."""
    text = note.text.encode()
    return _parsed(raw) is None and raw[: len(text)] == text[: len(raw)]


def _reason(error: OSError, folder: Path) -> str:
    return f"{error.filename or folder}: {error.strerror}"
