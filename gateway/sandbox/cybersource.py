"""The simulated CyberSource: signed JSON in, HAL JSON out, nothing kept of a card. Pure.

It takes a call only with a good signature, and a number field only with a card number that passes
the Luhn test. The number decides about 3-D Secure, by the published cards whose holder is
challenged; the amount decides about the rest.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from gateway.sandbox.books import Counts, keep
from gateway.sandbox.cybersource_document import (
    AMOUNTS,
    APPROVED,
    Refused,
    Reply,
    Verdict,
    at,
    card_in,
    is_challenged,
    money_in,
    number_in,
    read,
    text,
)
from gateway.sandbox.cybersource_signature import signed_by, token_id
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

HAL: Final = "application/hal+json;charset=utf-8"
REPEAT_WITHIN: Final = timedelta(minutes=15)
SERVER_ERRORS: Final = 500
ID_DIGITS: Final = 22
SEARCH_MAX: Final = 2500

_PREFIXES: Final = ("/pts/v2/", "/risk/v1/", "/tms/v1/", "/tss/v2/")
_AUTHENTICATED: Final = "consumerAuthenticationInformation.authenticationTransactionId"
_PAYMENT_CARD: Final = "paymentInformation.card"
_SEARCH: Final = re.compile(r"clientReferenceInformation\.code:([A-Za-z0-9_-]{1,50})")
_APPLICATIONS: Final = {"payments": "ics_auth", "captures": "ics_bill"}
_REASONS: Final = {  # as the reply fields of a search have them: reasonCode, rCode
    "DECLINED": ("203", "0"),
    "AUTHORIZED_RISK_DECLINED": ("200", "0"),
    "AUTHORIZED_PENDING_REVIEW": ("480", "1"),
}


@dataclass(frozen=True, slots=True)
class _Payment:
    """One thing that can be captured, reversed, voided or refunded."""

    id: str
    account: str
    kind: str  # payments, captures, refunds, credits
    status: str
    amount: Decimal
    currency: str
    reference: str
    left: Decimal  # what of it may still be captured or refunded
    submitted: str
    is_captured: bool = False


class CyberSource:
    """The accounts of the simulated CyberSource: an account's name is its merchant id."""

    name = "cybersource"

    def __init__(
        self,
        accounts: Mapping[str, SandboxCredential],
        *,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
        counts: Counts,
    ) -> None:
        self._accounts = accounts
        self._new_id = new_id
        self._now = now
        self._counts = counts
        self._payments: dict[str, _Payment] = {}
        self._seen: dict[str, datetime] = {}  # ids of tokens and of transactions

    def takes(self, path: str) -> bool:
        return path.startswith(_PREFIXES)

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        document = read(call.body) or {}
        cards = (at(document, _PAYMENT_CARD), at(document, "card"))
        numbers = [card.get("number") for card in cards if isinstance(card, dict)]
        return tuple(str(number) for number in numbers if number is not None)

    def idempotency_key(self, call: WireCall) -> str | None:  # noqa: ARG002 - it has none
        return None

    def account_of(self, call: WireCall) -> str | None:
        return signed_by(call, self._accounts, now=self._now())

    def failure(self, status: int) -> WireAnswer:
        """Answer so where the call was never carried out, or nobody may count on it."""
        ours = status >= SERVER_ERRORS
        words = ("SERVER_ERROR", "SYSTEM_ERROR") if ours else ("INVALID_REQUEST", "INVALID_DATA")
        return self._answer(status, self._trouble(*words, "This was asked to fail."))

    def answered(self, call: WireCall) -> WireAnswer:
        account = self.account_of(call)
        if account is None or self._is_repeat(f"jti {token_id(call)}", token_id(call)):
            return self._answer(401, {"response": {"rmsg": "Authentication Failed"}})
        try:
            status, document = self._carried_out(account, call)
        except Refused as refused:
            status = refused.status
            document = self._trouble("INVALID_REQUEST", refused.reason, refused.message)
            if refused.field is not None:
                document["details"] = [{"field": refused.field, "reason": refused.reason}]
        return self._answer(status, document)

    # --- the API ----------------------------------------------------------------------------

    def _carried_out(self, account: str, call: WireCall) -> tuple[int, Reply]:
        match (call.method, call.path.strip("/").split("/")):
            case ("POST", ["pts", "v2", "payments"]):
                return 201, self._pay(account, self._document(account, call))
            case ("POST", ["pts", "v2", "credits" | "payouts" as kind]):
                return 201, self._pay_out(account, self._document(account, call), kind)
            case ("POST", ["pts", "v2", kind, id_, verb]):
                found = self._found(account, id_, kind)
                return 201, self._follow(found, verb, self._document(account, call))
            case ("POST", ["risk", "v1", service]):
                return 201, self._assess(service, self._document(account, call))
            case ("POST", ["tms", "v1", "instrumentidentifiers"]):
                return 201, self._keep_card(self._document(account, call))
            case (_, ["tss", "v2", *_]):
                return self._looked_up(account, call)
            case _:
                raise Refused(404, "NOT_FOUND", "There is no such resource.")

    def _looked_up(self, account: str, call: WireCall) -> tuple[int, Reply]:
        match (call.method, call.path.strip("/").split("/")[2:]):
            case ("POST", ["searches"]):
                return 201, self._search(account, self._document(account, call))
            case ("GET", ["transactions", id_]):
                return 200, _transaction(self._found(account, id_, None))
            case _:
                raise Refused(404, "NOT_FOUND", "There is no such resource.")

    def _document(self, account: str, call: WireCall) -> Reply:
        document = read(call.body)
        if document is None:
            raise Refused(400, "INVALID_DATA", "The body is not a JSON object.")
        if "encryptedRequest" in document:
            raise Refused(400, "INVALID_DATA", "There is no key here to open the request with.")
        transaction = text(document, "clientReferenceInformation.transactionId")
        if self._is_repeat(f"transaction {account} {transaction}", transaction):
            raise Refused(400, "INVALID_DATA", "This transaction id was used a moment ago.")
        return document

    def _pay(self, account: str, document: Reply) -> Reply:
        card = self._card(document)
        payment = self._new(account, "payments", document)
        if is_challenged(card) and at(document, _AUTHENTICATED) is None:
            return self._shown(replace(payment, status="PENDING_AUTHENTICATION")) | {
                "consumerAuthenticationInformation": self._challenge(),
                "errorInformation": _error("CONSUMER_AUTHENTICATION_REQUIRED"),
            }
        verdict = AMOUNTS.get(payment.amount, APPROVED)
        capture = at(document, "processingInformation.capture") in (True, "true")
        payment = replace(payment, status=verdict.status, is_captured=capture)
        self._keep(payment)
        if verdict.status != "DECLINED":
            self._counts.charges += 1
            self._counts.captures += capture and verdict is APPROVED
        else:
            self._counts.declines += 1
        return self._shown(payment) | self._processor_said(verdict)

    def _processor_said(self, verdict: Verdict) -> Reply:
        said: Reply = {"responseCode": verdict.code, "avs": {"code": "Y", "codeRaw": "Y"}}
        if verdict.status != "DECLINED":
            network_id = f"016{_digits(self._new_id(''), 12)}"  # 15 digits that no card begins with
            said |= {"approvalCode": "831000", "networkTransactionId": network_id}
        shown: Reply = {"processorInformation": said}
        if verdict.reason is not None:
            shown["errorInformation"] = _error(verdict.reason)
        return shown

    def _pay_out(self, account: str, document: Reply, kind: str) -> Reply:
        self._card(document)
        status = "PENDING" if kind == "credits" else "ACCEPTED"
        credit = replace(self._new(account, kind, document), status=status)
        self._keep(credit)
        self._counts.refunds += 1
        return self._shown(credit)

    def _follow(self, of: _Payment, verb: str, document: Reply) -> Reply:
        """Capture, reverse, void or refund."""
        match (of.kind, verb, of.is_captured):
            case ("payments", "captures", False):
                return self._taken(of, "captures", document)
            case ("payments", "reversals", False):
                return self._ended(of, "REVERSED")
            case ("payments" | "captures" | "refunds" | "credits", "voids", _):
                return self._ended(of, "VOIDED")
            case ("captures", "refunds", _) | ("payments", "refunds", True):
                return self._taken(of, "refunds", document)
            case _:
                raise Refused(400, "NOT_SUPPORTED", "This cannot be done with it.")

    def _taken(self, of: _Payment, kind: str, document: Reply) -> Reply:
        """Take an amount off what is left, into a new object."""
        made = replace(self._new(of.account, kind, document, like=of), status="PENDING")
        if of.status in {"VOIDED", "REVERSED", "DECLINED"} or made.amount > of.left:
            raise Refused(400, "EXCEEDS_AUTH_AMOUNT", "There is not so much left of it.")
        self._counts.captures += kind == "captures"
        self._counts.refunds += kind == "refunds"
        self._keep(replace(of, left=of.left - made.amount))
        self._keep(made)
        return self._shown(made)

    def _ended(self, of: _Payment, status: str) -> Reply:
        if of.status in {"VOIDED", "REVERSED", "DECLINED"}:
            raise Refused(400, "NOT_VOIDABLE", "It is at its end already.")
        self._counts.cancels += 1
        self._keep(replace(of, status=status, left=Decimal(0)))
        return self._shown(replace(of, id=self._id(), status=status))

    def _assess(self, service: str, document: Reply) -> Reply:
        shown: Reply = {"id": self._id(), "submitTimeUtc": self._at()}
        match service:
            case "authentication-setups":
                self._card(document)
                setup = {"accessToken": self._new_id("jwt"), "referenceId": self._new_id("")}
                return shown | {"status": "COMPLETED", "consumerAuthenticationInformation": setup}
            case "authentications" if is_challenged(self._card(document)):
                pending: Reply = {
                    "status": "PENDING_AUTHENTICATION",
                    "errorInformation": _error("CONSUMER_AUTHENTICATION_REQUIRED"),
                }
                return shown | pending | {"consumerAuthenticationInformation": self._challenge()}
            case "authentications" | "authentication-results":
                done: Reply = {"consumerAuthenticationInformation": {"eciRaw": "05"}}
                return shown | {"status": "AUTHENTICATION_SUCCESSFUL"} | done
            case "decisions":
                self._card(document)
                return shown | {"status": "ACCEPTED", "riskInformation": {"score": {"result": "1"}}}
            case _:
                raise Refused(404, "NOT_FOUND", "There is no such service.")

    def _keep_card(self, document: Reply) -> Reply:
        number = number_in(document, "card.number")
        masked = f"{number[:6]}{'X' * (len(number) - 10)}{number[-4:]}"
        id_ = hashlib.blake2b(self._new_id("").encode(), digest_size=16).hexdigest().upper()
        return {
            "id": id_,
            "object": "instrumentIdentifier",
            "state": "ACTIVE",
            "card": {"number": masked},
            "_links": {"self": {"href": f"/tms/v1/instrumentidentifiers/{id_}"}},
        }

    def _card(self, document: Reply) -> str:
        return card_in(document, _PAYMENT_CARD, today=self._now())

    # --- what it keeps ----------------------------------------------------------------------

    def _new(
        self, account: str, kind: str, document: Reply, like: _Payment | None = None
    ) -> _Payment:
        amount, currency = money_in(document, currency_of=like.currency if like else None)
        reference = text(document, "clientReferenceInformation.code") or ""
        return _Payment(
            self._id(), account, kind, "", amount, currency, reference, amount, self._at()
        )

    def _found(self, account: str, id_: str, kind: str | None) -> _Payment:
        found = self._payments.get(id_)
        if found is None or found.account != account or kind not in (None, found.kind):
            raise Refused(404, "NOT_FOUND", "There is no such transaction.")
        return found

    def _search(self, account: str, document: Reply) -> Reply:
        """Find by the merchant's reference, which is all that is asked for here."""
        query = _SEARCH.fullmatch(text(document, "query") or "")
        limit = at(document, "limit")
        if query is None or not isinstance(limit, int) or not 1 <= limit <= SEARCH_MAX:
            raise Refused(400, "INVALID_DATA", "This is no query.", "query")
        found = [
            each
            for each in reversed(self._payments.values())
            if (each.account, each.reference) == (account, query[1])
        ]
        summaries = [_summary(each) for each in found[:limit]]
        return {
            "searchId": self._new_id(""),
            "submitTimeUtc": self._at(),
            "status": "COMPLETED",
            "count": len(summaries),
            "totalCount": len(found),
            "_embedded": {"transactionSummaries": summaries},
        }

    def _is_repeat(self, name: str, value: str | None) -> bool:
        """Whether this id was seen a moment ago; from now on it was."""
        if value is None:
            return False
        now, last = self._now(), self._seen.pop(name, None)
        keep(self._seen, name, now)
        return last is not None and now - last < REPEAT_WITHIN

    # --- writing ----------------------------------------------------------------------------

    def _keep(self, payment: _Payment) -> None:
        keep(self._payments, payment.id, payment)

    def _shown(self, payment: _Payment) -> Reply:
        amount = {"totalAmount": f"{payment.amount:.2f}", "currency": payment.currency}
        return {
            "_links": {"self": {"method": "GET", "href": f"/pts/v2/{payment.kind}/{payment.id}"}},
            "id": payment.id,
            "submitTimeUtc": self._at(),
            "status": payment.status,
            "reconciliationId": f"R{payment.id[:14]}T",
            "clientReferenceInformation": {"code": payment.reference},
            "orderInformation": {"amountDetails": amount},
        }

    def _challenge(self) -> Reply:
        return {
            "acsUrl": "https://acs.example.com/step-up",
            "authenticationTransactionId": self._new_id(""),
            "veresEnrolled": "Y",
            "paresStatus": "C",
        }

    def _trouble(self, status: str, reason: str, message: str) -> Reply:
        said: Reply = {"status": status, "reason": reason, "message": message}
        return {"submitTimeUtc": self._at()} | said

    def _answer(self, status: int, document: Reply) -> WireAnswer:
        headers = (("v-c-correlation-id", self._new_id("")),)
        return WireAnswer(status, json.dumps(document).encode(), HAL, headers)

    def _id(self) -> str:
        return _digits(self._new_id(""), ID_DIGITS)

    def _at(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _transaction(payment: _Payment) -> Reply:
    return _summary(payment) | {
        "applicationInformation": {"status": payment.status},
    }


def _summary(payment: _Payment) -> Reply:
    """Show it as a search does: how each of its services ended, and no status of its own."""
    reason, code = _REASONS.get(payment.status, ("100", "1"))
    names = [_APPLICATIONS.get(payment.kind, "ics_credit")]
    if payment.kind == "payments" and payment.is_captured:
        names.append("ics_bill")
    services = [{"name": name, "reasonCode": reason, "rCode": code} for name in names]
    return {
        "id": payment.id,
        "submitTimeUtc": payment.submitted,
        "merchantId": payment.account,
        "applicationInformation": {
            "reasonCode": reason,
            "rCode": code,
            "applications": services,
        },
        "clientReferenceInformation": {"code": payment.reference},
        "orderInformation": {
            "amountDetails": {
                "totalAmount": f"{payment.amount:.2f}",
                "currency": payment.currency,
            }
        },
    }


def _error(reason: str) -> Reply:
    return {"reason": reason, "message": reason.replace("_", " ").capitalize()}


def _digits(text: str, count: int) -> str:
    """Make an id of digits, as this processor's are, out of any other."""
    value = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return str(value).zfill(count)[-count:]
