"""Room on the disks that the ledger needs: below a reserve nothing new is begun.

A database that runs into a full disk in the middle of things once ended a public log. So new
intents and tokens are refused while there is still room for the outcomes of what is under way;
it ends by itself with the shortage, and seals nothing. What never lives here: deleting.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.errors import StoreFull
from vault.ledger.store import Ledger

CAUSE: Final = "disk reserve"
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """How much must be free where this path is. The path must be there."""

    path: Path
    free_bytes_min: int


class DiskReserve:
    """Watches volumes: that of the spool, and the database's where it is on this machine."""

    def __init__(self, ledger: Ledger, reserves: Sequence[Reserve]) -> None:
        self._ledger = ledger
        self._reserves = tuple(reserves)
        self._look: asyncio.Future[list[Path]] | None = None
        self._short: tuple[Path, ...] = ()

    @property
    def short(self) -> Sequence[Path]:
        """Where there was too little room at the last look."""
        return self._short

    async def look(self) -> None:
        """Look at each volume, and refuse or allow what is new. A duty of each second.

        A volume that cannot be looked at, or does not answer, counts as full.
        """
        if self._look is None:  # else the last one hangs still: one thread is enough
            self._look = asyncio.get_running_loop().run_in_executor(None, self._found_short)
        done, _ = await asyncio.wait((self._look,), timeout=LOOK_SECONDS)
        if done:
            self._short = tuple(self._look.result())
            self._look = None
        else:
            self._short = tuple(reserve.path for reserve in self._reserves)
        self._ledger.refuse_intents(CAUSE, StoreFull if self._short else None)

    def _found_short(self) -> list[Path]:
        return [one.path for one in self._reserves if free_bytes(one.path) < one.free_bytes_min]


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write there; nothing where nobody can tell."""
    try:
        volume = os.statvfs(path)
    except OSError:
        return 0
    return volume.f_bavail * volume.f_frsize
