"""A card as a caller writes it, bare or sealed: the only types in which it is bare strings. Pure.

What never may live here: what becomes of it. `Card.parse` makes a card of it, or refuses it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

SEALED_CHARACTERS_MAX = 4096

Kid = Annotated[str, Meta(pattern="^ek_[0-9a-hjkmnp-tv-z]{26}$")]
Sealed = Annotated[str, Meta(pattern="^[A-Za-z0-9+/]+={0,2}$", max_length=SEALED_CHARACTERS_MAX)]


class CardBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A card in the clear."""

    number: str
    exp_month: int | str
    exp_year: int | str
    cvc: str | None = None

    def __repr__(self) -> str:
        return "CardBody"


class _Bound(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What everything sealed says of itself, because a sealed box says nothing of its sender."""

    expires_at: int  # Unix seconds
    kid: Kid
    nonce: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{21}[AQgw]$")]  # base64url of 16 bytes
    origin: Annotated[str, Meta(min_length=1, max_length=300)]
    tenant: Annotated[str, Meta(pattern="^t_[0-9a-z]{2,26}$")]
    v: Literal[1]


class SealedCard(_Bound, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is in the box for a new token."""

    card: CardBody


class SealedCvc(_Bound, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is in the box for the code of a stored card."""

    cvc: str
    token: str

    def __repr__(self) -> str:
        return "SealedCvc"
