"""A card vault over a real database and a real key service, as one tenant sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from tests import cards
from tests.vault.keyrings import INTENT, reveal_keys, tokenize_keys
from tests.vault.places import place_of_openbao
from tests.vault.rows import ACTOR, new_tenant
from tests.vault.stores import Replica, Store
from vault.card import Card
from vault.card_opener import CardOpener
from vault.card_vault import CardVault, DeleteReason, NewToken
from vault.embedded.bootstrap import EmbeddedParts
from vault.keys import TokenizeKeys
from vault.ledger.entry import Entry, Opening
from vault.observer import Silent
from vault.pan import Cvc, Pan
from vault.token_table import TokenRow, TokenTable


@dataclass
class Custody:
    """One tenant's view of a card vault over a real database and a real key service."""

    store: Store
    replica: Replica
    vault: CardVault
    opener: CardOpener
    live: CardVault
    tenant: str = field(default_factory=new_tenant)

    def wanted(self, **more: object) -> NewToken:
        return NewToken(tenant=self.tenant, actor=ACTOR, **more)  # type: ignore[arg-type]

    def card(self, number: str = cards.VISA, year: int = 2031, cvc: str | None = None) -> Card:
        return Card.parse(number, 12, year, cvc, at=self.store.clock.at)

    async def token(self, card: Card | None = None, **more: object) -> TokenRow:
        row, is_new = await self.vault.tokenize(card or self.card(), self.wanted(**more))
        assert is_new
        return await self.vault.load(self.tenant, row.id)

    async def entries(self) -> list[Entry]:
        entries = await self.store.entries()
        return [one for one in entries if getattr(one, "tenant", None) == self.tenant]

    async def count(self, table: str) -> object:
        question = f"SELECT count(*) FROM {table} WHERE tenant = $1"  # noqa: S608 - our tables
        return await self.store.value(question, self.tenant)

    async def open(self, row: TokenRow, *keys: Literal["pan", "cvc"]) -> list[Pan | Cvc]:
        openings = [(Opening(key=key, token=row.id, version=1), row) for key in keys]
        return await self.opener.open(openings, intent=INTENT)

    async def erase(self, row: TokenRow, reason: DeleteReason = "request") -> None:
        await self.vault.delete((self.tenant, row.id), ACTOR, reason=reason)


@asynccontextmanager
async def opened_custody(store: Store, embedded: EmbeddedParts) -> AsyncIterator[Custody]:
    place = place_of_openbao(embedded)
    table = TokenTable(store.database)
    async with (
        store.replica() as replica,
        place.transit("tokenize") as tokenize,
        place.transit("reveal") as reveal,
    ):
        test = tokenize_keys(tokenize)
        live = TokenizeKeys(
            tokenize, "live", fingerprint_version=1, digest_version=1, observer=Silent()
        )
        opening = reveal_keys(reveal)
        yield Custody(
            store,
            replica,
            CardVault(test, table, replica.ledger, env="test", now=store.clock),
            CardOpener(opening),
            CardVault(live, table, replica.ledger, env="live", now=store.clock),
        )
        for each in (test, live, opening, table):
            await each.close()
