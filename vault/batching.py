"""Natural batching: what arrives while a call is in flight leaves with the next one.

An idle line sends a lone item at once, a busy one fills itself; no timer is involved, so nothing
waits unless there is something to wait for. What an item is, what a call does with it and what
may be repeated is the business of whoever passes the call in, never of this module.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from vault.errors import Overloaded

ITEMS_MAX = 128  # in one call; HashiCorp Vault parses at most 1,000 JSON strings a request
QUEUE_ITEMS_MAX = 4096

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Call = Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]]


class Batching(Generic[Item, Outcome]):
    """Many callers with one item each share calls that take many; one call is in flight."""

    def __init__(
        self,
        call: Call[Item, Outcome],
        *,
        items_max: int = ITEMS_MAX,
        queue_items_max: int = QUEUE_ITEMS_MAX,
        waited: Callable[[float], None] | None = None,
    ) -> None:
        """Report to `waited`, once a call, how many seconds its oldest item stood in the queue."""
        assert items_max > 0
        self._call = call
        self._items_max = items_max
        self._queue_items_max = queue_items_max
        self._waited = waited
        self._queue: OrderedDict[asyncio.Future[Outcome | Exception], tuple[Item, float]]
        self._queue = OrderedDict()
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Outcome:
        """Give the outcome of this item, or raise what the call holds against it."""
        return await self._outcome(self._put(item))

    async def submit_all(self, items: Sequence[Item]) -> list[Outcome]:
        """Give the outcomes of items that leave together; raise the first's that failed.

        Overloaded when there is no room for all of them: then none is sent. Whatever ends this
        early, what was not sent yet is not sent.
        """
        if len(self._queue) + len(items) > self._queue_items_max:
            raise Overloaded
        waiters = [self._put(item) for item in items]
        try:
            return [await self._outcome(waiter) for waiter in waiters]
        finally:
            for waiter in waiters:
                self._queue.pop(waiter, None)

    def _put(self, item: Item) -> "asyncio.Future[Outcome | Exception]":
        if self._closed or len(self._queue) >= self._queue_items_max:
            raise Overloaded
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Outcome | Exception] = loop.create_future()
        self._queue[waiter] = (item, loop.time())
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return waiter

    async def _outcome(self, waiter: "asyncio.Future[Outcome | Exception]") -> Outcome:
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            self._queue.pop(waiter, None)  # not sent yet: frees its place, and drops the item
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Refuse what waits and whatever comes, and return when the call in flight has ended."""
        self._closed = True
        self._refuse_waiting()
        if self._sending is not None:
            await asyncio.wait({self._sending})

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._send_one_call()
        finally:
            self._sending = None
            self._refuse_waiting()  # only after a cancellation from outside is anybody left

    async def _send_one_call(self) -> None:
        count = min(len(self._queue), self._items_max)
        leaving = [self._queue.popitem(last=False) for _ in range(count)]
        outcomes: Sequence[Outcome | Exception] = ()
        try:
            if self._waited is not None:
                self._waited(asyncio.get_running_loop().time() - leaving[0][1][1])
            outcomes = await self._call([item for _, (item, _) in leaving])
            if len(outcomes) != count:
                outcomes = [RuntimeError("a call owes one outcome an item") for _ in leaving]
        except Exception as error:  # noqa: BLE001 - whatever it is, every waiter has to hear of it
            outcomes = [_without_history(error) for _ in leaving]
        finally:
            for n, (waiter, _) in enumerate(leaving):
                if not waiter.done():  # its caller may have given up meanwhile
                    waiter.set_result(outcomes[n] if outcomes else Overloaded())

    def _refuse_waiting(self) -> None:
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.done():
                waiter.set_result(Overloaded())


def _without_history(error: Exception) -> Exception:
    """Copy it for one waiter: a shared one would show each the frames, and so the data, of all."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
