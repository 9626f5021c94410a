"""What one account at the simulated Adyen holds, and how its API says no. Pure.

Card numbers are not among it: of each card stays what the simulation will say about it. No text
of a refusal is made from a value that was sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from gateway.sandbox.adyen_callbacks import AdyenItem, Amount
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

_BRANDS: Final[Mapping[str, str]] = {"mastercard": "mc", "unionpay": "cup"}
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
    amount: Amount
    verdict: Verdict
    card: ShownCard
    holder: str | None
    merchant: str


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
    _told: list[AdyenItem] = field(default_factory=list[AdyenItem])

    def reference(self) -> str:
        return psp_reference(self.new_id)

    def settle(self, payment: Payment) -> None:
        """Keep a payment whose verdict is spoken."""
        keep(self.payments, payment.psp_reference, payment)
        self.counts.charges += payment.verdict.result_code == "Authorised"
        self.counts.declines += payment.verdict.result_code == "Refused"
        self._tell_of(payment)

    def _tell_of(self, payment: Payment) -> None:
        """Tell its result; what is pending until then turns out well."""
        verdict = payment.verdict
        reason = f"{payment.psp_reference[-6:]}:{payment.card.last4}"
        self._told.append(
            AdyenItem(
                amount=payment.amount,
                event_code="AUTHORISATION",
                event_date=self._event_date(),
                merchant_account_code=payment.merchant,
                merchant_reference=payment.reference or "",
                operations=("CANCEL", "CAPTURE", "REFUND") if verdict.code is None else (),
                payment_method=brand(payment.card.brand),
                psp_reference=payment.psp_reference,
                reason=verdict.reason or reason,
                success="true" if verdict.code is None else "false",
            )
        )

    def tell(
        self,
        event_code: str,
        payment: Payment,
        *,
        psp_reference: str,
        amount: Amount | None = None,
        reference: str | None = None,
    ) -> None:
        """Report what was done to a payment: it went well."""
        self._told.append(
            AdyenItem(
                amount=amount or payment.amount,
                event_code=event_code,
                event_date=self._event_date(),
                merchant_account_code=payment.merchant,
                merchant_reference=reference or payment.reference or "",
                original_reference=payment.psp_reference,
                payment_method=brand(payment.card.brand),
                psp_reference=psp_reference,
                success="true",
            )
        )

    def take_told(self) -> tuple[AdyenItem, ...]:
        """Return what happened since this was last asked."""
        told = tuple(self._told)
        self._told.clear()
        return told

    def _event_date(self) -> str:
        return self.now().isoformat(timespec="seconds")

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


def brand(name: str) -> str:
    """Give a brand the name that it has at Adyen."""
    return _BRANDS.get(name, name)


def unprocessable(code: str, message: str) -> AdyenRefusal:
    return AdyenRefusal(UNPROCESSABLE, code, message)


def required(body: JsonBody, path: str, code: str) -> str:
    found = body.text(path)
    if found is None:
        raise unprocessable(code, f"Required field '{path}' is not provided.")
    return found


def check_merchant(body: JsonBody) -> str:
    merchant = body.text("merchantAccount")
    if merchant is None:
        raise AdyenRefusal(FORBIDDEN, "901", "Invalid Merchant Account", "security")
    return merchant


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


def amount_of(body: JsonBody, path: str = "amount") -> Amount:
    value, currency = body.whole(f"{path}.value"), body.text(f"{path}.currency")
    if value is None or currency is None:
        raise unprocessable("100", f"Required object '{path}' is not provided.")
    if value < 0:
        raise unprocessable("137", "Invalid amount specified")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):  # noqa: PLR2004 - ISO 4217
        raise unprocessable("138", "Unsupported currency specified")
    return Amount(currency=currency, value=value)
