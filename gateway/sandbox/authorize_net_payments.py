"""Calls of the simulated Authorize.Net that move money, or ask about it. Pure.

Decides what is answered and what is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from gateway.sandbox import authorize_net_cards as cards
from gateway.sandbox.authorize_net_books import Books, Transaction
from gateway.sandbox.authorize_net_cards import KeptCard, Reason, Unusable, read_card
from gateway.sandbox.authorize_net_document import Element, Repeated, Shown, Wrapped
from gateway.sandbox.books import OBJECTS_MAX, keep

DUPLICATE_WINDOW_SECONDS: Final = 120
DUPLICATE_WINDOW_SECONDS_MAX: Final = 28_800
LAST_DIGITS: Final = 4
_CENT: Final = Decimal("0.01")
_VOIDABLE: Final = frozenset(
    {
        "authorizedPendingCapture",
        "capturedPendingSettlement",
        "refundPendingSettlement",
        "FDSPendingReview",
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a call; without a transaction where no issuer was asked."""

    reason: Reason
    transaction: Transaction | None = None
    ref_id: str | None = None  # of the transaction that it acted on


def carried_out(books: Books, request: Element) -> Outcome:
    """Carry out one `transactionRequest`."""
    act = _ACTS.get(request.at("transactionType") or "")
    if act is None:
        return Outcome(cards.NOT_FOUND)
    try:
        return act(books, request)
    except Unusable as unusable:
        return Outcome(unusable.reason)


# --- charging -----------------------------------------------------------------------------


def _authorize(books: Books, request: Element) -> Outcome:
    amount = _amount(request)
    card, zip_code, code = _card(books, request)
    if _is_duplicate(books, request, card, amount):
        return Outcome(cards.DUPLICATE)
    reason = cards.decision_on(card, amount, zip_code)
    made = _new(books, request, card, amount, reason)
    made.avs, made.cvv = cards.avs_answer(zip_code), cards.cvv_answer(code)
    books.counts.charges += reason.response == 1
    books.counts.declines += reason.response == 2  # noqa: PLR2004 - the published class
    return Outcome(reason, made)


def _capture_only(books: Books, request: Element) -> Outcome:
    """Capture what was authorized elsewhere: over the telephone, say."""
    if request.at("authCode") is None:
        return Outcome(cards.AUTH_CODE_REQUIRED)
    outcome = _authorize(books, request)
    books.counts.captures += outcome.reason is cards.APPROVED
    return outcome


def _card(books: Books, request: Element) -> tuple[KeptCard, str | None, str | None]:
    """Find the card, the billing zip and the card code: sent along, or in a profile."""
    sent = request.first("payment", "creditCard")
    if sent is not None:
        card = read_card(sent, key=books.key, at=books.now())
        return card, request.at("billTo", "zip"), sent.at("cardCode")
    profile = books.profiles.get(request.at("profile", "customerProfileId") or "")
    chosen = request.at("profile", "paymentProfile", "paymentProfileId") or ""
    stored = None if profile is None else profile.payment_profiles.get(chosen)
    if stored is None:
        raise Unusable(cards.CARD_REQUIRED)
    return stored.card, stored.zip_code, request.at("profile", "paymentProfile", "cardCode")


def _amount(request: Element) -> Decimal:
    amount = Decimal(request.at("amount") or "0").quantize(_CENT)
    if amount <= 0:
        raise Unusable(cards.AMOUNT_INVALID)
    return amount


def _is_duplicate(books: Books, request: Element, card: KeptCard, amount: Decimal) -> bool:
    """Say whether the same was asked a moment ago; the later call says what a moment is."""
    invoice, now = request.at("order", "invoiceNumber"), books.now()
    same = (request.at("transactionType"), card.digest, amount, invoice)
    earlier = books.recent.pop(same, None)
    window = timedelta(seconds=_duplicate_window_seconds(request))
    if earlier is not None and now - earlier < window:
        books.recent[same] = earlier
        return True
    books.recent[same] = now
    if len(books.recent) > OBJECTS_MAX:
        del books.recent[next(iter(books.recent))]
    return False


