"""How a log is checked, wherever it lies: its pages in order, its heads, its tiles, the audit log.

What lives here brings together what reads, what examines and what judges. What never may: a rule.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from gateway.custody import utc_now
from vault.db import Database
from vault.ledger.audit_join import AuditJoin
from vault.ledger.check import TIMEOUT_SECONDS, LogCheck, Report
from vault.ledger.examiners import Order, examiners
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.note import NoteRefused
from vault.ledger.pages import PAGE_ENTRIES
from vault.ledger.reading import (
    StoredCheckpoint,
    read_checkpoints,
    read_head,
    read_nodes,
    read_signed_size,
)
from vault.ledger.rules import Rule
from vault.ledger.tiles import TILE_WIDTH, TileName
from vault.ledger.tree import HASH_BYTES

Progress = Callable[[int, int], None]  # entries done, of how many


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `ledger verify` found; `join` is None when no audit log was given."""

    report: Report
    join: AuditJoin | None
    latest: bytes = b""  # the newest signed head, as it was found

    @property
    def is_good(self) -> bool:
        joined = self.join is None or self.join.unmatched_total == 0
        return joined and self.report.violations_total == 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What the auditor brings: keys, heads kept from before, and what is looked at."""

    trust: Callable[[], Trust] = Trust
    held: Sequence[SignedHead] = ()
    audits: Sequence[Path] = ()
    timeout_seconds: float = TIMEOUT_SECONDS
    details: bool = True
    is_live: bool = True  # else what is missing may have come after the copy was made


class LogSource(Protocol):
    """A log to check. What it finds itself it tells the check it was made with."""

    dsn: str | None  # where examiners read for themselves
    head: tuple[int, bytes] | None  # what is said beside the entries
    latest: bytes

    async def begin(self) -> int: ...

    def orders(self, *, joins: bool) -> AsyncIterator[Order]: ...

    async def compare_tile(self, name: TileName, hashes: bytes) -> None: ...


class StoredLog:
    """A log in a database."""

    def __init__(self, database: Database, check: LogCheck, *, details: bool = True) -> None:
        self._database = database
        self._check = check
        self._details = details
        self._signed_size = 0
        self.dsn: str | None = database.dsn
        self.head: tuple[int, bytes] | None = None
        self.latest = b""

    async def begin(self) -> int:
        """Return how many entries there are. Raises StoreUnavailable."""
        signed_size = await read_signed_size(self._database)
        head = await read_head(self._database)
        self.head = (head.size, head.root)
        self._signed_size = signed_size
        for beyond in await read_checkpoints(self._database, head.size, signed_size):
            self._expect(beyond)
        for zero in await read_checkpoints(self._database, -1, 0):
            self._expect(zero)
        return head.size

    async def orders(self, *, joins: bool) -> AsyncIterator[Order]:
        """Yield ranges to be read and examined. Raises StoreUnavailable."""
        assert self.head is not None
        size = self.head[0]
        for first in range(0, size, PAGE_ENTRIES):
            end = min(first + PAGE_ENTRIES, size)
            for stored in await read_checkpoints(self._database, first, end):
                if stored.size <= self._signed_size:  # later ones came while this was read
                    self._expect(stored)
            marks = self._check.marks(first, end - first)
            yield Order(first, end, marks, self._details, joins)

    async def compare_tile(self, name: TileName, hashes: bytes) -> None:
        """Compare stored hashes with what they must be, as far as they are published."""
        assert name.level is not None
        first = name.index * TILE_WIDTH
        end = min(first + name.width, self._signed_size >> name.height)
        if end <= first:
            return
        stored = await read_nodes(self._database, name.level, first, end)
        for place in range(end - first):
            at = slice(place * HASH_BYTES, (place + 1) * HASH_BYTES)
            if stored[at] != hashes[at]:
                message = "a stored hash is not that of the tile below"
                self._check.violate(Rule.NODE, (first + place) << name.height, message)
                return

    def _expect(self, stored: StoredCheckpoint) -> None:
        what = f"the stored checkpoint of size {stored.size}"
        source = Source.LATEST if stored.size == self._signed_size else Source.STORED
        try:
            head = SignedHead.parse(stored.raw, source)
        except NoteRefused as refused:  # its text is one of ours
            self._check.violate(Rule.CHECKPOINT, None, f"{what} cannot be read: {refused}")
            return
        said = head.checkpoint
        if (said.size, said.root) != (stored.size, stored.root):
            message = f"{what} has another size or root beside it"
            self._check.violate(Rule.CHECKPOINT, None, message)
        if said.size == stored.size:
            self._check.expect(head)
        if source is Source.LATEST:
            self.latest = stored.raw


def _untold(_done: int, _of: int) -> None:
    pass


async def verify_log(
    source: LogSource, check: LogCheck, terms: Terms, *, progress: Progress = _untold
) -> Verdict:
    """Check all of a log.

    Raises StoreUnavailable and OriginFailed, as its source does.
    """
    # What the audit log says now is looked up in the log as it is afterwards: an intent comes
    # before its decrypts, so none of these can lack one that is still to come.
    sizes = [audit.stat().st_size for audit in terms.audits]
    join = AuditJoin() if terms.audits else None
    size = await source.begin()
    for head in terms.held:
        check.expect(head)
    async with examiners(source.dsn, size) as examining:
        async for pages in examining.examine(source.orders(joins=join is not None)):
            for page in pages:
                check.absorb(page)
                if join is not None:
                    join.add_page(page)
                progress(page.first + page.count, size)
            await _compare(source, check.tiles.drain())
    await _compare(source, check.tiles.partial())
    as_of = utc_now() if terms.is_live else _time(check.newest)
    report = check.finish(
        *(source.head or (None, None)), as_of=as_of, timeout_seconds=terms.timeout_seconds
    )
    if join is not None:
        _listen(join, zip(terms.audits, sizes, strict=True))
    return Verdict(report, join, source.latest)


async def _compare(source: LogSource, tiles: Iterable[tuple[TileName, bytes]]) -> None:
    for name, hashes in tiles:
        await source.compare_tile(name, hashes)


def _listen(join: AuditJoin, audits: Iterable[tuple[Path, int]]) -> None:
    for audit, size in audits:
        with audit.open("rb") as lines:
            join.add_lines(_until(lines, size))


async def check_log(
    dsn: str, audits: Sequence[Path], *, terms: Terms | None = None, progress: Progress = _untold
) -> Verdict:
    """Check the log in the database at an address, and what HashiCorp Vault wrote about it.

    Raises StoreUnavailable.
    """
    terms = replace(terms or Terms(), audits=audits)
    check = LogCheck(terms.trust())
    database = await Database.open(dsn)
    try:
        source = StoredLog(database, check, details=terms.details)
        return await verify_log(source, check, terms, progress=progress)
    finally:
        await database.close()


def _until(lines: BinaryIO, size: int) -> Iterator[bytes]:
    """The whole lines of a file's first `size` bytes; the last may still be written."""
    for line in lines:
        size -= len(line)
        if size < 0 or not line.endswith(b"\n"):
            return
        yield line


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
