"""Several items under way at once, and what is done with them put down in their order.

The next are begun while those before are under way, and no more than so many are begun and not
put down: what a crash can lose has a bound. What never lives here: what an item is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


async def in_order(
    items: Iterator[Item],
    work: Callable[[Item], Awaitable[Made]],
    put_down: Callable[[Sequence[tuple[Item, Made]]], Awaitable[None]],
    *,
    at_once: int,
) -> None:
    """Do the work on each item; put down what is ready, together and in the order of the items.

    After a failure no other item is begun, those under way are awaited, all before the failed
    one are put down and none behind it. Then the first failure is raised.
    """
    flow = _Flow(items, work, put_down)
    await asyncio.gather(*(flow.carry() for _ in range(at_once)), return_exceptions=True)
    if flow.failures:
        raise flow.failures[min(flow.failures)]


class _Flow(Generic[Item, Made]):
    """What those who carry the items know of each other."""

    def __init__(
        self,
        items: Iterator[Item],
        work: Callable[[Item], Awaitable[Made]],
        put_down: Callable[[Sequence[tuple[Item, Made]]], Awaitable[None]],
    ) -> None:
        self.failures: dict[int, Exception] = {}
        self._items = items
        self._work = work
        self._put_down = put_down
        self._taking = asyncio.Lock()
        self._order = asyncio.Condition()
        self._begun = 0
        self._done = 0
        self._ready: dict[int, tuple[Item, Made]] = {}

    async def carry(self) -> None:
        """Carry one item after the other to its end, until there are none."""
        number = -1
        while not self.failures:
            try:
                async with self._taking:  # one at a time: in between, the loop looks after all else
                    number = self._begun
                    item = next(self._items, None)
                    self._begun += 1
                    await asyncio.sleep(0)
                if item is None:
                    return
                self._ready[number] = item, await self._work(item)
                await self._until_put_down(number)
            except Exception as error:  # noqa: BLE001 - raised when all have ended
                await self._fail(number, error)

    async def _until_put_down(self, number: int) -> None:
        def may_go_on() -> bool:
            is_over = bool(self.failures) and number >= min(self.failures)
            return self._done > number or self._done in self._ready or is_over

        async with self._order:
            await self._order.wait_for(may_go_on)
            due: list[tuple[Item, Made]] = []
            while (self._done + len(due)) in self._ready:
                due.append(self._ready.pop(self._done + len(due)))
            try:
                if due:
                    await self._put_down(due)
                self._done += len(due)
            except Exception as error:  # noqa: BLE001 - of all of them, whoever carries the first
                self.failures[self._done] = error
            self._order.notify_all()

    async def _fail(self, number: int, error: Exception) -> None:
        self.failures[number] = error
        async with self._order:
            self._order.notify_all()
