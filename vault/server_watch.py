"""A second look at PostgreSQL, and a third: what was safe at the start may have been changed.

A server that could now lose an acknowledged entry, or a role that could now edit one, stops new
intents and tokens; it seals nothing, for nothing has been lost yet, and ends with the cause.
"""

import asyncio
from typing import Final

from vault.db import check_server
from vault.errors import LedgerUnavailable, StartRefused
from vault.ledger.store import Ledger

CAUSE: Final = "unsafe server"
AGAIN_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0


class ServerWatch:
    """Asks what a start asks of the server."""

    def __init__(self, ledger: Ledger, dsn: str) -> None:
        self._ledger = ledger
        self._dsn = dsn
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """What must be changed before new intents are recorded, in the words of a refused start."""
        return self._problem

    async def look(self) -> None:
        """Look, and again soon until it is as it must be. A duty of each minute."""
        while (problem := await self._found()) is not None:
            self._problem = problem
            self._ledger.refuse_intents(CAUSE, LedgerUnavailable)
            await asyncio.sleep(AGAIN_SECONDS)
        self._problem = None
        self._ledger.refuse_intents(CAUSE, None)

    async def _found(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await check_server(self._dsn)
        except StartRefused as refusal:
            return str(refusal)
        except TimeoutError:
            return "PostgreSQL does not answer in time"
        return None
