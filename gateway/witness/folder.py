"""A witness's folder: its key, what it holds, and that one process at a time works with them.

The key is worth what is held: a key beside an empty memory would sign any history again. So the
memory is made first and the key last, and one without the other stops the start.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway.witness.held_checkpoints import HeldCheckpoints
from gateway.witness.identity import Identity, draw_identity, read_identity
from vault.errors import StartRefused
from vault.private_files import sync_folder

KEY: Final = "key"
HELD: Final = "held.sqlite3"
LOCK: Final = "lock"


@contextmanager
def witness_folder(folder: Path, name: str) -> Iterator[tuple[Identity, HeldCheckpoints]]:
    """Open the folder of the witness of this name, or make it. Raises StartRefused."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _held_alone(folder):
        key, memory = folder / KEY, folder / HELD
        is_new = not key.exists()
        if not is_new and not memory.exists():
            raise StartRefused(
                f"{memory} is gone: what the key beside it has cosigned is not known, and it must"
                " never sign again. Make a new witness in a new folder"
            )
        with closing(HeldCheckpoints.open(memory)) as held:
            if is_new and not held.is_empty():
                raise StartRefused(f"{key} is gone: make a new witness in a new folder")
            sync_folder(folder)
            yield (draw_identity if is_new else read_identity)(key, name), held


@contextmanager
def _held_alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_taken = False
    except BlockingIOError:
        is_taken = True
    try:
        if is_taken:
            raise StartRefused(f"{folder} is in use by another process")
        yield
    finally:
        os.close(descriptor)  # and so the lock
