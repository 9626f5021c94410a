"""How the simulated Braintree shows what it holds, in its REST answers. Pure."""

import base64
from datetime import datetime

import msgspec

from gateway.sandbox.braintree_books import (
    Books,
    Customer,
    StoredCard,
    Transaction,
    Verification,
)
from gateway.sandbox.braintree_cards import KeptCard
from gateway.sandbox.braintree_document import Listed, Shown

CURRENCY = "USD"


def transaction_shown(made: Transaction) -> dict[str, Shown]:
    order = made.order
    return {
        "id": made.id,
        "global_id": global_id("transaction", made.id),
        "status": made.status,
        "type": made.type,
        "currency_iso_code": CURRENCY,
        "amount": str(made.amount),
        "merchant_account_id": order.merchant_account_id or "panward_sandbox",
        "order_id": order.order_id,
        "created_at": made.created_at,
        "updated_at": made.updated_at,
        "customer": {"id": order.customer_id},
        "billing": {"id": None},
        "refund_ids": Listed("item", tuple(made.refunds)),
        "refunded_transaction_id": made.refunded_transaction,
        "partial_settlement_transaction_ids": Listed("item", tuple(made.partial_settlements)),
        "authorized_transaction_id": made.authorized_transaction,
        "settlement_batch_id": None,
        "payment_instrument_type": "credit_card",
        **_issuer_said(made),
        "credit_card": _card_shown(made.card, made.card_token),
        "status_history": Listed(
            "status_event",
            tuple(
                {
                    "timestamp": event.at,
                    "status": event.status,
                    "amount": str(event.amount),
                    "user": "sandbox",
                    "transaction_source": "api",
                }
                for event in made.history
            ),
        ),
    }


def _issuer_said(made: Transaction) -> dict[str, Shown]:
    decision = made.decision
    return {
        "avs_error_response_code": None,
        "avs_postal_code_response_code": "I",
        "avs_street_address_response_code": "I",
        "cvv_response_code": made.card.cvv_answer,
        "gateway_rejection_reason": decision.rejection_reason,
        "processor_authorization_code": made.authorization_code,
        "processor_response_code": decision.code,
        "processor_response_text": decision.text,
        "processor_response_type": decision.kind,
        "network_transaction_id": made.network_transaction_id,
    }


def _card_shown(card: KeptCard, token: str | None) -> dict[str, Shown]:
    return {
        "token": token,
        "bin": card.bin,
        "last_4": card.last4,
        "card_type": card.card_type,
        "expiration_month": card.exp_month,
        "expiration_year": card.exp_year,
        "cardholder_name": card.holder,
        "customer_location": "US",
        "prepaid": "Unknown",
        "debit": "Unknown",
    }


def stored_shown(stored: StoredCard, at: datetime) -> dict[str, Shown]:
    return _card_shown(stored.card, stored.token) | {
        "global_id": global_id("paymentmethod_cc", stored.token),
        "customer_id": stored.customer,
        "default": True,
        "expired": (stored.card.exp_year, stored.card.exp_month) < (f"{at:%Y}", f"{at:%m}"),
        "created_at": at,
        "updated_at": at,
        "subscriptions": Listed("subscription"),
        "verifications": Listed("verification"),
    }


def customer_shown(books: Books, customer: Customer) -> dict[str, Shown]:
    cards = tuple(books.cards[token] for token in customer.tokens if token in books.cards)
    return {
        "id": customer.id,
        "global_id": global_id("customer", customer.id),
        **dict(customer.names),
        "created_at": customer.created_at,
        "updated_at": customer.created_at,
        "addresses": Listed("address"),
        "credit_cards": Listed(
            "credit_card", tuple(stored_shown(each, customer.created_at) for each in cards)
        ),
    }


def verification_shown(verification: Verification) -> dict[str, Shown]:
    decision = verification.decision
    return {
        "id": verification.id,
        "global_id": global_id("verification", verification.id),
        "status": verification.status,
        "amount": str(verification.amount),
        "currency_iso_code": CURRENCY,
        "avs_postal_code_response_code": "I",
        "avs_street_address_response_code": "I",
        "cvv_response_code": verification.card.cvv_answer,
        "gateway_rejection_reason": None,
        "processor_response_code": decision.code,
        "processor_response_text": decision.text,
        "processor_response_type": decision.kind,
        "created_at": verification.created_at,
        "updated_at": verification.created_at,
        "credit_card": _card_shown(verification.card, None),
    }


def client_token_shown(books: Books) -> dict[str, Shown]:
    """A client token is base64 of JSON; this one opens nothing."""
    inside = {"version": 2, "authorizationFingerprint": books.short_id(), "environment": "sandbox"}
    return {"value": base64.b64encode(msgspec.json.encode(inside)).decode()}


def global_id(kind: str, id_: str) -> str:
    """Name a thing as GraphQL does."""
    return base64.urlsafe_b64encode(f"{kind}_{id_}".encode()).decode().rstrip("=")
