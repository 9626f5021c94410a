"""Rows that follow from the ledger: compared with it, and made again from it.

1. The log is read once through: every entry must be readable and the root the head's.
2. Requests are taken a page at a time in the order in which they began. The entries of their
   sends are folded (`vault/ledger/states.py`), and what comes out is compared with the rows.
3. Rows of which no entry speaks are looked for.
4. What differs is made again, a page of requests in one transaction, under the head's lock.

Steps 1 to 3 see one moment of the database and hold up nobody; step 4 holds the lock for a page,
so that no writer is in between and payments go on. A log that is not sound is no source: then
nothing is changed. In memory are a page, 73 bytes for each send that repeats another, and 57 for
each request whose rows differ.

What entries do not tell stays as it is in a row that exists: a send's `due`, what only erased
details said, why a late outcome had not been sent, and a time's digits after milliseconds. In a
row that is made anew it is NULL, and `due` is the end of the first lease.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from msgspec import UNSET

from vault.db import FOREIGN, Connection, Database, Record, store_error
from vault.derived_rows import FIRSTS, REQUESTS, SENDS, DerivedTable, row_of
from vault.ledger.detail import read_detail
from vault.ledger.entry import AuthorizationAttempted, EntryRefused, OfIntent, decode
from vault.ledger.states import Illegal, Request, Send, States, Words
from vault.ledger.tree import CompactRange, leaf_hash

PAGE_ENTRIES: Final = 5_000
PAGE_REQUESTS: Final = 500
IDS_SHOWN_MAX: Final = 10
PROBLEMS_SHOWN_MAX: Final = 20

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why rows cannot be told from the log: an entry's fault, or (no index) the log's."""

    index: int | None
    message: str


@dataclass(slots=True)
class TableFindings:
    """How a table differs from the log; `columns` are those that differ somewhere."""

    missing: int = 0
    altered: int = 0
    surplus: int = 0
    columns: set[str] = field(default_factory=set)
    first: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.missing + self.altered + self.surplus

    def show(self, identity: object) -> None:
        if len(self.first) < IDS_SHOWN_MAX:
            self.first.append(str(identity))


@dataclass(slots=True)
class Findings:
    """What was found, and how many rows were written and deleted because of it.

    `erased_details` are gone, as they may be; `false_details` are not what their entry commits
    to, and were not believed.
    """

    size: int = 0
    sends: TableFindings = field(default_factory=TableFindings)
    requests: TableFindings = field(default_factory=TableFindings)
    erased_details: int = 0
    false_details: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    written: int = 0
    deleted: int = 0

    @property
    def rows_that_differ(self) -> int:
        return self.sends.total + self.requests.total

    @property
    def is_sound(self) -> bool:
        """Whether rows may be made from this log."""
        return self.problems_total == 0

    def add(self, index: int | None, message: str) -> None:
        self.problems_total += 1
        if len(self.problems) < PROBLEMS_SHOWN_MAX:
            self.problems.append(Problem(index, message))


async def check_rows(database: Database, *, on_progress: Progress) -> Findings:
    """Compare all rows with the log, as they were at one moment. Raises StoreUnavailable."""

    async def work(connection: Connection) -> Findings:
        rows = _Rows(connection, on_progress)
        await rows.check()
        return rows.found

    return await _apart(database, work)


async def rebuild_rows(database: Database, *, on_progress: Progress) -> Findings:
    """Compare all rows with the log, and make again those that differ.

    Nothing is changed unless the log is sound. What was repaired stays repaired if this is
    interrupted. Raises StoreUnavailable.
    """

    async def work(connection: Connection) -> Findings:
        rows = _Rows(connection, on_progress)
        await rows.check()
        await rows.repair()
        return rows.found

    return await _apart(database, work)


async def _apart(database: Database, work: Callable[[Connection], Awaitable[Findings]]) -> Findings:
    connection = await database.connect_apart()
    try:
        return await work(connection)
    except FOREIGN as error:
        kind = type(error)
    finally:
        connection.terminate()
    raise store_error(kind)


