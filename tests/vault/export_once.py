"""A process that exports, for tests to kill: `python -m tests.vault.export_once FOLDER SIZE…`.

With `copy` in place of `export` it only copies the checkpoints. Ends with 3 when refused.
"""

import asyncio
import sys
from pathlib import Path

from tests.vault.memory_log import MemoryLog, bodies
from vault.export import ExportRefused, copy_checkpoint, export

REFUSED = 3


def main(act: str, folder: Path, sizes: list[int]) -> None:
    log = MemoryLog(bodies(sizes[-1]))
    for size in sizes:
        note = log.sign(size)
        if act == "copy":
            copy_checkpoint(folder, note)
        else:
            asyncio.run(export(log, folder))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), [int(size) for size in sys.argv[3:]])
    except ExportRefused as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(REFUSED)
