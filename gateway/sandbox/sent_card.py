"""A card in the fields of a JSON body, read as a processor reads it. Pure.

What is not a real card number is refused here, so that an approval proves that a token was turned
into its number. Only which field is wrong is said; the words are each processor's own.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from gateway.sandbox.cards import YEARS_AHEAD_MAX, brand_of, is_card_number

CardField = Literal["number", "month", "year", "cvc"]

_MONTHS: Final = range(1, 13)
_BIN_DIGITS: Final = 6


class WrongCard(Exception):
    """A field of a card that no issuer would be asked about."""

    def __init__(self, wrong: CardField) -> None:
        super().__init__(wrong)
        self.field: CardField = wrong


@dataclass(frozen=True, slots=True)
class SentCard:
    """A card as it was received. The number is never printed, nor kept past the call."""

    number: str = field(repr=False)
    month: int
    year: int
    brand: str

    @property
    def shown(self) -> "ShownCard":
        number = self.number
        return ShownCard(number[:_BIN_DIGITS], number[-4:], self.month, self.year, self.brand)


@dataclass(frozen=True, slots=True)
class ShownCard:
    """What may be kept of a card, and shown (PCI DSS 3.4.1)."""

    bin: str
    last4: str
    month: int
    year: int
    brand: str


def sent_card(
    number: str | None, month: int | None, year: int | None, cvc: str | None, *, at: datetime
) -> SentCard:
    """Take the card, or raise WrongCard."""
    if number is None or not is_card_number(number):
        raise WrongCard("number")
    if month is None or month not in _MONTHS:
        raise WrongCard("month")
    if year is None or not at.year <= year <= at.year + YEARS_AHEAD_MAX:
        raise WrongCard("year")
    if (year, month) < (at.year, at.month):
        raise WrongCard("month")
    brand = brand_of(number)
    if cvc is not None and not _is_cvc(cvc, digits=4 if brand == "amex" else 3):
        raise WrongCard("cvc")
    return SentCard(number, month, year, brand)


def digits(text: str | None, *, most: int) -> int | None:
    """Return the number that some ASCII digits write."""
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= most):
        return None
    return int(text)


def _is_cvc(text: str, *, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) == digits
