"""The simulated Braintree's REST calls: which there are, and what each does. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.sandbox import braintree_books as ledger
from gateway.sandbox import braintree_refusals as refusals
from gateway.sandbox.books import keep
from gateway.sandbox.braintree_answers import (
    client_token_shown,
    customer_shown,
    stored_shown,
    transaction_shown,
    verification_shown,
)
from gateway.sandbox.braintree_books import Books, Customer, NotVerified, Order, Transaction
from gateway.sandbox.braintree_cards import APPROVED, KeptCard, read_card
from gateway.sandbox.braintree_document import Fields, Shown
from gateway.sandbox.braintree_refusals import (
    Invalid,
    NotFound,
    Place,
    Problem,
    shown_error,
    shown_invalid,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is written: its root element, and what is in it."""

    status: int
    root: str
    shown: dict[str, Shown]


Act = Callable[[Books, Fields, str], Reply]

_CUSTOMER_NAMES: Final = ("first_name", "last_name", "company", "email", "phone")
_TRANSACTION: Final = ("transaction",)
_CARD: Final = ("credit_card",)


def replied(books: Books, method: str, path: str, fields: Fields) -> Reply:
    """Carry a call out; `path` is what follows the merchant's id."""
    try:
        return _carried_out(books, method, path, fields)
    except NotFound:
        return _error(404, {"errors": {}, "message": "Not Found"})
    except Invalid as invalid:
        return _error(422, shown_invalid(invalid))
    except NotVerified as refused:
        verification = refused.verification
        inside: dict[str, Shown] = {"verification": verification_shown(verification)}
        return _error(422, shown_error(verification.decision.text or "", inside))


def _carried_out(books: Books, method: str, path: str, fields: Fields) -> Reply:
    for known_method, template, act in _CALLS:
        found = template.fullmatch(path)
        if found is not None and known_method == method:
            return act(books, fields, found[1] if template.groups else "")
    raise NotFound


def _error(status: int, shown: dict[str, Shown]) -> Reply:
    return Reply(status, "api_error_response", shown)


# --- transactions -------------------------------------------------------------------------


def _create_transaction(books: Books, fields: Fields, _id: str) -> Reply:
    asked = fields.under("transaction")
    type_ = asked.text("type")
    if type_ is None:
        raise Invalid(_TRANSACTION, refusals.TYPE_REQUIRED)
    if type_ not in {"sale", "credit"}:
        raise Invalid(_TRANSACTION, refusals.TYPE_INVALID)
    amount = ledger.amount_of(asked.text("amount"))
    card, token = _card_to_charge(books, asked)
    order = Order(
        order_id=asked.text("order_id"),
        merchant_account_id=asked.text("merchant_account_id"),
        customer_id=asked.text("customer_id"),
    )
    if type_ == "credit":
        return _transaction_reply(ledger.credit(books, amount, card, order))
    options = asked.under("options")
    settle = options.flag("submit_for_settlement")
    sale = ledger.sell(books, amount, card, order, settle=settle, card_token=token)
    wanted = options.flag("store_in_vault") or options.flag("store_in_vault_on_success")
    if wanted and token is None and not sale.declined:
        sale.card_token = ledger.store(books, card, order.customer_id).token
    return _transaction_reply(sale)


def _card_to_charge(books: Books, asked: Fields) -> tuple[KeptCard, str | None]:
    """Find the card of a transaction: sent along, in the vault, or behind a nonce."""
    if "credit_card" in asked and "number" in asked.under("credit_card"):
        return read_card(asked.under("credit_card"), (*_TRANSACTION, *_CARD)), None
    token, nonce = asked.text("payment_method_token"), asked.text("payment_method_nonce")
    if token is not None:
        stored = books.cards.get(token)
        if stored is None:
            raise Invalid(_TRANSACTION, refusals.PAYMENT_METHOD_TOKEN)
        return stored.card, stored.token
    if nonce is None:
        raise Invalid(_TRANSACTION, refusals.CARD_REQUIRED)
    unknown, consumed = refusals.NONCE_UNKNOWN, refusals.NONCE_CONSUMED
    return _card_behind(books, nonce, _TRANSACTION, unknown, consumed), None


def _card_behind(
    books: Books, nonce: str, place: Place, unknown: Problem, consumed: Problem
) -> KeptCard:
    problem = consumed
    try:
        card = ledger.use_nonce(books, nonce)
    except NotFound:
        card, problem = None, unknown
    if card is None:
        raise Invalid(place, problem)
    return card


def _transaction_reply(made: Transaction, status: int = 201) -> Reply:
    shown = transaction_shown(made)
    if not made.declined:
        return Reply(status, "transaction", shown)
    message = made.decision.text or "Gateway Rejected: application_incomplete"
    return _error(422, shown_error(message, {"transaction": shown}))


def _find_transaction(books: Books, _fields: Fields, id_: str) -> Reply:
    return Reply(200, "transaction", transaction_shown(ledger.transaction_by(books, id_)))


def _submit_for_settlement(books: Books, fields: Fields, id_: str) -> Reply:
    made = ledger.submit_for_settlement(books, id_, _amount(fields))
    return _transaction_reply(made, 200)


def _submit_for_partial_settlement(books: Books, fields: Fields, id_: str) -> Reply:
    amount = ledger.amount_of(fields.under("transaction").text("amount"))
    return _transaction_reply(ledger.submit_for_partial_settlement(books, id_, amount))


def _void(books: Books, _fields: Fields, id_: str) -> Reply:
    return _transaction_reply(ledger.void(books, id_), 200)


