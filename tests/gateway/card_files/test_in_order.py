"""Several under way, put down in their order; after a failure, all before it and none behind."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from gateway.card_files.in_order import in_order

AT_ONCE = 4


class Belt:
    """Items that are worked on in any order, and what was seen of it."""

    def __init__(self, number: int) -> None:
        self.begun: list[int] = []
        self.put_down: list[list[tuple[int, str]]] = []
        self.may_end = [asyncio.Event() for _ in range(number)]
        self.fails: set[int] = set()
        self.disk = asyncio.Event()
        self.disk.set()
        self.number = number

    def items(self) -> Iterator[int]:
        for each in range(self.number):
            self.begun.append(each)
            yield each

    async def work(self, item: int) -> str:
        await self.may_end[item].wait()
        if item in self.fails:
            raise ValueError(item)
        return f"made of {item}"

    async def keep(self, ready: Sequence[tuple[int, str]]) -> None:
        await self.disk.wait()
        self.put_down.append(list(ready))

    @property
    def kept(self) -> list[int]:
        return [item for ready in self.put_down for item, _ in ready]

    def start(self) -> "asyncio.Task[None]":
        return asyncio.create_task(in_order(self.items(), self.work, self.keep, at_once=AT_ONCE))


async def settled() -> None:
    """Let everything get as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_each_is_put_down_in_order_with_what_was_made_of_it() -> None:
    belt = Belt(9)
    task = belt.start()
    for end in (3, 1, 0, 2, 5, 4, 8, 7, 6):
        belt.may_end[end].set()
        await settled()
    await task
    assert belt.kept == list(range(9))
    assert {made for ready in belt.put_down for made in ready} == {
        (each, f"made of {each}") for each in range(9)
    }


async def test_no_more_are_begun_than_may_be_lost() -> None:
    belt = Belt(9)
    task = belt.start()
    for ready in belt.may_end[1:]:
        ready.set()
    await settled()
    assert (belt.begun, belt.kept) == ([0, 1, 2, 3], [])
    belt.disk.clear()
    belt.may_end[0].set()
    await settled()
    assert (belt.begun, belt.kept) == ([0, 1, 2, 3], [])
    belt.disk.set()
    await task
    assert belt.kept == list(range(9))


async def test_what_is_ready_goes_down_together() -> None:
    belt = Belt(4)
    task = belt.start()
    for end in (1, 2, 3, 0):
        belt.may_end[end].set()
        await settled()
    await task
    assert [len(ready) for ready in belt.put_down] == [4]


async def test_after_a_failure_those_before_are_put_down_and_none_behind() -> None:
    belt = Belt(9)
    belt.fails = {1, 2}
    task = belt.start()
    for end in (2, 3, 1):
        belt.may_end[end].set()
        await settled()
    assert not task.done()
    belt.may_end[0].set()
    with pytest.raises(ValueError, match="1"):
        await task
    assert (belt.begun, belt.kept) == ([0, 1, 2, 3], [0])


async def test_a_disk_that_fails_ends_it() -> None:
    belt = Belt(9)

    async def broken(ready: Sequence[tuple[int, str]]) -> None:
        raise OSError(len(ready))

    for ready in belt.may_end:
        ready.set()
    with pytest.raises(OSError, match=r"[1-4]"):
        await in_order(belt.items(), belt.work, broken, at_once=AT_ONCE)
    assert len(belt.begun) <= AT_ONCE


async def test_a_disk_that_fails_while_another_wrote_ends_it_too() -> None:
    belt = Belt(9)
    belt.disk.clear()
    kept: list[int] = []

    async def broken(ready: Sequence[tuple[int, str]]) -> None:
        await belt.disk.wait()
        if kept:
            raise OSError(len(ready))
        kept.extend(item for item, _ in ready)

    task = asyncio.create_task(in_order(belt.items(), belt.work, broken, at_once=AT_ONCE))
    for end in (0, 2, 1):  # the third waits before the second, and has both written
        belt.may_end[end].set()
        await settled()
    belt.disk.set()
    await settled()
    for ready in belt.may_end:
        ready.set()
    with pytest.raises(OSError, match="2"):
        await task
    assert kept == [0]


async def test_items_that_cannot_be_had_are_a_failure_too() -> None:
    belt = Belt(3)

    def items() -> Iterator[int]:
        yield from (0, 1)
        raise KeyError

    for ready in belt.may_end:
        ready.set()
    with pytest.raises(KeyError):
        await in_order(items(), belt.work, belt.keep, at_once=AT_ONCE)
    assert belt.kept == [0, 1]


async def test_who_is_canceled_leaves_nothing_under_way() -> None:
    belt = Belt(9)
    task = belt.start()
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
