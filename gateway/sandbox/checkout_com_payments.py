"""The simulated Checkout.com's API: which call does what. Pure.

A decline is 201 with `approved: false`. A payment that needs 3-D Secure is 202 and pending; here
the shopper has proven who they are by the time somebody asks for it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from gateway.sandbox.books import keep
from gateway.sandbox.checkout_com_books import (
    APPROVED,
    FORBIDDEN,
    NOT_FOUND,
    SCHEMES,
    CheckoutBooks,
    CheckoutRefusal,
    KeptCard,
    Payment,
    Verdict,
    invalid,
    read_card,
)
from gateway.sandbox.json_body import JsonBody

OK: Final = 200
CREATED: Final = 201
ACCEPTED: Final = 202
AMOUNT_MAX: Final = 9_999_999_999
LIST_MAX: Final = 100

_NUMBER: Final = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call comes to."""

    status: int
    body: Mapping[str, object]


OnCollection = Callable[[CheckoutBooks, JsonBody], Reply]
OnPayment = Callable[[CheckoutBooks, JsonBody, Payment], Reply]


def answered(books: CheckoutBooks, method: str, path: str, body: JsonBody) -> Reply:
    collection, _, rest = path.strip("/").partition("/")
    id_, _, verb = rest.partition("/")
    if method == "GET" and id_ and not verb:
        show = _SHOWN.get(collection)
        if show is not None:
            return show(books, id_)
    create = None if rest else _ON_COLLECTION.get(collection)
    if method == "POST" and create is not None:
        return create(books, body)
    act = _ON_PAYMENT.get(verb) if collection == "payments" else None
    if method == "POST" and act is not None:
        return act(books, body, books.payment(id_))
    raise CheckoutRefusal(NOT_FOUND)


def listed(books: CheckoutBooks, query: str) -> Reply:
    """List the payments with a reference, newest first; without one there is no list."""
    asked = dict(parse_qsl(query))
    limit, skip = asked.get("limit", "10"), asked.get("skip", "0")
    if not asked.get("reference"):
        raise invalid("reference_required")
    if not (_NUMBER.fullmatch(limit) and _NUMBER.fullmatch(skip)) or int(limit) > LIST_MAX:
        raise invalid("paging_limit_invalid")
    found = [one for one in books.payments.values() if one.reference == asked["reference"]]
    found.reverse()
    page = found[int(skip) : int(skip) + int(limit)]
    said = [_shown(one, at_once=False) if one.verdict else _waiting(one) for one in page]
    total = {"limit": int(limit), "skip": int(skip), "total_count": len(found)}
    return Reply(OK, total | {"data": said})


# --- payments -----------------------------------------------------------------------------


def _pay(books: CheckoutBooks, body: JsonBody) -> Reply:
    currency = body.text("currency")
    if currency is None:
        raise invalid("currency_required")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):  # noqa: PLR2004 - ISO 4217
        raise invalid("currency_invalid")
    amount = _amount(body, most=AMOUNT_MAX, unless_given=0)
    if body.at("destination") is not None:
        return _pay_out(books, body)
    source, card = _source(books, body.within("source"))
    payment = Payment(
        id=books.new_id("pay"),
        amount=amount,
        currency=currency,
        reference=body.text("reference"),
        card=card,
        source=source,
        capture=body.at("capture") is not False,
        requested_on=books.time(),
    )
    books.add(payment)
    if body.at("3ds.enabled") is True:
        return Reply(ACCEPTED, _challenged(payment))
    books.settle(payment)
    return Reply(CREATED, _shown(payment, at_once=True))


def _amount(body: JsonBody, *, most: int, unless_given: int) -> int:
    if body.at("amount") is None:
        return unless_given
    amount = body.whole("amount")
    if amount is None or not 0 <= amount <= most:
        raise invalid("amount_invalid")
    return amount


def _source(books: CheckoutBooks, source: JsonBody) -> tuple[str, KeptCard]:
    """Find the card, and the id under which it may be charged again."""
    match source.text("type"):
        case "card":
            card = read_card(source, at=books.now())
        case "token":
            card = _spent(books, source.text("token"))
        case "id":
            id_ = source.text("id") or ""
            return id_, _instrument(books, id_)
        case None:
            raise invalid("payment_source_required")
        case _:
            raise invalid("source_type_invalid")
    return _kept(books, card), card


