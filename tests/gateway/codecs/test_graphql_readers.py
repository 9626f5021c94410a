"""The GraphQL codec beside the walk of graphql-core over the whole tree, and any bytes."""

import json as standard
import string

import pytest
from graphql.language import StringValueNode, Visitor, parse, visit
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import graphql
from gateway.codecs.splice import Document, Field, Replacement, Shape, splice
from gateway.errors import Malformed

_NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=3).filter(
    lambda name: name not in {"true", "false", "null", "on"}
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LITERALS = (
    st.integers().map(str)
    | st.sampled_from(["true", "null", "E", "-1.5", "$v", '""', '""" \\""" """', '"""\n  a\n b"""'])
    | _TEXT.map(standard.dumps)
    | _TEXT.map(lambda text: standard.dumps(text, ensure_ascii=False).replace("\x7f", ""))
    | st.text("#\"'{}() ").map(standard.dumps)
)


def _joined(items: list[str], around: str) -> str:
    return f"{around[0]}{', '.join(items)}{around[1]}" if items else around


_MEMBERS = st.recursive(
    _LITERALS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: _joined(items, "[]"))
        | st.lists(st.tuples(_NAMES, inner).map(": ".join), max_size=3).map(
            lambda items: _joined(items, "{}")
        )
    ),
    max_leaves=6,
)


@st.composite
def _fields(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    alias = draw(st.just("") | _NAMES.map("{}: ".format))
    arguments = draw(st.lists(st.tuples(_NAMES, _MEMBERS).map(":".join), max_size=3))
    given = f"({', '.join(arguments)})" if arguments else ""
    comment = draw(st.sampled_from(["", '# "x" é\n', "\r\n", ",\t"]))
    below = draw(st.lists(inner, max_size=2))
    selected = f" {{ {' '.join(below)} }}" if below else ""
    return f"{alias}{draw(_NAMES)}{given}{comment}{selected}"


_SELECTIONS = st.recursive(_NAMES, _fields, max_leaves=5)
_QUERIES = st.lists(_SELECTIONS, min_size=1, max_size=3).map(
    lambda fields: f"mutation {{ {' '.join(fields)} }}"
)
_BODIES = st.builds(
    lambda query, how: standard.dumps({"query": query, "n": "1"}, **how).encode(),
    _QUERIES,
    st.fixed_dictionaries({"ensure_ascii": st.booleans()}),
)


class _Strings(Visitor):
    """What a walk over the whole tree finds."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[str] = []

    def enter_string_value(self, node: StringValueNode, *_: object) -> None:
        self.values.append(node.value)


def _strings(body: bytes) -> list[str]:
    strings = _Strings()
    visit(parse(standard.loads(body)["query"]), strings)
    return strings.values


def _is_string(field: Field) -> bool:
    return field.name.startswith("query:") and field.shape is Shape.TEXT


def _checked(body: bytes) -> Document | None:
    try:
        document = graphql.read(body)
    except Malformed:
        return None
    done = 0
    for field in document.fields:
        assert done <= field.start <= field.end <= len(body)
        done = field.end
    same = [
        Replacement(each.start, each.end, body[each.start : each.end]) for each in document.fields
    ]
    assert splice(body, same) == body
    return document


@given(_BODIES)
def test_every_string_of_a_query_is_a_value(body: bytes) -> None:
    document = _checked(body)
    assert document is not None
    assert [each.text for each in document.fields if _is_string(each)] == _strings(body)
    texts = [each.text for each in document.fields if each.name == "query"]
    assert "".join(map(str, texts[1:])).startswith("mutation")


@given(_BODIES, st.data())
def test_digits_put_in_place_of_a_string_are_read_there_and_nothing_else_changes(
    body: bytes, data: st.DataObject
) -> None:
    fields = [each for each in graphql.read(body).fields if _is_string(each)]
    if not fields:
        return
    at = data.draw(st.integers(0, len(fields) - 1))
    place = fields[at]
    spliced = bytes(splice(body, [Replacement(place.start, place.end, b"0123")]))
    expected = _strings(body)
    expected[at] = "0123"
    assert _strings(spliced) == expected
    back = Replacement(place.start, place.start + 4, body[place.start : place.end])
    assert splice(spliced, [back]) == body


_WORDS = ["{", "}", "(", ")", "[", "]", ":", "a", "b", '\\"', '\\"x\\"', "$v", "@d", "...", "on T"]
_WORDS += ["mutation", "fragment", "query", "#", "\\n", "\\u0022", "\\", "1", "é", " ", "&", "="]


@pytest.mark.guards("T-11")
@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from(_WORDS), max_size=14).map(
        lambda words: b'{"query":"' + "".join(words).encode() + b'"}'
    )
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    _checked(body)


@pytest.mark.guards("T-11")
@given(_BODIES, st.data())
def test_damaged_bodies_are_read_or_refused(body: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(body)))
    damage = data.draw(st.binary(max_size=2) | st.sampled_from([b'\\"', b"{", b"\\ud83d"]))
    _checked(body[:start] + damage + body[start + data.draw(st.integers(0, 4)) :])
