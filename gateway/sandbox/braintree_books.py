"""What one merchant at the simulated Braintree holds, and what becomes of it. Pure.

REST and GraphQL are two ways to ask for the same things, which are here: charge, settle, void,
refund, store, verify. Card numbers are not among what is kept.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from gateway.sandbox import braintree_refusals as refusals
from gateway.sandbox.books import Counts, keep
from gateway.sandbox.braintree_cards import (
    APPROVED,
    Decision,
    KeptCard,
    decision_on,
    declined_with,
)
from gateway.sandbox.braintree_refusals import Invalid, NotFound

_AMOUNT: Final = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,2})?", re.ASCII)
_CENT: Final = Decimal("0.01")
_ON_TRANSACTION: Final = ("transaction",)
_VOIDABLE: Final = frozenset({"authorized", "submitted_for_settlement", "settlement_pending"})
_SETTLED: Final = frozenset({"settling", "settled"})


@dataclass(frozen=True, slots=True)
class Order:
    """What a transaction is made for, as far as it is only kept and shown again."""

    order_id: str | None = None
    merchant_account_id: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """A transaction's status, from then on."""

    status: str
    at: datetime
    amount: Decimal


@dataclass(slots=True)
class Transaction:
    """A sale, or a credit: one of its own, or of a sale."""

    id: str
    type: str  # sale, credit
    amount: Decimal
    status: str
    card: KeptCard
    card_token: str | None
    order: Order
    decision: Decision
    authorization_code: str | None
    network_transaction_id: str | None
    created_at: datetime
    updated_at: datetime
    refunded_transaction: str | None = None
    authorized_transaction: str | None = None
    refunds: list[str] = field(default_factory=list[str])
    partial_settlements: list[str] = field(default_factory=list[str])
    history: list[HistoryEvent] = field(default_factory=list[HistoryEvent])

    @property
    def declined(self) -> bool:
        return self.decision is not APPROVED


@dataclass(frozen=True, slots=True)
class StoredCard:
    """A card in the vault, by its token, or behind a nonce (single-use) if nobody's yet."""

    token: str
    card: KeptCard
    customer: str | None


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer, with the tokens of what is stored for them."""

    id: str
    names: tuple[tuple[str, str | None], ...]  # field by field, as they were sent
    tokens: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Verification:
    """An issuer's word on a card that was not charged."""

    id: str
    status: str  # verified, processor_declined, failed
    amount: Decimal
    card: KeptCard
    decision: Decision
    created_at: datetime


class NotVerified(Exception):
    """A card that was to be stored only if its issuer knows it."""

    def __init__(self, verification: Verification) -> None:
        super().__init__(verification.status)
        self.verification = verification


@dataclass(slots=True)
class Books:
    """One merchant's objects, by id."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    counts: Counts
    transactions: dict[str, Transaction] = field(default_factory=dict[str, Transaction])
    cards: dict[str, StoredCard] = field(default_factory=dict[str, StoredCard])
    nonces: dict[str, KeptCard | None] = field(default_factory=dict[str, KeptCard | None])
    customers: dict[str, Customer] = field(default_factory=dict[str, Customer])
    verifications: dict[str, Verification] = field(default_factory=dict[str, Verification])

    def short_id(self) -> str:
        """Eight small letters and digits, as this processor numbers what it keeps."""
        digest = hashlib.blake2b(self.new_id("").encode(), digest_size=5).digest()
        return base64.b32encode(digest).decode().lower()


def amount_of(text: str | None) -> Decimal:
    if text is None:
        raise Invalid(_ON_TRANSACTION, refusals.AMOUNT_REQUIRED)
    if _AMOUNT.fullmatch(text) is None:
        raise Invalid(_ON_TRANSACTION, refusals.AMOUNT_FORMAT)
    amount = Decimal(text).quantize(_CENT)
    if not amount:
        raise Invalid(_ON_TRANSACTION, refusals.AMOUNT_ZERO)
    return amount


def transaction_by(books: Books, id_: str) -> Transaction:
    transaction = books.transactions.get(id_)
    if transaction is None:
        raise NotFound
    return transaction


# --- charging -----------------------------------------------------------------------------


def sell(
    books: Books,
    amount: Decimal,
    card: KeptCard,
    order: Order,
    *,
    settle: bool,
    card_token: str | None = None,
) -> Transaction:
    """Ask the issuer; what the amount decides is kept either way."""
    decision = decision_on(amount)
    sale = _new(books, "sale", amount, card, order, decision)
    sale.card_token = card_token
    books.counts.charges += decision is APPROVED
    books.counts.declines += decision is not APPROVED
    if settle and decision is APPROVED:
        _move(books, sale, "submitted_for_settlement")
    return sale


def credit(books: Books, amount: Decimal, card: KeptCard, order: Order) -> Transaction:
    """Give money to a card that was not charged here."""
    decision = decision_on(amount)
    made = _new(books, "credit", amount, card, order, decision)
    if decision is APPROVED:
        _move(books, made, "submitted_for_settlement")
    books.counts.refunds += decision is APPROVED
    books.counts.declines += decision is not APPROVED
    return made


def _new(
    books: Books, type_: str, amount: Decimal, card: KeptCard, order: Order, decision: Decision
) -> Transaction:
    at = books.now()
    number = books.short_id().upper()  # stands for the issuer's own numbering
    approved = decision is APPROVED
    made = Transaction(
        id=books.short_id(),
        type=type_,
        amount=amount,
        status=decision.status,
        card=card,
        card_token=None,
        order=order,
        decision=decision,
        authorization_code=number[:6] if approved else None,
        network_transaction_id=f"NET{number}" if approved else None,
        created_at=at,
        updated_at=at,
    )
    made.history.append(HistoryEvent(made.status, at, amount))
    keep(books.transactions, made.id, made)
    return made


def _move(books: Books, transaction: Transaction, status: str) -> None:
    transaction.status, transaction.updated_at = status, books.now()
    event = HistoryEvent(status, transaction.updated_at, transaction.amount)
    transaction.history.append(event)


def submit_for_settlement(books: Books, id_: str, amount: Decimal | None) -> Transaction:
    transaction = transaction_by(books, id_)
    if transaction.status != "authorized":
        raise Invalid(_ON_TRANSACTION, refusals.NOT_SETTLEABLE)
    if amount is not None:
        if amount > transaction.amount:
            raise Invalid(_ON_TRANSACTION, refusals.SETTLEMENT_TOO_LARGE)
        transaction.amount = amount
    _move(books, transaction, "submitted_for_settlement")
    books.counts.captures += 1
    return transaction


def submit_for_partial_settlement(books: Books, id_: str, amount: Decimal) -> Transaction:
    """Settle a part, as a transaction of its own; the rest can be settled later."""
    parent = transaction_by(books, id_)
    if parent.status not in {"authorized", "settlement_pending"}:
        raise Invalid(_ON_TRANSACTION, refusals.NOT_PARTLY_SETTLEABLE)
    settled = sum(books.transactions[each].amount for each in parent.partial_settlements)
    if amount > parent.amount - settled:
        raise Invalid(_ON_TRANSACTION, refusals.SETTLEMENT_TOO_LARGE)
    part = _new(books, "sale", amount, parent.card, parent.order, APPROVED)
    part.authorized_transaction = parent.id
    part.authorization_code = parent.authorization_code
    part.network_transaction_id = parent.network_transaction_id
    _move(books, part, "submitted_for_settlement")
    parent.partial_settlements.append(part.id)
    if parent.status == "authorized":
        _move(books, parent, "settlement_pending")
    books.counts.captures += 1
    return part


def void(books: Books, id_: str) -> Transaction:
    transaction = transaction_by(books, id_)
    if transaction.status not in _VOIDABLE:
        raise Invalid(_ON_TRANSACTION, refusals.NOT_VOIDABLE)
    _move(books, transaction, "voided")
    books.counts.cancels += 1
    return transaction


def settle(books: Books, id_: str) -> Transaction:
    """Do what the night's batch would do: the sandbox offers it as a call."""
    transaction = transaction_by(books, id_)
    if transaction.status != "submitted_for_settlement":
        raise Invalid(_ON_TRANSACTION, refusals.NOT_SETTLED_YET)
    _move(books, transaction, "settled")
    return transaction


