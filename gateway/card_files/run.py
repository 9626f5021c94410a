"""An import: a file of cards in, the same file with tokens out, whatever happens on the way.

1. Read, cut and plan the next block, while those before are being stored.
2. Store its cards.
3. Write its rows to `OUT.part`, down to the disk, with those of all other blocks that are ready.
4. Put them down in the journal. Only now as many other blocks are begun.
5. At the end, and if the input is still what it was, give the file its name.

So the process can be killed at any moment: what goes on begins behind the last block of the
journal, and tokens of at most `BLOCKS_AT_ONCE` blocks are in the store that are in no file. All
of it happens on the event loop, save for waiting for the disk: a thread that plans would have
every call of the loop wait for its turn. What never may live here: how a card is stored, and
what a row says.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from gateway.card_files.asked import options_digest
from gateway.card_files.in_order import in_order
from gateway.card_files.journal import ImportRefused, Journal, Origin, Shape, Step
from gateway.card_files.planning import Manner, Planned, Planner
from gateway.card_files.report import Report, Tally
from gateway.card_files.rows import BYTES_MAX, Block, Blocks, head_bytes
from gateway.codecs.splice import Format
from gateway.inbound.filtering import WantedCard
from vault.private_files import sync_folder

PIECE_BYTES: Final = 1 << 18
BLOCK_ROWS: Final = 256  # as many cards as one transaction of the ledger takes
BLOCKS_AT_ONCE: Final = 8  # planned, at HashiCorp Vault, in the ledger, on their way to the disk
UNUSED_MAX: Final = BLOCK_ROWS * BLOCKS_AT_ONCE
"""Rows whose tokens may be in no file, each time an import is stopped."""
PART: Final = ".part"
JOURNAL: Final = ".journal"
_PRIVATE_FILE: Final = 0o600

Store = Callable[[Sequence[WantedCard]], Awaitable[Sequence[str]]]
"""Stores cards, and gives a token for each."""
Tell = Callable[[int, int], None]
"""Is told how many bytes are done, of how many."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is imported, where to, and how."""

    source: Path
    out: Path
    manner: Manner
    resume: bool = False
    rows_max: int = BLOCK_ROWS


async def carry_out(job: Job, store: Store, tell: Tell) -> Report:
    """Import a file, or the rest of one; the journal is left until `finish`.

    Raises ImportRefused, RowRefused, Malformed, OSError, and what `store` does.
    """
    with ExitStack() as stack:
        run = _Run(job, stack)
        await run.carry_out(store, tell)
        return run.tally.report(resumed=run.is_resumed)


def finish(job: Job) -> None:
    """Remove the journal: the report is where it belongs."""
    beside(job.out, JOURNAL).unlink(missing_ok=True)
    sync_folder(job.out.parent)


def is_unfinished(out: Path) -> bool:
    """Whether an import to there has begun, and has not ended."""
    return beside(out, JOURNAL).exists()


