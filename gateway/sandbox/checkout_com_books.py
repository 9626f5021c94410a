"""What one account at the simulated Checkout.com holds, and how its API says no. Pure.

Card numbers are not among it: of each card stays what the simulation will say about it. No text
of a refusal is made from a value that was sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.sandbox.books import Counts, keep
from gateway.sandbox.checkout_com_callbacks import CheckoutEvent
from gateway.sandbox.json_body import JsonBody
from gateway.sandbox.sent_card import CardField, ShownCard, WrongCard, sent_card

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
UNPROCESSABLE: Final = 422
ID_CHARACTERS: Final = 26
SCHEMES: Final[Mapping[str, str]] = {
    "visa": "Visa",
    "mastercard": "Mastercard",
    "amex": "American Express",
    "discover": "Discover",
    "diners": "Diners Club International",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}

_WRONG: Final[Mapping[CardField, str]] = {
    "number": "card_number_invalid",
    "month": "card_expiry_month_invalid",
    "year": "card_expiry_year_invalid",
    "cvc": "cvv_invalid",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the issuer says."""

    code: str
    summary: str

    @property
    def approved(self) -> bool:
        return self is APPROVED


APPROVED: Final = Verdict("10000", "Approved")

_DECLINED: Final[Mapping[tuple[str, str], Verdict]] = {  # published cards, by their parts
    ("473486895873", "3862"): Verdict("200N7", "Decline for CVV2 failure"),
    ("411111111111", "1129"): Verdict("20001", "Refer to card issuer"),
    ("402400710357", "3027"): Verdict("20012", "Invalid transaction"),
    ("448538157718", "2090"): Verdict("20014", "Invalid card number"),
    ("454424916767", "3670"): Verdict("20051", "Insufficient funds"),
    ("472411721595", "1699"): Verdict("20054", "Expired card"),
    ("489745356848", "5113"): Verdict("20059", "Suspected fraud"),
    ("481892425013", "1070"): Verdict("20062", "Restricted card"),
    ("409525480264", "2505"): Verdict("20068", "Response received too late"),
}


class CheckoutRefusal(Exception):
    """A call that reaches no issuer. The answers without a code have no body either."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def invalid(code: str) -> CheckoutRefusal:
    return CheckoutRefusal(UNPROCESSABLE, code)


@dataclass(frozen=True, slots=True)
class KeptCard:
    """All that is kept of a card."""

    shown: ShownCard
    verdict: Verdict
    cvv_sent: bool


@dataclass(slots=True)
class Payment:
    """One payment. `verdict` is None while the shopper has to prove who they are."""

    id: str
    amount: int
    currency: str
    reference: str | None
    card: KeptCard
    source: str
    capture: bool
    requested_on: str
    verdict: Verdict | None = None
    captured: int = 0
    refunded: int = 0
    voided: bool = False
    action_id: str = ""  # of the authorization

    @property
    def status(self) -> str:
        if self.verdict is None:
            return "Pending"
        if not self.verdict.approved:
            return "Declined"
        if self.amount == 0:
            return "Card Verified"
        if self.voided:
            return "Voided"
        if self.captured == 0:
            return "Authorized"
        return "Captured" if self.refunded == 0 else "Refunded"


@dataclass(slots=True)
class CheckoutBooks:
    """One account's payments and cards, by id."""

    random_id: Callable[[str], str]
    now: Callable[[], datetime]
    counts: Counts
    payments: dict[str, Payment] = field(default_factory=dict[str, Payment])
    tokens: dict[str, KeptCard] = field(default_factory=dict[str, KeptCard])
    instruments: dict[str, KeptCard] = field(default_factory=dict[str, KeptCard])
    _told: list[CheckoutEvent] = field(default_factory=list[CheckoutEvent])

    def new_id(self, prefix: str) -> str:
        return new_id(self.random_id, prefix)

    def time(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def settle(self, payment: Payment) -> None:
        """Ask the issuer; what is to be captured at once is."""
        payment.verdict = payment.card.verdict
        self.counts.charges += payment.verdict.approved and payment.amount > 0
        self.counts.declines += not payment.verdict.approved
        payment.action_id = self.new_id("act")
        self._tell_result(payment)
        if payment.verdict.approved and payment.capture and payment.amount:
            payment.captured = payment.amount
            self.tell("payment_captured", payment, self.new_id("act"), payment.amount)

    def _tell_result(self, payment: Payment) -> None:
        assert payment.verdict is not None  # it is settled
        approved = payment.verdict.approved
        if payment.amount:
            type_ = "payment_approved" if approved else "payment_declined"
        else:
            type_ = "card_verified" if approved else "card_verification_declined"
        self.tell(type_, payment, payment.action_id, payment.amount)

    def tell(
        self,
        type_: str,
        payment: Payment,
        action_id: str,
        amount: int,
        reference: str | None = None,
    ) -> None:
        """Report this of a payment, or of what was done to it."""
        assert payment.verdict is not None  # there is nothing to report before
        data: dict[str, object] = {
            "id": payment.id,
            "action_id": action_id,
            "amount": amount,
            "currency": payment.currency,
            "reference": reference or payment.reference,
            "processed_on": self.time(),
            "response_code": payment.verdict.code,
            "response_summary": payment.verdict.summary,
        }
        self._report(type_, payment, data)

    def tell_of_dispute(self, payment: Payment) -> None:
        """Report an object of its own, which names the payment."""
        data: dict[str, object] = {
            "id": self.new_id("dsp"),
            "payment_id": payment.id,
            "payment_reference": payment.reference,
            "amount": payment.captured,
            "currency": payment.currency,
            "category": "fraudulent",
        }
        self._report("dispute_received", payment, data)

    def _report(self, type_: str, payment: Payment, data: Mapping[str, object]) -> None:
        event = CheckoutEvent(self.new_id("evt"), type_, self.time(), payment.id, data)
        self._told.append(event)

    def take_told(self) -> tuple[CheckoutEvent, ...]:
        """Return what happened since this was last asked."""
        told = tuple(self._told)
        self._told.clear()
        return told

    def add(self, payment: Payment) -> None:
        keep(self.payments, payment.id, payment)

    def payment(self, id_: str) -> Payment:
        payment = self.payments.get(id_)
        if payment is None:
            raise CheckoutRefusal(NOT_FOUND)
        return payment


def new_id(random_id: Callable[[str], str], prefix: str) -> str:
    characters = (random_id("") + random_id(""))[:ID_CHARACTERS].lower()
    return f"{prefix}_{characters}"


def read_card(card: JsonBody, *, at: datetime) -> KeptCard:
    """Read number, expiry and code beside each other: month and year are integers."""
    if card.at("number") is None:
        raise invalid("card_number_required")
    cvv = card.at("cvv")
    try:
        sent = sent_card(
            card.text("number"),
            card.whole("expiry_month"),
            card.whole("expiry_year"),
            cvv if cvv is None or isinstance(cvv, str) else "?",
            at=at,
        )
    except WrongCard as wrong:
        refusal = invalid(_WRONG[wrong.field])
    else:
        verdict = _DECLINED.get((sent.number[:-4], sent.number[-4:]), APPROVED)
        return KeptCard(sent.shown, verdict, cvv is not None)
    raise refusal