def refund(books: Books, id_: str, amount: Decimal | None) -> Transaction:
    sale = transaction_by(books, id_)
    if sale.type == "credit":
        raise Invalid(_ON_TRANSACTION, refusals.CREDIT_NOT_REFUNDABLE)
    if sale.status not in _SETTLED:
        raise Invalid(_ON_TRANSACTION, refusals.NOT_REFUNDABLE)
    left = sale.amount - sum(books.transactions[each].amount for each in sale.refunds)
    if not left:
        raise Invalid(_ON_TRANSACTION, refusals.REFUNDED_ALREADY)
    if amount is not None and amount > left:
        raise Invalid(_ON_TRANSACTION, refusals.REFUND_TOO_LARGE)
    made = _new(books, "credit", amount or left, sale.card, sale.order, APPROVED)
    made.refunded_transaction = sale.id
    _move(books, made, "submitted_for_settlement")
    sale.refunds.append(made.id)
    books.counts.refunds += 1
    return made


def reverse(books: Books, id_: str) -> Transaction:
    """Void what can still be voided, else give all of it back."""
    if transaction_by(books, id_).status in _SETTLED:
        return refund(books, id_, None)
    return void(books, id_)


# --- storing ------------------------------------------------------------------------------


def keep_nonce(books: Books, card: KeptCard) -> str:
    """Hold a card for one use."""
    nonce = f"tokencc_bh_{books.short_id()}"
    keep(books.nonces, nonce, card)
    return nonce


def use_nonce(books: Books, nonce: str) -> KeptCard | None:
    """Take the card behind a nonce; None if it was used before. NotFound: no such nonce."""
    if nonce not in books.nonces:
        raise NotFound
    card = books.nonces[nonce]
    books.nonces[nonce] = None
    return card


def store(books: Books, card: KeptCard, customer_id: str | None) -> StoredCard:
    stored = StoredCard(books.short_id(), card, customer_id)
    keep(books.cards, stored.token, stored)
    customer = books.customers.get(customer_id or "")
    if customer is not None:
        books.customers[customer.id] = replace(customer, tokens=(*customer.tokens, stored.token))
    return stored


def verify(books: Books, card: KeptCard, amount: Decimal = Decimal("0.00")) -> Verification:
    """Ask the issuer without charging: the card's number decides."""
    passed = card.verification_code == APPROVED.code
    decision = APPROVED if passed else declined_with(card.verification_code)
    verification = Verification(
        id=books.short_id(),
        status="verified" if passed else decision.status,
        amount=amount,
        card=card,
        decision=decision,
        created_at=books.now(),
    )
    keep(books.verifications, verification.id, verification)
    books.counts.declines += not passed
    return verification


def verify_to_store(books: Books, card: KeptCard) -> Verification:
    verification = verify(books, card)
    if verification.decision is not APPROVED:
        raise NotVerified(verification)
    return verification
