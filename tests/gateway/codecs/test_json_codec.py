import json as standard
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import json
from gateway.codecs.splice import BOM, Replacement, Shape, splice
from gateway.errors import Malformed


def _read(body: bytes) -> list[tuple[str, str | None, Shape, bytes]]:
    return [
        (each.name, each.text, each.shape, body[each.start : each.end])
        for each in json.read(body).fields
    ]


def test_every_value_has_its_path_and_its_place() -> None:
    body = b' {"a": {"b": [1, -2.5e+3, {"c": "x"}], "e": [], "f": {}}, "g": null, "h": true} '
    assert [each for each in _read(body) if each[2] is not Shape.KEY] == [
        ("a.b[0]", "1", Shape.NUMBER, b"1"),
        ("a.b[1]", "-2.5e+3", Shape.NUMBER, b"-2.5e+3"),
        ("a.b[2].c", "x", Shape.TEXT, b"x"),
        ("g", "null", Shape.WORD, b"null"),
        ("h", "true", Shape.WORD, b"true"),
    ]


def test_keys_have_places_too() -> None:
    keys = [each for each in _read(b'{"a":{"b":1}}') if each[2] is Shape.KEY]
    assert keys == [("a", "a", Shape.KEY, b"a"), ("a.b", "b", Shape.KEY, b"b")]


@pytest.mark.parametrize("body", [b'"x"', b" 4 ", b"false"])
def test_a_document_may_be_a_single_value(body: bytes) -> None:
    assert [name for name, *_ in _read(body)] == [""]


def test_escapes_are_undone_in_values_and_keys_and_kept_in_the_body() -> None:
    body = rb'{"\u006eumber": "\u0034\n\"\\ \ud83d\ude00"}'
    _, value = _read(body)
    assert value == ("number", '4\n"\\ \U0001f600', Shape.TEXT, rb"\u0034\n\"\\ \ud83d\ude00")


def test_no_key_passes_for_a_path() -> None:
    names = [name for name, *_ in _read(b'{"a.b": 1, "c[0]": 2, "": 3}')]
    assert "a.b" not in names
    assert names == ['["a.b"]'] * 2 + ['["c[0]"]'] * 2 + ['[""]'] * 2


def test_a_byte_order_mark_is_kept() -> None:
    body = BOM + b'{"a":"x"}'
    assert _read(body)[1] == ("a", "x", Shape.TEXT, b"x")


@pytest.mark.guards("T-11")
def test_a_key_given_twice_is_reported_for_what_stands_below_it() -> None:
    document = json.read(b'{"a":{"n":"1"},"\\u0061":{"m":"2"},"b":{"n":"3"}}')
    assert document.repeats("a.n")
    assert not document.repeats("b.n")


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a"}',
        b'{"a":1',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b"{1:2}",
        b"[",
        b"[1",
        b"[1,]",
        b"[1 2]",
        b"1 2",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"NaN",
        b"Infinity",
        b"truth",
        b'"a',
        b'"\x00"',
        b'"\n"',
        rb'"\x"',
        rb'"\u12g4"',
        b"'a'",
        b'{"\xff":1}',
        rb'{"\ud800":1}',
        b"\xff\xfe1\x00",
        b'{"a":1}x',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        json.read(body)
    assert caught.value.reason == "json"


@pytest.mark.parametrize("raw", [b"\xff", rb"\ud800"])
def test_a_value_that_is_no_text_has_a_place_and_no_text(raw: bytes) -> None:
    assert _read(b'{"a":"' + raw + b'"}')[1] == ("a", None, Shape.TEXT, raw)


@pytest.mark.guards("T-11")
def test_depth_is_limited() -> None:
    deepest = b"[" * json.DEPTH_MAX + b"1" + b"]" * json.DEPTH_MAX
    assert len(json.read(deepest).fields) == 1
    for body in (b"[" + deepest + b"]", b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(Malformed) as caught:
            json.read(body)
        assert caught.value.reason == "json_too_large"


def test_the_number_of_values_is_limited() -> None:
    with pytest.raises(Malformed) as caught:
        json.read(b"[" + b"1," * json.VALUES_MAX + b"1,1]")
    assert caught.value.reason == "json_too_large"


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    _VALUES,
    st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.none() | st.just(2)}),
)
def test_it_reads_what_the_standard_library_writes(value: object, how: dict[str, Any]) -> None:
    body = standard.dumps(value, **how).encode("utf-8", "surrogatepass")
    try:
        fields = json.read(body).fields
    except Malformed:
        assert "\\ud" in standard.dumps(value)  # half of a pair in a key
        return
    same = [Replacement(each.start, each.end, body[each.start : each.end]) for each in fields]
    assert splice(body, same) == body
    leaves = [each.text for each in fields if each.shape is not Shape.KEY]
    assert len(leaves) == len(list(_leaves(value)))


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]


@given(st.binary(max_size=40) | st.text('{}[]",:\\u0019aeE+-. \n', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_as_the_standard_library_does(body: bytes) -> None:
    try:
        json.read(body)
    except Malformed:
        return
    standard.loads(body.removeprefix(BOM).decode("utf-8", "replace"), strict=True)
