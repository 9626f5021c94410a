"""The simulated Stripe: whose key a call carries, and what its API makes of it. Pure.

Forms in, and in one call files; JSON out. It takes every path that no other processor takes. What
its calls do stands in `stripe_api`; here is what the edge asks of any processor.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from gateway.sandbox import payments, refusals
from gateway.sandbox.accounts import ApiKeys, basic, bearer
from gateway.sandbox.books import Books, Counts, keep
from gateway.sandbox.callbacks import is_success
from gateway.sandbox.objects import Charge
from gateway.sandbox.params import FORM, Params
from gateway.sandbox.refusals import Refusal
from gateway.sandbox.replays import KeyTrouble
from gateway.sandbox.stripe_api import JSON, Call, answered, refused, written
from gateway.sandbox.stripe_callbacks import StripeEvent
from gateway.sandbox.uploads import is_upload, uploaded
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

_KEY_REFUSALS: Final[Mapping[KeyTrouble, Callable[[], Refusal]]] = {
    "too_long": refusals.key_too_long,
    "reused": refusals.key_reused,
    "in_use": refusals.key_in_use,
}
_FAILURES: Final[Mapping[int, Callable[[], Refusal]]] = {
    400: lambda: refusals.malformed("The body of this request ended too early."),
    402: lambda: refusals.card_error("processing_error", "The card could not be processed."),
    413: refusals.too_large,
}


class Stripe:
    """The accounts of the simulated Stripe."""

    name = "stripe"
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
        fingerprint_key: bytes,
    ) -> None:
        self._api_keys = ApiKeys(accounts)
        self._new_id = new_id
        self._books = {name: Books(new_id, now, fingerprint_key, counts) for name in accounts}

    def takes(self, path: str) -> bool:  # noqa: ARG002 - the rest is Stripe's
        return True

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        try:
            return tuple(_params(call).ending("number").values())
        except Refusal:
            return ()

    def idempotency_key(self, call: WireCall) -> str | None:
        return call.headers.get("idempotency-key") if call.method == "POST" else None

    def account_of(self, call: WireCall) -> str | None:
        return self._api_keys.account_of(_api_key(call))

    def answered(self, call: WireCall) -> WireAnswer:
        account = self.account_of(call)
        if account is None:
            missing = _api_key(call) is None
            message = "You did not provide an API key." if missing else "Invalid API key provided."
            return self._numbered(refused(refusals.unauthorized(message)))
        try:
            if is_upload(call):
                created = self._books[account].created()
                file = uploaded(call, new_id=self._new_id, created=created)
                return self._numbered(WireAnswer(200, written(file), JSON))
            params = _params(call)
        except Refusal as refusal:
            return self._numbered(refused(refusal))
        return self._numbered(answered(self._books[account], Call(call.method, call.path, params)))

    def failure(self, status: int) -> WireAnswer:
        known = _FAILURES.get(status)
        failure = refusals.simulated_failure(status) if known is None else known()
        return self._numbered(refused(failure))

    # --- idempotency keys -----------------------------------------------------------------

    def content(self, call: WireCall) -> bytes:
        """The fields in an order that is not the sender's: the same fields are the same call."""
        try:
            pairs = list(_params(call).in_order())
        except Refusal:
            return call.body
        return repr(pairs).encode("utf-8", "surrogatepass")

    def repeated(self, first: WireAnswer) -> WireAnswer:
        original = dict(first.headers)["Request-Id"]
        again = self._numbered(replace(first, headers=()))
        said = (("Idempotent-Replayed", "true"), ("Original-Request", original))
        return replace(again, headers=(*again.headers, *said))

    def key_refused(self, trouble: KeyTrouble) -> WireAnswer:
        return self._numbered(refused(_KEY_REFUSALS[trouble]()))

    # --- what outlives it -----------------------------------------------------------------

    def take_changed(self, account: str) -> tuple[Charge, ...]:
        return self._books[account].take_changed()

    def restore(self, account: str, charges: Iterable[Charge]) -> None:
        for charge in charges:
            keep(self._books[account].charges, charge.id, charge)

    # --- callbacks ------------------------------------------------------------------------

    def check_secret(self, secret: str) -> None:
        if not secret:
            raise ValueError("a secret is a text")

    def acknowledged(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - any
        return is_success(status)

    def take_told(self, account: str) -> tuple[StripeEvent, ...]:
        return self._books[account].take_told()

    def charge_back(self, payment: str) -> str:
        for account, books in self._books.items():
            if payments.charge_back(books, payment):
                return account
        raise LookupError

    def _numbered(self, answer: WireAnswer) -> WireAnswer:
        """Every answer has an id of its own, a repeated one too."""
        return replace(answer, headers=(("Request-Id", self._new_id("req")), *answer.headers))


def _params(call: WireCall) -> Params:
    """The fields of the body, or those of the query where there is none."""
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if call.body and content_type != FORM:
        raise refusals.malformed("The body of this request must be a form.")
    return Params.parse(call.body or call.query.encode("utf-8", "surrogateescape"))


def _api_key(call: WireCall) -> str | None:
    """A Bearer, or the user of Basic."""
    authorization = call.headers.get("authorization")
    named = basic(authorization)
    return bearer(authorization) if named is None else named[0] or None
