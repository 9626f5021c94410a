"""The whole log read again, once a day, while it is in use.

What signs new entries remembers the tree's peaks and never looks back, so an edit of an entry
that is already signed changes nothing it sees. Here every body is read again, its leaf and the
root of every checkpoint are computed anew, and what stands beside it is compared with it; a
difference seals. What never may live here: judgment of what an entry says. A later release may
have written what this one cannot read.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Protocol

from vault.db import Database
from vault.ledger.checkpoint import parse_checkpoint
from vault.ledger.examination import examine
from vault.ledger.forms import SealCause
from vault.ledger.note import NoteRefused, parse_note
from vault.ledger.pages import Examined, Page
from vault.ledger.reading import (
    StoredCheckpoint,
    read_checkpoints,
    read_pages,
    read_signed_size,
)
from vault.ledger.rules import Rule
from vault.ledger.tiles import TILE_WIDTH, fold
from vault.ledger.tree import EMPTY_ROOT, HASH_BYTES, CompactRange

PASS: Final = timedelta(hours=20)  # the whole log within it, so that a day is enough
PAUSE_MAX: Final = timedelta(minutes=5)  # between turns; after a longer one no catching up
STEP_ENTRIES: Final = TILE_WIDTH  # between two of them others have their turn: a millisecond
TURN_STEPS_MAX: Final = 64

_CORRUPT: Final = frozenset({Rule.LEAF, Rule.COLUMNS})


class Sealing(Protocol):
    """Stops disclosures."""

    async def seal(self, cause: SealCause) -> None: ...


class Scrub:
    """Reads on by a little in each turn, and starts again at the end."""

    def __init__(self, database: Database, seals: Sealing, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._seals = seals
        self._now = now
        self._turned_at: datetime | None = None
        self._tree = CompactRange()
        self._size = 0  # of what this pass reads
        self._next = 0
        self._found: set[SealCause] = set()  # in this pass: each is told once
        self.passes = 0

    async def turn(self) -> None:
        """Check some more entries, and seal at a difference. Raises StoreUnavailable."""
        at = self._now()
        paused = PAUSE_MAX if self._turned_at is None else at - self._turned_at
        self._turned_at = at
        if self._next >= self._size:
            await self._begin()
        share = max(timedelta(0), min(paused, PAUSE_MAX)) / PASS
        steps = min(ceil(self._size * share / STEP_ENTRIES), TURN_STEPS_MAX)
        for _ in range(steps):
            if self._next < self._size:
                await self._step()
                await asyncio.sleep(0)

    async def _begin(self) -> None:
        self._size = await read_signed_size(self._database)
        self._tree = CompactRange()
        self._next = 0
        self._found = set()
        for zero in await read_checkpoints(self._database, -1, 0):
            await self._compare(zero, EMPTY_ROOT)

    async def _step(self) -> None:
        """Check the next entries, which all are signed."""
        first = self._next
        end = min(first + STEP_ENTRIES, self._size)
        pages = await read_pages(self._database, first, end)
        checkpoints = await read_checkpoints(self._database, first, end)
        if [(page.first, page.count) for page in pages] == [(first, end - first)]:
            await self._check(pages[0], checkpoints)
        else:
            await self._difference("corrupt")
            self._tree = CompactRange(end, [bytes(HASH_BYTES)] * end.bit_count())
        self._next = end
        if end == self._size:
            self.passes += 1

    async def _check(self, page: Page, checkpoints: Sequence[StoredCheckpoint]) -> None:
        page.marks = [stored.size for stored in checkpoints]
        examined = examine(page)
        if any(one.rule in _CORRUPT for one in examined.violations):
            await self._difference("corrupt")
        for stored, mark in zip(checkpoints, examined.marks, strict=True):
            await self._compare(stored, fold([*self._tree.peaks, *mark.peaks]))
        self._grow(examined)

    def _grow(self, examined: Examined) -> None:
        leaves = examined.leaves
        at = range(0, len(leaves), HASH_BYTES)
        self._tree.extend([leaves[start : start + HASH_BYTES] for start in at])

    async def _compare(self, stored: StoredCheckpoint, root: bytes) -> None:
        """Compare a signed head, and the row it stands in, with the root of the entries."""
        try:
            said = parse_checkpoint(parse_note(stored.note.encode()).text)
        except NoteRefused:
            await self._difference("corrupt")
            return
        if stored.size != said.size or not stored.root == said.root == root:
            await self._difference("root_mismatch")

    async def _difference(self, cause: SealCause) -> None:
        if cause not in self._found:
            self._found.add(cause)
            await self._seals.seal(cause)
