"""The simulated search: payment intents by the merchant's own reference. Pure.

As at the real one, what was written a moment ago is not found yet: nobody may take what it does
not find for what is not there.
"""

import re
from datetime import timedelta
from typing import Final

import msgspec

from gateway.sandbox.books import Books
from gateway.sandbox.objects import PaymentIntent
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import invalid

SEARCHABLE_AFTER: Final = timedelta(seconds=2)
LIMIT_MAX: Final = 100

_QUERY: Final = re.compile(r"metadata\['([a-z_]{1,40})'\]:'([^'\\]{1,500})'")


class SearchResult(msgspec.Struct, tag_field="object", tag="search_result", kw_only=True):
    """One page of what was found."""

    data: list[PaymentIntent]
    has_more: bool
    next_page: str | None = None
    url: str = "/v1/payment_intents/search"


def search_payment_intents(books: Books, params: Params) -> SearchResult:
    query = _QUERY.fullmatch(params.required("query"))
    if query is None:
        raise invalid("query", "The search query could not be read.")
    limit = params.amount("limit") or 10
    if limit > LIMIT_MAX:
        raise invalid("limit", "This is more than a page may have.")
    indexed = int((books.now() - SEARCHABLE_AFTER).timestamp())
    found = [
        intent
        for intent in reversed(books.payment_intents.values())
        if intent.created <= indexed and intent.metadata.get(query[1]) == query[2]
    ]
    return SearchResult(data=found[:limit], has_more=len(found) > limit)
