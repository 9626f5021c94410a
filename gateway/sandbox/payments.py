"""Calls that move money, or give it back: payment intents, charges, refunds.

Pure: decides what is answered and what is kept.
"""

import msgspec

from gateway.sandbox.books import Books, KeptCard, found, keep
from gateway.sandbox.cards import Challenged, Declined
from gateway.sandbox.objects import (
    Charge,
    ChargedCard,
    Dispute,
    PaymentIntent,
    PaymentMethodDetails,
    Refund,
)
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import (
    Refusal,
    invalid,
    missing,
    refund_refused,
    unexpected_state,
)
from gateway.sandbox.storing import (
    card_at_source,
    challenge,
    chosen_payment_method,
    declined,
    last_error,
)

_MAY_BE_CONFIRMED = frozenset(
    {"requires_payment_method", "requires_confirmation", "requires_action"}
)
_MAY_BE_CANCELED = _MAY_BE_CONFIRMED | {"requires_capture"}


# --- payment intents ----------------------------------------------------------------------


def create_payment_intent(books: Books, params: Params) -> PaymentIntent:
    amount, currency = _price(params)
    confirm = params.flag("confirm")
    manual = _is_manual(params)
    method = chosen_payment_method(books, params)
    id_ = books.new_id("pi")
    intent = PaymentIntent(
        id=id_,
        created=books.created(),
        amount=amount,
        currency=currency,
        client_secret=books.new_id(f"{id_}_secret"),
        capture_method="manual" if manual else "automatic",
        customer=params.text("customer"),
        description=params.text("description"),
        metadata=params.under("metadata"),
        statement_descriptor=params.text("statement_descriptor"),
        transfer_group=params.text("transfer_group"),
    )
    if method is not None:
        intent.payment_method, intent.status = method.id, "requires_confirmation"
    keep(books.payment_intents, id_, intent)
    return _confirmed(books, intent, params) if confirm else intent


def retrieve_payment_intent(books: Books, params: Params, id_: str) -> PaymentIntent:
    intent = found(books.payment_intents, id_, kind="payment_intent")
    return _expanded(books, intent, params)


def confirm_payment_intent(books: Books, params: Params, id_: str) -> PaymentIntent:
    intent = found(books.payment_intents, id_, kind="payment_intent")
    if intent.status not in _MAY_BE_CONFIRMED:
        raise unexpected_state("payment_intent", intent.status)
    if params.text("capture_method") is not None:
        intent.capture_method = "manual" if _is_manual(params) else "automatic"
    method = chosen_payment_method(books, params)
    if method is not None:
        intent.payment_method = method.id
    return _confirmed(books, intent, params)


def capture_payment_intent(books: Books, params: Params, id_: str) -> PaymentIntent:
    intent = found(books.payment_intents, id_, kind="payment_intent")
    if intent.status != "requires_capture":
        raise unexpected_state("payment_intent", intent.status)
    amount = params.amount("amount_to_capture") or intent.amount_capturable
    if amount > intent.amount_capturable:
        raise invalid("amount_to_capture", "This is more than can be captured.")
    _capture(books, _charge_of(books, intent), amount)
    intent.status = "succeeded"
    intent.amount_capturable, intent.amount_received = 0, amount
    books.tell("payment_intent.succeeded", intent, intent.id)
    return _expanded(books, intent, params)


def cancel_payment_intent(books: Books, params: Params, id_: str) -> PaymentIntent:
    intent = found(books.payment_intents, id_, kind="payment_intent")
    if intent.status not in _MAY_BE_CANCELED:
        raise unexpected_state("payment_intent", intent.status)
    intent.status, intent.amount_capturable = "canceled", 0
    intent.cancellation_reason = params.text("cancellation_reason")
    books.counts.cancels += 1
    books.tell("payment_intent.canceled", intent, intent.id)
    return intent


