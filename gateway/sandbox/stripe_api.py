"""The simulated API as a table: which call does what, and how its answer looks. Pure.

Follows the published behavior of Stripe's v1 API as far as its official SDK needs it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.sandbox import payments, searching, storing
from gateway.sandbox.books import Books
from gateway.sandbox.objects import StripeObject
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import ErrorBody, Refusal, unknown_url
from gateway.sandbox.searching import SearchResult
from gateway.sandbox.wire import WireAnswer

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as far as the API looks at it."""

    method: str
    path: str
    params: Params


OnCollection = Callable[[Books, Params], StripeObject]
OnObject = Callable[[Books, Params, str], StripeObject]

_ON_COLLECTION: Final[dict[tuple[str, str], OnCollection]] = {
    ("POST", "payment_methods"): storing.create_payment_method,
    ("POST", "tokens"): storing.create_token,
    ("POST", "customers"): storing.create_customer,
    ("POST", "setup_intents"): storing.create_setup_intent,
    ("POST", "payment_intents"): payments.create_payment_intent,
    ("POST", "charges"): payments.create_charge,
    ("POST", "refunds"): payments.create_refund,
}
_ON_OBJECT: Final[dict[tuple[str, str, str | None], OnObject]] = {
    ("GET", "payment_methods", None): storing.retrieve_payment_method,
    ("GET", "customers", None): storing.retrieve_customer,
    ("GET", "setup_intents", None): storing.retrieve_setup_intent,
    ("POST", "setup_intents", "confirm"): storing.confirm_setup_intent,
    ("GET", "payment_intents", None): payments.retrieve_payment_intent,
    ("POST", "payment_intents", "confirm"): payments.confirm_payment_intent,
    ("POST", "payment_intents", "capture"): payments.capture_payment_intent,
    ("POST", "payment_intents", "cancel"): payments.cancel_payment_intent,
    ("GET", "charges", None): payments.retrieve_charge,
    ("POST", "charges", "capture"): payments.capture_charge,
    ("GET", "refunds", None): payments.retrieve_refund,
}
_PATH: Final = re.compile(r"/v1/([a-z_]+)(?:/([A-Za-z0-9_]+)(?:/([a-z_]+))?)?", re.ASCII)


def answered(books: Books, call: Call) -> WireAnswer:
    """Carry the call out in `books`, and say what goes back."""
    try:
        return WireAnswer(200, written(_carried_out(books, call)), JSON)
    except Refusal as refusal:
        return refused(refusal)


def refused(refusal: Refusal) -> WireAnswer:
    body = written({"error": refusal.error})
    return WireAnswer(refusal.status, body, JSON, executed=refusal.executed)


def _carried_out(books: Books, call: Call) -> StripeObject | SearchResult:
    path = _PATH.fullmatch(call.path)
    if path is None:
        raise unknown_url()
    collection, id_, verb = path.groups()
    if (call.method, collection, id_, verb) == ("GET", "payment_intents", "search", None):
        return searching.search_payment_intents(books, call.params)
    if id_ is None:
        create = _ON_COLLECTION.get((call.method, collection))
        if create is not None:
            return create(books, call.params)
    else:
        act = _ON_OBJECT.get((call.method, collection, verb))
        if act is not None:
            return act(books, call.params, id_)
    raise unknown_url()


def written(body: StripeObject | SearchResult | dict[str, ErrorBody]) -> bytes:
    """Indented, as the real API writes it: whoever reads it must not count on compact JSON."""
    return msgspec.json.format(msgspec.json.encode(body), indent=2)