def _duplicate_window_seconds(request: Element) -> int:
    settings = request.first("transactionSettings")
    for setting in () if settings is None else settings.all("setting"):
        value = setting.at("settingValue") or ""
        if setting.at("settingName") == "duplicateWindow" and value.isdecimal():
            return min(int(value[:6]), DUPLICATE_WINDOW_SECONDS_MAX)
    return DUPLICATE_WINDOW_SECONDS


def _new(
    books: Books, request: Element, card: KeptCard, amount: Decimal, reason: Reason
) -> Transaction:
    type_ = request.at("transactionType") or ""
    status = {2: "declined", 4: "FDSPendingReview"}.get(reason.response)
    approved = reason.response == 1
    made = Transaction(
        id=books.number(11),
        type=type_,
        status=status or _STATUS_AFTER[type_],
        reason=reason,
        amount=amount,
        card=card,
        auth_code=books.code(6) if approved else "",
        network_id=books.code(15) if approved else "",
        avs="P",
        cvv="",
        at=books.now(),
        invoice=request.at("order", "invoiceNumber"),
        description=request.at("order", "description"),
    )
    if approved and type_ in {"authCaptureTransaction", "captureOnlyTransaction"}:
        made.settled = amount
    keep(books.transactions, made.id, made)
    return made


# --- on what is there already -------------------------------------------------------------


def _capture(books: Books, request: Element) -> Outcome:
    made = _referred_to(books, request)
    amount = made.amount if request.at("amount") is None else _amount(request)
    if made.status == "capturedPendingSettlement":
        return Outcome(cards.CAPTURED_ALREADY, made, made.id)
    if made.status != "authorizedPendingCapture":
        return Outcome(cards.NOT_FOUND)
    if amount > made.amount:
        return Outcome(cards.CAPTURE_TOO_LARGE)
    made.status, made.settled = "capturedPendingSettlement", amount
    books.counts.captures += 1
    return Outcome(cards.APPROVED, made, made.id)


def _void(books: Books, request: Element) -> Outcome:
    made = _referred_to(books, request)
    if made.status == "voided":
        return Outcome(cards.VOIDED_ALREADY, made, made.id)
    if made.status not in _VOIDABLE:
        return Outcome(cards.NOT_FOUND)
    made.status, made.settled = "voided", Decimal(0)
    books.counts.cancels += 1
    return Outcome(cards.APPROVED, made, made.id)


def _refund(books: Books, request: Element) -> Outcome:
    """Credit a charge, named with the last four digits of its card; or any card, unnamed."""
    amount = _amount(request)
    if request.at("refTransId") is None:
        card, _, _ = _card(books, request)
        made = _new(books, request, card, amount, cards.APPROVED)
        books.counts.refunds += 1
        return Outcome(cards.APPROVED, made)
    charge = _referred_to(books, request)
    _check_refunded_card(books, request, charge.card)
    if charge.settled <= 0:
        return Outcome(cards.NOT_CREDITABLE)
    if amount > charge.settled - charge.credited:
        return Outcome(cards.CREDIT_TOO_LARGE)
    made = _new(books, request, charge.card, amount, cards.APPROVED)
    made.ref_id = charge.id
    charge.credited += amount
    books.counts.refunds += 1
    return Outcome(cards.APPROVED, made, charge.id)


def _check_refunded_card(books: Books, request: Element, card: KeptCard) -> None:
    sent = request.first("payment", "creditCard")
    if sent is None:
        raise Unusable(cards.CARD_REQUIRED)
    number = sent.at("cardNumber") or ""
    if len(number) > LAST_DIGITS:
        same = read_card(sent, key=books.key, at=books.now()).digest == card.digest
    else:
        same = number == card.last4
    if not same:
        raise Unusable(cards.NOT_CREDITABLE)


