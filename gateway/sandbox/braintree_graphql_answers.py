"""How the simulated Braintree shows what it holds, in its GraphQL answers. Pure."""

from decimal import Decimal
from typing import Final

from gateway.sandbox.braintree_answers import CURRENCY, global_id
from gateway.sandbox.braintree_books import Books, Transaction, Verification
from gateway.sandbox.braintree_cards import Decision, KeptCard

Payload = dict[str, object]

_EVENTS: Final = {
    "authorized": "AuthorizedEvent",
    "processor_declined": "ProcessorDeclinedEvent",
    "failed": "FailedEvent",
    "gateway_rejected": "GatewayRejectedEvent",
    "submitted_for_settlement": "SubmittedForSettlementEvent",
    "settlement_pending": "SubmittedForSettlementEvent",
    "settled": "SettledEvent",
    "voided": "VoidedEvent",
}


def card_shown(card: KeptCard) -> Payload:
    return {
        "__typename": "CreditCardDetails",
        "brandCode": card.card_type.upper().replace(" ", "_"),
        "last4": card.last4,
        "bin": card.bin,
        "expirationMonth": card.exp_month,
        "expirationYear": card.exp_year,
        "cardholderName": card.holder,
    }


def _money(amount: Decimal) -> Payload:
    return {"value": str(amount), "currencyCode": CURRENCY, "currencyIsoCode": CURRENCY}


def transaction_shown(made: Transaction) -> Payload:
    return {
        "__typename": "Transaction",
        "id": global_id("transaction", made.id),
        "legacyId": made.id,
        "createdAt": f"{made.created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "amount": _money(made.amount),
        "orderId": made.order.order_id,
        "merchantAccountId": made.order.merchant_account_id,
        "status": made.status.upper(),
        "statusHistory": [
            {
                "__typename": _EVENTS[event.status],
                "status": event.status.upper(),
                "timestamp": f"{event.at:%Y-%m-%dT%H:%M:%S.%fZ}",
                "amount": _money(event.amount),
                "processorResponse": _issuer_said(made.decision, made.card)
                | {"authorizationId": made.authorization_code},
                "networkTransactionId": made.network_transaction_id,
                "declineType": (made.decision.kind or "").upper() or None,
                "gatewayRejectionReason": (made.decision.rejection_reason or "").upper() or None,
            }
            for event in reversed(made.history)
        ],
        "paymentMethodSnapshot": card_shown(made.card),
    }


def _issuer_said(decision: Decision, card: KeptCard) -> Payload:
    return {
        "legacyCode": decision.code,
        "message": decision.text,
        "cvvResponse": card.cvv_answer,
    }


def verification_shown(verification: Verification) -> Payload:
    return {
        "id": global_id("verification", verification.id),
        "legacyId": verification.id,
        "status": verification.status.upper(),
        "amount": _money(verification.amount),
        "processorResponse": _issuer_said(verification.decision, verification.card),
        "createdAt": f"{verification.created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def instant_now(books: Books) -> str:
    return f"{books.now():%Y-%m-%dT%H:%M:%S.%fZ}"
