"""Requests of one tenant, and whatever may happen to them, through the writer and its units."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.vault.rows import ACTOR, create, new_cvc, new_row, new_tenant
from tests.vault.stores import Replica, Store
from vault.authorization import Claimed, Finding, Kind, Result, State
from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations, Call, Ending, Intent
from vault.claim_table import ClaimTable
from vault.db import Connection, Record
from vault.doubt_table import DoubtTable, EndedSend
from vault.errors import CustodyError
from vault.keys import Keyed, RevealKeys
from vault.ledger.entry import Opening
from vault.resolutions import RECONCILER, Evidence, Scribe, contradiction, resolution
from vault.spool import Spool
from vault.token_table import TokenRow

NO_KEYS = cast("RevealKeys", None)  # nothing is sealed and no digest is made here

EVENTS = (
    *("begin", "again", "approved", "declined", "refused", "not_sent", "unknown"),
    *("crash", "late", "late_not_sent", "found", "not_found", "given_up", "contradicted"),
)
"""What may happen to a request; where it may not happen now, nothing does."""


@dataclass
class Story:
    """A process, and what it sends for one tenant. `last` is the latest send of each request."""

    store: Store
    replica: Replica
    record: Authorizations
    other: Authorizations  # of another process, which finds what this one has left
    tenant: str = field(default_factory=new_tenant)
    last: dict[int, Intent] = field(default_factory=dict)
    cards: dict[int, TokenRow] = field(default_factory=dict)

    async def tell(self, rounds: Sequence[Sequence[str]]) -> None:
        """Let events happen, those of a round at once, each to its own request."""
        for events in rounds:
            self.store.clock.advance(seconds=0.0123456)
            happening = (self.happens(number, event) for number, event in enumerate(events))
            for outcome in await asyncio.gather(*happening, return_exceptions=True):
                assert outcome is None or isinstance(outcome, CustodyError), outcome

    async def happens(self, number: int, event: str) -> None:
        if event == "begin" or number not in self.last:
            await self.begins(number)
        elif event == "again":
            await self.repeats(number)
        elif event == "crash":
            await self.crashes()
        elif event in EVIDENCE:
            await self.is_resolved(number, EVIDENCE[event])
        elif event == "contradicted":
            await self.is_contradicted(number)
        else:
            assert await self.record.settle(self.last[number], ENDINGS[event], None)

    async def begins(self, number: int) -> None:
        row = new_row(self.tenant)
        await self.replica.ledger.append(create(row, cvc=new_cvc()), seconds=10)
        self.cards[number] = row
        self.last[number] = await self._attempt(number, Claimed(of=None, attempt=1, nonce=""))

    async def repeats(self, number: int) -> None:
        """Send again, under the processor's key: the answer settles what was in doubt."""
        before = self.last[number]
        rows = await self._rows(
            "SELECT intent, state FROM intent_state WHERE first::text = $1 ORDER BY attempt",
            before.first,
        )
        unsettled = tuple(str(row["intent"]) for row in rows if row["state"] == "unknown")
        claim = Claimed(of=before.first, attempt=len(rows) + 1, nonce="", unsettled=unsettled)
        self.last[number] = await self._attempt(number, claim)

    async def crashes(self) -> None:
        """The leases of what is under way are over, and another process sees it."""
        self.store.clock.advance(seconds=31)
        await self.other.end_orphans()

    async def is_resolved(self, number: int, evidence: Evidence) -> None:
        doubts = DoubtTable(self.store.database)
        doubt = await doubts.of(self.tenant, self.last[number].first)
        if doubt is not None:
            unit = resolution(doubt, evidence, None, self._scribe())
            await self.replica.ledger.append(unit, seconds=10)

    async def is_contradicted(self, number: int) -> None:
        intent = self.last[number]
        (row,) = await self._rows(
            "SELECT state, last_idx, boot FROM intent_state WHERE intent::text = $1", intent.id
        )
        ended = EndedSend(intent.id, row["state"], row["last_idx"], str(row["boot"]))
        unit = contradiction(self.tenant, intent.first, ended, EVIDENCE["found"], self._scribe())
        await self.replica.ledger.append(unit, seconds=10)

    def _scribe(self) -> Scribe:
        return Scribe(RECONCILER, self.replica.boot, self.store.clock)

    async def _rows(self, statement: str, value: str) -> Sequence[Record]:
        """Look up as a process does, while others do."""

        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, value)

        return await self.store.database.read(work)

    async def _attempt(self, number: int, claim: Claimed) -> Intent:
        row = self.cards[number]
        pan = Opening(key="pan", token=row.id, version=1), row
        cvc = Opening(key="cvc", token=row.id, version=1), row
        cards = [[pan, cvc], [pan], []][number % 3] if claim.of is None else [pan]
        return await self.record.attempt(self._call(number), cards, claim, None)

    def _call(self, number: int) -> Call:
        return Call(
            tenant=self.tenant,
            actor=ACTOR,
            route="stripe",
            operation="payment_intents.confirm",
            kind=Kind.AUTHORIZE,
            host="api.stripe.com:443",
            amount=1999 if number % 2 else None,
            currency="EUR" if number % 2 else None,
            merchant_reference=f"order-{number}" if number else "",
            source_address="192.0.2.1",
            key_digest=Keyed(3, secrets.token_bytes(32)) if number % 2 else None,
            request_digest=Keyed(3, secrets.token_bytes(32)),
        )


ENDINGS = {
    "approved": Ending(
        State.COMPLETED, Result.APPROVED, status=200, milliseconds=120,
        processor_reference="pi_1", authorization_code="A1",
    ),
    "declined": Ending(
        State.COMPLETED, Result.DECLINED, status=402, decline_code="insufficient_funds"
    ),
    "refused": Ending(State.COMPLETED, Result.ERROR, status=429, executed=False),
    "not_sent": Ending(State.NOT_SENT, phase="connect", reason="upstream_unreachable"),
    "unknown": Ending(State.UNKNOWN, phase="reply", reason="upstream_reset", status=200),
    "late": Ending(State.COMPLETED, Result.PENDING, status=202, processor_reference="pi_2"),
    "late_not_sent": Ending(State.NOT_SENT, phase="tls", reason="upstream_tls_error"),
}  # fmt: skip
EVIDENCE = {
    "found": Evidence(
        "inquiry", Finding.ANSWERED, Result.DECLINED, status=200,
        processor_reference="pi_3", decline_code="do_not_honor",
    ),
    "not_found": Evidence("inquiry", Finding.NOT_RECEIVED),
    "given_up": Evidence("deadline", Finding.GIVEN_UP),
}  # fmt: skip


@asynccontextmanager
async def telling_stories(store: Store, folder: Path) -> AsyncIterator[Story]:
    """Run two processes of a gateway, as far as it takes to record."""
    table = AuthorizationTable(store.database)

    def record(replica: Replica) -> Authorizations:
        return Authorizations(
            ledger=replica.ledger,
            claims=ClaimTable(store.database),
            table=table,
            keys=NO_KEYS,
            spool=Spool(folder / replica.name, replica.boot),
            replica=replica.name,
            boot=replica.boot,
            now=store.clock,
        )

    async with store.replica() as one, store.replica() as two:
        yield Story(store, one, record(one), record(two))
