"""Queues to the key service: one for each operation and key, whose items share its calls.

What never may live here: what an item is, and what a key is for.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from vault.batching import ITEMS_MAX, QUEUE_ITEMS_MAX, Batching, Call
from vault.observer import Observer

LIMITS: Final = (ITEMS_MAX, QUEUE_ITEMS_MAX)

Item = TypeVar("Item")
Made = TypeVar("Made")


class Lanes:
    """One queue for each operation and key: items that wait for a call leave with the next."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def lane(
        self, operation: str, call: Call[Item, Made], limits: tuple[int, int] = LIMITS
    ) -> Batching[Item, Made]:
        lane = Batching(
            call,
            items_max=limits[0],
            queue_items_max=limits[1],
            waited=partial(self._observer.transit_waited, operation),
        )
        self._closing.append(lane.close)
        return lane

    async def close(self) -> None:
        for close in self._closing:
            await close()
