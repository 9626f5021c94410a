"""Requests in doubt on a real store, and somebody to look into them who says what a test wants."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.vault.fake_node import FakeCluster
from tests.vault.keyrings import reveal_keys
from tests.vault.places import place_of_cluster
from tests.vault.rows import ACTOR, Sender, create, new_cvc
from tests.vault.stores import Replica, Store
from vault.authorization import Claim, Claimed, Kind, RepeatRules, State
from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations, Call, Ending, Intent
from vault.claim_table import ClaimHold, ClaimTable
from vault.doubt_table import Doubt, DoubtTable
from vault.doubts import Doubts
from vault.keys import RevealKeys
from vault.ledger.entry import Entry, Opening
from vault.reconciler import Look, Reconciler
from vault.spool import Spool
from vault.token_table import TokenRow

RULES = RepeatRules(replay_seconds=3600)
UNKNOWN = Ending(State.UNKNOWN, phase="sent", reason="upstream_timeout")


@dataclass
class Oracle:
    """Looks into nothing: what it says is set, and what it was asked is remembered."""

    says: Look = field(default_factory=lambda: Look("not_found"))
    asked: list[Doubt] = field(default_factory=list)

    async def look_into(self, doubt: Doubt) -> Look:
        self.asked.append(doubt)
        return self.says


@dataclass
class Heard:
    """How each look ended."""

    words: list[str] = field(default_factory=list)

    def reconciled(self, route: str, result: str) -> None:
        assert route == "stripe"
        self.words.append(result)


@dataclass
class Court:
    """One process with all that settles doubts."""

    store: Store
    replica: Replica
    table: DoubtTable
    doubts: Doubts
    record: Authorizations
    authorizations: AuthorizationTable
    keys: RevealKeys
    oracle: Oracle
    heard: Heard
    reconciler: Reconciler
    sender: Sender

    @property
    def tenant(self) -> str:
        return self.sender.tenant

    async def call(
        self, key: bytes | None = None, *, reference: str | None = "order-1", route: str = "stripe"
    ) -> Call:
        of_key, of_body = await self.record.digests(self.tenant, key=key, request=b"amount=1999")
        return Call(
            tenant=self.tenant,
            actor=ACTOR,
            route=route,
            operation="payment_intents.create",
            kind=Kind.AUTHORIZE,
            host="api.stripe.com:443",
            amount=1999,
            currency="EUR",
            merchant_reference=reference,
            source_address="192.0.2.1",
            key_digest=of_key,
            request_digest=of_body,
        )

    async def claims(self, call: Call) -> tuple[Claim, ClaimHold | None]:
        return await self.record.claim(call, RULES)

    async def attempts(self, call: Call, *cards: tuple[Opening, TokenRow]) -> Intent:
        claim, hold = await self.claims(call)
        assert isinstance(claim, Claimed)
        return await self.record.attempt(call, cards, claim, hold)

    async def in_doubt(
        self,
        *cards: tuple[Opening, TokenRow],
        key: bytes | None = None,
        reference: str | None = "order-1",
        route: str = "stripe",
    ) -> Intent:
        """Send once, and hear nothing."""
        call = await self.call(key, reference=reference, route=route)
        intent = await self.attempts(call, *cards)
        assert await self.record.settle(intent, UNKNOWN, None)
        return intent

    async def card(self) -> list[tuple[Opening, TokenRow]]:
        """Make a token for one use, with a code."""
        row = self.sender.row(single_use=True)
        await self.replica.ledger.append(create(row, cvc=new_cvc()), seconds=10)
        pan = Opening(key="pan", token=row.id, version=1), row
        return [pan, (Opening(key="cvc", token=row.id, version=3), row)]

    async def turn(self, **later: float) -> list[str]:
        """Let time pass, look into what is due, and tell how that ended."""
        self.store.clock.advance(**later)
        before = len(self.heard.words)
        await self.reconciler.turn()
        return self.heard.words[before:]

    async def said(self, intent: Intent) -> list[Entry]:
        entries = await self.store.entries()
        return [entry for entry in entries if getattr(entry, "intent", None) == intent.id]

    async def due_in(self, intent: Intent) -> timedelta:
        at = await self.store.value(
            "SELECT due FROM intent_state WHERE intent::text = $1", intent.id
        )
        return at - self.store.clock.at  # type: ignore[operator, no-any-return]


@asynccontextmanager
async def court(store: Store, cluster: FakeCluster, folder: Path) -> AsyncIterator[Court]:
    async with AsyncExitStack() as stack:
        replica = await stack.enter_async_context(store.replica())
        transit = await stack.enter_async_context(place_of_cluster(cluster).transit("test"))
        keys = reveal_keys(transit)
        stack.push_async_callback(keys.close)
        claims = ClaimTable(store.database)
        stack.push_async_callback(claims.close)
        authorizations = AuthorizationTable(store.database)
        record = Authorizations(
            ledger=replica.ledger,
            claims=claims,
            table=authorizations,
            keys=keys,
            spool=Spool(folder, replica.boot),
            replica=replica.name,
            boot=replica.boot,
            now=store.clock,
        )
        table, oracle, heard = DoubtTable(store.database), Oracle(), Heard()
        doubts = Doubts(
            ledger=replica.ledger, table=table, keys=keys, boot=replica.boot, now=store.clock
        )
        reconciler = Reconciler(
            table=table, doubts=doubts, inquirer=oracle, observer=heard, now=store.clock
        )
        yield Court(
            store,
            replica,
            table,
            doubts,
            record,
            authorizations,
            keys,
            oracle,
            heard,
            reconciler,
            Sender(replica=replica.name, boot=replica.boot),
        )