def _spent(books: CheckoutBooks, token: str | None) -> KeptCard:
    """A token is good for one call."""
    card = books.tokens.pop(token or "", None)
    if card is None:
        raise invalid("token_invalid")
    return card


def _kept(books: CheckoutBooks, card: KeptCard) -> str:
    id_ = books.new_id("src")
    keep(books.instruments, id_, card)
    return id_


def _instrument(books: CheckoutBooks, id_: str) -> KeptCard:
    card = books.instruments.get(id_)
    if card is None:
        raise invalid("source_id_unknown")
    return card


def _pay_out(books: CheckoutBooks, body: JsonBody) -> Reply:
    destination = body.within("destination")
    if destination.text("type") == "id":
        _instrument(books, destination.text("id") or "")
    else:
        read_card(destination, at=books.now())
    books.counts.refunds += 1
    id_ = books.new_id("pay")
    said: dict[str, object] = {"id": id_, "status": "Pending", "reference": body.text("reference")}
    return Reply(ACCEPTED, said | {"_links": _links(id_)})


def _challenged(payment: Payment) -> dict[str, object]:
    """Where the shopper would go. The address is nobody's (RFC 6761)."""
    redirect = {"redirect": {"href": f"https://3ds.processor.invalid/checkout/{payment.id}"}}
    return {
        "id": payment.id,
        "status": payment.status,
        "reference": payment.reference,
        "3ds": {"downgraded": False, "enrolled": "Y"},
        "_links": _links(payment.id) | redirect,
    }


def _waiting(payment: Payment) -> dict[str, object]:
    """Show a payment that waits for its shopper as a list does."""
    return _challenged(payment) | {
        "amount": payment.amount,
        "currency": payment.currency,
        "requested_on": payment.requested_on,
    }


def _retrieved(books: CheckoutBooks, id_: str) -> Reply:
    payment = books.payment(id_)
    if payment.verdict is None:
        books.settle(payment)
    return Reply(OK, _shown(payment, at_once=False))


def _shown(payment: Payment, *, at_once: bool) -> dict[str, object]:
    """Show a payment; at first one that is captured at once is not yet."""
    verdict = payment.verdict
    assert verdict is not None  # it is settled
    early = at_once and payment.status == "Captured"
    shown: dict[str, object] = {
        "id": payment.id,
        "action_id": payment.action_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "approved": verdict.approved,
        "status": "Authorized" if early else payment.status,
        "reference": payment.reference,
        "requested_on": payment.requested_on,
        "processed_on": payment.requested_on,
        "risk": {"flagged": False},
        "source": {"id": payment.source, "type": "card", **_card(payment.card)},
        "_links": _links(payment.id),
    }
    return shown | _said(verdict, payment.id)


def _said(verdict: Verdict, id_: str) -> dict[str, object]:
    said: dict[str, object] = {"response_code": verdict.code, "response_summary": verdict.summary}
    if verdict.approved:
        said |= {
            "auth_code": id_[-6:].upper(),
            "scheme_id": id_[4:19],
            "processing": {
                "acquirer_transaction_id": id_[-20:],
                "retrieval_reference_number": id_[-12:],
            },
        }
    return said


def _card(card: KeptCard) -> dict[str, object]:
    shown = card.shown
    return {
        "expiry_month": shown.month,
        "expiry_year": shown.year,
        "scheme": SCHEMES.get(shown.brand, shown.brand),
        "last4": shown.last4,
        "bin": shown.bin,
        "card_type": "CREDIT",
        "card_category": "CONSUMER",
        "issuer_country": "US",
        "avs_check": "S",
        "cvv_check": "Y" if card.cvv_sent else "X",
    }


def _links(id_: str) -> dict[str, object]:
    href = f"https://api.sandbox.checkout.com/payments/{id_}"
    return {"self": {"href": href}, "actions": {"href": f"{href}/actions"}}


# --- what is done with a payment ----------------------------------------------------------


