"""Files that only we may read, and that a power cut leaves whole.

A file is there with all of its content or as it was before; its name survives once its folder
is synced. What never may live here: what such a file says.
"""

import os
from pathlib import Path
from typing import Final

_PRIVATE_FILE: Final = 0o600


def write_private(path: Path, content: bytes) -> None:
    """Put `content` there, whole or not at all, readable by us alone, and on the disk for good."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in it last: it survives a power cut only after the folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
