"""The file that is written while something else is read, and has its name only once it is whole.

What never lives here: what is in it.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vault.private_files import sync_folder

_PRIVATE_FILE: Final = 0o600


class OutputRefused(Exception):
    """The output cannot be begun; the message says why."""


class Output:
    """A new file, readable by us alone; whatever ends the work before `keep` leaves nothing."""

    def __init__(self, path: Path) -> None:
        """Raises OutputRefused; OSError."""
        if path.exists():
            raise OutputRefused(f"{path} is there already")
        self._path = path
        self._unfinished = path.with_name(path.name + ".part")
        self._unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._unfinished, flags, _PRIVATE_FILE), "wb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def keep(self) -> None:
        """Give it its name, and put both on the disk for good."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unfinished.rename(self._path)
        sync_folder(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)