def _referred_to(books: Books, request: Element) -> Transaction:
    made = books.transactions.get(request.at("refTransId") or "")
    if made is None:
        raise Unusable(cards.NOT_FOUND)
    return made


_ACTS: Final[dict[str, Callable[[Books, Element], Outcome]]] = {
    "authOnlyTransaction": _authorize,
    "authCaptureTransaction": _authorize,
    "captureOnlyTransaction": _capture_only,
    "priorAuthCaptureTransaction": _capture,
    "voidTransaction": _void,
    "refundTransaction": _refund,
}
_STATUS_AFTER: Final = {
    "authOnlyTransaction": "authorizedPendingCapture",
    "authCaptureTransaction": "capturedPendingSettlement",
    "captureOnlyTransaction": "capturedPendingSettlement",
    "refundTransaction": "refundPendingSettlement",
}


# --- showing ------------------------------------------------------------------------------


def outcome_shown(outcome: Outcome, request: Element) -> dict[str, Shown]:
    """Show it as `transactionResponse`, in the schema's order."""
    reason, made = outcome.reason, outcome.transaction
    good = reason.response in {1, 4}
    told: dict[str, Shown] = {"code": str(reason.code), "description": reason.text}
    wrong: dict[str, Shown] = {"errorCode": str(reason.code), "errorText": reason.text}
    return {
        "responseCode": str(reason.response),
        "authCode": "" if made is None else made.auth_code,
        "avsResultCode": "P" if made is None else made.avs,
        "cvvResultCode": "" if made is None else made.cvv,
        "cavvResultCode": "",
        "transId": "0" if made is None else made.id,
        "refTransID": outcome.ref_id or "",
        "transHash": "",
        "testRequest": "0",
        "accountNumber": "" if made is None else made.card.masked,
        "accountType": "" if made is None else made.card.card_type,
        "messages": Wrapped("message", (told,)) if good else None,
        "errors": None if good else Wrapped("error", (wrong,)),
        "userFields": _user_fields(request),
        "transHashSha2": "",
        "networkTransId": made.network_id or None if made is not None else None,
    }


def _user_fields(request: Element) -> Wrapped | None:
    """Give the merchant's own fields back, as they were sent."""
    sent = request.first("userFields")
    if sent is None:
        return None
    fields = tuple(sent.all("userField"))
    return Wrapped(
        "userField",
        tuple({"name": each.at("name"), "value": each.at("value")} for each in fields),
    )


def details_shown(made: Transaction) -> dict[str, Shown]:
    """Show it as the `transaction` of getTransactionDetailsResponse, in the schema's order."""
    instant = f"{made.at:%Y-%m-%dT%H:%M:%S}"
    order: dict[str, Shown] = {"invoiceNumber": made.invoice, "description": made.description}
    card: dict[str, Shown] = {
        "cardNumber": made.card.masked,
        "expirationDate": "XXXX",
        "cardType": made.card.card_type,
    }
    return {
        "transId": made.id,
        "refTransId": made.ref_id,
        "submitTimeUTC": f"{instant}Z",
        "submitTimeLocal": instant,
        "transactionType": made.type,
        "transactionStatus": made.status,
        "responseCode": made.reason.response,
        "responseReasonCode": made.reason.code,
        "responseReasonDescription": made.reason.text,
        "authCode": made.auth_code or None,
        "AVSResponse": made.avs,
        "cardCodeResponse": made.cvv or None,
        "order": order if any(order.values()) else None,
        "authAmount": made.amount,
        "settleAmount": made.settled,
        "taxExempt": False,
        "payment": {"creditCard": card},
        "recurringBilling": False,
        "product": "Card Not Present",
        "marketType": "eCommerce",
        "networkTransId": made.network_id or None,
    }


def messages(result: str, code: str, text: str) -> dict[str, Shown]:
    """Say how a call went, in the words that come with every answer."""
    return {"resultCode": result, "message": Repeated(({"code": code, "text": text},))}
