"""The story in each SDK's words: its calls, their fields, and how it says no."""

from collections.abc import Mapping
from typing import ClassVar, Final

from tests.cards import CHECKOUT_FUNDS, DECLINED, THREE_D_SECURE
from tests.flows.dialect import (
    CHECK,
    MONTH,
    YEAR,
    Bill,
    Dialect,
    Format,
    No,
    Params,
    Step,
    Verdict,
)
from tests.flows.dialects_xml import AuthorizeNetDialect, BraintreeDialect
from tests.sdks.driver import Reply


class StripeDialect:
    """Amounts in minor units, a decline is an error."""

    format: ClassVar[Format] = "opaque"
    currency: ClassVar[str | None] = "EUR"
    words: ClassVar[Mapping[Verdict, str]] = {
        "approved": "requires_capture",
        "declined": "CardError",
        "pending": "requires_action",
    }
    numbers: ClassVar[Mapping[Verdict, str]] = {"declined": DECLINED, "pending": THREE_D_SECURE}
    amounts: ClassVar[Mapping[Verdict, int]] = {}
    decline_code: ClassVar[str] = "generic_decline"
    results: ClassVar[tuple[str, str, str]] = ("approved", "approved", "approved")
    misplaced: ClassVar[str] = "receipt_email"
    text: ClassVar[str] = "description"
    errors: ClassVar[Mapping[int, str]] = {
        400: "InvalidRequestError",
        401: "AuthenticationError",
        403: "PermissionError",
        429: "RateLimitError",
    }

    def _card(self, bill: Bill) -> Params:
        card = {"number": bill.number, "exp_month": MONTH, "exp_year": YEAR, "cvc": CHECK}
        return {"type": "card", "card": card}

    def pay(self, bill: Bill) -> Step:
        price = {"amount": bill.amount, "currency": "eur", "confirm": True}
        order = {"metadata": {"order_id": bill.reference}, "expand": ["latest_charge"]}
        card = {"payment_method_data": self._card(bill), "capture_method": "manual"}
        return Step("payment_intents.create", (), price | order | card)

    def store(self, bill: Bill) -> Step:
        return Step("payment_methods.create", (), self._card(bill))

    def id_of(self, reply: Reply) -> str:
        return str(reply.object["id"])

    def word(self, reply: Reply) -> str | None:
        return reply.error or str(reply.object["status"])

    def capture(self, id_: str, bill: Bill) -> Step:
        return Step("payment_intents.capture", (id_,))

    def void(self, id_: str, bill: Bill) -> Step:
        return Step("payment_intents.cancel", (id_,))

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        return Step("refunds.create", (), {"payment_intent": id_})

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("payment_intents.retrieve", (id_,))

    def no(self, code: str, status: int) -> No:
        if code == "idempotency_key_reused":
            return No("IdempotencyError", 400, code)
        status = 400 if status in {413, 415, 422} else status
        return No(self.errors.get(status, "APIError"), status, code)

    def told(self, reply: Reply) -> No:
        return No(reply.error, reply.status, reply.body.get("code"))


class AdyenDialect:
    """A refusal by the issuer is an answer like any other; modifications are done later."""

    format: ClassVar[Format] = "opaque"
    currency: ClassVar[str | None] = "EUR"
    words: ClassVar[Mapping[Verdict, str]] = {
        "approved": "Authorised",
        "declined": "Refused",
        "pending": "RedirectShopper",
    }
    numbers: ClassVar[Mapping[Verdict, str]] = {}
    amounts: ClassVar[Mapping[Verdict, int]] = {}
    decline_code: ClassVar[str] = "2"
    results: ClassVar[tuple[str, str, str]] = ("pending", "pending", "pending")
    misplaced: ClassVar[str] = "shopperEmail"
    text: ClassVar[str] = "metadata.note"
    holders: ClassVar[Mapping[Verdict, str]] = {
        "approved": "J. Doe",
        "declined": "DECLINED",
        "pending": "REDIRECT_SHOPPER",
    }
    errors: ClassVar[Mapping[int, str]] = {
        400: "AdyenAPIValidationError",
        401: "AdyenAPIAuthenticationError",
        403: "AdyenAPIInvalidPermission",
        422: "AdyenAPIUnprocessableEntity",
        500: "AdyenAPICommunicationError",
    }

    def _shop(self, bill: Bill) -> Params:
        return {"merchantAccount": "PanwardTest", "reference": bill.reference}

    def _amount(self, bill: Bill) -> Params:
        return {"amount": {"value": bill.amount, "currency": "EUR"}}

    def _method(self, bill: Bill) -> Params:
        return {
            "type": "scheme",
            "number": bill.number,
            "expiryMonth": f"{MONTH}",
            "expiryYear": f"{YEAR}",
            "cvc": CHECK,
            "holderName": self.holders[bill.verdict],
        }

    def pay(self, bill: Bill) -> Step:
        params = self._shop(bill) | self._amount(bill) | {"paymentMethod": self._method(bill)}
        return Step("checkout.payments_api.payments", (), params)

    def store(self, bill: Bill) -> Step:
        params = self._shop(bill) | {"paymentMethod": self._method(bill)}
        params |= {"shopperReference": "shopper-1", "recurringProcessingModel": "CardOnFile"}
        return Step("checkout.recurring_api.stored_payment_methods", (), params)

    def id_of(self, reply: Reply) -> str:
        return str(reply.object.get("pspReference") or reply.object["id"])

    def word(self, reply: Reply) -> str | None:
        return None if reply.error else str(reply.object["resultCode"])

    def _modified(self, verb: str, id_: str, bill: Bill) -> Step:
        params = self._shop(bill) | self._amount(bill)
        return Step(f"checkout.modifications_api.{verb}", (id_,), params)

    def capture(self, id_: str, bill: Bill) -> Step:
        return self._modified("capture_authorised_payment", id_, bill)

    def void(self, id_: str, bill: Bill) -> Step:
        return self._modified("cancel_authorised_payment_by_psp_reference", id_, bill)

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        return self._modified("refund_captured_payment", id_, bill)

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("checkout.payments_api.payment_methods", (), self._shop(bill))

    def no(self, code: str, status: int) -> No:
        return No(self.errors.get(status, "AdyenAPIResponseError"), status, code)

    def told(self, reply: Reply) -> No:
        return No(reply.error, reply.status, reply.code)


