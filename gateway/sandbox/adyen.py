"""The simulated Adyen: whose key a call carries, and which of its APIs the call is for. Pure.

What the calls do stands in `adyen_checkout` and `adyen_classic`; here is what the edge asks of
any processor.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from gateway.sandbox import adyen_checkout, adyen_classic
from gateway.sandbox.accounts import ApiKeys, basic
from gateway.sandbox.adyen_books import (
    UNAUTHORIZED,
    UNPROCESSABLE,
    AdyenBooks,
    AdyenRefusal,
    ErrorType,
    Reply,
    psp_reference,
)
from gateway.sandbox.adyen_callbacks import AdyenItem, key_of
from gateway.sandbox.books import Counts
from gateway.sandbox.json_body import JsonBody, written
from gateway.sandbox.replays import KeyTrouble
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

JSON: Final = "application/json;charset=UTF-8"
NUMBER_FIELDS: Final = ("paymentMethod.number", "card.number", "cardNumber")

_CHECKOUT: Final = re.compile(
    r"(?:/checkout)?/v[0-9]+/"
    r"((?:payments|paymentMethods|storedPaymentMethods|cardDetails|sessions|cancels)(?:/.*)?)",
    re.ASCII,
)
_CLASSIC: Final = re.compile(r"/pal/servlet/([A-Za-z]+)/v[0-9]+/([A-Za-z0-9]+)", re.ASCII)
_ACCEPTED: Final = 200
_ERROR: Final = 400  # and above
_OWN_FAULT: Final = 500  # and above
_KEY_TROUBLES: Final[Mapping[KeyTrouble, str]] = {
    "too_long": "The idempotency key is too long.",
    "reused": "This idempotency key was first used with another request.",
    "in_use": "Request already processed or in progress",
}


class Adyen:
    """The accounts of the simulated Adyen."""

    name = "adyen"
    key_lifetime = timedelta(days=7)
    key_characters_max = 64
    in_order = True  # and queued behind one that is not accepted

    def __init__(
        self,
        accounts: Mapping[str, SandboxCredential],
        *,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
        counts: Counts,
    ) -> None:
        self._api_keys = ApiKeys(accounts)
        self._new_id = new_id
        self._books = {name: AdyenBooks(new_id, now, counts) for name in accounts}

    def takes(self, path: str) -> bool:
        return path.startswith("/pal/servlet/") or _CHECKOUT.fullmatch(path) is not None

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        body = JsonBody.parse(call.body)
        return () if body is None else body.spelled(NUMBER_FIELDS)

    def idempotency_key(self, call: WireCall) -> str | None:
        return call.headers.get("idempotency-key") if call.method == "POST" else None

    def account_of(self, call: WireCall) -> str | None:
        """By `x-api-key`, or by the password of Basic."""
        named = basic(call.headers.get("authorization"))
        api_key = call.headers.get("x-api-key") or (None if named is None else named[1])
        return self._api_keys.account_of(api_key)

    def answered(self, call: WireCall) -> WireAnswer:
        try:
            reply = self._carried_out(call)
        except AdyenRefusal as refusal:
            return self._refused(refusal, call)
        return self._written(reply, call)

    def failure(self, status: int) -> WireAnswer:
        """A failure of Adyen's own (5xx) is kept for repeats: nobody knows how far it came."""
        kind: ErrorType = "internal" if status >= _OWN_FAULT else "validation"
        return self._refused(AdyenRefusal(status, "000", "Told to fail.", kind))

    # --- idempotency keys -----------------------------------------------------------------

    def content(self, call: WireCall) -> bytes:
        body = JsonBody.parse(call.body)
        return call.body if body is None else body.canonical()

    def repeated(self, first: WireAnswer) -> WireAnswer:
        """The very same: that its key is among the headers is how Adyen tells."""
        return first

    def key_refused(self, trouble: KeyTrouble) -> WireAnswer:
        """Adyen publishes no answer to another body under a used key: here it is refused."""
        return self._refused(AdyenRefusal(UNPROCESSABLE, "704", _KEY_TROUBLES[trouble]))

    # --- callbacks ------------------------------------------------------------------------

    def check_secret(self, secret: str) -> None:
        key_of(secret)

    def acknowledged(self, status: int, body: bytes) -> bool:
        return status == _ACCEPTED and body.strip() == b"[accepted]"

    def take_told(self, account: str) -> tuple[AdyenItem, ...]:
        return self._books[account].take_told()

    def charge_back(self, payment: str) -> str:
        for account, books in self._books.items():
            disputed = books.payments.get(payment)
            if disputed is not None and disputed.verdict.code is None:
                books.tell("CHARGEBACK", disputed, psp_reference=books.reference())
                return account
        raise LookupError

    # --- calls ----------------------------------------------------------------------------

    def _carried_out(self, call: WireCall) -> Reply:
        account = self.account_of(call)
        if account is None:
            message = "HTTP Status Response - Unauthorized"
            raise AdyenRefusal(UNAUTHORIZED, "000", message, "security")
        body = JsonBody.parse(call.body or b"{}")
        if body is None:
            raise AdyenRefusal(_ERROR, "702", "The body of this request is not readable JSON.")
        books = self._books[account]
        classic = _CLASSIC.fullmatch(call.path)
        if classic is not None:
            return adyen_classic.answered(books, call.method, "/".join(classic.groups()), body)
        checkout = _CHECKOUT.fullmatch(call.path)
        path = "" if checkout is None else checkout[1]
        return adyen_checkout.answered(books, call.method, path, body, call.query)

    def _refused(self, refusal: AdyenRefusal, call: WireCall | None = None) -> WireAnswer:
        reference = psp_reference(self._new_id)
        return self._written(Reply(refusal.status, refusal.body(reference)), call)

    def _written(self, reply: Reply, call: WireCall | None) -> WireAnswer:
        """As the API does it: the reference is a header too, and so is the key of a repeat."""
        reference = reply.body.get("pspReference") or psp_reference(self._new_id)
        headers = [("pspReference", str(reference))]
        key = None if call is None else self.idempotency_key(call)
        if key is not None:
            headers.append(("Idempotency-Key", key))
        executed = reply.status < _ERROR or reply.status >= _OWN_FAULT
        answer = WireAnswer(reply.status, written(reply.body), JSON, executed=executed)
        return replace(answer, headers=tuple(headers))
