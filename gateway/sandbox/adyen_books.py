"""What one account at the simulated Adyen holds, and how its API says no. Pure.

Card numbers are not among it: of each card stays what the simulation will say about it. No text
of a refusal is made from a value that was sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from gateway.sandbox.adyen_outcomes import Verdict
from gateway.sandbox.books import Counts, keep
from gateway.sandbox.json_body import JsonBody
from gateway.sandbox.sent_card import CardField, SentCard, ShownCard, WrongCard, digits, sent_card

ErrorType = Literal["validation", "security", "internal"]

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
UNPROCESSABLE: Final = 422
REFERENCE_CHARACTERS: Final = 16

_WRONG: Final[Mapping[CardField, tuple[str, str]]] = {
    "number": ("101", "Invalid card number"),
    "month": ("129", "Expiry Date Invalid: expiry month"),
    "year": ("129", "Expiry Date Invalid: expiry year"),
    "cvc": ("103", "CVC is not the right length"),
}


class AdyenRefusal(Exception):
    """A call that reaches no acquirer."""

    def __init__(
        self, status: int, code: str, message: str, kind: ErrorType = "validation"
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.kind: ErrorType = kind

    def body(self, psp_reference: str) -> dict[str, object]:
        return {
            "status": self.status,
            "errorCode": self.code,
            "message": self.message,
            "errorType": self.kind,
            "pspReference": psp_reference,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call comes to."""

    status: int
    body: Mapping[str, object]


@dataclass(slots=True)
class Payment:
    """One payment, and what the issuer said or will say about it."""

    psp_reference: str
    reference: str | None
    amount: object
    verdict: Verdict
    card: ShownCard
    holder: str | None


@dataclass(frozen=True, slots=True)
class StoredCard:
    """A card that was left with Adyen, for one shopper."""

    id: str
    shopper: str | None
    card: ShownCard
    holder: str | None


@dataclass(slots=True)
class AdyenBooks:
    """One account's payments and stored cards, by id."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    counts: Counts
    payments: dict[str, Payment] = field(default_factory=dict[str, Payment])
    challenged: dict[str, Payment] = field(default_factory=dict[str, Payment])
    stored: dict[str, StoredCard] = field(default_factory=dict[str, StoredCard])

    def reference(self) -> str:
        return psp_reference(self.new_id)

    def settle(self, payment: Payment) -> None:
        """Keep a payment whose verdict is spoken."""
        keep(self.payments, payment.psp_reference, payment)
        self.counts.charges += payment.verdict.result_code == "Authorised"
        self.counts.declines += payment.verdict.result_code == "Refused"

    def store(self, card: ShownCard, shopper: str | None, holder: str | None) -> StoredCard:
        stored = StoredCard(self.reference(), shopper, card, holder)
        keep(self.stored, stored.id, stored)
        return stored

    def original(self, reference: str | None) -> Payment:
        payment = None if reference is None else self.payments.get(reference)
        if payment is None:
            raise unprocessable("167", "Original pspReference required for this operation")
        return payment


def psp_reference(new_id: Callable[[str], str]) -> str:
    return new_id("")[:REFERENCE_CHARACTERS].upper()


def unprocessable(code: str, message: str) -> AdyenRefusal:
    return AdyenRefusal(UNPROCESSABLE, code, message)


def required(body: JsonBody, path: str, code: str) -> str:
    found = body.text(path)
    if found is None:
        raise unprocessable(code, f"Required field '{path}' is not provided.")
    return found


def check_merchant(body: JsonBody) -> None:
    if body.text("merchantAccount") is None:
        raise AdyenRefusal(FORBIDDEN, "901", "Invalid Merchant Account", "security")


def read_card(card: JsonBody, *, at: datetime) -> SentCard:
    """Read number, expiry and code beside each other: texts, as the API has them."""
    for name in ("number", "expiryMonth", "expiryYear"):
        required(card, name, "101" if name == "number" else "129")
    try:
        return sent_card(
            card.text("number"),
            digits(card.text("expiryMonth"), most=2),
            digits(card.text("expiryYear"), most=4),
            _cvc(card),
            at=at,
        )
    except WrongCard as wrong:
        refusal = unprocessable(*_WRONG[wrong.field])
    raise refusal


def _cvc(card: JsonBody) -> str | None:
    found = card.at("cvc")
    return found if found is None or isinstance(found, str) else "?"


def amount_of(body: JsonBody, path: str = "amount") -> Mapping[str, object]:
    value, currency = body.whole(f"{path}.value"), body.text(f"{path}.currency")
    if value is None or currency is None:
        raise unprocessable("100", f"Required object '{path}' is not provided.")
    if value < 0:
        raise unprocessable("137", "Invalid amount specified")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):  # noqa: PLR2004 - ISO 4217
        raise unprocessable("138", "Unsupported currency specified")
    return {"currency": currency, "value": value}
