"""The simulated Adyen's Checkout API: which call does what. Pure.

A refusal by the issuer is HTTP 200 with a `resultCode`; only what reaches no acquirer is an error.
Modifications are `received`, their end would be told by a callback.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from gateway.sandbox.adyen_books import (
    NOT_FOUND,
    AdyenBooks,
    AdyenRefusal,
    Payment,
    Reply,
    StoredCard,
    amount_of,
    brand,
    check_merchant,
    read_card,
    required,
    unprocessable,
)
from gateway.sandbox.adyen_callbacks import Amount
from gateway.sandbox.adyen_outcomes import (
    NOT_AUTHENTICATED,
    Challenge,
    challenge_for,
    verdict_on,
)
from gateway.sandbox.cards import brand_of, is_card_number
from gateway.sandbox.json_body import JsonBody
from gateway.sandbox.sent_card import ShownCard

OK: Final = 200
CREATED: Final = 201
FAILED_SUFFIX: Final = ".failed"  # what a shopper brings back who did not prove who they are

_BIN: Final = re.compile(r"[0-9]{6,11}", re.ASCII)
_CVC_MATCHES: Final = frozenset({"737", "7373"})  # those published for testing
_CARD_TYPES: Final = frozenset({None, "scheme", "card", "bcmc"})

OnCollection = Callable[[AdyenBooks, JsonBody], Reply]
OnPayment = Callable[[AdyenBooks, JsonBody, Payment], Reply]


def answered(books: AdyenBooks, method: str, path: str, body: JsonBody, query: str) -> Reply:
    """Carry out the call at this path, which begins behind the version."""
    if method == "GET" and path == "storedPaymentMethods":
        return _list_stored(books, query)
    create = _ON_COLLECTION.get(path)
    if method == "POST" and create is not None:
        return create(books, body)
    collection, _, rest = path.partition("/")
    reference, _, verb = rest.partition("/")
    modify = _ON_PAYMENT.get(verb)
    if method == "POST" and collection == "payments" and modify is not None:
        check_merchant(body)
        return modify(books, body, books.original(reference))
    raise AdyenRefusal(NOT_FOUND, "000", "Not found", "validation")


# --- payments -----------------------------------------------------------------------------


def _pay(books: AdyenBooks, body: JsonBody) -> Reply:
    merchant = check_merchant(body)
    amount = amount_of(body)
    reference = required(body, "reference", "130")
    method = body.within("paymentMethod")
    stored_id = method.text("storedPaymentMethodId")
    if stored_id is not None:
        stored = _found(books, stored_id)
        number, card, holder = None, stored.card, stored.holder
    else:
        if method.text("type") not in _CARD_TYPES:
            raise unprocessable("14_018", "Only cards are simulated.")
        sent = read_card(method, at=books.now())
        number, card, holder = sent.number, sent.shown, method.text("holderName")
    verdict = verdict_on(body, holder)
    payment = Payment(books.reference(), reference, amount, verdict, card, holder, merchant)
    challenge = challenge_for(body, number, holder)
    if challenge is not None:
        return _challenged(books, payment, challenge)
    books.settle(payment)
    result = result_of(payment, method.text("cvc"))
    if body.at("storePaymentMethod") is True and verdict.code is None:
        kept = books.store(card, body.text("shopperReference"), holder)
        result["additionalData"] = {
            **_additional(payment, method.text("cvc")),
            "recurring.recurringDetailReference": kept.id,
            "recurring.shopperReference": kept.shopper or "",
        }
    return Reply(OK, result)


def result_of(payment: Payment, cvc: str | None) -> dict[str, object]:
    """Show a payment whose verdict is spoken."""
    verdict = payment.verdict
    result: dict[str, object] = {
        "additionalData": _additional(payment, cvc),
        "pspReference": payment.psp_reference,
        "resultCode": verdict.result_code,
        "amount": payment.amount,
        "merchantReference": payment.reference,
        "paymentMethod": {"brand": brand(payment.card.brand), "type": "scheme"},
    }
    if verdict.code is not None:
        result |= {"refusalReason": verdict.reason, "refusalReasonCode": verdict.code}
    return result


def _additional(payment: Payment, cvc: str | None) -> dict[str, str]:
    said = {"refusalReasonRaw": payment.verdict.raw, "avsResult": "4 AVS not supported"}
    said["cvcResult"] = "0 Unknown" if cvc is None else _cvc_result(cvc)
    if payment.verdict.result_code == "Authorised":
        said["authCode"] = payment.psp_reference[-6:]
    if payment.holder is not None:
        said["cardHolderName"] = payment.holder
    return said | shown(payment.card)


def shown(card: ShownCard) -> dict[str, str]:
    return {
        "cardBin": card.bin,
        "cardSummary": card.last4,
        "expiryDate": f"{card.month}/{card.year}",
        "paymentMethod": brand(card.brand),
    }


def _cvc_result(cvc: str) -> str:
    return "1 Matches" if cvc in _CVC_MATCHES else "2 Doesn't match"


# --- 3-D Secure ---------------------------------------------------------------------------


def _challenged(books: AdyenBooks, payment: Payment, challenge: Challenge) -> Reply:
    """Send the shopper away; what they bring back names the payment. The address is nobody's."""
    brought = hold_back(books, payment)
    native = challenge == "ChallengeShopper"
    action: dict[str, object] = {"paymentMethodType": "scheme", "paymentData": brought}
    if native:
        action |= {"type": "threeDS2", "subtype": "challenge", "token": brought}
    else:
        url = f"https://3ds.processor.invalid/adyen?redirectResult={brought}"
        action |= {"type": "redirect", "method": "GET", "url": url}
    result: dict[str, object] = {
        "resultCode": challenge,
        "action": action,
        "merchantReference": payment.reference,
        "amount": payment.amount,
    }
    if native:
        result["pspReference"] = payment.psp_reference
    return Reply(OK, result)