def _capture(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    _only_if(payment.status == "Authorized")
    payment.captured = _amount(body, most=payment.amount, unless_given=payment.amount)
    books.counts.captures += 1
    return _accepted(books, body, payment, "payment_captured", payment.captured)


def _void(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    _only_if(payment.status == "Authorized")
    payment.voided = True
    books.counts.cancels += 1
    return _accepted(books, body, payment, "payment_voided", payment.amount)


def _refund(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    left = payment.captured - payment.refunded
    _only_if(left > 0)
    payment.refunded += (amount := _amount(body, most=left, unless_given=left))
    books.counts.refunds += 1
    return _accepted(books, body, payment, "payment_refunded", amount)


def _reverse(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    """Void or refund, whichever is still possible."""
    return (_refund if payment.captured else _void)(books, body, payment)


def _cancel(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    """End the scheduled retries of a declined payment."""
    _only_if(payment.status == "Declined")
    books.counts.cancels += 1
    return _accepted(books, body, payment, "payment_canceled", payment.amount)


def _increase(books: CheckoutBooks, body: JsonBody, payment: Payment) -> Reply:
    _only_if(payment.status == "Authorized")
    payment.amount += _amount(body, most=AMOUNT_MAX - payment.amount, unless_given=0)
    action = books.new_id("act")
    said: dict[str, object] = {
        "action_id": action,
        "amount": payment.amount,
        "currency": payment.currency,
        "approved": True,
        "status": payment.status,
        "processed_on": books.time(),
        "_links": {"payment": {"href": _href(payment)}},
    }
    return Reply(CREATED, said | _said(APPROVED, action))


def _only_if(allowed: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if not allowed:
        raise CheckoutRefusal(FORBIDDEN)


def _accepted(
    books: CheckoutBooks, body: JsonBody, payment: Payment, type_: str, amount: int
) -> Reply:
    """Say that it was taken on, and report its end."""
    action, reference = books.new_id("act"), body.text("reference")
    books.tell(type_, payment, action, amount, reference)
    said: dict[str, object] = {
        "action_id": action,
        "reference": reference,
        "_links": {"payment": {"href": _href(payment)}},
    }
    return Reply(ACCEPTED, said)


def _href(payment: Payment) -> str:
    return f"https://api.sandbox.checkout.com/payments/{payment.id}"


# --- cards that are not charged -----------------------------------------------------------


def _tokenize(books: CheckoutBooks, body: JsonBody) -> Reply:
    if body.text("type") != "card":
        raise invalid("type_invalid")
    card = read_card(body, at=books.now())
    token = books.new_id("tok")
    keep(books.tokens, token, card)
    said: dict[str, object] = {"type": "card", "token": token, "expires_on": books.time()}
    return Reply(CREATED, said | _card(card))


def _store(books: CheckoutBooks, body: JsonBody) -> Reply:
    """Keep a card, sent itself or as a token."""
    token = body.text("token")
    card = read_card(body, at=books.now()) if token is None else _spent(books, token)
    if not card.verdict.approved:
        books.counts.declines += 1
        raise invalid("card_verification_declined")
    id_ = _kept(books, card)
    return Reply(CREATED, {"id": id_, "type": "card", **_card(card)})


def _stored(books: CheckoutBooks, id_: str) -> Reply:
    card = books.instruments.get(id_)
    if card is None:
        raise CheckoutRefusal(NOT_FOUND)
    return Reply(OK, {"id": id_, "type": "card", **_card(card)})


def _authenticate(books: CheckoutBooks, body: JsonBody) -> Reply:
    """3-D Secure apart from a payment."""
    read_card(body.within("source"), at=books.now())
    id_ = books.new_id("sid")
    said: dict[str, object] = {
        "id": id_,
        "session_secret": books.new_id("sek"),
        "status": "pending",
        "next_actions": ["redirect_cardholder"],
        "_links": {"redirect_url": {"href": f"https://3ds.processor.invalid/checkout/{id_}"}},
    }
    return Reply(CREATED, said)


_ON_COLLECTION: Final[Mapping[str, OnCollection]] = {
    "payments": _pay,
    "tokens": _tokenize,
    "instruments": _store,
    "sessions": _authenticate,
}
_ON_PAYMENT: Final[Mapping[str, OnPayment]] = {
    "captures": _capture,
    "voids": _void,
    "refunds": _refund,
    "reversals": _reverse,
    "cancellations": _cancel,
    "authorizations": _increase,
}
_SHOWN: Final[Mapping[str, Callable[[CheckoutBooks, str], Reply]]] = {
    "payments": _retrieved,
    "instruments": _stored,
}