class _Log:
    """The log as far as it was read: its tree, and which sends repeat another."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._tree = CompactRange()
        self._repeats: list[bytes] = []  # first and repeating intent, 16 bytes each; in order
        self.sends = 0

    async def read_on(
        self, connection: Connection, head: Record, on_page: Callable[[int], None]
    ) -> None:
        """Read from where the last reading ended up to a head, whose root must come out."""
        repeats = len(self._repeats)
        while self._tree.size < head["size"]:
            rows = await connection.fetch(
                "SELECT idx, id, type, intent, body FROM entry WHERE idx >= $1 AND idx < $2"
                " ORDER BY idx LIMIT $3",
                self._tree.size,
                head["size"],
                PAGE_ENTRIES,
            )
            if not rows:
                break
            for row in rows:
                self._take(row)
            self._tree.extend([leaf_hash(row["body"]) for row in rows])
            on_page(self._tree.size)
        if self._tree.size != head["size"] or self._tree.root() != head["root"]:
            self._found.add(None, "the entries have another root than the head")
        if len(self._repeats) > repeats:
            self._repeats.sort()

    def _take(self, row: Record) -> None:
        try:
            entry = decode(row["body"])
        except EntryRefused as refused:
            self._found.add(row["idx"], str(refused))
            return
        columns = (str(row["id"]), row["type"], str(row["intent"]) if row["intent"] else None)
        if columns != (entry.id, entry.type, entry.intent_id):
            self._found.add(row["idx"], "the columns are not those of the entry")
        if isinstance(entry, AuthorizationAttempted):
            self.sends += 1
            if entry.of is not UNSET:
                self._repeats.append(UUID(entry.of).bytes + UUID(entry.intent).bytes)

    def sends_of(self, firsts: Sequence[UUID]) -> list[UUID]:
        """Return the intents of all sends of these requests."""
        found = list(firsts)
        for first in firsts:
            place = bisect_left(self._repeats, first.bytes)
            while place < len(self._repeats) and self._repeats[place].startswith(first.bytes):
                found.append(UUID(bytes=self._repeats[place][16:]))
                place += 1
        return found


class _Rows:
    """Compares and repairs, over one connection."""

    def __init__(self, connection: Connection, on_progress: Progress) -> None:
        self._connection = connection
        self._on_progress = on_progress
        self.found = Findings()
        self._log = _Log(self.found)
        self._damaged: list[bytes] = []  # the first intent of each request whose rows differ
        self._surplus: list[tuple[DerivedTable, list[UUID]]] = []

    async def check(self) -> None:
        """Steps 1 to 3."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            head = await self._connection.fetchrow("SELECT size, root FROM head WHERE one = 1")
            assert head is not None
            self.found.size = size = head["size"]
            await self._log.read_on(
                self._connection, head, lambda done: self._on_progress(done, 2 * size)
            )
            if self.found.is_sound:
                await self._compare(size)
                await self._look_for_surplus(SENDS, self.found.sends)
                await self._look_for_surplus(REQUESTS, self.found.requests)
        self._on_progress(2 * size, 2 * size)

    async def repair(self) -> None:
        """Step 4."""
        for start in range(0, len(self._damaged), PAGE_REQUESTS):
            page = self._damaged[start : start + PAGE_REQUESTS]
            async with self._locked() as is_sound:
                if not is_sound:
                    return
                await self._write_again([UUID(bytes=first) for first in page])
        for table, surplus in self._surplus:
            for start in range(0, len(surplus), PAGE_ENTRIES):
                async with self._locked() as is_sound:
                    if not is_sound:
                        return
                    await self._delete(table, surplus[start : start + PAGE_ENTRIES])

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[bool]:
        """Hold the head, all that is in the log read; give whether that is still sound."""
        async with self._connection.transaction():
            head = await self._connection.fetchrow(
                "SELECT size, root FROM head WHERE one = 1 FOR UPDATE"
            )
            assert head is not None
            await self._log.read_on(self._connection, head, lambda _: None)
            yield self.found.is_sound

    # --- comparing --------------------------------------------------------------------------

    async def _compare(self, size: int) -> None:
        after, seen = -1, 0
        while firsts := await self._connection.fetch(FIRSTS, after, size, PAGE_REQUESTS):
            states, told = await self._fold([row["id"] for row in firsts])
            self.found.erased_details += told.erased
            self.found.false_details += told.false
            damaged = await self._differing(SENDS, states.sends, self.found.sends)
            damaged |= await self._differing(REQUESTS, states.requests, self.found.requests)
            self._damaged += [UUID(first).bytes for first in sorted(damaged)]
            seen += len(states.sends)
            after = firsts[-1]["idx"]
            self._on_progress(size + after + 1, 2 * size)
        if seen != self._log.sends:
            self.found.add(None, "a later attempt does not name an earlier first one")

    async def _differing(
        self, table: DerivedTable, told: Mapping[str, Send | Request], findings: TableFindings
    ) -> set[str]:
        """Return the requests of those rows that differ."""
        rows = await self._rows(table, told)
        damaged: set[str] = set()
        for identity, one in told.items():
            row = rows.get(identity)
            _, columns = row_of(table, one, row)
            if not columns:
                continue
            if row is None:
                findings.missing += 1
            else:
                findings.altered += 1
                findings.columns |= columns
            findings.show(identity)
            damaged.add(one.first)
        return damaged

    async def _look_for_surplus(self, table: DerivedTable, findings: TableFindings) -> None:
        after: UUID | None = None
        surplus: list[UUID] = []
        while rows := await self._connection.fetch(table.page, after, PAGE_ENTRIES):
            surplus += [row["id"] for row in rows if not row["is_told"]]
            after = rows[-1]["id"]
        findings.surplus = len(surplus)
        for identity in surplus[:IDS_SHOWN_MAX]:
            findings.show(identity)
        self._surplus.append((table, surplus))

    # --- writing ----------------------------------------------------------------------------

    async def _write_again(self, firsts: Sequence[UUID]) -> None:
        states, _ = await self._fold(firsts)
        if not self.found.is_sound:
            return  # what was appended meanwhile is not
        await self._write(SENDS, states.sends)
        await self._write(REQUESTS, states.requests)

    async def _write(self, table: DerivedTable, told: Mapping[str, Send | Request]) -> None:
        stored = await self._rows(table, told)
        rows = [row_of(table, one, stored.get(identity)) for identity, one in told.items()]
        differing = [values for values, columns in rows if columns]
        await self._connection.executemany(table.write, differing)
        self.found.written += len(differing)

    async def _delete(self, table: DerivedTable, surplus: Sequence[UUID]) -> None:
        status = await self._connection.execute(table.delete, surplus)
        self.found.deleted += int(status.rpartition(" ")[2])

    async def _rows(self, table: DerivedTable, told: Mapping[str, object]) -> dict[str, Record]:
        rows = await self._connection.fetch(table.read, [UUID(identity) for identity in told])
        return {str(row[table.key]): row for row in rows}

    # --- folding ----------------------------------------------------------------------------

    async def _fold(self, firsts: Sequence[UUID]) -> "tuple[States, _Told]":
        """Return what all entries of these requests say."""
        states, told = States(), _Told()
        for row in await self._connection.fetch(_ENTRIES_OF, self._log.sends_of(firsts)):
            entry = decode(row["body"])
            assert isinstance(entry, OfIntent), "its column says so, and was compared"
            try:
                states.feed(row["idx"], leaf_hash(row["body"]), entry, told.words(entry, row))
            except Illegal as illegal:
                self.found.add(row["idx"], str(illegal))
        return states, told


@dataclass(slots=True)
class _Told:
    """Reads details, and counts those that are gone or false."""

    erased: int = 0
    false: int = 0

    def words(self, entry: OfIntent, row: Record) -> Words | None:
        if getattr(entry, "detail", UNSET) is UNSET:
            return {}
        if row["salt"] is None:
            self.erased += 1
            return None
        try:
            return read_detail(entry, row["salt"], row["detail"])
        except EntryRefused:
            self.false += 1
            return None


_ENTRIES_OF: Final = """
SELECT e.idx, e.body, d.salt, d.body AS detail
FROM entry e LEFT JOIN detail d ON d.id = e.id WHERE e.intent = ANY($1) ORDER BY e.idx
"""
