"""The simulated Adyen's classic API: Payment, and of Payout and BinLookup what takes a card. Pure.

As with Checkout, a refusal by the issuer is HTTP 200; modifications are `[capture-received]`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.sandbox.adyen_books import (
    NOT_FOUND,
    AdyenBooks,
    AdyenRefusal,
    Payment,
    Reply,
    amount_of,
    brand,
    check_merchant,
    read_card,
    required,
)
from gateway.sandbox.adyen_callbacks import Amount
from gateway.sandbox.adyen_checkout import OK, checked_number, hold_back, proven, shown
from gateway.sandbox.adyen_outcomes import challenge_for, verdict_on
from gateway.sandbox.json_body import JsonBody

_EVENT_CODES: Final[Mapping[str, str]] = {
    "capture": "CAPTURE",
    "cancel": "CANCELLATION",
    "refund": "REFUND",
    "cancelOrRefund": "CANCEL_OR_REFUND",
}

Act = Callable[[AdyenBooks, JsonBody], Reply]


def answered(books: AdyenBooks, method: str, path: str, body: JsonBody) -> Reply:
    """Carry out `Payment/authorise` and its kin."""
    act = _ACTS.get(path)
    if method != "POST" or act is None:
        raise AdyenRefusal(NOT_FOUND, "000", "Not found", "validation")
    check_merchant(body)
    return act(books, body)


def _authorise(books: AdyenBooks, body: JsonBody) -> Reply:
    payment, number = _payment(books, body)
    if challenge_for(body, number, payment.holder) is not None:
        return _challenged(books, payment)
    books.settle(payment)
    return Reply(OK, _result_of(payment))


def _payment(books: AdyenBooks, body: JsonBody) -> tuple[Payment, str]:
    """Read what is to be paid, and by which number."""
    amount = amount_of(body)
    reference = required(body, "reference", "130")
    card = body.within("card")
    sent = read_card(card, at=books.now())
    holder = required(card, "holderName", "104")
    verdict = verdict_on(body, holder)
    merchant = check_merchant(body)
    payment = Payment(books.reference(), reference, amount, verdict, sent.shown, holder, merchant)
    return payment, sent.number


def _challenged(books: AdyenBooks, payment: Payment) -> Reply:
    said: dict[str, object] = {
        "pspReference": payment.psp_reference,
        "resultCode": "RedirectShopper",
        "issuerUrl": "https://3ds.processor.invalid/adyen",
        "md": hold_back(books, payment),
        "paRequest": books.new_id("pareq"),
    }
    return Reply(OK, said)


def _authorise_3d(books: AdyenBooks, body: JsonBody) -> Reply:
    """Settle what was challenged; a card may come instead, with the proof of another service."""
    brought = body.text("md")
    if brought is None and body.at("card") is not None:
        payment, _number = _payment(books, body)
        books.settle(payment)
        return Reply(OK, _result_of(payment))
    return Reply(OK, _result_of(proven(books, brought)))


def _result_of(payment: Payment) -> dict[str, object]:
    verdict = payment.verdict
    result: dict[str, object] = {
        "additionalData": {"refusalReasonRaw": verdict.raw} | shown(payment.card),
        "pspReference": payment.psp_reference,
        "resultCode": verdict.result_code,
    }
    if verdict.result_code == "Authorised":
        result["authCode"] = payment.psp_reference[-6:]
    if verdict.reason is not None:
        result["refusalReason"] = verdict.reason
    return result


def _received(books: AdyenBooks, body: JsonBody, what: str, amount: Amount | None = None) -> Reply:
    """Say that it was received, and report its end."""
    payment = books.original(body.text("originalReference"))
    psp_reference, reference = books.reference(), body.text("reference")
    books.tell(
        _EVENT_CODES[what],
        payment,
        psp_reference=psp_reference,
        amount=amount,
        reference=reference,
    )
    return Reply(OK, {"pspReference": psp_reference, "response": f"[{what}-received]"})


def _capture(books: AdyenBooks, body: JsonBody) -> Reply:
    amount = amount_of(body, "modificationAmount")
    reply = _received(books, body, "capture", amount)
    books.counts.captures += 1
    return reply


def _cancel(books: AdyenBooks, body: JsonBody) -> Reply:
    reply = _received(books, body, "cancel")
    books.counts.cancels += 1
    return reply


def _refund(books: AdyenBooks, body: JsonBody) -> Reply:
    amount = amount_of(body, "modificationAmount")
    reply = _received(books, body, "refund", amount)
    books.counts.refunds += 1
    return reply


def _cancel_or_refund(books: AdyenBooks, body: JsonBody) -> Reply:
    reply = _received(books, body, "cancelOrRefund")
    books.counts.refunds += 1
    return reply


def _payout(books: AdyenBooks, body: JsonBody) -> Reply:
    payment, _number = _payment(books, body)
    books.counts.refunds += payment.verdict.code is None
    return Reply(OK, _result_of(payment))


def _three_ds_available(books: AdyenBooks, body: JsonBody) -> Reply:
    number = checked_number(body, "cardNumber")
    detail = {"publicKey": books.new_id(""), "brandCode": brand("visa" if number[0] == "4" else "")}
    said = {"threeDS1Supported": True, "threeDS2supported": True, "threeDS2CardRangeDetails": []}
    return Reply(OK, said | {"dsPublicKeys": [detail]})


def _cost(_books: AdyenBooks, body: JsonBody) -> Reply:
    number = checked_number(body, "cardNumber")
    said: dict[str, object] = {
        "cardBin": {"summary": number[-4:]},
        "costEstimateAmount": {"currency": "EUR", "value": 12},
        "resultCode": "Success",
    }
    return Reply(OK, said)


_ACTS: Final[Mapping[str, Act]] = {
    "Payment/authorise": _authorise,
    "Payment/authorise3d": _authorise_3d,
    "Payment/capture": _capture,
    "Payment/cancel": _cancel,
    "Payment/refund": _refund,
    "Payment/cancelOrRefund": _cancel_or_refund,
    "Payout/payout": _payout,
    "BinLookup/get3dsAvailability": _three_ds_available,
    "BinLookup/getCostEstimate": _cost,
}
