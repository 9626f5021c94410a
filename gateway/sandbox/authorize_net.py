"""The simulated Authorize.Net: whose credentials a call carries, and what becomes of it. Pure.

One URL for all calls: the root element of XML, or the only key of JSON, says which it is, and the
credentials stand in the body. Every answer has the status 200 and begins with a byte order mark.
There are no idempotency keys; the same charge within a short time is refused as a duplicate.
"""

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from gateway.sandbox.authorize_net_books import Books
from gateway.sandbox.authorize_net_document import (
    CONTENT_TYPES,
    Element,
    Reply,
    Shown,
    Written,
    form_of,
    read,
    written,
)
from gateway.sandbox.authorize_net_payments import (
    carried_out,
    details_shown,
    messages,
    outcome_shown,
)
from gateway.sandbox.authorize_net_profiles import (
    Refused,
    create_payment_profile,
    create_profile,
    create_subscription,
    update_payment_profile,
)
from gateway.sandbox.authorize_net_schema import REQUESTS, OffSchema, check
from gateway.sandbox.books import Counts
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall

_PATH: Final = "/xml/v1/request.api"
_ERROR: Final = "ErrorResponse"
_SUCCESSFUL: Final = messages("Ok", "I00001", "Successful.")
_STORING: Final[dict[str, Callable[[Books, Element], dict[str, Shown]]]] = {
    "createCustomerProfileRequest": create_profile,
    "createCustomerPaymentProfileRequest": create_payment_profile,
    "updateCustomerPaymentProfileRequest": update_payment_profile,
    "ARBCreateSubscriptionRequest": create_subscription,
}


class AuthorizeNet:
    """The merchants of the simulated Authorize.Net."""

    name = "authorize_net"

    def __init__(
        self,
        accounts: Mapping[str, SandboxCredential],
        *,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
        counts: Counts,
    ) -> None:
        self._accounts = accounts
        key = new_id("").encode()  # of this life: what it digests is forgotten with it
        self._books = {name: Books(new_id, now, key, counts) for name in accounts}

    def takes(self, path: str) -> bool:
        return path == _PATH

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        document = _document(call)
        return () if document is None else tuple(document.everywhere("cardNumber"))

    def idempotency_key(self, call: WireCall) -> str | None:  # noqa: ARG002 - it honors none
        return None

    def account_of(self, call: WireCall) -> str | None:
        document = _document(call)
        return None if document is None else self._account_in(document)

    def answered(self, call: WireCall) -> WireAnswer:
        form = form_of(call.headers.get("content-type", ""))
        if form is None:
            text = "The content-type specified is not supported."
            return _sent(_error("E00002", text, None), "xml")
        document = _document(call)
        if call.method != "POST" or document is None:
            return _sent(_error("E00003", "Root element is missing.", None), form)
        return _sent(self._replied(document), form)

    def failure(self, status: int) -> WireAnswer:
        """Fail with the error it publishes for a fault of its own."""
        text = "An error occurred during processing. Please try again."
        body = written(_error("E00001", text, None), "xml")
        return WireAnswer(status, body, CONTENT_TYPES["xml"], executed=False)

    def _replied(self, document: Element) -> Reply:
        ref_id = document.at("refId")
        if document.name not in REQUESTS:
            return _error("E00004", "The name of the requested API method is invalid.", None)
        try:
            check(document)
        except OffSchema as off:
            return _error("E00003", off.text, None)
        account = self._account_in(document)
        if account is None:
            text = "User authentication failed due to invalid authentication values."
            return _error("E00007", text, ref_id)
        return self._carried_out(self._books[account], document, ref_id)

    def _carried_out(self, books: Books, document: Element, ref_id: str | None) -> Reply:
        root = document.name.removesuffix("Request") + "Response"
        if document.name == "authenticateTestRequest":
            return Reply(root, _SUCCESSFUL, ref_id, {})
        if document.name == "getTransactionDetailsRequest":
            return _details(books, document, root, ref_id)
        if document.name in _STORING:
            return _stored(books, document, root, ref_id)
        request = document.first("transactionRequest")
        assert request is not None  # the schema was checked
        outcome = carried_out(books, request)
        said = _SUCCESSFUL
        if outcome.reason.response == 3:  # noqa: PLR2004 - the published class of errors
            said = messages("Error", "E00027", "The transaction was unsuccessful.")
        return Reply(root, said, ref_id, {"transactionResponse": outcome_shown(outcome, request)})

    def _account_in(self, document: Element) -> str | None:
        login = document.at("merchantAuthentication", "name") or ""
        key = document.at("merchantAuthentication", "transactionKey") or ""
        for name, credential in self._accounts.items():
            if _same(login, credential.user) and _same(key, credential.api_key):
                return name
        return None


def _document(call: WireCall) -> Element | None:
    form = form_of(call.headers.get("content-type", ""))
    return None if form is None else read(call.body, form)


def _details(books: Books, document: Element, root: str, ref_id: str | None) -> Reply:
    made = books.transactions.get(document.at("transId") or "")
    if made is None:
        said = messages("Error", "E00040", "The record cannot be found.")
        return Reply(root, said, ref_id, {})
    return Reply(root, _SUCCESSFUL, ref_id, {"transaction": details_shown(made)})


def _stored(books: Books, document: Element, root: str, ref_id: str | None) -> Reply:
    try:
        content = _STORING[document.name](books, document)
    except Refused as refused:
        return Reply(root, messages("Error", refused.code, refused.text), ref_id, {})
    return Reply(root, _SUCCESSFUL, ref_id, content)


def _error(code: str, text: str, ref_id: str | None) -> Reply:
    return Reply(_ERROR, messages("Error", code, text), ref_id, {})


def _sent(reply: Reply, form: Written) -> WireAnswer:
    return WireAnswer(200, written(reply, form), CONTENT_TYPES[form])


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())
