"""Cards of inbound routes become tokens: bounded by address, watched for card testing, on record.

The sender has no key of ours, and the merchant's endpoint has not yet said who it is. So new cards
are limited by network address, and what a processor says of them counts against it (T-24). What
never may live here: where in a body a card stood.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from gateway.errors import CardFieldRefused
from gateway.inbound.filtering import WantedCard
from gateway.inbound.rules import InboundConfig
from gateway.limits import CallLimits
from gateway.metrics import Metrics
from gateway.page_guard import ADDRESSES_MAX, PageGuard, one_caller
from vault.card_vault import CardVault, NewToken
from vault.errors import CustodyError, FormatRefused, InvalidCard, TokenUnknown
from vault.ledger.entry import inbound_actor
from vault.token_table import TokenRow

NOBODYS: Final = "*" * 16
MASKS_MAX: Final = 100


class InboundCards:
    """Stores the cards of one route, and shows masks of its tenant's tokens."""

    def __init__(
        self,
        route: InboundConfig,
        cards: CardVault,
        guard: PageGuard,
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._route = route
        self._cards = cards
        self._guard = guard
        self._metrics = metrics
        self._now = now
        self._actor = inbound_actor(route.name)
        self._addresses = CallLimits(
            time.monotonic,
            per_second=route.address_per_second,
            burst=route.address_burst,
            tenants_max=ADDRESSES_MAX,
        )

    async def store(
        self, wanted: Sequence[WantedCard], address: str, *, in_bulk: bool = False
    ) -> list[str]:
        """Return a token for each card, in their order.

        `in_bulk`: rows of a file, which are not counted by address. Raises CardFieldRefused,
        RateLimited, CardTesting; what `CardVault.tokenize_many` does, after which some may be
        stored under tokens that nobody knows.
        """
        if not wanted:
            return []
        with self._guard.card(self._route.tenant, address) as network:
            if not in_bulk:
                self._spend(address, len(wanted))
            try:
                return await self._stored(wanted, address, network)
            except CardFieldRefused:
                self._metrics.tokenized("refused")
                raise
            except CustodyError:
                self._metrics.tokenized("error")
                raise

    async def masks(self, tokens: Sequence[str]) -> Mapping[str, str]:
        """Return how each of these may be shown; one of another tenant, or gone, as stars alone.

        So is what is too many for one answer. Raises StoreUnavailable.
        """
        different = tuple(dict.fromkeys(tokens))
        found = await asyncio.gather(*map(self._mask, different[:MASKS_MAX]))
        return dict.fromkeys(different, NOBODYS) | dict(zip(different, found, strict=False))

    async def _mask(self, token: str) -> str:
        try:
            row = await self._cards.load(self._route.tenant, token)
        except TokenUnknown:
            return NOBODYS
        return "*" * (row.pan_length - len(row.last4)) + row.last4

    async def _stored(self, wanted: Sequence[WantedCard], address: str, network: str) -> list[str]:
        made: dict[int, str] = {}
        for format_ in ("opaque", "pan_like"):
            places = [at for at, each in enumerate(wanted) if each.format == format_]
            if not places:
                continue
            new = self._new_token(format_, address, network)
            rows: Sequence[TokenRow] = ()
            reason = ""
            try:
                rows = await self._cards.tokenize_many([wanted[at].card for at in places], new)
            except FormatRefused:
                reason = "format"
            except InvalidCard as error:  # a published test number, in a live deployment
                reason = error.reason
            if reason:
                raise CardFieldRefused(wanted[places[0]].field, reason)
            made |= {at: row.pan_like or row.id for at, row in zip(places, rows, strict=True)}
            for _ in rows:
                self._metrics.tokenized("created")
        return [made[at] for at in range(len(wanted))]

    def _new_token(
        self, format_: Literal["opaque", "pan_like"], address: str, network: str
    ) -> NewToken:
        hours = self._route.token_hours
        return NewToken(
            tenant=self._route.tenant,
            actor=self._actor,
            format=format_,
            reuse=self._route.reuse,
            expires_at=None if hours is None else self._now() + timedelta(hours=hours),
            source_address=address,
            made_from=network,
        )

    def _spend(self, address: str, cards: int) -> None:
        for _ in range(cards):
            with self._addresses.enter(one_caller(address)):
                continue