def _confirmed(books: Books, intent: PaymentIntent, params: Params) -> PaymentIntent:
    if intent.payment_method is None:
        raise missing("payment_method")
    card = found(books.cards, intent.payment_method, kind="payment_method")
    match card.outcome:
        case Challenged():
            intent.status = "requires_action"
            intent.next_action = challenge(intent.id, params)
            return intent
        case Declined() as outcome:
            raise _intent_declined(books, intent, card, outcome)
        case _:
            _pay(books, intent, card)
            return _expanded(books, intent, params)


def _pay(books: Books, intent: PaymentIntent, card: KeptCard) -> None:
    manual = intent.capture_method == "manual"
    charge = _new_charge(books, card, intent.amount, intent.currency, approved=True)
    charge.payment_intent, charge.description = intent.id, intent.description
    intent.latest_charge, intent.last_payment_error, intent.next_action = charge.id, None, None
    if manual:
        intent.status, intent.amount_capturable = "requires_capture", intent.amount
        books.tell("payment_intent.amount_capturable_updated", intent, intent.id)
        return
    charge.captured, charge.amount_captured = True, charge.amount
    intent.status, intent.amount_received = "succeeded", intent.amount
    books.tell("payment_intent.succeeded", intent, intent.id)


def _intent_declined(
    books: Books, intent: PaymentIntent, card: KeptCard, outcome: Declined
) -> Refusal:
    charge = _new_charge(books, card, intent.amount, intent.currency, approved=False)
    charge.payment_intent, charge.failure_code = intent.id, outcome.code
    intent.status, intent.payment_method = "requires_payment_method", None
    intent.latest_charge = charge.id
    intent.last_payment_error = last_error(outcome, charge=charge.id)
    books.tell("payment_intent.payment_failed", intent, intent.id)
    refusal = declined(outcome)
    refusal.error.charge, refusal.error.payment_intent = charge.id, intent
    return refusal


def _charge_of(books: Books, intent: PaymentIntent) -> Charge:
    assert isinstance(intent.latest_charge, str)  # only a copy is expanded
    return found(books.charges, intent.latest_charge, kind="charge")


def _expanded(books: Books, intent: PaymentIntent, params: Params) -> PaymentIntent:
    """With the charge in place of its id, where the caller asked for that."""
    if intent.latest_charge is None or "latest_charge" not in params.listed("expand"):
        return intent
    shown = msgspec.structs.replace(intent)
    shown.latest_charge = _charge_of(books, intent)
    return shown


# --- charges ------------------------------------------------------------------------------


def create_charge(books: Books, params: Params) -> Charge:
    amount, currency = _price(params)
    capture = params.flag("capture", unless_given=True)
    card = card_at_source(books, params)
    if card is None:
        raise missing("source")
    outcome = card.outcome
    if isinstance(outcome, Declined):
        failed = _new_charge(books, card, amount, currency, approved=False)
        failed.failure_code = outcome.code
        books.tell("charge.failed", failed, failed.id)
        refusal = declined(outcome)
        refusal.error.charge = failed.id
        raise refusal
    charge = _new_charge(books, card, amount, currency, approved=True)
    charge.description, charge.metadata = params.text("description"), params.under("metadata")
    if capture:
        charge.captured, charge.amount_captured = True, amount
    books.tell("charge.succeeded", charge, charge.id)
    return charge


def retrieve_charge(books: Books, _params: Params, id_: str) -> Charge:
    return found(books.charges, id_, kind="charge")


def capture_charge(books: Books, params: Params, id_: str) -> Charge:
    charge = found(books.charges, id_, kind="charge")
    if charge.captured or not charge.paid:
        raise unexpected_state("charge", "captured" if charge.captured else charge.status)
    amount = params.amount("amount") or charge.amount
    if amount > charge.amount:
        raise invalid("amount", "This is more than can be captured.")
    _capture(books, charge, amount)
    books.tell("charge.captured", charge, charge.id)
    return charge