class _Run:
    """One import, its files open."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self._job = job
        self._part = beside(job.out, PART)
        self._source = stack.enter_context(_opened(job.source))
        self._was = os.fstat(self._source.fileno())
        manner = job.manner
        options = options_digest(manner.route, manner.format, manner.record_length, manner.keep_out)
        origin = Origin(self._was.st_size, self._was.st_mtime_ns, options)
        if job.out.exists() and not (job.resume and is_unfinished(job.out)):
            raise ImportRefused(_there(job.out))
        self._journal = Journal.opened(beside(job.out, JOURNAL), origin, resume=job.resume)
        stack.callback(self._journal.close)
        self.tally = Tally()
        self.is_resumed = bool(self._journal.steps)
        for step in self._journal.steps:
            self._count(step)
        self._shape = Shape()
        last = self._journal.steps[-1] if self._journal.steps else None
        self._read = last.read if last is not None else 0
        self._written = last.written if last is not None else 0
        self._next_row = last.next_row if last is not None else 0
        self._is_over = last is not None and last.is_last
        self._shape_then = last.shape if last is not None else self._shape.text()
        self._journal.steps.clear()
        self._has_name = self._is_over and job.out.exists() and not self._part.exists()
        if not self._has_name:
            self._check_name_is_free()
            self._out = stack.enter_context(self._opened_part())

    async def carry_out(self, store: Store, tell: Tell) -> None:
        if not self._is_over:
            await asyncio.to_thread(self._skip)
            await self._store_blocks(store, tell)
            self._check_unchanged()
            self._note([self._step(Planned(b"", 0, self._next_row), is_last=True)])
        if not self._has_name:
            self._check_name_is_free()
            self._part.rename(self._job.out)
        sync_folder(self._job.out.parent)
        tell(self._was.st_size, self._was.st_size)

    async def _store_blocks(self, store: Store, tell: Tell) -> None:
        planner, blocks = self._planner_and_blocks()

        async def tokens_of(planned: Planned) -> Sequence[str]:
            return await store(planned.cards)

        async def put_down(ready: Sequence[tuple[Planned, Sequence[str]]]) -> None:
            await _wholly(partial(self._put_down, planner, ready))
            tell(self._read, self._was.st_size)

        planned = self._planned(planner, blocks)
        await in_order(planned, tokens_of, put_down, at_once=BLOCKS_AT_ONCE)

    def _planner_and_blocks(self) -> tuple[Planner, Blocks]:
        manner = self._job.manner
        head = None
        if manner.format is Format.CSV and self._read:
            beginning = os.pread(self._source.fileno(), 2 * BYTES_MAX, 0)
            head = beginning[: head_bytes(beginning)]
        blocks = Blocks(
            manner.format,
            rows_max=self._job.rows_max,
            record_length=manner.record_length,
            first_row=self._next_row,
            head=head,
        )
        return Planner(manner, head=head), blocks

    def _planned(self, planner: Planner, blocks: Blocks) -> Iterator[Planned]:
        for block in self._cut(blocks):
            yield planner.planned(block)

    def _cut(self, blocks: Blocks) -> Iterator[Block]:
        while piece := self._source.read(PIECE_BYTES):
            yield from blocks.feed(piece)
        yield from blocks.end()

    def _put_down(self, planner: Planner, ready: Sequence[tuple[Planned, Sequence[str]]]) -> None:
        """Write blocks down to the disk, and then into the journal."""
        steps = []
        for planned, tokens in ready:
            body = planner.written(planned, tokens)
            self._out.write(body)
            self._read += len(planned.raw)
            self._written += len(body)
            self._next_row = planned.next_row
            self._shape.add(planned.raw)
            steps.append(self._step(planned))
        self._out.flush()
        os.fdatasync(self._out.fileno())
        self._note(steps)

    def _step(self, planned: Planned, *, is_last: bool = False) -> Step:
        return Step(
            read=self._read,
            written=self._written,
            next_row=self._next_row,
            rows=planned.rows,
            tokens=len(planned.cards),
            shape=self._shape.text(),
            counted=planned.counted,
            refused=planned.refused,
            is_last=is_last,
        )

    def _note(self, steps: Sequence[Step]) -> None:
        self._journal.add(steps)
        for step in steps:
            self._count(step)

    def _count(self, step: Step) -> None:
        self.tally.add(
            rows=step.rows, tokens=step.tokens, counted=step.counted, refused=step.refused
        )

    def _skip(self) -> None:
        """Go to where the journal ends, and see that the input is the same up to there."""
        left = self._read
        while left and (piece := self._source.read(min(left, PIECE_BYTES))):
            self._shape.add(piece)
            left -= len(piece)
        if left or self._shape.text() != self._shape_then:
            raise ImportRefused(_changed(self._job.source))

    def _opened_part(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.fdopen(os.open(self._part, flags, _PRIVATE_FILE), "wb")
        os.fchmod(file.fileno(), _PRIVATE_FILE)
        if os.fstat(file.fileno()).st_size < self._written:
            file.close()
            raise ImportRefused(f"{self._part} has less than its journal says: begin anew")
        file.truncate(self._written)
        file.seek(self._written)
        sync_folder(self._part.parent)  # the journal never tells of a file without a name
        return file

    def _check_name_is_free(self) -> None:
        """Refuse to end beside, or on, what somebody else put there meanwhile."""
        if self._job.out.exists():
            raise ImportRefused(_there(self._job.out))

    def _check_unchanged(self) -> None:
        now = os.fstat(self._source.fileno())
        same = (now.st_size, now.st_mtime_ns) == (self._was.st_size, self._was.st_mtime_ns)
        if not same or self._read != now.st_size:
            raise ImportRefused(_changed(self._job.source))


async def _wholly(work: Callable[[], None]) -> None:
    """Wait for the disk beside the loop, to its end whatever happens: the files stay open."""
    writing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,))
        raise


def _opened(path: Path) -> BinaryIO:
    file = path.open("rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImportRefused(f"{path} is no file that can be read a second time")
    return file


def beside(out: Path, suffix: str) -> Path:
    """Name what stands beside a file that is being written."""
    return out.with_name(out.name + suffix)


def _there(path: Path) -> str:
    return f"{path} is there already"


def _changed(path: Path) -> str:
    return f"{path} was changed while it was imported"