def hold_back(books: AdyenBooks, payment: Payment) -> str:
    brought = books.new_id("3ds")
    books.challenged[brought] = payment
    return brought


def proven(books: AdyenBooks, brought: str | None) -> Payment:
    """Settle the payment that a shopper comes back with, or raise AdyenRefusal."""
    name = (brought or "").removesuffix(FAILED_SUFFIX)
    payment = books.challenged.pop(name, None)
    if payment is None:
        raise unprocessable("14_0408", "Invalid payload provided.")
    if name != brought:
        payment.verdict = NOT_AUTHENTICATED
    books.settle(payment)
    return payment


def _details(books: AdyenBooks, body: JsonBody) -> Reply:
    names = ("details.redirectResult", "details.threeDSResult", "details.payload", "paymentData")
    brought = next((text for name in names if (text := body.text(name)) is not None), None)
    return Reply(OK, result_of(proven(books, brought), None))


# --- modifications ------------------------------------------------------------------------


def _modified(
    books: AdyenBooks,
    body: JsonBody,
    payment: Payment,
    event_code: str,
    amount: Amount | None = None,
) -> dict[str, object]:
    """Say that it was received, and report its end."""
    psp_reference, reference = books.reference(), body.text("reference")
    books.tell(event_code, payment, psp_reference=psp_reference, amount=amount, reference=reference)
    return {
        "merchantAccount": body.text("merchantAccount"),
        "paymentPspReference": payment.psp_reference,
        "pspReference": psp_reference,
        "reference": reference,
        "status": "received",
    }


def _capture(books: AdyenBooks, body: JsonBody, payment: Payment) -> Reply:
    amount = amount_of(body)
    books.counts.captures += 1
    modified = _modified(books, body, payment, "CAPTURE", amount)
    return Reply(CREATED, modified | {"amount": amount})


def _cancel(books: AdyenBooks, body: JsonBody, payment: Payment) -> Reply:
    books.counts.cancels += 1
    return Reply(CREATED, _modified(books, body, payment, "CANCELLATION"))


def _refund(books: AdyenBooks, body: JsonBody, payment: Payment) -> Reply:
    amount = amount_of(body)
    books.counts.refunds += 1
    modified = _modified(books, body, payment, "REFUND", amount)
    return Reply(CREATED, modified | {"amount": amount})


def _reverse(books: AdyenBooks, body: JsonBody, payment: Payment) -> Reply:
    """Refund or cancel, whichever is still possible."""
    books.counts.refunds += 1
    return Reply(CREATED, _modified(books, body, payment, "CANCEL_OR_REFUND"))


def _update_amount(books: AdyenBooks, body: JsonBody, payment: Payment) -> Reply:
    amount = amount_of(body)
    payment.amount = amount
    modified = _modified(books, body, payment, "AUTHORISATION_ADJUSTMENT", amount)
    return Reply(CREATED, modified | {"amount": amount})


