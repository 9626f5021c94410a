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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from time import perf_counter
from typing import Final
from uuid import UUID

import asyncpg

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
from vault.observer import Observer

QUEUE_UNITS_MAX: Final = 4096
BATCH_UNITS_MAX: Final = 256
APPEND_SECONDS: Final = 2.0
COMMIT_SECONDS: Final = 2.0
WORK_SECONDS: Final = 5.0  # all before COMMIT: longer than the server's own limits
RETRY_SECONDS: Final = 0.2
PAGE_ENTRIES: Final = 10_000

# Lock not available, serialization failure, deadlock: nothing was written, so try again.
TRY_AGAIN: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)
DOUBTFUL_WARNING: Final = "01000"  # "canceling wait for synchronous replication"


class _Doubtful(Exception):
    """COMMIT was sent and its answer is not known."""


class _TryAgain(Exception):
    """The batch was refused before it wrote anything."""


class _Inconsistent(Exception):
    """The head contradicts itself, or what this process saw acknowledged."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


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


@dataclass(slots=True)
class _Batch:
    """What one transaction appends, in index order.

    Who is refused hears of it after COMMIT too: the reason may be a neighbor of the same batch.
    """

    taken: list[_Waiting] = field(default_factory=list)
    places: list[list[Placed]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
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
        self._database = database
        self._replica = replica
        self._boot = boot
        self._now = now
        self._observer = observer
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._warned = False
        self._acknowledged: CompactRange | None = None
        self._in_doubt: _Batch | None = None
        self._next_n = 0
        self._closing = False
        self._seals: dict[str, None] = {}

    @property
    def sealed_because(self) -> str | None:
        """The first of the causes for which no card is disclosed; None while there is none."""
        return next(iter(self._seals), None)

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
        self._drop_connection()

    def seal(self, cause: str) -> None:
        """Stop disclosures, after a proven inconsistency or an outcome that is not recorded."""
        self._seals[cause] = None

    def unseal(self, cause: str) -> None:
        """Take back a seal whose cause is gone by itself (a drained spool), and no other."""
        self._seals.pop(cause, None)

    async def append(self, unit: Unit, *, seconds: float = APPEND_SECONDS) -> Sequence[Placed]:
        """Make a unit durable and return the place of each of its lines.

        Raises what its check refused it for; LedgerUnavailable when it is not known to be
        durable within `seconds` (it may become so later); Overloaded when the queue is full;
        LedgerSealed when it would open a card while the ledger is sealed.
        """
        if unit.opens_cards and self.sealed_because is not None:
            raise LedgerSealed
        if self._closing or self._task is None or self._task.done():
            raise LedgerUnavailable
        if len(self._queue) >= QUEUE_UNITS_MAX:
            raise Overloaded
        loop = asyncio.get_running_loop()
        waiting = _Waiting(unit, loop.create_future(), loop.time() + seconds)
        self._queue.append(waiting)
        self._wake.set()
        deadline = loop.call_at(waiting.give_up_at, waiting.give_up)  # a task would cost more
        try:
            return await waiting.future
        except asyncio.CancelledError:
            answered = waiting.future.done() and not waiting.future.cancelled()
            if answered and waiting.future.exception() is None:
                self._owe_what_follows(unit)  # it was acknowledged to nobody
            raise
        finally:
            deadline.cancel()

    # --- the writer -----------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while not (self._closing and not self._queue and self._in_doubt is None):
                if not self._queue and self._in_doubt is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._step()
        finally:
            self._fail_all(LedgerUnavailable())

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
        except _Doubtful:
            result = "doubtful"
            self._drop_connection()
        except _TryAgain:
            result = "again"
            self._put_back(taken)
        except (_Inconsistent, StoreUnavailable, *FOREIGN) as error:
            result = "failed"
            failure = self._failure(error)
            self._drop_connection()
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
        if isinstance(error, _Inconsistent):
            self.seal(error.cause)
            return LedgerUnavailable()
        return error if isinstance(error, StoreUnavailable) else store_error(type(error))()

    async def _append_waiting(self, taken: list[_Waiting]) -> int:
        connection = await self._connected()
        try:
            with _bounded(connection):
                head = await self._begin(connection)
                taken.extend(self._drain())
                batch, grown = await self._fill(connection, head, taken)
                if not batch.taken:
                    await connection.execute("ROLLBACK")
                    self._refuse(batch)
                    return 0
                await self._insert(connection, head, grown, batch)
        except TRY_AGAIN:
            pass
        else:
            self._in_doubt = batch
            await self._commit(connection)
            self._acknowledge(batch, grown)
            return len(batch.bodies)
        await self._roll_back(connection)
        raise _TryAgain

    async def _begin(self, connection: "asyncpg.Connection[asyncpg.Record]") -> CompactRange:
        """Take the head lock: the lock and the state are the same row."""
        await connection.execute("BEGIN")
        row = await connection.fetchrow(
            "SELECT size, root, peaks FROM head WHERE one = 1 FOR UPDATE"
        )
        if row is None:
            raise _Inconsistent("root_mismatch")
        try:
            head = CompactRange.from_bytes(row["size"], row["peaks"])
        except ValueError:
            head = None
        if head is None or head.root() != row["root"]:
            raise _Inconsistent("root_mismatch")
        last = self._acknowledged
        if last is not None and (
            head.size < last.size or (head.size == last.size and head.root() != last.root())
        ):
            raise _Inconsistent("rollback")
        return head

    def _drain(self) -> list[_Waiting]:
        """After the lock: natural batching. Drops what its author has given up."""
        taken: list[_Waiting] = []
        now = asyncio.get_running_loop().time()
        while self._queue and len(taken) < BATCH_UNITS_MAX:
            waiting = self._queue.popleft()
            if waiting.is_given_up or waiting.give_up_at < now:
                self._fail([waiting], LedgerUnavailable())
            elif waiting.unit.opens_cards and self.sealed_because is not None:
                self._fail([waiting], LedgerSealed())
            else:
                taken.append(waiting)
        return taken

    async def _fill(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        head: CompactRange,
        taken: Sequence[_Waiting],
    ) -> tuple[_Batch, CompactRange]:
        """Check, place and apply, kind by kind; a refused unit fails alone."""
        batch = _Batch()
        grown = CompactRange(head.size, head.peaks)
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
                if position not in refused and (place := self._place(one, grown, batch, at)):
                    kept.append(one)
                    places.append(place)
            if kept:
                await kind.apply(connection, [one.unit for one in kept], places)
            batch.taken.extend(kept)
            batch.places.extend(places)
        return batch, grown

    def _place(
        self, waiting: _Waiting, grown: CompactRange, batch: _Batch, at: datetime
    ) -> list[Placed]:
        """Stamp, encode and hash a unit's lines; a line that is no entry fails its unit alone."""
        first = self._next_n + len(batch.bodies)
        boot = str(self._boot)
        try:
            bodies = [
                encode(line.entry, Stamp(at, self._replica, boot, first + offset))
                for offset, line in enumerate(waiting.unit.lines)
            ]
        except EntryRefused:
            batch.refused.append((waiting, CustodyError()))
            return []
        batch.bodies.extend(bodies)
        places = []
        for body in bodies:
            leaf = leaf_hash(body)
            places.append(Placed(grown.size, leaf, at))
            grown.append(leaf)
        return places

    async def _insert(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        head: CompactRange,
        grown: CompactRange,
        batch: _Batch,
    ) -> None:
        lines = [line for waiting in batch.taken for line in waiting.unit.lines]
        places = [place for unit_places in batch.places for place in unit_places]
        with_detail = [line for line in lines if line.detail is not None]
        status = await connection.execute(
            _APPEND,
            [place.idx for place in places],
            [line.entry.id for line in lines],
            [line.entry.type for line in lines],
            [line.entry.intent_id for line in lines],
            [place.leaf for place in places],
            batch.bodies,
            [line.entry.id for line in with_detail],
            [line.detail.salt for line in with_detail if line.detail],
            [line.detail.body for line in with_detail if line.detail],
            self._replica,
            self._boot,
            self._next_n + len(lines) - 1,
            head.size,
            grown.size,
            grown.root(),
            grown.peaks_bytes(),
        )
        if status != "UPDATE 1":
            raise _Inconsistent("fork")

    async def _commit(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """COMMIT with an outer deadline: a canceled COMMIT would report success (01000)."""
        self._warned = False
        commit = asyncio.create_task(connection.execute("COMMIT"), name="ledger-commit")
        try:
            await asyncio.wait((commit,), timeout=COMMIT_SECONDS)
        finally:
            if not commit.done():
                connection.terminate()  # which ends the task, too
            await asyncio.gather(commit, return_exceptions=True)
        if commit.exception() is not None or self._warned:
            raise _Doubtful

    async def _settle_doubt(self) -> None:
        """Find out what became of a batch whose COMMIT was not answered.

        Holding the head lock proves that the old transaction has ended. All ids present: it
        committed. None: it did not, and the same units are appended again. The commit of this
        look is itself a write, so with synchronous standbys its answer proves replication.
        """
        batch = self._in_doubt
        assert batch is not None
        connection = await self._connected()
        ids = [line.entry.id for waiting in batch.taken for line in waiting.unit.lines]
        with _bounded(connection):
            head = await self._begin(connection)
            found = await connection.fetchval("SELECT count(*) FROM entry WHERE id = ANY($1)", ids)
            if found not in (0, len(ids)):
                raise _Inconsistent("corrupt")
            await connection.execute("UPDATE head SET touched = clock_timestamp() WHERE one = 1")
        await self._commit(connection)
        if found:
            self._acknowledge(batch, head)
        else:
            self._in_doubt = None
            self._put_back(batch.everybody())

    def _acknowledge(self, batch: _Batch, grown: CompactRange) -> None:
        self._in_doubt = None
        self._acknowledged = grown
        self._next_n += len(batch.bodies)
        for waiting, places in zip(batch.taken, batch.places, strict=True):
            if waiting.is_given_up:
                self._owe_what_follows(waiting.unit)
            else:
                waiting.future.set_result(places)
        self._refuse(batch)

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

    # --- connection and failures ------------------------------------------------------------

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return the writer's connection; a new one must extend what was acknowledged."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        connection = await self._database.connect_apart()
        connection.add_log_listener(self._heard)
        self._connection = connection
        await self._check_extends(connection)
        return connection

    async def _check_extends(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """A standby that lags, or an older copy, must not be appended to."""
        last = self._acknowledged
        if last is None:
            return
        with _bounded(connection):
            head = await connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
        if head is None or head["size"] < last.size:
            raise _Inconsistent("rollback")
        grown = CompactRange(last.size, last.peaks)
        while grown.size < head["size"]:
            with _bounded(connection):
                rows = await connection.fetch(
                    "SELECT leaf_hash FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
                    grown.size,
                    min(grown.size + PAGE_ENTRIES, head["size"]),
                )
            if not rows:
                raise _Inconsistent("root_mismatch")
            for row in rows:
                grown.append(row["leaf_hash"])
        if grown.root() != head["root"]:
            raise _Inconsistent("rollback")

    def _heard(self, _connection: object, message: object) -> None:
        if getattr(message, "sqlstate", None) == DOUBTFUL_WARNING:
            self._warned = True

    async def _roll_back(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            await connection.execute("ROLLBACK")
        except FOREIGN:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

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


@contextmanager
def _bounded(connection: "asyncpg.Connection[asyncpg.Record]") -> Iterator[None]:
    """End a connection whose server falls silent before COMMIT: nothing was written then."""
    loop = asyncio.get_running_loop()
    watchdog = loop.call_later(WORK_SECONDS, connection.terminate)
    try:
        yield
    finally:
        watchdog.cancel()


_APPEND: Final = """
WITH entries AS (
  INSERT INTO entry (idx, id, type, intent, leaf_hash, body)
  SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[])
), details AS (
  INSERT INTO detail (id, salt, body)
  SELECT * FROM unnest($7::uuid[], $8::bytea[], $9::bytea[]) ON CONFLICT DO NOTHING
), counter AS (
  INSERT INTO replica (id, boot, n) VALUES ($10, $11, $12)
  ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, n = excluded.n
)
UPDATE head SET size = $14, root = $15, peaks = $16, touched = clock_timestamp()
WHERE one = 1 AND size = $13 AND ($13 = 0 OR EXISTS (SELECT 1 FROM entry WHERE idx = $13 - 1))
"""
