"""Many of something, a slice at a time, and a few slices under way at once.

So that the next slice is sealed while the one before is stored, and no queue is filled by one
caller. What a slice is, and what is done with it, is the business of whoever asks.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


async def in_slices(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Made]]],
    *,
    size: int,
    at_once: int,
) -> list[Made]:
    """Do the work slice by slice, and give what it makes of each item, in their order.

    After a slice has failed no other is begun, those under way are awaited, and the failure of
    the first of them is raised.
    """
    made: dict[int, Sequence[Made]] = {}
    failed: dict[int, Exception] = {}
    left = deque(range(0, len(items), size))

    async def take_slices() -> None:
        while left and not failed:
            start = left.popleft()
            try:
                made[start] = await work(items[start : start + size])
            except Exception as error:  # noqa: BLE001 - raised below, when the others have ended
                failed[start] = error

    await asyncio.gather(*(take_slices() for _ in range(min(at_once, len(left)))))
    if failed:
        raise failed[min(failed)]
    return [one for start in sorted(made) for one in made[start]]
