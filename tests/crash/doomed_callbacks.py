"""A whole gateway that ends itself with SIGKILL between two steps of a callback.

Run as a program like `doomed_gateway.py`, and as obedient. What it dies of is put around the
methods that take the steps: the gateway that a test kills so is, line by line, the one that is
shipped. What never lives here: anything that changes what a step does.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from tests.crash.doomed_gateway import Doom, serve  # isort: skip - first: it sets the clock
from gateway.callbacks import CallbackHandlers
from gateway.commands.options import run
from gateway.config import load_config
from gateway.deliveries import Deliveries
from tests.crash.callback_steps import Step
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.callback_unit import ReceiveCallback
from vault.callbacks import Callbacks
from vault.db import Database
from vault.delivery_queue import DeliveryQueue
from vault.ledger.store import Ledger
from vault.ledger.writer_connection import Added, WriterConnection

Method = Callable[..., Awaitable[Any]]
TRANSACTIONS = {
    "Telling._tell": (Step.QUEUED, Step.TOLD),
    "DeliveryQueue.settle.<locals>.work": (Step.SETTLING, Step.SETTLED),
}
"""What commits by itself, by the name of its work."""


class Steps:
    """Put around those methods; it knows how far the process has come."""

    def __init__(self, doom: Doom) -> None:
        self._doom = doom
        self._is_a_callback = False  # what the ledger's writer commits next
        self._has_received = False  # before that, what is told and delivered is of others

    def put_in_place(self) -> None:
        self._after(CallbackEndpointTable, "endpoint", Step.FOUND)
        self._after(CallbackHandlers, "_proven", Step.PROVEN)
        self._after(CallbackHandlers, "post", Step.ANSWERING)
        self._around(Callbacks, "receive", self._receive)
        self._around(Ledger, "append", self._append)
        self._around(WriterConnection, "insert", self._insert)
        self._around(WriterConnection, "commit", self._commit)
        self._around(Database, "transact", self._transact)
        self._around(DeliveryQueue, "claim", self._claim)
        self._around(Deliveries, "_reached", self._reach)
        self._around(Deliveries, "_tried", self._try)

    def _after(self, owner: type, name: str, step: Step) -> None:
        async def stepping(taken: Method, *words: object, **named: object) -> object:
            done = await taken(*words, **named)
            self._doom.passed(step)
            return done

        self._around(owner, name, stepping)

    def _around(self, owner: type, name: str, stepping: Method) -> None:
        taken = cast("Method", getattr(owner, name))

        async def taken_with_it(*words: object, **named: object) -> object:
            return await stepping(taken, *words, **named)

        setattr(owner, name, taken_with_it)

    # --- received -------------------------------------------------------------------------

    async def _receive(self, taken: Method, *words: object) -> object:
        self._doom.passed(Step.READ)
        done = await taken(*words)
        self._has_received = True
        return done

    async def _append(self, taken: Method, ledger: Ledger, unit: object, **named: object) -> object:
        if isinstance(unit, ReceiveCallback):
            self._doom.passed(Step.DECIDED)
        return await taken(ledger, unit, **named)

    async def _insert(self, taken: Method, *words: object) -> object:
        done = await taken(*words)
        added = cast("Added", words[3])
        self._is_a_callback = any(line.entry.type == "callback.received" for line in added.lines)
        if self._is_a_callback:
            self._doom.passed(Step.INSERTED)
        return done

    async def _commit(self, taken: Method, line: WriterConnection) -> None:
        is_a_callback, self._is_a_callback = self._is_a_callback, False
        if not is_a_callback:
            await taken(line)
            return
        committing = asyncio.ensure_future(taken(line))
        with suppress(TimeoutError):  # the loop's next turn: by then it has been written out
            await asyncio.wait_for(asyncio.shield(committing), 0.0001)
        self._doom.passed(Step.COMMITTING)
        await committing
        self._doom.passed(Step.COMMITTED)

    # --- told and delivered ---------------------------------------------------------------

    def _passed(self, step: Step) -> None:
        if self._has_received:
            self._doom.passed(step)

    async def _transact(self, taken: Method, database: Database, work: Method) -> object:
        steps = TRANSACTIONS.get(work.__qualname__)
        if steps is None:
            return await taken(database, work)

        async def worked(connection: object) -> object:
            done = await work(connection)
            if done != 0:  # 0: there was nothing to tell
                self._passed(steps[0])
            return done

        done = await taken(database, worked)
        if done != 0:
            self._passed(steps[1])
        return done

    async def _claim(self, taken: Method, *words: object) -> object:
        claimed = await taken(*words)
        if claimed:
            self._passed(Step.CLAIMED)
        return claimed

    async def _reach(self, taken: Method, *words: object) -> object:
        reached = await taken(*words)
        self._passed(Step.POSTING)
        return reached

    async def _try(self, taken: Method, *words: object) -> object:
        settled = await taken(*words)
        self._passed(Step.ANSWERED)
        return settled


if __name__ == "__main__":
    doom = Doom(Step)
    Steps(doom).put_in_place()
    run(serve(load_config(Path(sys.argv[1])), doom))
