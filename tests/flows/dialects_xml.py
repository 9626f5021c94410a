"""The story in the words of the SDKs that write XML: Braintree's and Authorize.Net's."""

import re
from collections.abc import Mapping
from typing import ClassVar

from tests.cards import VISA_ALT
from tests.flows.dialect import CHECK, MONTH, YEAR, Bill, Format, No, Params, Step, Verdict
from tests.sdks.driver import Reply


class BraintreeDialect:
    """XML; a refusal and a decline are results, not errors, and amounts decide."""

    format: ClassVar[Format] = "opaque"
    currency: ClassVar[str | None] = None  # the merchant account's
    words: ClassVar[Mapping[Verdict, str]] = {
        "approved": "authorized",
        "declined": "processor_declined",
    }
    numbers: ClassVar[Mapping[Verdict, str]] = {}
    amounts: ClassVar[Mapping[Verdict, int]] = {"declined": 200100}
    decline_code: ClassVar[str] = "2001"
    results: ClassVar[tuple[str, str, str]] = ("approved", "approved", "approved")
    misplaced: ClassVar[str] = "customer.company"
    text: ClassVar[str] = "order_id"
    errors: ClassVar[Mapping[int, str]] = {
        401: "AuthenticationError",
        403: "AuthorizationError",
        429: "TooManyRequestsError",
        500: "ServerError",
        503: "ServiceUnavailableError",
        504: "GatewayTimeoutError",
    }
    messages: ClassVar[Mapping[str, str]] = {
        "token_unknown": "There is no such token",
        "token_undeclared": "A token may not stand in this field",
        "raw_card_number": "This field takes a token, not a card number",
        "idempotency_key_reused": "The idempotency key was used for another request",
    }

    def _card(self, bill: Bill) -> Params:
        return {"number": bill.number, "expiration_date": f"{MONTH}/{YEAR}", "cvv": CHECK}

    def pay(self, bill: Bill) -> Step:
        order = {"amount": bill.major, "order_id": bill.reference}
        return Step("transaction.sale", (), order | {"credit_card": self._card(bill)})

    def store(self, bill: Bill) -> Step:
        return Step("customer.create", (), {"company": "Doe", "credit_card": self._card(bill)})

    def id_of(self, reply: Reply) -> str:
        return str(reply.object["id"])

    def word(self, reply: Reply) -> str | None:
        return None if reply.error else str(reply.object["status"])

    def capture(self, id_: str, bill: Bill) -> Step:
        return Step("transaction.submit_for_settlement", (id_,))

    def void(self, id_: str, bill: Bill) -> Step:
        return Step("transaction.void", (id_,))

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        return Step("transaction.refund", (id_,))

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("testing.settle_transaction", (id_,))  # what comes between capture and refund

    def no(self, code: str, status: int) -> No:
        if code == "idempotency_key_in_flight":
            return No(self.errors[503], None, None)  # a result would read as "not charged"
        if status in {400, 409, 413, 415, 422}:
            return No(None, None, code)
        return No(self.errors.get(status, "UnexpectedError"), None, None)

    def told(self, reply: Reply) -> No:
        if reply.error is not None:
            return No(reply.error, None, None)
        said = str(reply.object["message"])
        code = next((code for code, words in self.messages.items() if said.startswith(words)), said)
        return No(None, None, code)


class AuthorizeNetDialect:
    """XML under a schema; every answer is a document, and nothing at all where there is none."""

    format: ClassVar[Format] = "pan_like"  # its schema takes no number of more than 16 characters
    currency: ClassVar[str | None] = "EUR"
    words: ClassVar[Mapping[Verdict, str]] = {"approved": "1", "declined": "2"}
    numbers: ClassVar[Mapping[Verdict, str]] = {}
    amounts: ClassVar[Mapping[Verdict, int]] = {}
    decline_code: ClassVar[str] = "2"
    results: ClassVar[tuple[str, str, str]] = ("approved", "approved", "approved")
    misplaced: ClassVar[str] = "transactionRequest.billTo.company"
    text: ClassVar[str] = "transactionRequest.order.description"

    def _card(self, bill: Bill) -> Params:
        card = {"cardNumber": bill.number, "expirationDate": f"{YEAR}-{MONTH}", "cardCode": CHECK}
        return {"creditCard": card}

    def _transaction(self, kind: str, bill: Bill, **more: object) -> Step:
        request = {"transactionType": kind} | more
        return Step("createTransaction", (), {"transactionRequest": request})

    def pay(self, bill: Bill) -> Step:
        zip_code = "46282" if bill.verdict == "declined" else "98004"
        return self._transaction(
            "authOnlyTransaction",
            bill,
            amount=bill.major,
            currencyCode="EUR",
            payment=self._card(bill),
            order={"invoiceNumber": bill.reference},
            billTo={"zip": zip_code},
        )

    def store(self, bill: Bill) -> Step:
        one = {"payment": self._card(bill)}
        profile = {"merchantCustomerId": bill.reference, "paymentProfiles": [one]}
        return Step("createCustomerProfile", (), {"profile": profile})

    def id_of(self, reply: Reply) -> str:
        said = reply.object.get("transactionResponse")
        return str(reply.object["customerProfileId"] if said is None else said["transId"])

    def word(self, reply: Reply) -> str | None:
        return (
            None
            if reply.object is None
            else str(reply.object["transactionResponse"]["responseCode"])
        )

    def capture(self, id_: str, bill: Bill) -> Step:
        return self._transaction("priorAuthCaptureTransaction", bill, refTransId=id_)

    def void(self, id_: str, bill: Bill) -> Step:
        return self._transaction("voidTransaction", bill, refTransId=id_)

    def refund(self, id_: str, captured: str, bill: Bill) -> Step:
        card = {"cardNumber": VISA_ALT[-4:], "expirationDate": "XXXX"}
        return self._transaction(
            "refundTransaction",
            bill,
            amount=bill.major,
            payment={"creditCard": card},
            refTransId=id_,
        )

    def look(self, id_: str, bill: Bill) -> Step:
        return Step("getTransactionDetails", (), {"transId": id_})

    def no(self, code: str, status: int) -> No:
        number = {401: "E00007", 403: "E00007", 429: "E00053", 503: "E00053"}
        return No(None, None, f"{number.get(status, 'E00003')} {code}")

    def told(self, reply: Reply) -> No:
        if reply.object is None:
            return No(reply.error, None, None)
        said = reply.object["messages"]["message"]
        found = re.search(r"\(([a-z_]+)\)$", str(said["text"]))
        return No(reply.error, None, f"{said['code']} {found[1] if found else ''}")
