"""Who may work in an embedded deployment's folder, and whether its first start came to its end.

One process at a time: an exclusive lock on `lock`, which the kernel drops with its holder.
A folder that is neither empty nor ours is never touched; what an unfinished first start left
behind is thrown away, because no one can have stored anything there yet.
"""

import fcntl
import os
import shutil
import socket
from pathlib import Path
from typing import Final, Self

from vault.embedded.layout import Layout
from vault.errors import StartRefused
from vault.private_files import write_private

_PREPARING: Final = b"preparing\n"
_READY: Final = b"ready 2\n"  # the number is the form of the folder
_READY_WITHOUT_AUTHORITY: Final = b"ready 1\n"
"""Its OpenBao has no certificate authority, and nobody is left who could give it one: the token
of the first start is gone. It works as it did, without a CONNECT listener."""


class InUse(StartRefused):
    """Another process works in the folder; `pid` is its id, if it could be read."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{folder} is in use by {who}: end it first, or choose another folder")
        self.pid = pid


class Hold:
    """The exclusive right to a folder, until `release` or the end of the process."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        self.layout = layout
        self._descriptor: int | None = descriptor
        self._kept: list[socket.socket] = []

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Make the folder if need be and lock it, or say why not."""
        layout = Layout(folder.resolve())
        _make_private(layout.folder)
        _refuse_a_folder_of_others(layout)
        # O_CLOEXEC is Python's default: the children must not keep the lock of a dead parent.
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid_in(descriptor)
            os.close(descriptor)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return cls(layout, descriptor)
        raise InUse(layout.folder, pid)

    def keep(self, held: socket.socket) -> None:
        """Keep what holds a port for as long as the folder."""
        self._kept.append(held)

    def release(self) -> None:
        while self._kept:
            self._kept.pop().close()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def begin_first_start(self) -> None:
        """Mark the folder as ours and not ready, and clear what an earlier attempt left."""
        write_private(self.layout.state, _PREPARING)
        for path in self.layout.made_by_first_start():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.layout.make_folders()

    def end_first_start(self) -> None:
        write_private(self.layout.state, _READY)


def is_prepared(layout: Layout) -> bool:
    """Whether a first start came to its end here."""
    try:
        state = layout.state.read_bytes()
    except FileNotFoundError:
        return False
    if state not in (_PREPARING, _READY, _READY_WITHOUT_AUTHORITY):
        raise StartRefused(f"{layout.folder} was made by another version of panward")
    return state != _PREPARING


def has_authority(layout: Layout) -> bool:
    """Whether the deployment was made with a certificate authority in its OpenBao."""
    return layout.state.read_bytes() == _READY


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = folder.stat().st_uid == os.geteuid()
        if mine:
            folder.chmod(0o700)  # whatever it was: keys and card ciphertexts lie here
    except OSError as error:
        reason = error.strerror
    else:
        if mine:
            return
        reason = "it belongs to another user"
    raise StartRefused(f"{folder} cannot be used: {reason}")


def _refuse_a_folder_of_others(layout: Layout) -> None:
    names = {path.name for path in layout.folder.iterdir()}
    if not layout.state.exists() and names - {layout.lock.name, layout.state.name + ".new"}:
        raise StartRefused(f"{layout.folder} is not empty and was not made by panward")


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None
