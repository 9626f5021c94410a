"""What is wrong with a route's filters: told at the start, not at the first request. Pure.

What never lives here: what is wrong with where a route leads.
"""

import re
from collections.abc import Iterator
from typing import Final

from gateway.codecs import fixed_width
from gateway.codecs.splice import Format
from gateway.inbound.areas import HEADER, PATH, QUERY, format_read, selected
from gateway.inbound.rules import Filter, InboundConfig
from gateway.plain_paths import plan_of
from gateway.selectors import problem_of

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_FORMATS: Final = tuple(each for each in Format if each is not Format.GRAPHQL)
_OF_THE_MESSAGE: Final = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "transfer-encoding"),
        *("connection", "upgrade", "te", "trailer", "expect", "keep-alive"),
    }
)


def fits(selector: str, format_: Format) -> bool:
    """Whether a selector can be followed in bodies of a format."""
    return problem_of(selected(selector, format_), format_) is None


def problems_of(route: InboundConfig) -> Iterator[str]:
    """Say what is wrong with the filters of a route, and with what they stand beside."""
    columns = fixed_width.problem_of(route.fixed_width)
    if columns is not None:
        yield f"fixed_width: {columns}"
    seen: set[tuple[str, str, str | None]] = set()
    for each in route.filters:
        where = f"filter {each.selector}"
        key = (each.phase, each.selector, each.content_type)
        if key in seen:
            yield f"{where}: declared twice"
        seen.add(key)
        for problem in (*_of_operation(each), *_of_type(each, route), *_of_selectors(each, route)):
            yield f"{where}: {problem}"
    declared = {each.selector for each in route.filters}
    for selector in route.allow:
        wrong = None if selector == PATH else _selector_problem(selector, None)
        if wrong is not None:
            yield f"allow {selector}: {wrong}"
        if selector in declared:
            yield f"allow {selector}: a filter is for this field"


def _of_operation(declared: Filter) -> Iterator[str]:
    if declared.phase == "response" and declared.operation == "tokenize":
        yield "in an answer a card is masked or removed: it has been with the merchant already"
    if declared.phase == "request" and declared.operation == "reveal-masked":
        yield "reveal-masked is for answers"
    if declared.operation != "tokenize":
        if declared.beside():
            yield "an expiry date and a code belong to a number that is tokenized"
        if declared.format != "opaque":
            yield "a format is for what is tokenized"
    if declared.format == "pan_like" and declared.selector.startswith(HEADER):
        yield "in a header a token is opaque: of one in digits nobody would see what it is"
    yield from _of_dates(declared)


def _of_dates(declared: Filter) -> Iterator[str]:
    if declared.expiry is not None and (declared.exp_month or declared.exp_year):
        yield "expiry is month and year in one field: leave out exp_month and exp_year"
    if (declared.exp_month is None) != (declared.exp_year is None):
        yield "exp_month and exp_year go together"


def _of_type(declared: Filter, route: InboundConfig) -> Iterator[str]:
    if declared.content_type is None:
        return
    is_multipart = declared.content_type == "multipart/form-data"  # its boundary comes with it
    if not is_multipart and format_read(route, declared.content_type) is None:
        yield f"no body of {declared.content_type} can be read (text/plain: with fixed_width)"
    of_requests = declared.phase == "request" and route.content_types
    if of_requests and declared.content_type not in route.content_types:
        yield f"the route takes no {declared.content_type}"
    if _is_of_head(declared.selector):
        yield "a content_type is for fields of a body"


def _of_selectors(declared: Filter, route: InboundConfig) -> Iterator[str]:
    selectors = (declared.selector, *declared.beside())
    if len(set(selectors)) < len(selectors):
        yield "two of its fields are the same one"
    format_ = _format(declared, route)
    for selector in selectors:
        problem = _selector_problem(selector, format_)
        if problem is not None:
            yield f"{selector}: {problem}"
        if selector.startswith(QUERY) and declared.phase == "response":
            yield f"{selector}: an answer has no query"
        elif problem is None and _is_ahead(selector, declared.selector):
            yield f"{selector}: has a wildcard more than the number, so nothing tells them apart"


def _format(declared: Filter, route: InboundConfig) -> Format | None:
    if declared.content_type is None:
        return None
    if declared.content_type == "multipart/form-data":
        return Format.MULTIPART
    return format_read(route, declared.content_type)


def _selector_problem(selector: str, format_: Format | None) -> str | None:
    if selector.startswith(HEADER):
        name = selector.removeprefix(HEADER)
        if not _HEADER_NAME.fullmatch(name):
            return "this is no name of a header"
        return "this header says how the message is read" if _says_how(name) else None
    if selector.startswith(QUERY):
        return problem_of(selector.removeprefix(QUERY), Format.FORM)
    if format_ is not None:
        return problem_of(selected(selector, format_), format_)
    return problem_of(selector)


def _says_how(name: str) -> bool:
    return name.lower() in _OF_THE_MESSAGE


def _is_ahead(selector: str, number: str) -> bool:
    return number[0] not in "$/" and _wildcards(selector) > _wildcards(number)


def _wildcards(selector: str) -> int:
    """Count what a plain path captures; of the others nobody knows before there is a body."""
    if selector[0] in "$/" or selector.startswith(HEADER):
        return 0
    if selector.startswith(QUERY):
        selector = selector.removeprefix(QUERY)
    plans = (plan_of(selector, each, fold=False) for each in _FORMATS)
    return min((plan.pattern.groups for plan in plans if plan is not None), default=0)


def _is_of_head(selector: str) -> bool:
    return selector.startswith((HEADER, QUERY))
