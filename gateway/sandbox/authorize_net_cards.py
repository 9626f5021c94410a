"""A card as Authorize.Net's sandbox reads it, and what it decides. Pure.

A billing zip declines, and so does one published number together with an amount that names the
reason; card codes and other zips only set the issuer's other answers. Nothing is shared with the
custody package.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from gateway.sandbox.authorize_net_document import Element
from gateway.sandbox.cards import brand_of, is_card_number

_BRANDS: Final = {
    "visa": "Visa",
    "mastercard": "MasterCard",
    "amex": "AmericanExpress",
    "discover": "Discover",
    "diners": "DinersClub",
    "jcb": "JCB",
}
_EXPIRY: Final = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})",
        r"(?P<month>[0-9]{2})[-/]?(?P<year>[0-9]{4})",
        r"(?P<month>[0-9]{2})[-/]?(?P<year>[0-9]{2})",
    )
)
_REASON_BY_AMOUNT: Final = ("422222222", "2222")  # in two parts: no number stands in this source
_DECLINING_ZIP: Final = "46282"
AMOUNT_OF_VALIDATION: Final = Decimal("0.01")
_AVS_BY_ZIP: Final = {
    "46201": "A",
    "46203": "E",
    "46204": "G",
    "46205": "N",
    "46207": "R",
    "46208": "S",
    "46209": "U",
    "46211": "W",
    "46214": "X",
    "46217": "Z",
}
_CVV_BY_CODE: Final = {"900": "M", "901": "N", "902": "S", "903": "U", "904": "P"}


@dataclass(frozen=True, slots=True)
class Reason:
    """A response reason: the class of the answer (1 approved … 4 held), its code, its words."""

    response: int
    code: int
    text: str


_DECLINED_TEXT: Final = "This transaction has been declined."
_RECEIVED_TEXT: Final = "Your order has been received. Thank you for your business!"

APPROVED: Final = Reason(1, 1, "This transaction has been approved.")
DECLINED: Final = Reason(2, 2, _DECLINED_TEXT)
AMOUNT_INVALID: Final = Reason(3, 5, "A valid amount is required.")
NUMBER_INVALID: Final = Reason(3, 6, "The credit card number is invalid.")
EXPIRY_INVALID: Final = Reason(3, 7, "Credit card expiration date is invalid.")
CARD_EXPIRED: Final = Reason(3, 8, "The credit card has expired.")
DUPLICATE: Final = Reason(3, 11, "A duplicate transaction has been submitted.")
NOT_FOUND: Final = Reason(3, 16, "The transaction cannot be found.")
CARD_REQUIRED: Final = Reason(3, 33, "Credit card number is required.")
AUTH_CODE_REQUIRED: Final = Reason(3, 12, "An authorization code is required but not present.")
CAPTURE_TOO_LARGE: Final = Reason(
    3,
    47,
    "The amount requested for settlement cannot be greater than the original amount authorized.",
)
NOT_CREDITABLE: Final = Reason(
    3, 54, "The referenced transaction does not meet the criteria for issuing a credit."
)
CREDIT_TOO_LARGE: Final = Reason(
    3,
    55,
    "The sum of credits against the referenced transaction would exceed original debit amount.",
)
VOIDED_ALREADY: Final = Reason(1, 310, "This transaction has already been voided.")
CAPTURED_ALREADY: Final = Reason(1, 311, "This transaction has already been captured.")

_BY_AMOUNT: Final = {
    reason.code: reason
    for reason in (
        DECLINED,
        Reason(2, 3, _DECLINED_TEXT),
        Reason(2, 4, _DECLINED_TEXT),
        NUMBER_INVALID,
        EXPIRY_INVALID,
        CARD_EXPIRED,
        Reason(2, 27, "The transaction has been declined because of an AVS mismatch."),
        Reason(2, 44, _DECLINED_TEXT),
        Reason(2, 65, _DECLINED_TEXT),
        Reason(4, 193, "The transaction is currently under review."),
        Reason(4, 252, _RECEIVED_TEXT),
        Reason(4, 253, _RECEIVED_TEXT),
    )
}


class Unusable(Exception):
    """A card that no issuer was asked about."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class KeptCard:
    """All that is kept of a card."""

    digest: bytes  # keyed: the same card, and nothing else of it
    last4: str
    card_type: str
    reason_by_amount: bool

    @property
    def masked(self) -> str:
        return f"XXXX{self.last4}"


def read_card(element: Element, *, key: bytes, at: datetime) -> KeptCard:
    """Read `creditCard`; the number does not leave this call."""
    number = element.at("cardNumber") or ""
    if not is_card_number(number):
        raise Unusable(NUMBER_INVALID)
    if _expiry(element.at("expirationDate") or "") < (at.year, at.month):
        raise Unusable(CARD_EXPIRED)
    return KeptCard(
        digest=hashlib.blake2b(number.encode(), key=key, digest_size=8).digest(),
        last4=number[-4:],
        card_type=_BRANDS.get(brand_of(number), "Visa"),
        reason_by_amount=(number[:-4], number[-4:]) == _REASON_BY_AMOUNT,
    )


def _expiry(text: str) -> tuple[int, int]:
    for pattern in _EXPIRY:
        found = pattern.fullmatch(text)
        if found is not None and 1 <= int(found["month"]) <= 12:  # noqa: PLR2004 - a calendar
            year = int(found["year"])
            return (year if year > 99 else 2000 + year), int(found["month"])  # noqa: PLR2004 - YY
    raise Unusable(EXPIRY_INVALID)


def decision_on(card: KeptCard, amount: Decimal, zip_code: str | None) -> Reason:
    if zip_code == _DECLINING_ZIP:
        return DECLINED
    if card.reason_by_amount and amount == int(amount):
        return _BY_AMOUNT.get(int(amount), APPROVED)
    return APPROVED


def avs_answer(zip_code: str | None) -> str:
    return _AVS_BY_ZIP.get(zip_code or "", "Y" if zip_code else "P")


def cvv_answer(card_code: str | None) -> str:
    return _CVV_BY_CODE.get(card_code, "P") if card_code else ""
