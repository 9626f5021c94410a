"""A card as Braintree's sandbox reads it, and what it decides: by amount, by published number.

Pure. The sandbox takes the numbers Braintree publishes and no other, and it charges any of them:
what declines a charge is its amount, what fails a verification is the number. A date that has
passed is taken, as the real sandbox takes it. Nothing is shared with the custody package.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.sandbox import braintree_refusals as refusals
from gateway.sandbox.braintree_document import Fields
from gateway.sandbox.braintree_refusals import Invalid, Place, Problem
from gateway.sandbox.cards import (
    NUMBER_DIGITS_MAX,
    NUMBER_DIGITS_MIN,
    brand_of,
    is_card_number,
)

YEAR_MIN: Final = 1975
YEAR_MAX: Final = 2200

_TEST_NUMBERS: Final = frozenset(  # in two parts each: no whole number stands in this source
    tuple(number.split())
    for number in (
        "411111111111 1111",
        "400551920000 0004",
        "400934888888 1881",
        "401200003333 0026",
        "401200007777 7777",
        "401288888888 1881",
        "421765111111 1119",
        "450060000000 0061",
        "555555555555 4444",
        "222300004840 0011",
        "37828224631 0005",
        "37144963539 8431",
        "37668081637 6961",
        "3625960000 0004",
        "601100099130 0009",
        "601111111111 1117",
        "353011133330 0000",
        "630400000000 0000",
        "506699111111 1118",
    )
)
_FAILING_VERIFICATION: Final = {
    ("400011111111", "1115"): "2000",
    ("510510510510", "5100"): "2000",
    ("37873449367", "1000"): "2000",
    ("601100099013", "9424"): "2000",
    ("3852000000", "9814"): "2000",
    ("356600202036", "0505"): "3000",
}

_CARD_TYPES: Final = {
    "visa": "Visa",
    "mastercard": "MasterCard",
    "amex": "American Express",
    "discover": "Discover",
    "diners": "Diners Club",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}
_CVV_ANSWERS: Final = {"200": "N", "2000": "N", "201": "U", "2011": "U", "301": "S", "3011": "S"}


@dataclass(frozen=True, slots=True)
class KeptCard:
    """All that is kept of a card."""

    bin: str
    last4: str
    card_type: str
    exp_month: str
    exp_year: str
    holder: str | None
    cvv_answer: str  # M, N, U, S, I: what a real issuer would say of the code
    verification_code: str  # "1000": it passes one


def read_card(fields: Fields, place: Place) -> KeptCard:
    """Read a card, or raise Invalid; the number does not leave this call."""
    number = _number(fields.text("number"), place)
    month, year = _expiry(fields, place)
    brand = brand_of(number)
    cvv = fields.text("cvv")
    length = 4 if brand == "amex" else 3
    if cvv is not None and not (_is_digits(cvv) and len(cvv) == length):
        raise Invalid(place, refusals.CVV_INVALID)
    return KeptCard(
        bin=number[:6],
        last4=number[-4:],
        card_type=_CARD_TYPES.get(brand, "Unknown"),
        exp_month=month,
        exp_year=year,
        holder=fields.text("cardholder_name"),
        cvv_answer="I" if cvv is None else _CVV_ANSWERS.get(cvv, "M"),
        verification_code=_FAILING_VERIFICATION.get((number[:-4], number[-4:]), "1000"),
    )


def _number(number: str | None, place: Place) -> str:
    problem: Problem
    if number is None:
        problem = refusals.NUMBER_REQUIRED
    elif not NUMBER_DIGITS_MIN <= len(number) <= NUMBER_DIGITS_MAX:
        problem = refusals.NUMBER_LENGTH
    elif not is_card_number(number):
        problem = refusals.NUMBER_INVALID
    elif not _is_test_number(number):
        problem = refusals.NUMBER_NO_TEST
    else:
        return number
    raise Invalid(place, problem)


def _is_test_number(number: str) -> bool:
    parts = (number[:-4], number[-4:])
    return parts in _TEST_NUMBERS or parts in _FAILING_VERIFICATION


def _expiry(fields: Fields, place: Place) -> tuple[str, str]:
    """Read `expiration_date` (`12/2030`, `12/30`) or the month and the year beside each other."""
    date = fields.text("expiration_date")
    month, year = fields.text("expiration_month"), fields.text("expiration_year")
    if date is not None:
        month, slash, year = date.partition("/")
        if not slash or not _is_month(month) or not _is_year(year):
            raise Invalid(place, refusals.EXPIRY_INVALID)
    if month is None or year is None:
        raise Invalid(place, refusals.EXPIRY_REQUIRED)
    if not _is_month(month):
        raise Invalid(place, refusals.MONTH_INVALID)
    if not _is_year(year):
        raise Invalid(place, refusals.YEAR_INVALID)
    return f"{int(month):02}", year if len(year) == 4 else f"20{year}"  # noqa: PLR2004 - YYYY


def _is_month(text: str) -> bool:
    return _is_digits(text) and len(text) <= 2 and 1 <= int(text) <= 12  # noqa: PLR2004 - a calendar


def _is_year(text: str) -> bool:
    if not _is_digits(text) or len(text) not in {2, 4}:
        return False
    return len(text) == 2 or YEAR_MIN <= int(text) <= YEAR_MAX  # noqa: PLR2004 - YY


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


# --- decisions ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an amount."""

    status: str  # of the transaction: authorized, processor_declined, failed, gateway_rejected
    code: str | None  # the processor's; None where the gateway asked nobody
    text: str | None
    kind: str | None  # approved, soft_declined, hard_declined
    rejection_reason: str | None = None


APPROVED: Final = Decision("authorized", "1000", "Approved", "approved")

_TEXTS: Final = {
    "2000": "Do Not Honor",
    "2001": "Insufficient Funds",
    "2002": "Limit Exceeded",
    "2003": "Cardholder's Activity Limit Exceeded",
    "2004": "Expired Card",
    "2005": "Invalid Credit Card Number",
    "2006": "Invalid Expiration Date",
    "2007": "No Account",
    "2008": "Card Account Length Error",
    "2009": "No Such Issuer",
    "2010": "Card Issuer Declined CVV",
    "2014": "Processor Declined - Fraud Suspected",
    "2015": "Transaction Not Allowed",
    "2019": "Invalid Transaction",
    "2038": "Processor Declined",
    "2046": "Declined",
    "2047": "Call Issuer. Pick Up Card.",
    "2053": "Card reported as lost or stolen",
    "3000": "Processor Network Unavailable - Try Again",
}
_HARD: Final = frozenset(
    {"2004", "2005", "2006", "2007", "2008", "2009", "2015", "2019", "2047", "2053"}
)
_FIRST_DECLINED: Final = Decimal(2000)
_FIRST_FAILED: Final = Decimal(3000)
_FIRST_AFTER_FAILED: Final = Decimal(3001)
_REJECTED: Final = Decimal(5001)


def decision_on(amount: Decimal) -> Decision:
    """Say what the sandbox's amount table says."""
    if _FIRST_DECLINED <= amount < _FIRST_FAILED:
        return declined_with(str(int(amount)))
    if _FIRST_FAILED <= amount < _FIRST_AFTER_FAILED:
        return declined_with("3000")
    if amount == _REJECTED:
        return Decision("gateway_rejected", None, None, None, "application_incomplete")
    return APPROVED


def declined_with(code: str) -> Decision:
    text = _TEXTS.get(code, "Processor Declined")
    kind = "hard_declined" if code in _HARD else "soft_declined"
    return Decision("failed" if code == "3000" else "processor_declined", code, text, kind)
