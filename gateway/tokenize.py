"""The way in: a card arrives, and a token goes back.

1. Authenticate: a key gives the tenant, and what the caller may do.
2. Read the body within its limits.
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

from msgspec import Meta, Struct

from gateway.errors import BadField
from gateway.merchants import Caller
from gateway.metrics import Metrics
from gateway.strict_json import decode
from vault.api_keys import Scope
from vault.card import Card
from vault.card_vault import CardVault, NewToken
from vault.errors import CustodyError, InvalidCard
from vault.token_table import TokenRow

TOKEN_BODY_BYTES_MAX: Final = 4096
PUBLISHABLE_LIFE: Final = timedelta(hours=24)
LIFE_MAX: Final = timedelta(days=20 * 366)

CustomerReference = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]


class CardBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A card as a caller writes it; the only place where it is bare strings."""

    number: str
    exp_month: int | str
    exp_year: int | str
    cvc: str | None = None


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tokens`."""

    card: CardBody
    format: Literal["opaque", "pan_like"] = "opaque"
    reuse: bool = False
    single_use: bool = False
    expires_at: datetime | None = None
    customer_reference: CustomerReference | None = None


class Tokenize:
    """The way in, after the request's bytes are read."""

    def __init__(self, cards: CardVault, *, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._cards = cards
        self._metrics = metrics
        self._now = now

    async def handle(self, body: bytes, caller: Caller, source_address: str) -> TokenRow:
        """Carry out steps 3 to 5 for a caller who is known and a body that is read.

        Raises Malformed, BadField, NotPermitted, InvalidCard, and what `CardVault.tokenize` does.
        """
        try:
            row, created = await self._store(body, caller, source_address)
        except CustodyError as error:
            refused = isinstance(error, InvalidCard)
            self._metrics.tokenized("refused" if refused else "error")
            raise
        self._metrics.tokenized("created" if created else "reused")
        return row

    async def _store(
        self, body: bytes, caller: Caller, source_address: str
    ) -> tuple[TokenRow, bool]:
        if not caller.is_publishable:
            caller.require(Scope.TOKENIZE)
        wanted = decode(body, TokenBody)
        card = Card.parse(  # 3
            wanted.card.number,
            wanted.card.exp_month,
            wanted.card.exp_year,
            wanted.card.cvc,
            at=self._now(),
        )
        new = NewToken(
            tenant=caller.tenant,
            actor=caller.actor,
            format=wanted.format,
            reuse=wanted.reuse,
            single_use=wanted.single_use,
            expires_at=self._expiry(wanted, caller),
            customer_reference=wanted.customer_reference,
            source_address=source_address,
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
