"""The ledger's writer: the one task of this process that appends.

It takes the head row's lock, then drains what waits, so that batches form by themselves and an
idle append waits for nobody. Rows and entries of a batch, the head and the replica's counter
commit together. A lost answer to COMMIT is neither success nor failure: the old connection is
ended, the head lock taken again (which proves that the old transaction has ended), and the
entries looked up by id before anything else is appended.

What never happens here: a sequence as index, a retry of a commit that may have succeeded, an
acknowledgment before COMMIT has returned.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from time import perf_counter
from typing import Final
from uuid import UUID

from vault.db import FOREIGN, Database, store_error
from vault.errors import (
    CustodyError,
    LedgerSealed,
    LedgerUnavailable,
    Overloaded,
    StoreUnavailable,
)
from vault.ledger.entry import EntryRefused, Stamp, encode
from vault.ledger.tree import CompactRange, leaf_hash
from vault.ledger.unit import Placed, Unit
from vault.ledger.writer_connection import (
    COMMIT_SECONDS,
    CORRUPT,
    NO_ROOM,
    TRY_AGAIN,
    Added,
    Doubtful,
    Inconsistent,
    WriterConnection,
)
from vault.observer import Observer

QUEUE_UNITS_MAX: Final = 4096
BATCH_UNITS_MAX: Final = 256
APPEND_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.2
TEST_WRITE_SECONDS: Final = 1.0
NO_ROOM_CAUSE: Final = "no room"  # PostgreSQL said so; ends with a commit


class _TryAgain(Exception):
    """The batch was refused before it wrote anything."""


@dataclass(slots=True, eq=False)
class _Waiting:
    unit: Unit
    future: "asyncio.Future[Sequence[Placed]]"
    give_up_at: float  # infinite: nobody's any more, but owed to the ledger

    def give_up(self) -> None:
        """Let the author go: whether the unit becomes durable is not waited for any more."""
        if not self.future.done():
            self.future.set_exception(LedgerUnavailable())

    @property
    def is_given_up(self) -> bool:
        """Before it is acknowledged, only an author who is gone has ended the waiting."""
        return self.future.done()

    @property
    def is_owed(self) -> bool:
        return self.give_up_at == math.inf


def _give_up_all(waiting: Sequence[_Waiting]) -> None:
    for one in waiting:
        one.give_up()


@dataclass(slots=True)
class _Batch:
    """What one transaction appends, in index order.

    Who is refused hears of it after COMMIT too: the reason may be a neighbor of the same batch.
    """

    taken: list[_Waiting] = field(default_factory=list)
    places: list[list[Placed]] = field(default_factory=list)
    added: Added = field(default_factory=Added)
    refused: list[tuple[_Waiting, CustodyError]] = field(default_factory=list)

    def everybody(self) -> list[_Waiting]:
        return [*self.taken, *(waiting for waiting, _ in self.refused)]


class Ledger:
    """Appends units; knows neither cards nor processors."""

    def __init__(
        self,
        database: Database,
        *,
        replica: str,
        boot: UUID,
        now: Callable[[], datetime],
        observer: Observer,
    ) -> None:
        self._line = WriterConnection(database, replica=replica, boot=boot)
        self._replica = replica
        self._boot = str(boot)
        self._now = now
        self._observer = observer
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acknowledged: CompactRange | None = None
        self._in_doubt: _Batch | None = None
        self._next_n = 0
        self._closing = False
        self._seals: dict[str, None] = {}
        self._refusals: dict[str, type[CustodyError]] = {}

    @property
    def sealed_because(self) -> str | None:
        """The first of the causes for which no card is disclosed; None while there is none."""
        return next(iter(self._seals), None)

    @property
    def seal_causes(self) -> frozenset[str]:
        return frozenset(self._seals)

    @property
    def size(self) -> int:
        """Entries acknowledged so far, as this process saw it."""
        return self._acknowledged.size if self._acknowledged else 0

    @property
    def is_writing(self) -> bool:
        """Whether the writer runs. If it does not, nothing can be recorded: end the process."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        self._task = asyncio.create_task(self._write(), name="ledger-writer")

    async def close(self) -> None:
        """Append what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=APPEND_SECONDS + COMMIT_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(LedgerUnavailable())
        self._line.drop()

    def seal(self, cause: str) -> None:
        """Stop disclosures, after a proven inconsistency or an outcome that is not recorded."""
        self._seals[cause] = None

    def unseal(self, cause: str) -> None:
        """Take back a seal whose cause is gone by itself (a drained spool), and no other."""
        self._seals.pop(cause, None)

    def refuse_intents(self, cause: str, error: type[CustodyError] | None) -> None:
        """Refuse new intents and tokens with this error until the same cause comes with None.

        What ends something that was begun is still appended. Each cause is its own: none of
        them lifts another's refusal.
        """
        if error is None:
            self._refusals.pop(cause, None)
        else:
            self._refusals[cause] = error

    async def append(self, unit: Unit, *, seconds: float = APPEND_SECONDS) -> Sequence[Placed]:
        """Make a unit durable and return the place of each of its lines.

        Raises what its check refused it for; LedgerUnavailable when it is not known to be
        durable within `seconds` (it may become so later); Overloaded when the queue is full;
        LedgerSealed when it would open a card while the ledger is sealed; what new intents and
        tokens are refused with at the moment.
        """
        (waiting,) = self._put((unit,), seconds)
        loop = asyncio.get_running_loop()
        deadline = loop.call_at(waiting.give_up_at, waiting.give_up)  # a task would cost more
        try:
            return await waiting.future
        except asyncio.CancelledError:
            self._owe_if_acknowledged(waiting)
            raise
        finally:
            deadline.cancel()

    async def append_all(
        self, units: Sequence[Unit], *, seconds: float = APPEND_SECONDS
    ) -> list[Sequence[Placed] | BaseException]:
        """Append units that leave together if there is room, and return what became of each.

        That is the places of its lines, or what `append` would have raised: each is all or
        nothing, all of them are not. Raises, before any is taken, what `append` would.
        """
        loop = asyncio.get_running_loop()
        waiting = self._put(units, seconds)
        deadline = loop.call_later(seconds, _give_up_all, waiting)
        try:
            return await asyncio.gather(*(one.future for one in waiting), return_exceptions=True)
        except asyncio.CancelledError:
            for one in waiting:
                self._owe_if_acknowledged(one)
            raise
        finally:
            deadline.cancel()

    def _put(self, units: Sequence[Unit], seconds: float) -> list[_Waiting]:
        """Let units wait for the next batches: all of them, or none."""
        for unit in units:
            refusal = self._refusal(unit)
            if refusal is not None:
                raise refusal
        if self._closing or self._task is None or self._task.done():
            raise LedgerUnavailable
        if len(self._queue) + len(units) > QUEUE_UNITS_MAX:
            raise Overloaded
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        waiting = [_Waiting(unit, loop.create_future(), give_up_at) for unit in units]
        self._queue.extend(waiting)
        self._wake.set()
        return waiting

    def _refusal(self, unit: Unit) -> CustodyError | None:
        """What forbids a unit that would be welcome otherwise."""
        if self._seals and unit.opens_cards:
            return LedgerSealed()
        if self._refusals and unit.begins:
            return next(iter(self._refusals.values()))()
        return None

    # --- the writer -----------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while not (self._closing and not self._queue and self._in_doubt is None):
                if self._queue or self._in_doubt is not None or await self._must_try():
                    await self._step()
        finally:
            self._fail_all(LedgerUnavailable())

    async def _must_try(self) -> bool:
        """Wait for something to append; a store that had no room is tried even if none comes."""
        self._wake.clear()
        if NO_ROOM_CAUSE not in self._refusals:
            await self._wake.wait()
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(TEST_WRITE_SECONDS):
                await self._wake.wait()
        return not self._closing

    async def _step(self) -> None:
        """One transaction, and what follows from how it ended."""
        started = perf_counter()
        taken: list[_Waiting] = []
        entries = 0
        try:
            if self._in_doubt is None:
                entries = await self._append_waiting(taken)
            else:
                await self._settle_doubt()
        except Doubtful:
            result = "doubtful"
            self._line.drop()
        except _TryAgain:
            result = "again"
            self._put_back(taken)
        except (Inconsistent, StoreUnavailable, *FOREIGN) as error:
            result = "failed"
            failure = self._failure(error)
            self._line.drop()
            self._lose(taken or self._take_all(), failure)
        except BaseException:  # a bug, or the end: nobody may be left waiting
            self._put_back(taken)
            raise
        else:
            result = "ok"
        self._observer.ledger_appended(entries, perf_counter() - started, result)
        if result != "ok":
            await asyncio.sleep(RETRY_SECONDS)

    def _failure(self, error: BaseException) -> CustodyError:
        """Our error for what ended a transaction before its COMMIT: nothing was written."""
        if isinstance(error, CORRUPT):
            self.seal("corrupt")
        if isinstance(error, Inconsistent):
            self.seal(error.cause)
            return LedgerUnavailable()
        kind = type(error) if isinstance(error, StoreUnavailable) else store_error(type(error))
        if isinstance(error, NO_ROOM):
            self.refuse_intents(NO_ROOM_CAUSE, kind)
        return kind()

    async def _append_waiting(self, taken: list[_Waiting]) -> int:
        line = self._line
        await line.open(self._acknowledged)
        try:
            with line.bounded():
                head = await line.begin(self._acknowledged)
                taken.extend(self._drain())
                batch, grown = await self._fill(head, taken)
                if batch.taken:
                    await line.insert(head, grown, batch.added, self._next_n)
                elif NO_ROOM_CAUSE in self._refusals:
                    await line.touch()
        except TRY_AGAIN:
            pass
        else:
            if not batch.taken and NO_ROOM_CAUSE not in self._refusals:
                await line.roll_back()
                self._refuse(batch)
                return 0
            self._in_doubt = batch
            await line.commit()
            self._acknowledge(batch, grown)
            return len(batch.added.bodies)
        await line.roll_back()
        raise _TryAgain

    def _drain(self) -> list[_Waiting]:
        """After the lock: natural batching. Drops what its author has given up."""
        taken: list[_Waiting] = []
        now = asyncio.get_running_loop().time()
        while self._queue and len(taken) < BATCH_UNITS_MAX:
            waiting = self._queue.popleft()
            if waiting.is_given_up or waiting.give_up_at < now:
                self._fail([waiting], LedgerUnavailable())
            elif (refusal := self._refusal(waiting.unit)) is not None:
                self._fail([waiting], refusal)
            else:
                taken.append(waiting)
        return taken

    async def _fill(
        self, head: CompactRange, taken: Sequence[_Waiting]
    ) -> tuple[_Batch, CompactRange]:
        """Check, place and apply, kind by kind; a refused unit fails alone."""
        connection = self._line.connection
        batch = _Batch()
        at = self._now()
        for kind, group in groupby(
            sorted(taken, key=lambda waiting: waiting.unit.order),
            key=lambda waiting: type(waiting.unit),
        ):
            members = list(group)
            refused = await kind.check(connection, [one.unit for one in members], at)
            batch.refused.extend((members[position], error) for position, error in refused.items())
            kept, places = [], []
            for position, one in enumerate(members):
                if position not in refused and (place := self._place(one, head.size, batch, at)):
                    kept.append(one)
                    places.append(place)
            if kept:
                await kind.apply(connection, [one.unit for one in kept], places)
            batch.taken.extend(kept)
            batch.places.extend(places)
        grown = CompactRange(head.size, head.peaks)
        grown.extend([place.leaf for place in batch.added.places])
        return batch, grown

    def _place(self, waiting: _Waiting, size: int, batch: _Batch, at: datetime) -> list[Placed]:
        """Stamp, encode and hash a unit's lines; a line that is no entry fails its unit alone."""
        added, lines = batch.added, waiting.unit.lines
        first = self._next_n + len(added.bodies)
        try:
            bodies = [
                encode(line.entry, Stamp(at, self._replica, self._boot, first + offset))
                for offset, line in enumerate(lines)
            ]
        except EntryRefused:
            batch.refused.append((waiting, CustodyError()))
            return []
        index = size + len(added.places)
        places = [Placed(index + offset, leaf_hash(body), at) for offset, body in enumerate(bodies)]
        added.lines.extend(lines)
        added.places.extend(places)
        added.bodies.extend(bodies)
        return places

    async def _settle_doubt(self) -> None:
        """Find out what became of a batch whose COMMIT was not answered.

        Holding the head lock proves that the old transaction has ended. All ids present: it
        committed. None: it did not, and the same units are appended again. The commit of this
        look is itself a write, so with synchronous standbys its answer proves replication.
        """
        batch, line = self._in_doubt, self._line
        assert batch is not None
        ids = [entry_line.entry.id for entry_line in batch.added.lines]
        await line.open(self._acknowledged)
        with line.bounded():
            head = await line.begin(self._acknowledged)
            found = await line.present(ids)
            if found not in (0, len(ids)):
                raise Inconsistent("corrupt")
            await line.touch()
        await line.commit()
        if found:
            self._acknowledge(batch, head)
        else:
            self._in_doubt = None
            self._put_back(batch.everybody())

    def _acknowledge(self, batch: _Batch, grown: CompactRange) -> None:
        self._in_doubt = None
        self._acknowledged = grown
        self._next_n += len(batch.added.bodies)
        self.refuse_intents(NO_ROOM_CAUSE, None)
        for waiting, places in zip(batch.taken, batch.places, strict=True):
            if waiting.is_given_up:
                self._owe_what_follows(waiting.unit)
            else:
                waiting.future.set_result(places)
        self._refuse(batch)

    def _owe_if_acknowledged(self, waiting: _Waiting) -> None:
        """Of an author who was canceled in the same moment: it was acknowledged to nobody."""
        answered = waiting.future.done() and not waiting.future.cancelled()
        if answered and waiting.future.exception() is None:
            self._owe_what_follows(waiting.unit)

    def _owe_what_follows(self, unit: Unit) -> None:
        """Append what must follow a unit whose author is gone, however long that takes."""
        follows = unit.when_abandoned()
        if follows is not None:
            future = asyncio.get_running_loop().create_future()
            self._queue.appendleft(_Waiting(follows, future, math.inf))
            self._wake.set()

    def _refuse(self, batch: _Batch) -> None:
        for waiting, error in batch.refused:
            self._fail([waiting], error)

    # --- failures -------------------------------------------------------------------------

    def _put_back(self, taken: Sequence[_Waiting]) -> None:
        self._queue.extendleft(reversed([one for one in taken if not one.future.done()]))

    def _lose(self, lost: Sequence[_Waiting], failure: CustodyError) -> None:
        """Tell who waits; what is owed to the ledger waits on."""
        self._fail([one for one in lost if not one.is_owed], failure)
        self._put_back([one for one in lost if one.is_owed])

    def _take_all(self) -> list[_Waiting]:
        taken = list(self._queue)
        self._queue.clear()
        return taken

    def _fail(self, failed: Sequence[_Waiting], error: CustodyError) -> None:
        for waiting in failed:
            if not waiting.future.done():
                waiting.future.set_exception(error)
                waiting.future.exception()  # retrieved: its author may have given up

    def _fail_all(self, error: CustodyError) -> None:
        if self._in_doubt is not None:
            self._fail(self._in_doubt.everybody(), error)
        self._fail(self._take_all(), error)