def _capture(books: Books, charge: Charge, amount: int) -> None:
    charge.captured, charge.amount_captured = True, amount
    books.keep_charge(charge)
    books.counts.captures += 1


def _new_charge(
    books: Books, card: KeptCard, amount: int, currency: str, *, approved: bool
) -> Charge:
    number = books.new_id("")  # stands for the issuer's own numbering
    charged = ChargedCard(
        brand=card.shown.brand,
        last4=card.shown.last4,
        authorization_code=number[:6].upper() if approved else None,
        network_transaction_id=number[6:] if approved else None,
    )
    charge = Charge(
        id=books.new_id("ch"),
        created=books.created(),
        amount=amount,
        currency=currency,
        paid=approved,
        captured=False,
        status="succeeded" if approved else "failed",
        payment_method_details=PaymentMethodDetails(card=charged),
    )
    books.keep_charge(charge)
    books.counts.charges += approved
    books.counts.declines += not approved
    return charge


# --- refunds ------------------------------------------------------------------------------


def create_refund(books: Books, params: Params) -> Refund:
    charge = _charge_to_refund(books, params)
    left = charge.amount_captured - charge.amount_refunded
    if left == 0:
        refunded = charge.amount_refunded > 0
        code = "charge_already_refunded" if refunded else "charge_not_captured"
        raise refund_refused(code, "Nothing of this charge can be refunded.")
    amount = params.amount("amount") or left
    if amount > left:
        raise refund_refused("amount_too_large", "This is more than is left of the charge.")
    refund = Refund(
        id=books.new_id("re"),
        created=books.created(),
        amount=amount,
        currency=charge.currency,
        charge=charge.id,
        payment_intent=charge.payment_intent,
        reason=params.text("reason"),
        metadata=params.under("metadata"),
    )
    charge.amount_refunded += amount
    charge.refunded = charge.amount_refunded == charge.amount_captured
    books.keep_charge(charge)
    keep(books.refunds, refund.id, refund)
    books.counts.refunds += 1
    books.tell("charge.refunded", charge, _payment_of(charge))
    return refund


def retrieve_refund(books: Books, _params: Params, id_: str) -> Refund:
    return found(books.refunds, id_, kind="refund")


def _charge_to_refund(books: Books, params: Params) -> Charge:
    named = params.text("charge")
    if named is not None:
        return found(books.charges, named, kind="charge", param="charge")
    intent_id = params.required("payment_intent")
    intent = found(books.payment_intents, intent_id, kind="payment_intent", param="payment_intent")
    if intent.latest_charge is None:
        raise unexpected_state("payment_intent", intent.status)
    return _charge_of(books, intent)


# --- disputes -----------------------------------------------------------------------------


def charge_back(books: Books, payment: str) -> bool:
    """Let a shopper dispute a payment; False: there is none of this id."""
    intent = books.payment_intents.get(payment)
    charge = books.charges.get(payment) if intent is None else _charge_of(books, intent)
    if charge is None or not charge.paid:
        return False
    dispute = Dispute(
        id=books.new_id("dp"),
        created=books.created(),
        amount=charge.amount_captured,
        currency=charge.currency,
        charge=charge.id,
        payment_intent=charge.payment_intent,
    )
    books.tell("charge.dispute.created", dispute, _payment_of(charge))
    return True


def _payment_of(charge: Charge) -> str:
    return charge.payment_intent or charge.id


# --- what several read --------------------------------------------------------------------


def _price(params: Params) -> tuple[int, str]:
    amount = params.amount("amount")
    if amount is None:
        raise missing("amount")
    currency = params.required("currency").lower()
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):  # noqa: PLR2004 - ISO 4217
        raise invalid("currency", "Invalid currency.")
    return amount, currency


def _is_manual(params: Params) -> bool:
    method = params.text("capture_method")
    if method not in {None, "automatic", "automatic_async", "manual"}:
        raise invalid("capture_method", "Invalid capture method.")
    return method == "manual"
