"""The way in: a card arrives, and a token goes back.

1. Authenticate: a key gives the tenant, and what the caller may do.
2. Read the body within its limits; open it, if a browser or an app has sealed it.
3. Parse the card. After this line no bare string is a card.
4. Fingerprint it and encrypt it in HashiCorp Vault, at the same time, each in a batch.
5. Insert the token's row and append `token.created`, in one transaction, in a batch.
6. Answer with the masked card; never with the number.

A publishable key always gets a new token that lives for a day, and sees neither fingerprint
nor BIN.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.card_body import CardBody, Kid, Sealed
from gateway.errors import BadField
from gateway.merchants import Caller
from gateway.metrics import Metrics
from gateway.page_guard import PageGuard
from gateway.sealed import Sender, Unsealing
from gateway.strict_json import decode
from gateway.visits import Visit
from vault.api_keys import Scope
from vault.card import Card
from vault.card_vault import CardVault, NewToken
from vault.errors import CustodyError, InvalidCard, SealedRefused, SealedReplayed
from vault.nonce_table import Nonce
from vault.pan import Cvc
from vault.token_table import TokenRow

TOKEN_BODY_BYTES_MAX: Final = 4096
PUBLISHABLE_LIFE: Final = timedelta(hours=24)
LIFE_MAX: Final = timedelta(days=20 * 366)

CustomerReference = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tokens`: a card, or what a card was sealed into and for which key."""

    card: CardBody | UnsetType = UNSET
    sealed: Sealed | UnsetType = UNSET
    kid: Kid | UnsetType = UNSET
    format: Literal["opaque", "pan_like"] = "opaque"
    reuse: bool = False
    single_use: bool = False
    expires_at: datetime | None = None
    customer_reference: CustomerReference | None = None


class CvcBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tokens/{id}/cvc`: a code, or what it was sealed into."""

    cvc: str | UnsetType = UNSET
    sealed: Sealed | UnsetType = UNSET
    kid: Kid | UnsetType = UNSET

    def __repr__(self) -> str:
        return "CvcBody"


class Tokenize:
    """The way in, after the request's bytes are read."""

    def __init__(
        self,
        cards: CardVault,
        unsealing: Unsealing,
        guard: PageGuard,
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._cards = cards
        self._unsealing = unsealing
        self._guard = guard
        self._metrics = metrics
        self._now = now

    async def handle(self, body: bytes, visit: Visit, sender: Sender) -> TokenRow:
        """Carry out steps 2 to 5 for a caller who is known and a body that is read.

        Raises Malformed, BadField, NotPermitted, CardTesting, InvalidCard, what `Unsealing.card`
        does and what `CardVault.tokenize` does.
        """
        try:
            if visit.caller.is_publishable:
                guard, caller, address = self._guard, visit.caller, visit.address
                with guard.key(caller, address), guard.card(caller.tenant, address) as network:
                    row, created = await self._store(body, visit, sender, network)
            else:
                visit.caller.require(Scope.TOKENIZE)
                row, created = await self._store(body, visit, sender, None)
        except CustodyError as error:
            if isinstance(error, SealedReplayed):
                self._metrics.unsealed("replayed")
            refused = isinstance(error, InvalidCard | SealedRefused | SealedReplayed)
            self._metrics.tokenized("refused" if refused else "error")
            raise
        self._metrics.tokenized("created" if created else "reused")
        return row

    async def attach_cvc(self, row: TokenRow, body: bytes, visit: Visit, sender: Sender) -> None:
        """Store a fresh code for a stored card.

        Raises Malformed, BadField, NotPermitted, CardTesting, what `Unsealing.cvc` does and what
        `CardVault.attach_cvc` does.
        """
        if not visit.caller.is_publishable:
            visit.caller.require(Scope.TOKENIZE)
            return await self._attach(row, body, sender)
        guard, caller, address = self._guard, visit.caller, visit.address
        with guard.key(caller, address), guard.code(caller, address, row.id):
            await self._attach(row, body, sender)
        return None

    async def _attach(self, row: TokenRow, body: bytes, sender: Sender) -> None:
        wanted = decode(body, CvcBody)
        nonce = None
        if wanted.cvc is not UNSET:
            _alone(wanted.sealed, wanted.kid)
            code = wanted.cvc
        else:
            sealed, kid = _both(wanted.sealed, wanted.kid, "cvc")
            code, nonce = await self._unsealing.cvc(sealed, kid, sender, token=row.id)
        try:
            await self._cards.attach_cvc(row, Cvc.parse(code), nonce)
        except SealedReplayed:
            self._metrics.unsealed("replayed")
            raise

    async def _card(self, wanted: TokenBody, sender: Sender) -> tuple[Card, Nonce | None]:
        nonce = None
        if wanted.card is not UNSET:
            _alone(wanted.sealed, wanted.kid)
            card = wanted.card
        else:
            sealed, kid = _both(wanted.sealed, wanted.kid, "card")
            card, nonce = await self._unsealing.card(sealed, kid, sender)
        parsed = Card.parse(card.number, card.exp_month, card.exp_year, card.cvc, at=self._now())
        return parsed, nonce

    async def _store(
        self, body: bytes, visit: Visit, sender: Sender, network: str | None
    ) -> tuple[TokenRow, bool]:
        caller = visit.caller
        wanted = decode(body, TokenBody)
        card, nonce = await self._card(wanted, sender)  # 2, 3
        new = NewToken(
            tenant=caller.tenant,
            actor=caller.actor,
            format=wanted.format,
            reuse=wanted.reuse,
            single_use=wanted.single_use,
            expires_at=self._expiry(wanted, caller),
            customer_reference=wanted.customer_reference,
            source_address=visit.address,
            made_from=network,
            nonce=nonce,
        )
        return await self._cards.tokenize(card, new)  # 4, 5

    def _expiry(self, wanted: TokenBody, caller: Caller) -> datetime | None:
        """When the token ends, after checking what may go together."""
        at = self._now()
        if caller.is_publishable:
            _refuse_for_publishable(wanted)
            latest = at + PUBLISHABLE_LIFE
            return min(checked_expiry(wanted.expires_at, at) or latest, latest)
        if wanted.reuse and (wanted.single_use or wanted.expires_at is not None):
            raise BadField("reuse", "not_with_single_use_or_expires_at")
        return checked_expiry(wanted.expires_at, at)


def _alone(*others: str | UnsetType) -> None:
    """What comes in the clear does not come sealed as well. Raises BadField."""
    if any(other is not UNSET for other in others):
        raise BadField("sealed", "not_in_the_clear_too")


def _both(sealed: str | UnsetType, kid: str | UnsetType, instead: str) -> tuple[str, str]:
    if sealed is UNSET:
        raise BadField(instead, "missing")
    if kid is UNSET:
        raise BadField("kid", "missing")
    return sealed, kid


def checked_expiry(expires_at: datetime | None, at: datetime) -> datetime | None:
    """A token's end must have a zone, and lie ahead. Raises BadField."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        raise BadField("expires_at", "zone_missing")
    if not at < expires_at < at + LIFE_MAX:
        raise BadField("expires_at", "not_ahead")
    return expires_at


def _refuse_for_publishable(wanted: TokenBody) -> None:
    """A page that anybody can read must not find a person's cards, or add one to them."""
    if wanted.reuse:
        raise BadField("reuse", "secret_key_only")
    if wanted.customer_reference is not None:
        raise BadField("customer_reference", "secret_key_only")
