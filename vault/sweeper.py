"""What must happen although nobody asks: ends of lives, orphans, leases, the spool.

Reads never write; this does, on a clock. Each duty fails alone: a store that is away is tried
again at the next turn.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations
from vault.card_vault import CardVault
from vault.claim_table import ClaimTable
from vault.errors import CustodyError, TokenInUse, TokenUnknown
from vault.ledger.entry import Actor
from vault.token_table import TokenTable

SWEEPER: Final = Actor(id="sweeper", kind="system")
LEASE_RENEWAL_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 5.0
NETWORK_KEPT: Final = timedelta(hours=24)
"""How long it is known where a page's card came from: the life of a token that nobody keeps."""
SPOOL_SECONDS: Final = 1.0


class Sweeper:
    """The duties, each to be called again after its own number of seconds."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        cards: CardVault,
        tokens: TokenTable,
        claims: ClaimTable,
        table: AuthorizationTable,
        authorizations: Authorizations,
        boot: UUID,
        now: Callable[[], datetime],
    ) -> None:
        self._cards = cards
        self._tokens = tokens
        self._claims = claims
        self._table = table
        self._authorizations = authorizations
        self._boot = boot
        self._now = now

    def duties(self) -> Sequence[tuple[float, Callable[[], Awaitable[None]]]]:
        """Return (seconds between turns, duty)."""
        return (
            (SPOOL_SECONDS, self.drain_spool),
            (LEASE_RENEWAL_SECONDS, self.renew_leases),
            (SWEEP_SECONDS, self.end_orphans),
            (SWEEP_SECONDS, self.end_cvcs),
            (SWEEP_SECONDS, self.end_tokens),
            (SWEEP_SECONDS * 12, self.forget_repeats),
        )

    async def drain_spool(self) -> None:
        await self._authorizations.drain_spool()

    async def renew_leases(self) -> None:
        """An open intent whose process is alive is nobody else's to call unknown."""
        await _quietly(self._table.renew_leases(self._boot, at=self._now()))

    async def end_orphans(self) -> None:
        await _quietly(self._authorizations.end_orphans())

    async def end_cvcs(self) -> None:
        """PCI DSS 3.3.1: a CVC whose time is up is gone, used or not."""
        await _quietly(self._tokens.sweep_cvcs(self._now()))

    async def end_tokens(self) -> None:
        """PCI DSS 3.2.1: an expired token is erased; while one is in use, at a later turn."""
        await _quietly(self._end_tokens())
        await _quietly(self._tokens.forget_networks(self._now() - NETWORK_KEPT))

    async def forget_repeats(self) -> None:
        await _quietly(self._table.sweep_answers(self._now()))
        await _quietly(self._claims.sweep(self._now()))

    async def _end_tokens(self) -> None:
        for token in await self._tokens.expired(self._now()):
            try:
                await self._cards.delete(token, SWEEPER, reason="expired")
            except (TokenInUse, TokenUnknown):
                continue


async def _quietly(duty: Awaitable[object]) -> None:
    """A turn that fails is repeated; metrics of the store show why."""
    try:
        await duty
    except CustodyError:
        return
