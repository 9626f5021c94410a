"""The simulated Checkout.com: whose key a call carries, and how an answer looks. Pure.

What the calls do stands in `checkout_com_payments`; here is what the edge asks of any processor.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from gateway.sandbox.accounts import ApiKeys, bearer
from gateway.sandbox.books import Counts
from gateway.sandbox.callbacks import is_success
from gateway.sandbox.checkout_com_books import (
    UNAUTHORIZED,
    UNPROCESSABLE,
    CheckoutBooks,
    CheckoutRefusal,
    new_id,
)
from gateway.sandbox.checkout_com_callbacks import CheckoutEvent
from gateway.sandbox.checkout_com_payments import Reply, answered, listed
from gateway.sandbox.json_body import JsonBody, written
from gateway.sandbox.replays import KeyTrouble
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

JSON: Final = "application/json; charset=utf-8"
NUMBER_FIELDS: Final = ("source.number", "destination.number", "number")

_PATH: Final = re.compile(r"/(?:payments|tokens|instruments|sessions)(?:/.*)?", re.ASCII)
_PUBLIC: Final = "/tokens"  # what a browser calls, with the public key
_WITH_KEYS: Final = re.compile(  # the rest ignores them
    r"/payments(?:/[^/]+/(?:authorizations|cancellations|captures|refunds|voids))?", re.ASCII
)
_CONFLICT: Final = 409
_ERROR: Final = 400  # and above
_KEY_TROUBLES: Final[Mapping[KeyTrouble, tuple[int, str]]] = {
    "too_long": (UNPROCESSABLE, "idempotency_key_invalid"),
    "reused": (UNPROCESSABLE, "idempotency_key_reused"),
    "in_use": (_CONFLICT, "duplicate_request"),
}


class CheckoutCom:
    """The accounts of the simulated Checkout.com."""

    name = "checkout_com"
    key_lifetime = timedelta(hours=24)
    key_characters_max = 255
    in_order = False

    def __init__(
        self,
        accounts: Mapping[str, SandboxCredential],
        *,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
        counts: Counts,
    ) -> None:
        self._secret_keys = ApiKeys(accounts)
        self._public_keys = ApiKeys(
            {name: replace(each, api_key=each.user) for name, each in accounts.items()}
        )
        self._new_id = new_id
        self._books = {name: CheckoutBooks(new_id, now, counts) for name in accounts}

    def takes(self, path: str) -> bool:
        return _PATH.fullmatch(path) is not None

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        body = JsonBody.parse(call.body)
        return () if body is None else body.spelled(NUMBER_FIELDS)

    def idempotency_key(self, call: WireCall) -> str | None:
        if call.method != "POST" or _WITH_KEYS.fullmatch(call.path) is None:
            return None
        return call.headers.get("cko-idempotency-key")

    def account_of(self, call: WireCall) -> str | None:
        key = bearer(call.headers.get("authorization"))
        account = self._secret_keys.account_of(key)
        if account is None and call.path == _PUBLIC:
            return self._public_keys.account_of(key)
        return account

    def answered(self, call: WireCall) -> WireAnswer:
        try:
            return self._written(self._carried_out(call))
        except CheckoutRefusal as refusal:
            return self._refused(refusal)

    def failure(self, status: int) -> WireAnswer:
        return self._refused(CheckoutRefusal(status, "told_to_fail"))

    # --- idempotency keys -----------------------------------------------------------------

    def content(self, call: WireCall) -> bytes:  # noqa: ARG002 - the key alone decides
        """Published is only that the same key gets the same answer; nobody compares bodies."""
        return b""

    def repeated(self, first: WireAnswer) -> WireAnswer:
        """The same status and body; the request has an id of its own."""
        return self._numbered(replace(first, headers=()))

    def key_refused(self, trouble: KeyTrouble) -> WireAnswer:
        return self._refused(CheckoutRefusal(*_KEY_TROUBLES[trouble]))

    # --- callbacks ------------------------------------------------------------------------

    def check_secret(self, secret: str) -> None:
        if not secret:
            raise ValueError("a secret is a text")

    def acknowledged(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - any
        return is_success(status)

    def take_told(self, account: str) -> tuple[CheckoutEvent, ...]:
        return self._books[account].take_told()

    def charge_back(self, payment: str) -> str:
        for account, books in self._books.items():
            disputed = books.payments.get(payment)
            if disputed is not None and disputed.captured:
                books.tell_of_dispute(disputed)
                return account
        raise LookupError

    # --- calls ----------------------------------------------------------------------------

    def _carried_out(self, call: WireCall) -> Reply:
        account = self.account_of(call)
        if account is None:
            raise CheckoutRefusal(UNAUTHORIZED)
        body = JsonBody.parse(call.body or b"{}")
        if body is None:
            raise CheckoutRefusal(UNPROCESSABLE, "request_body_malformed")
        if (call.method, call.path) == ("GET", "/payments"):
            return listed(self._books[account], call.query)
        return answered(self._books[account], call.method, call.path, body)

    def _refused(self, refusal: CheckoutRefusal) -> WireAnswer:
        """Refusals are not kept under a key: a repeat is carried out."""
        body = b""
        request = new_id(self._new_id, "req")
        if refusal.code is not None:
            kind = "request_invalid" if refusal.status == UNPROCESSABLE else "processing_error"
            said = {"request_id": request, "error_type": kind, "error_codes": [refusal.code]}
            body = written(said)
        answer = WireAnswer(refusal.status, body, JSON, executed=False)
        return replace(answer, headers=(("Cko-Request-Id", request),))

    def _written(self, reply: Reply) -> WireAnswer:
        return self._numbered(
            WireAnswer(reply.status, written(reply.body), JSON, executed=reply.status < _ERROR)
        )

    def _numbered(self, answer: WireAnswer) -> WireAnswer:
        return replace(answer, headers=(("Cko-Request-Id", new_id(self._new_id, "req")),))
