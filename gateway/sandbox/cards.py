"""Reading a card as a processor does, and what the simulation says about it. Pure.

The numbers that a real processor publishes for its sandbox decide: those with a meaning are
listed here by their parts, every other number that passes the Luhn test is approved. Nothing is
shared with the custody package: a processor's view of a card is a second opinion, and a token
that was not turned into a number must fail here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.sandbox.params import Params
from gateway.sandbox.refusals import Refusal, card_error

NUMBER_DIGITS_MIN: Final = 12
NUMBER_DIGITS_MAX: Final = 19
YEARS_AHEAD_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Approved:
    """The issuer says yes."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """The shopper must prove who they are first (3-D Secure)."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The issuer says no; `when_stored` also where the card is only kept, not charged."""

    code: str
    decline_code: str
    message: str
    when_stored: bool = True


Outcome = Approved | Challenged | Declined


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it was received. The number is never printed, nor kept past the call."""

    number: str = field(repr=False)
    exp_month: int
    exp_year: int
    brand: str

    @property
    def last4(self) -> str:
        return self.number[-4:]


_GENERIC: Final = Declined("card_declined", "generic_decline", "Your card was declined.")
_DECLINED_STEM: Final = "400000000000"
_DECLINED: Final[Mapping[str, Declined]] = {  # by the four digits after the stem
    "0002": _GENERIC,
    "9995": Declined("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    "0069": Declined("expired_card", "expired_card", "Your card has expired."),
    "0127": Declined("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "0119": Declined("processing_error", "processing_error", "An error occurred; try again."),
    "0341": Declined(
        "card_declined", "generic_decline", "Your card was declined.", when_stored=False
    ),
}
_CHALLENGED: Final = frozenset({("400000250000", "3155"), ("400000276000", "3184")})

_BRANDS: Final = (  # the first prefix that fits; enough to fill a field of a reply
    ("4", "visa"),
    ("34", "amex"),
    ("37", "amex"),
    ("62", "unionpay"),
    ("35", "jcb"),
    ("30", "diners"),
    ("36", "diners"),
    ("38", "diners"),
    ("6", "discover"),
    ("5", "mastercard"),
    ("2", "mastercard"),
)


def outcome_of(number: str) -> Outcome:
    stem, last4 = number[:-4], number[-4:]
    if (stem, last4) in _CHALLENGED:
        return Challenged()
    if stem == _DECLINED_STEM:
        return _DECLINED.get(last4, Approved())
    return Approved()


def read_card(params: Params, parent: str, *, at: datetime) -> Card:
    """Read the card at `parent[number]` and beside it; a Refusal names the first wrong field."""
    number = params.required(f"{parent}[number]")
    if not is_card_number(number):
        raise card_error("incorrect_number", "Your card number is incorrect.", param="number")
    month = _month(params.required(f"{parent}[exp_month]"))
    year = _year(params.required(f"{parent}[exp_year]"), at=at)
    if (year, month) < (at.year, at.month):
        raise _wrong_month()
    brand = brand_of(number)
    _check_cvc(params.text(f"{parent}[cvc]"), digits=4 if brand == "amex" else 3)
    return Card(number=number, exp_month=month, exp_year=year, brand=brand)


def is_card_number(text: str) -> bool:
    """Digits of a possible length that pass the Luhn test (ISO/IEC 7812-1, annex B)."""
    return (
        _is_digits(text)
        and NUMBER_DIGITS_MIN <= len(text) <= NUMBER_DIGITS_MAX
        and _luhn_sum(text) % 10 == 0
    )


def brand_of(number: str) -> str:
    return next((brand for prefix, brand in _BRANDS if number.startswith(prefix)), "unknown")


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _luhn_sum(digits: str) -> int:
    straight = sum(int(digit) for digit in digits[-1::-2])
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return straight + doubled


def _month(text: str) -> int:
    if not (_is_digits(text) and len(text) <= 2 and 1 <= int(text) <= 12):  # noqa: PLR2004 - a calendar
        raise _wrong_month()
    return int(text)


def _wrong_month() -> Refusal:
    message = "Your card's expiration month is invalid."
    return card_error("invalid_expiry_month", message, param="exp_month")


def _year(text: str, *, at: datetime) -> int:
    if _is_digits(text) and len(text) in {2, 4}:
        year = int(text) + (at.year // 100 * 100 if len(text) == 2 else 0)  # noqa: PLR2004 - YY or YYYY
        if at.year <= year <= at.year + YEARS_AHEAD_MAX:
            return year
    message = "Your card's expiration year is invalid."
    raise card_error("invalid_expiry_year", message, param="exp_year")


def _check_cvc(cvc: str | None, *, digits: int) -> None:
    if cvc is not None and not (_is_digits(cvc) and len(cvc) == digits):
        raise card_error("invalid_cvc", "Your card's security code is invalid.", param="cvc")
