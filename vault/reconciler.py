"""What becomes of requests whose outcome is not known: looked into again and again, then given up.

1. Claim what is due; each claim puts off the next look (`vault/doubt_table.py`).
2. Have somebody look into it: ask the processor, or let the request be sent again under its key.
3. Put on record what was found out. Nothing found: it stays in doubt, and is due again.
4. After seven days it is given up, and that is an alarm: somebody has to ask the processor.

A callback, a late reply or an operator may settle it at any moment: whoever is first counts. What
never lives here: how a processor is asked.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from vault.authorization import Finding
from vault.authorizations import Answer
from vault.doubt_table import CLAIMS_MAX, Doubt, DoubtTable
from vault.doubts import Doubts, Resolved
from vault.errors import CustodyError
from vault.resolutions import Evidence

RECONCILE_SECONDS: Final = 2.0
ROUNDS_MAX: Final = 8  # of claims, before other duties of the loop have their turn

Word = Literal[
    "answered",
    "not_received",
    "not_sent",
    "given_up",
    "replayed",
    "too_late",
    "not_found",
    "too_early",
    "ambiguous",
    "no_answer",
    "not_asked",
    "failed",
]
"""What a look came to: a closed list, for metrics."""


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody who looked into a doubt says: evidence, or a word why there is none."""

    word: Word
    evidence: Evidence | None = None
    answer: Answer | None = None


class Inquirer(Protocol):
    """Looks into one doubt. Whatever goes wrong is a word, not an error."""

    async def look_into(self, doubt: Doubt) -> Look: ...


class ReconcileObserver(Protocol):
    """Hears how each look ended; `given_up` is an alarm."""

    def reconciled(self, route: str, result: str) -> None: ...


class Reconciler:
    """A duty: to be called again after `RECONCILE_SECONDS`."""

    def __init__(
        self,
        *,
        table: DoubtTable,
        doubts: Doubts,
        inquirer: Inquirer,
        observer: ReconcileObserver,
        now: Callable[[], datetime],
    ) -> None:
        self._table = table
        self._doubts = doubts
        self._inquirer = inquirer
        self._observer = observer
        self._now = now

    async def turn(self) -> None:
        """Look into what is due now. A store that is away is asked again at the next turn."""
        try:
            # Each takes its next one alone: a processor that hangs holds up nobody else's.
            await asyncio.gather(*(self._work() for _ in range(CLAIMS_MAX)))
            await self._table.forget_kept(self._now())
        except CustodyError:
            return

    async def _work(self) -> None:
        for _ in range(ROUNDS_MAX):
            try:
                due = await self._table.claim(self._now(), limit=1)
            except CustodyError:
                return
            if not due:
                return
            await self._settle(due[0])

    async def _settle(self, doubt: Doubt) -> None:
        try:
            word = await self._settled(doubt)
        except CustodyError:  # what was found out is found out again
            word = "failed"
        self._observer.reconciled(doubt.route, word)

    async def _settled(self, doubt: Doubt) -> Word:
        look = await self._inquirer.look_into(doubt)
        if look.evidence is not None:
            resolved = await self._doubts.resolve(doubt, look.evidence, look.answer)
            return look.word if resolved is Resolved.DONE else "too_late"
        if look.word == "replayed" or self._now() < doubt.given_up_at:
            return look.word
        given_up = Evidence("deadline", Finding.GIVEN_UP)
        resolved = await self._doubts.resolve(doubt, given_up)
        return "given_up" if resolved is Resolved.DONE else "too_late"
