"""The simulated Braintree: whose keys a call carries, and what its APIs make of it. Pure.

REST under `/merchants/`, in XML or JSON, and GraphQL at `/graphql`, on the same books. A public
and a private key (Basic) name the merchant; the merchant's id in a path is not looked at. There
are no idempotency keys here: a call that comes twice is carried out twice.
"""

import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from gateway.sandbox import braintree_graphql as graphql
from gateway.sandbox.accounts import basic
from gateway.sandbox.books import Counts
from gateway.sandbox.braintree_books import Books
from gateway.sandbox.braintree_document import Unreadable, Written, read, written
from gateway.sandbox.braintree_graphql_answers import Payload
from gateway.sandbox.braintree_refusals import shown_error
from gateway.sandbox.braintree_rest import Reply, replied
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

_REST: Final = re.compile(r"/merchants/[A-Za-z0-9_-]+(/.*)", re.ASCII)
_GRAPHQL: Final = "/graphql"
_CONTENT_TYPES: Final[Mapping[Written, str]] = {
    "xml": "application/xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Braintree:
    """The merchants of the simulated Braintree."""

    name = "braintree"

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
        self._books = {name: Books(new_id, now, counts) for name in accounts}

    def takes(self, path: str) -> bool:
        return path == _GRAPHQL or path.startswith("/merchants/")

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        if call.path == _GRAPHQL:
            asked = graphql.read(call.body)
            return () if asked is None else graphql.numbers_in(asked)
        try:
            return tuple(read(call.body, _content_type(call)).named("number"))
        except Unreadable:
            return ()

    def idempotency_key(self, call: WireCall) -> str | None:  # noqa: ARG002 - it honors none
        return None

    def account_of(self, call: WireCall) -> str | None:
        keys = basic(call.headers.get("authorization"))
        if keys is None:
            return None
        for name, credential in self._accounts.items():
            if _same(keys[0], credential.user) and _same(keys[1], credential.api_key):
                return name
        return None

    def answered(self, call: WireCall) -> WireAnswer:
        account = self.account_of(call)
        if call.path == _GRAPHQL:
            return self._answered_graphql(call, account)
        as_ = _written_as(call)
        if account is None:
            return WireAnswer(401, b"HTTP Basic: Access denied.\n", "text/html", executed=False)
        if not call.headers.get("x-apiversion", "").isdecimal():
            return _sent(Reply(426, "api_error_response", shown_error("Upgrade Required")), as_)
        found = _REST.fullmatch(call.path)
        try:
            fields = read(call.body, _content_type(call))
        except Unreadable:
            return _sent(Reply(400, "api_error_response", shown_error("Bad Request")), as_)
        path = "" if found is None else found[1]
        return _sent(replied(self._books[account], call.method, path, fields), as_)

    def _answered_graphql(self, call: WireCall, account: str | None) -> WireAnswer:
        asked = graphql.read(call.body)
        if account is None:
            return self._refused("Authentication credentials are invalid.", "AUTHENTICATION")
        if _DATE.fullmatch(call.headers.get("braintree-version", "")) is None:
            return self._refused("A Braintree-Version header is needed.", "VALIDATION")
        if call.method != "POST" or asked is None:
            return self._refused("This is not a GraphQL request in JSON.", "VALIDATION")
        return _graphql_sent(graphql.executed(self._books[account], asked))

    def _refused(self, message: str, error_class: str) -> WireAnswer:
        return _graphql_sent(graphql.refused(message, error_class, self._new_id("")))

    def failure(self, status: int) -> WireAnswer:
        """Fail as the gateway in front of it would: without a body that a client could read."""
        return WireAnswer(status, b"", "text/html", executed=False)


def _content_type(call: WireCall) -> str:
    return call.headers.get("content-type", "")


def _written_as(call: WireCall) -> Written:
    """Answer in what the caller accepts, else in what it sent."""
    accepted = call.headers.get("accept", "")
    for text in (accepted, _content_type(call)):
        if "json" in text:
            return "json"
        if "xml" in text:
            return "xml"
    return "xml"


def _sent(reply: Reply, as_: Written) -> WireAnswer:
    body = written(reply.root, reply.shown, as_)
    return WireAnswer(reply.status, body, _CONTENT_TYPES[as_])


def _graphql_sent(body: Payload) -> WireAnswer:
    return WireAnswer(200, msgspec.json.encode(body), _CONTENT_TYPES["json"])


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())
