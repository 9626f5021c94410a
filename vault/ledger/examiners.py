"""Pages examined by several processes at once, one for each core.

Run as a program this is such a process: it reads pages itself, or is handed them, and answers with
what there is to say of each. What never may live here: what a page is checked for.
"""

import asyncio
import gc
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import BinaryIO, Final

import msgspec
import uvloop
from msgspec import Struct

from vault.db import Database
from vault.errors import StoreUnavailable
from vault.ledger.examination import examine
from vault.ledger.pages import PAGE_ENTRIES, Examined, Page
from vault.ledger.reading import read_pages

ALONE_ENTRIES_MAX: Final = 8 * PAGE_ENTRIES  # up to here processes would take longer to start
WAITING_EACH: Final = 2  # orders that an examiner has beside the one it works on
LENGTH_BYTES: Final = 4
ANSWER_BYTES_MAX: Final = 1 << 26
COLLECT_ORDERS: Final = 64  # a page is a hundred thousand objects, and no cycles among them


class Order(Struct):
    """What to examine: entries of a database from `first` on and below `end`, or a page."""

    first: int = 0
    end: int = 0
    marks: list[int] = []
    details: bool = False
    joins: bool = False
    page: Page | None = None


class _Answer(Struct):
    pages: list[Examined] | None  # None: the database did not answer


_ORDERS: Final = msgspec.msgpack.Decoder(Order)
_ANSWERS: Final = msgspec.msgpack.Decoder(_Answer)


class Examiners:
    """Examines what it is ordered to, in that order."""

    def __init__(self, dsn: str | None, processes: list[Process]) -> None:
        self._dsn = dsn
        self._processes = processes

    async def examine(self, orders: AsyncIterator[Order]) -> AsyncIterator[list[Examined]]:
        """Yield what there is to say of each order. Raises StoreUnavailable."""
        if not self._processes:
            async for pages in self._examine_here(orders):
                yield pages
            return
        idle = cycle(self._processes)
        under_way: list[Process] = []
        async for order in orders:
            process = next(idle)
            assert process.stdin is not None
            process.stdin.write(_framed(order))
            with suppress(ConnectionError):  # it has died, which its answer will not hide
                await process.stdin.drain()
            under_way.append(process)
            if len(under_way) > WAITING_EACH * len(self._processes):
                yield await _answer_of(under_way.pop(0))
        for process in under_way:
            yield await _answer_of(process)

    async def _examine_here(self, orders: AsyncIterator[Order]) -> AsyncIterator[list[Examined]]:
        database = None if self._dsn is None else await Database.open(self._dsn)
        try:
            async for order in orders:
                yield await carried_out(order, database)
        finally:
            if database is not None:
                await database.close()


@asynccontextmanager
async def examiners(dsn: str | None, entries: int) -> AsyncIterator[Examiners]:
    """Give as many as so many entries are worth. `dsn`: where they read themselves."""
    cores = len(os.sched_getaffinity(0))
    processes: list[Process] = []
    try:
        for _ in range(cores if entries > ALONE_ENTRIES_MAX else 0):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__),
                stdin=PIPE,
                stdout=PIPE,
                limit=ANSWER_BYTES_MAX,
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write((dsn or "").encode() + b"\n")
        yield Examiners(dsn, processes)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def carried_out(order: Order, database: Database | None) -> list[Examined]:
    """Examine what is ordered. Raises StoreUnavailable."""
    if order.page is not None:
        pages = [order.page]
    else:
        assert database is not None
        pages = await read_pages(database, order.first, order.end, details=order.details)
    for page in pages:
        page.joins = order.joins
        page.marks = [size for size in order.marks if page.first < size <= page.first + page.count]
    return [examine(page) for page in pages]


def _framed(message: Struct) -> bytes:
    raw = msgspec.msgpack.encode(message)
    return len(raw).to_bytes(LENGTH_BYTES) + raw


async def _answer_of(process: Process) -> list[Examined]:
    assert process.stdout is not None
    try:
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
        answer = _ANSWERS.decode(await process.stdout.readexactly(length)).pages
    except asyncio.IncompleteReadError:  # it has died
        answer = None
    if answer is None:
        raise StoreUnavailable
    return answer


# --- the other end ------------------------------------------------------------------------


def _orders(stream: BinaryIO) -> Iterable[Order]:
    while length := stream.read(LENGTH_BYTES):
        yield _ORDERS.decode(stream.read(int.from_bytes(length)))


async def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Carry out orders until there are no more."""
    dsn = orders.readline().decode().strip()
    database: Database | None = None
    for number, order in enumerate(_orders(orders)):
        if number % COLLECT_ORDERS == 0:
            gc.collect()
        pages: list[Examined] | None = None
        try:
            if dsn and database is None:
                database = await Database.open(dsn)
            pages = await carried_out(order, database)
        except StoreUnavailable:
            pass
        answers.write(_framed(_Answer(pages)))
        answers.flush()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(_serve(sys.stdin.buffer, sys.stdout.buffer))