class CheckoutDialect:
    """One error for all; a payment that waits for its payer is 202."""

    format: ClassVar[Format] = "opaque"
    currency: ClassVar[str | None] = "EUR"
    words: ClassVar[Mapping[Verdict, str]] = {
        "approved": "Authorized",
        "declined": "Declined",
        "pending": "Pending",
    }
    numbers: ClassVar[Mapping[Verdict, str]] = {"declined": CHECKOUT_FUNDS}
    amounts: ClassVar[Mapping[Verdict, int]] = {}
    decline_code: ClassVar[str] = "20051"
    results: ClassVar[tuple[str, str, str]] = ("pending", "pending", "pending")
    misplaced: ClassVar[str] = "customer.name"
    text: ClassVar[str] = "description"

    def _card(self, bill: Bill) -> Params:
        expiry = {"expiry_month": MONTH, "expiry_year": YEAR}
        return {"type": "card", "number": bill.number, "cvv": CHECK} | expiry

    def pay(self, bill: Bill) -> Step:
        params: Params = {
            "amount": bill.amount,
            "currency": "EUR",
            "reference": bill.reference,
            "capture": False,
            "source": self._card(bill),
        }
        if bill.verdict == "pending":
            params["3ds"] = {"enabled": True}
        return Step("payments.request_payment", (), params)

    def store(self, bill: Bill) -> Step:
        return Step("instruments.create", (), self._card(bill))

    def id_of(self, reply: Reply) -> str:
        return str(reply.object.get("id") or reply.object["action_id"])

    def word(self, reply: Reply) -> str | None:
        return None if reply.error else str(reply.object["status"])

    def capture(self, id_: str, bill: Bill) -> Step:
        return Step("payments.capture_payment", (id_,), {"reference": bill.reference})

    def void(self, id_: str, bill: Bill) -> Step:
        return Step("payments.void_payment", (id_,), {"reference": bill.reference})

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        return Step("payments.refund_payment", (id_,), {"reference": bill.reference})

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("payments.get_payment_details", (id_,))

    def no(self, code: str, status: int) -> No:
        if code.startswith("idempotency_key_in"):
            return No("CheckoutApiException", 409, code)
        return No("CheckoutApiException", 422 if status in {400, 409} else status, code)

    def told(self, reply: Reply) -> No:
        return No(reply.error, reply.status, reply.code)


class CyberSourceDialect:
    """Amounts in major units, and they decide; captures and refunds are objects of their own."""

    format: ClassVar[Format] = "opaque"
    currency: ClassVar[str | None] = "EUR"
    words: ClassVar[Mapping[Verdict, str]] = {
        "approved": "AUTHORIZED",
        "declined": "DECLINED",
        "pending": "AUTHORIZED_PENDING_REVIEW",
    }
    numbers: ClassVar[Mapping[Verdict, str]] = {}
    amounts: ClassVar[Mapping[Verdict, int]] = {"declined": 105100, "pending": 105900}
    decline_code: ClassVar[str] = "INSUFFICIENT_FUND"
    results: ClassVar[tuple[str, str, str]] = ("pending", "approved", "pending")
    misplaced: ClassVar[str] = "order_information.bill_to.company"
    text: ClassVar[str] = "client_reference_information.comments"

    def _about(self, bill: Bill) -> Params:
        amount = {"total_amount": bill.major, "currency": "EUR"}
        return {
            "client_reference_information": {"code": bill.reference},
            "order_information": {"amount_details": amount},
        }

    def pay(self, bill: Bill) -> Step:
        card = {
            "number": bill.number,
            "expiration_month": f"{MONTH}",
            "expiration_year": f"{YEAR}",
            "security_code": CHECK,
        }
        params = self._about(bill) | {"payment_information": {"card": card}}
        return Step("PaymentsApi.create_payment", (), params)

    def store(self, bill: Bill) -> Step:
        params = {"card": {"number": bill.number}}
        return Step("InstrumentIdentifierApi.post_instrument_identifier", (), params)

    def id_of(self, reply: Reply) -> str:
        return str(reply.object["id"])

    def word(self, reply: Reply) -> str | None:
        return None if reply.error else str(reply.object["status"])

    def capture(self, id_: str, bill: Bill) -> Step:
        return Step("CaptureApi.capture_payment", (id_,), self._about(bill))

    def void(self, id_: str, bill: Bill) -> Step:
        return Step("VoidApi.void_payment", (id_,), self._about(bill))

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        return Step("RefundApi.refund_capture", (captured,), self._about(bill))

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("TransactionDetailsApi.get_transaction", (id_,))

    def no(self, code: str, status: int) -> No:
        return No("ApiException", 400 if status in {413, 415, 422} else status, code)

    def told(self, reply: Reply) -> No:
        return No(reply.error, reply.status, reply.code)


DIALECTS: Final[Mapping[str, Dialect]] = {
    "adyen": AdyenDialect(),
    "authorizenet": AuthorizeNetDialect(),
    "braintree": BraintreeDialect(),
    "checkout": CheckoutDialect(),
    "cybersource": CyberSourceDialect(),
    "stripe": StripeDialect(),
}
