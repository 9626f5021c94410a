"""What is told of a route's filters before the first request."""

import pytest

from gateway.inbound.filtering import problems_of
from gateway.inbound.rules import Filter
from tests.gateway.inbound.filter_requests import route


def _problems(*filters: Filter, **settings: object) -> str:
    return "; ".join(problems_of(route(*filters, **settings)))


@pytest.mark.parametrize(
    "declared",
    [
        Filter("card[number]", exp_month="m", exp_year="y", cvc="c"),
        Filter("items[*].pan", expiry="exp", cvc="items[*].cvc"),
        Filter("$.items[?@.a == 1].pan", cvc="$.items[*].cvc", content_type="application/json"),
        Filter("//pan", content_type="text/xml"),
        Filter('["Card no"]', content_type="text/csv"),
        Filter("pan", content_type="application/x-ndjson", format="pan_like"),
        Filter("pan", content_type="text/plain"),
        Filter("file:pan[*]", content_type="multipart/form-data"),
        Filter("header:X-Card", cvc="url:code"),
        Filter("header:Set-Cookie", operation="remove", phase="response"),
        Filter("pan", operation="reveal-masked", phase="response"),
    ],
)
def test_nothing_is_wrong_with_these(declared: Filter) -> None:
    assert not _problems(
        declared, fixed_width={"pan": (0, 19)}, allow=("path:", "url:q", "header:X-Id", "$.id")
    )


@pytest.mark.parametrize(
    ("declared", "word"),
    [
        (Filter("a", phase="response"), "in an answer"),
        (Filter("a", operation="reveal-masked"), "for answers"),
        (Filter("a", operation="mask", cvc="b"), "belong to a number"),
        (Filter("a", operation="mask", format="pan_like"), "a format"),
        (Filter("header:A", format="pan_like"), "opaque"),
        (Filter("a", expiry="b", exp_month="c", exp_year="d"), "leave out"),
        (Filter("a", exp_month="c"), "go together"),
        (Filter("a", cvc="a"), "the same one"),
        (Filter("a", content_type="text/html"), "can be read"),
        (Filter("a", content_type="text/plain"), "fixed_width"),
        (Filter("header:A", content_type="text/csv"), "fields of a body"),
        (Filter("$.a[", content_type=None), "JSONPath"),
        (Filter("$.a", content_type="text/xml"), "JSONPath"),
        (Filter("/a/b", content_type="text/csv"), "XPath"),
        (Filter("a[b]", content_type="application/json"), "path of names"),
        (Filter("a", cvc="a b["), "path of names"),
        (Filter("header:a b"), "no name of a header"),
        (Filter("header:Content-Length", operation="remove"), "how the message is read"),
        (Filter("url:[a"), "path of names"),
        (Filter("url:a", operation="mask", phase="response"), "no query"),
        (Filter("pan", cvc="items[*].cvc"), "wildcard"),
    ],
)
def test_what_is_wrong_is_said(declared: Filter, word: str) -> None:
    assert word in _problems(declared)


def test_filters_are_compared_with_each_other_and_with_the_route() -> None:
    twice = (Filter("a"), Filter("a", operation="mask"))
    assert "declared twice" in _problems(*twice)
    assert not _problems(Filter("a"), Filter("a", operation="mask", phase="response"))
    typed = Filter("a", content_type="text/csv")
    assert "takes no text/csv" in _problems(typed, content_types=("application/json",))
    assert "a filter is for this field" in _problems(Filter("a"), allow=("a",))
    assert "allow a b[" in _problems(allow=("a b[",))
    assert "begins in another" in _problems(fixed_width={"a": (0, 5), "b": (4, 6)})
