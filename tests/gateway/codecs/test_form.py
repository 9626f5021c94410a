from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import form
from gateway.codecs.splice import Replacement, splice
from gateway.errors import Malformed


def _read(body: bytes) -> list[tuple[str, str | None, bytes]]:
    return [
        (field.name, field.text, body[field.start : field.end]) for field in form.read(body).fields
    ]


@pytest.mark.parametrize("name", ["card[number]", "card%5Bnumber%5D", "card%5bnumber%5d"])
def test_brackets_are_the_same_literal_and_encoded(name: str) -> None:
    assert _read(f"{name}=x+y%21".encode()) == [("card[number]", "x y!", b"x+y%21")]


def test_a_field_is_what_stands_between_ampersands() -> None:
    assert _read(b"&a=1&&b&c==;d=2&e=") == [
        ("a", "1", b"1"),
        ("b", "", b""),
        ("c", "=;d=2", b"=;d=2"),
        ("e", "", b""),
    ]


def test_an_empty_body_has_no_fields() -> None:
    assert _read(b"") == []


def test_names_given_twice_are_reported_however_they_are_spelled() -> None:
    document = form.read(b"a[b]=1&a%5Bb%5D=2&c=3")
    assert document.repeats("a[b]")
    assert not document.repeats("c")


@pytest.mark.parametrize("value", ["%", "%4", "%zz", "50% off", "%ff", "\udcff"])
def test_a_value_that_does_not_decode_has_a_place_and_no_text(value: str) -> None:
    raw = value.encode("utf-8", "surrogateescape")
    assert _read(b"a=" + raw + b"&b=1") == [("a", None, raw), ("b", "1", b"1")]


@pytest.mark.parametrize("name", [b"%", b"%zz", b"%ff", b"\xff"])
def test_a_name_that_does_not_decode_makes_the_body_malformed(name: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        form.read(b"a=1&" + name + b"=2")
    assert caught.value.reason == "form_field_name"


def test_the_number_of_fields_is_limited() -> None:
    assert len(form.read(b"&".join([b"a=1"] * form.FIELDS_MAX)).fields) == form.FIELDS_MAX
    with pytest.raises(Malformed) as caught:
        form.read(b"&" * form.FIELDS_MAX)
    assert caught.value.reason == "form_too_long"


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), max_size=20)


@given(st.lists(st.tuples(_NAMES, _TEXTS), max_size=10))
def test_it_reads_what_the_standard_library_writes(pairs: list[tuple[str, str]]) -> None:
    body = urlencode(pairs).encode()
    assert [(field.name, field.text) for field in form.read(body).fields] == pairs


@given(st.binary(max_size=60).filter(lambda body: b"\x00" not in body))
def test_any_bytes_are_read_or_refused_and_values_put_back_change_nothing(body: bytes) -> None:
    try:
        fields = form.read(body).fields
    except Malformed:
        return
    same = [Replacement(each.start, each.end, body[each.start : each.end]) for each in fields]
    assert splice(body, same) == body


@given(st.lists(st.tuples(_NAMES, _TEXTS), min_size=1, max_size=10), st.data())
def test_digits_put_in_place_of_a_value_are_read_there_and_nothing_else_changes(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    body = urlencode(pairs, quote_via=quote).encode()
    fields = form.read(body).fields
    chosen = data.draw(st.integers(0, len(fields) - 1))
    place = fields[chosen]
    changed = splice(body, [Replacement(place.start, place.end, b"0123")])
    expected = list(pairs)
    expected[chosen] = (pairs[chosen][0], "0123")
    assert parse_qsl(changed.decode(), keep_blank_values=True) == expected


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "name", ["[card][number]", "card[number", "card]number[", "card[[number]]", "card[a]b[c]", "["]
)
def test_brackets_that_readers_take_differently_are_malformed(name: str) -> None:
    """`card[number=` is `card[number]` to some."""
    with pytest.raises(Malformed):
        form.read(f"{name}=1".encode())


@pytest.mark.parametrize("name", ["card[number]", "expand[]", "a[b][c][]", "a[b c]", "a.b"])
def test_brackets_that_nest_are_read(name: str) -> None:
    assert form.read(f"{name}=1".encode()).fields[0].name == name
