"""Work that must reach its end once it has begun: what runs between an intent and its outcome.

What lives here: the ownership of such tasks. What never may: what they do, a name or a context of
a task that tells of its content (asyncio prints both), and any cancellation. A TaskGroup would
cancel the siblings of one that fails, and these are payments.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

from vault.errors import Overloaded

T = TypeVar("T")

TASKS_MAX: Final = 4096  # as many as the server takes connections: below that, nothing is refused


class InFlight:
    """Work that must reach its end: kept referenced, canceled by nobody, awaited at shutdown."""

    def __init__(
        self,
        failed_unheard: Callable[[type[BaseException]], None],
        *,
        tasks_max: int = TASKS_MAX,
    ) -> None:
        """`failed_unheard` gets the type of a failure whose caller has gone: never its text."""
        self._failed_unheard = failed_unheard
        self._tasks_max = tasks_max
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def open(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether the next one would be refused: ask before claiming anything for it."""
        return len(self._tasks) >= self._tasks_max

    async def to_its_end(self, work: Coroutine[object, object, T]) -> T:
        """Run `work` and return what it returns; if the caller is canceled, it runs on."""
        if self.is_full:
            work.close()
            raise Overloaded
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._report)  # nobody hears from it now but this
            raise

    async def drain(self, seconds: float) -> int:
        """Wait until all has ended, at most so long; what is left is counted and not stopped."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._tasks and (left := deadline - loop.time()) > 0:  # one may start another
            await asyncio.wait(self._tasks, timeout=left)
        return len(self._tasks)

    def _report(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._failed_unheard(asyncio.CancelledError)
        elif (error := task.exception()) is not None:
            self._failed_unheard(type(error))
