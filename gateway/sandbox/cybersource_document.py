"""What a call to the simulated CyberSource says: its card, its amount, and what is wrong with it.

Pure. No text of a refusal is made from a value that was sent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from gateway.sandbox.cards import is_card_number

Reply = dict[str, object]

_CHALLENGED: Final = frozenset(  # 3-D Secure 2.2, step-up, of the guide's list of test cases
    {("400000000000", "2503"), ("400000000000", "2370"), ("520000000000", "2151")}
)
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_MONTH: Final = re.compile("0?[1-9]|1[0-2]")


class Refused(Exception):
    """A call that is not carried out; `field` is the name of one of the processor's own."""

    def __init__(self, status: int, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an issuer or the processor's own rules say about an amount."""

    status: str
    reason: str | None = None
    code: str = "00"


APPROVED: Final = Verdict("AUTHORIZED")
AMOUNTS: Final[Mapping[Decimal, Verdict]] = {
    Decimal("1002.00"): Verdict("DECLINED", "PROCESSOR_DECLINED", "2"),
    Decimal("1008.00"): Verdict("AUTHORIZED_RISK_DECLINED", "AVS_FAILED", "8"),
    Decimal("1051.00"): Verdict("DECLINED", "INSUFFICIENT_FUND", "51"),
    Decimal("1054.00"): Verdict("DECLINED", "EXPIRED_CARD", "54"),
    Decimal("1059.00"): Verdict("AUTHORIZED_PENDING_REVIEW", "DECISION_PROFILE_REVIEW", "59"),
}
"""At the real one amounts mean something else at each connected acquirer. 1002 and 1008 are of its
Latin American simulator; the others follow their pattern, 1000 and the issuer's response code."""


def read(body: bytes) -> Reply | None:
    try:
        document: object = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def at(document: Reply, path: str) -> object:
    found: object = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text(document: Reply, path: str) -> str | None:
    """Return a text that is not empty."""
    found = at(document, path)
    return found if isinstance(found, str) and found else None


def card_in(document: Reply, where: str, *, today: datetime) -> str:
    """Check the card that stands there, and return its number."""
    number = number_in(document, f"{where}.number")
    month = text(document, f"{where}.expirationMonth") or ""
    year = text(document, f"{where}.expirationYear") or ""
    if not _MONTH.fullmatch(month) or not re.fullmatch("20[0-9]{2}", year):
        raise invalid(f"{where}.expirationMonth")
    if (int(year), int(month)) < (today.year, today.month):
        raise invalid(f"{where}.expirationYear")
    code = text(document, f"{where}.securityCode")
    if code is not None and not re.fullmatch("[0-9]{3,4}", code):
        raise invalid(f"{where}.securityCode")
    return number


def number_in(document: Reply, field: str) -> str:
    """Return the card number of a number field, which takes nothing else."""
    number = text(document, field)
    if number is None:
        raise Refused(400, "MISSING_FIELD", "The request is missing a field.", field)
    if not is_card_number(number):
        raise invalid(field)
    return number


def money_in(document: Reply, *, currency_of: str | None) -> tuple[Decimal, str]:
    """Return amount and currency; `currency_of` is that of what this is a part of."""
    where = "orderInformation.amountDetails"
    amount = text(document, f"{where}.totalAmount")
    currency = text(document, f"{where}.currency") or currency_of or ""
    if amount is None or not _AMOUNT.fullmatch(amount):
        raise invalid(f"{where}.totalAmount")
    if not re.fullmatch("[A-Z]{3}", currency) or currency_of not in (None, currency):
        raise invalid(f"{where}.currency")
    return Decimal(amount), currency


def invalid(field: str) -> Refused:
    return Refused(400, "INVALID_DATA", "One or more fields contain invalid data.", field)


def is_challenged(number: str) -> bool:
    """Whether this card's holder must prove who they are."""
    return (number[:-4], number[-4:]) in _CHALLENGED