def _cancel_by_reference(books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    named = required(body, "paymentReference", "167")
    books.counts.cancels += 1
    psp_reference, reference = books.reference(), body.text("reference")
    for payment in [each for each in books.payments.values() if each.reference == named][-1:]:
        books.tell("TECHNICAL_CANCEL", payment, psp_reference=psp_reference, reference=reference)
    said: dict[str, object] = {
        "merchantAccount": body.text("merchantAccount"),
        "paymentReference": named,
        "pspReference": psp_reference,
        "reference": reference,
        "status": "received",
    }
    return Reply(CREATED, said)


# --- cards that are not charged -----------------------------------------------------------


def _store(books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    shopper = required(body, "shopperReference", "14_012")
    method = body.within("paymentMethod")
    card = read_card(method, at=books.now()).shown
    verdict = verdict_on(body, method.text("holderName"))
    if verdict.code is not None:
        books.counts.declines += 1
        raise unprocessable("905", "Payment details are not supported")
    return Reply(CREATED, _stored(books.store(card, shopper, method.text("holderName"))))


def _list_stored(books: AdyenBooks, query: str) -> Reply:
    shopper = dict(parse_qsl(query)).get("shopperReference")
    stored = [_stored(each) for each in books.stored.values() if each.shopper == shopper]
    return Reply(OK, {"storedPaymentMethods": stored})


def _stored(stored: StoredCard) -> dict[str, object]:
    return {
        "id": stored.id,
        "type": "scheme",
        "brand": brand(stored.card.brand),
        "lastFour": stored.card.last4,
        "expiryMonth": f"{stored.card.month:02d}",
        "expiryYear": str(stored.card.year),
        "holderName": stored.holder,
        "shopperReference": stored.shopper,
        "supportedShopperInteractions": ["Ecommerce", "ContAuth"],
    }


def _found(books: AdyenBooks, id_: str) -> StoredCard:
    stored = books.stored.get(id_)
    if stored is None:
        raise unprocessable("800", "Contract not found")
    return stored


def _balance(books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    method = body.within("paymentMethod")
    number = required(method, "number", "101")
    if not is_card_number(number):
        raise unprocessable("101", "Invalid card number")
    verdict = verdict_on(body, method.text("holderName"))
    enough = verdict.code is None
    said: dict[str, object] = {
        "pspReference": books.reference(),
        "resultCode": "Success" if enough else "NotEnoughBalance",
        "balance": {"currency": body.text("amount.currency") or "EUR", "value": 5000 * enough},
    }
    return Reply(OK, said)


def _card_details(_books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    number = checked_number(body, "cardNumber")
    return Reply(OK, {"brands": [{"type": brand(brand_of(number)), "supported": True}]})


def checked_number(body: JsonBody, path: str) -> str:
    """A whole number, or the first digits of one."""
    number = required(body, path, "101")
    if not (is_card_number(number) or _BIN.fullmatch(number)):
        raise unprocessable("101", "Invalid card number")
    return number


# --- no card ------------------------------------------------------------------------------


def _session(books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    said: dict[str, object] = {
        "id": books.new_id("CS"),
        "sessionData": books.new_id("Ab02"),
        "amount": amount_of(body),
        "merchantAccount": body.text("merchantAccount"),
        "reference": required(body, "reference", "130"),
        "returnUrl": required(body, "returnUrl", "14_0411"),
        "expiresAt": books.now().isoformat(timespec="seconds"),
    }
    return Reply(CREATED, said)


def _methods(_books: AdyenBooks, body: JsonBody) -> Reply:
    check_merchant(body)
    card = {"name": "Cards", "type": "scheme", "brands": ["visa", "mc", "amex"]}
    return Reply(OK, {"paymentMethods": [card]})


_ON_COLLECTION: Final[Mapping[str, OnCollection]] = {
    "payments": _pay,
    "payments/details": _details,
    "cancels": _cancel_by_reference,
    "paymentMethods": _methods,
    "paymentMethods/balance": _balance,
    "storedPaymentMethods": _store,
    "cardDetails": _card_details,
    "sessions": _session,
}
_ON_PAYMENT: Final[Mapping[str, OnPayment]] = {
    "captures": _capture,
    "cancels": _cancel,
    "refunds": _refund,
    "reversals": _reverse,
    "amountUpdates": _update_amount,
}