def _settle(books: Books, _fields: Fields, id_: str) -> Reply:
    return _transaction_reply(ledger.settle(books, id_), 200)


def _refund(books: Books, fields: Fields, id_: str) -> Reply:
    return _transaction_reply(ledger.refund(books, id_, _amount(fields)))


def _amount(fields: Fields) -> Decimal | None:
    text = fields.under("transaction").text("amount")
    return None if text is None else ledger.amount_of(text)


# --- storing and verifying ----------------------------------------------------------------


def _create_customer(books: Books, fields: Fields, _id: str) -> Reply:
    asked = fields.under("customer")
    id_ = asked.text("id") or books.short_id()
    if id_ in books.customers:
        raise Invalid(("customer",), refusals.CUSTOMER_ID_IN_USE)
    card = _card_of_customer(books, asked)
    names = tuple((name, asked.text(name)) for name in _CUSTOMER_NAMES)
    keep(books.customers, id_, Customer(id_, names, (), books.now()))
    if card is not None:
        ledger.store(books, card, id_)
    return Reply(201, "customer", customer_shown(books, books.customers[id_]))


def _card_of_customer(books: Books, asked: Fields) -> KeptCard | None:
    nonce = asked.text("payment_method_nonce")
    if nonce is not None:
        unknown, consumed = refusals.CARD_NONCE_UNKNOWN, refusals.CARD_NONCE_CONSUMED
        return _card_behind(books, nonce, ("customer", *_CARD), unknown, consumed)
    if "credit_card" not in asked:
        return None
    sent = asked.under("credit_card")
    card = read_card(sent, ("customer", *_CARD))
    if sent.under("options").flag("verify_card"):
        ledger.verify_to_store(books, card)
    return card


def _find_customer(books: Books, _fields: Fields, id_: str) -> Reply:
    customer = books.customers.get(id_)
    if customer is None:
        raise NotFound
    return Reply(200, "customer", customer_shown(books, customer))


def _create_payment_method(books: Books, fields: Fields, _id: str) -> Reply:
    """Store a card for a customer: `credit_card`, or `payment_method` with a nonce or a card."""
    root = "credit_card" if "credit_card" in fields else "payment_method"
    asked = fields.under(root)
    customer, nonce = asked.text("customer_id"), asked.text("payment_method_nonce")
    if customer is None:
        raise Invalid((root,), refusals.CUSTOMER_REQUIRED)
    if customer not in books.customers:
        raise Invalid((root,), refusals.CARD_CUSTOMER_INVALID)
    if nonce is None:
        card = read_card(asked, (root,))
    else:
        unknown, consumed = refusals.CARD_NONCE_UNKNOWN, refusals.CARD_NONCE_CONSUMED
        card = _card_behind(books, nonce, (root,), unknown, consumed)
    if asked.under("options").flag("verify_card"):
        ledger.verify_to_store(books, card)
    stored = ledger.store(books, card, customer)
    return Reply(201, "credit_card", stored_shown(stored, books.now()))


def _find_card(books: Books, _fields: Fields, token: str) -> Reply:
    stored = books.cards.get(token)
    if stored is None:
        raise NotFound
    return Reply(200, "credit_card", stored_shown(stored, books.now()))


def _create_verification(books: Books, fields: Fields, _id: str) -> Reply:
    asked = fields.under("verification")
    place = ("verification", *_CARD)
    nonce = asked.text("payment_method_nonce")
    if nonce is None:
        card = read_card(asked.under("credit_card"), place)
    else:
        unknown, consumed = refusals.CARD_NONCE_UNKNOWN, refusals.CARD_NONCE_CONSUMED
        card = _card_behind(books, nonce, place, unknown, consumed)
    amount = asked.under("options").text("amount")
    verified = ledger.verify(
        books, card, Decimal("0.00") if amount is None else ledger.amount_of(amount)
    )
    if verified.decision is not APPROVED:
        raise NotVerified(verified)
    return Reply(201, "verification", verification_shown(verified))


def _find_verification(books: Books, _fields: Fields, id_: str) -> Reply:
    verification = books.verifications.get(id_)
    if verification is None:
        raise NotFound
    return Reply(200, "verification", verification_shown(verification))


def _create_client_token(books: Books, _fields: Fields, _id: str) -> Reply:
    return Reply(201, "client_token", client_token_shown(books))


_ID: Final = "([A-Za-z0-9_-]+)"
_CALLS: Final[tuple[tuple[str, re.Pattern[str], Act], ...]] = tuple(
    (method, re.compile(f"/{template.format(id=_ID)}", re.ASCII), act)
    for method, template, act in (
        ("POST", "transactions", _create_transaction),
        ("GET", "transactions/{id}", _find_transaction),
        ("PUT", "transactions/{id}/submit_for_settlement", _submit_for_settlement),
        ("POST", "transactions/{id}/submit_for_partial_settlement", _submit_for_partial_settlement),
        ("PUT", "transactions/{id}/void", _void),
        ("PUT", "transactions/{id}/settle", _settle),
        ("POST", "transactions/{id}/refund", _refund),
        ("POST", "customers", _create_customer),
        ("GET", "customers/{id}", _find_customer),
        ("POST", "payment_methods", _create_payment_method),
        ("POST", "payment_methods/credit_card", _create_payment_method),
        ("GET", "payment_methods/credit_card/{id}", _find_card),
        ("GET", "payment_methods/any/{id}", _find_card),
        ("POST", "verifications", _create_verification),
        ("GET", "verifications/{id}", _find_verification),
        ("POST", "client_token", _create_client_token),
    )
)
