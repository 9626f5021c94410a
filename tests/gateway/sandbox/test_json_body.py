"""A JSON body, looked into."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox.json_body import JsonBody

BODY = JsonBody.parse(
    b'{"a": {"b": "text", "n": 5, "yes": true, "empty": "", "nothing": null}, "list": [1]}'
)


def test_by_path() -> None:
    assert BODY is not None
    assert (BODY.at("a.b"), BODY.text("a.b"), BODY.whole("a.n")) == ("text", "text", 5)
    for nothing in ("a.x", "x.y", "a.b.c", "list.0", "a.nothing"):
        assert BODY.at(nothing) is None
    assert (BODY.text("a.n"), BODY.text("a.empty"), BODY.whole("a.yes")) == (None, None, None)
    assert BODY.within("a").text("b") == "text"
    assert BODY.within("list").at("b") is None


def test_spelled_whatever_it_is() -> None:
    assert BODY is not None
    assert BODY.spelled(["a.b", "a.n", "a.empty", "a.nothing", "x", "list"]) == ("text", "5", "[1]")


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_the_order_of_members_is_not_part_of_it(members: dict[str, object]) -> None:
    one = JsonBody.parse(json.dumps(members).encode())
    other = JsonBody.parse(json.dumps(dict(reversed(members.items())), indent=3).encode())
    assert one is not None
    assert other is not None
    assert one.canonical() == other.canonical()


@given(st.binary())
def test_any_garbage_is_read_or_is_none(body: bytes) -> None:
    JsonBody.parse(body)
