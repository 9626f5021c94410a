"""An inbox on a real store, events as processors report them, and payments for them to mean."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from tests.vault.doubtful import Court, court
from tests.vault.fake_node import FakeCluster
from tests.vault.stores import Replica, Store
from vault.authorization import Kind, Result, State
from vault.authorization_table import AuthorizationRow
from vault.authorizations import Answer, Ending, Intent
from vault.callback_table import CallbackTable
from vault.callbacks import Callbacks, NewCallback, Received
from vault.ledger.entry import Entry
from vault.payment_events import Effect
from vault.rebuild import check_rows

ENDPOINT = "cbe_" + "0" * 32
OTHER = "t_other000"
ANSWER = Answer(200, (), b"{}")
NUMBERS = itertools.count(1)
UNDER_WAY = timedelta(milliseconds=1)
"""Clocks stand still here; and an event's own time is never the one at which it comes."""


@dataclass
class Inbox:
    """A process that receives callbacks, beside all that settles doubts."""

    court: Court
    table: CallbackTable
    callbacks: Callbacks

    @property
    def now(self) -> datetime:
        return self.court.store.clock.at

    def event(
        self, effect: Effect | None = None, *, minute: float = 0, **said: object
    ) -> NewCallback:
        """An event of this merchant's account, so many minutes after (the test's) noon."""
        known: dict[str, object] = {
            "tenant": self.court.tenant,
            "route": "stripe",
            "scheme": "stripe",
            "endpoint": ENDPOINT,
            "signature": "valid",
            "event_id": f"evt_{next(NUMBERS)}",
            "event_type": "payment_intent.something",
            "event_at": self.now + timedelta(minutes=minute) - UNDER_WAY,
            "effect": effect,
            "action_reference": None,
            "payment_reference": None,
            "merchant_reference": None,
            "amount": 1999,
            "currency": "EUR",
            "decline_code": None,
            "is_scrubbed": False,
            "headers": (("content-type", "application/json"),),
            "body": b'{"id":"evt"}',
            "source_address": "192.0.2.7",
            **said,
        }
        return NewCallback(**known)  # type: ignore[arg-type]

    async def gets(self, effect: Effect | None = None, **said: object) -> Received:
        return await self.callbacks.receive(self.event(effect, **said))  # type: ignore[arg-type]

    async def answered(
        self,
        result: Result = Result.PENDING,
        *,
        name: str = "pi_1",
        kind: Kind = Kind.AUTHORIZE,
        reference: str | None = "order-1",
        cards: Sequence[object] = (),
    ) -> Intent:
        """Send once, and be answered."""
        call = replace(await self.court.call(reference=reference), kind=kind)
        intent = await self.court.attempts(call, *cards)  # type: ignore[arg-type]
        await self.answers(intent, result, name=name)
        return intent

    async def answers(self, intent: Intent, result: Result, *, name: str = "pi_1") -> None:
        ending = Ending(State.COMPLETED, result, status=200, processor_reference=name)
        assert await self.court.record.settle(intent, ending, ANSWER)

    async def begins(
        self, *, reference: str | None = "order-1", kind: Kind = Kind.AUTHORIZE
    ) -> Intent:
        call = replace(await self.court.call(reference=reference), kind=kind)
        return await self.court.attempts(call)

    async def row(self, intent: Intent) -> AuthorizationRow:
        row = await self.court.authorizations.get(self.court.tenant, intent.first)
        assert row is not None
        return row

    async def shows(self, intent: Intent) -> tuple[str, str | None]:
        row = await self.row(intent)
        return row.state, row.result

    async def resolved(self) -> list[Entry]:
        return await self.court.store.entries("authorization.resolved")


def inbox_of(court: Court, replica: Replica) -> Inbox:
    table = CallbackTable(court.store.database)
    callbacks = Callbacks(
        ledger=replica.ledger,
        table=table,
        doubts=court.table,
        boot=replica.boot,
        now=court.store.clock,
    )
    return Inbox(court, table, callbacks)


@asynccontextmanager
async def opened_inbox(store: Store, cluster: FakeCluster, folder: Path) -> AsyncIterator[Inbox]:
    """The log is good and says what the rows say, whatever a test did."""
    async with court(store, cluster, folder) as made:
        yield inbox_of(made, made.replica)
        assert (await store.report()).violations == ()
        found = await check_rows(store.database, on_progress=lambda _done, _of: None)
        assert (found.is_sound, found.rows_that_differ) == (True, 0), found
