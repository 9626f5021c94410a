"""Strict JSON: what two parsers could read in two ways is refused, and nothing is quoted."""

import json
import traceback
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway import strict_json
from gateway.errors import BadField, GatewayError, Malformed
from gateway.strict_json import DEPTH_MAX, DIGITS_MAX, MEMBERS_MAX, check, decode
from tests.cards import VISA


class Inner(Struct, forbid_unknown_fields=True):
    """A nested part."""

    number: str
    exp_month: int | str = 1


class Outer(Struct, forbid_unknown_fields=True):
    """A request."""

    card: Inner
    format: Literal["opaque", "pan_like"] = "opaque"
    reference: Annotated[str, Meta(pattern="^[a-z]{1,8}$")] | None = None
    count: Annotated[int, Meta(ge=1)] = 1
    expires_at: datetime | UnsetType | None = UNSET
    parts: list[Inner] = []


CARD = f'{{"number":"{VISA}"}}'
GOOD = f'{{"card":{CARD}}}'


def refusal(body: bytes | str) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        decode(body.encode() if isinstance(body, str) else body, Outer)
    error = refused.value
    assert error.__cause__ is None
    assert error.__context__ is None
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    assert VISA not in text.replace(repr(GOOD), "")
    assert VISA not in f"{error.field} {error.reason}"
    return error


def test_a_good_document_is_read() -> None:
    found = decode(f'{{"card":{CARD},"expires_at":null,"parts":[{CARD}]}}'.encode(), Outer)
    assert found.card.number == VISA
    assert found.expires_at is None
    assert decode(GOOD.encode(), Outer).expires_at is UNSET


MALFORMED = {
    "empty": ("", "not_json"),
    "no JSON": ("nope", "not_json"),
    "cut": ('{"card":', "not_json"),
    "two documents": (GOOD + GOOD, "not_json"),
    "trailing": (GOOD + "x", "not_json"),
    "single quotes": (GOOD.replace('"', "'"), "not_json"),
    "comment": (GOOD + "//", "not_json"),
    "trailing comma": (GOOD.replace("}}", "},}"), "not_json"),
    "control character": (GOOD.replace("4242", "42\n42"), "not_json"),
    "lone surrogate": (GOOD.replace("4242", "\\ud800", 1), "not_json"),
    "array": (f"[{GOOD}]", "not_an_object"),
    "number": (VISA, "not_an_object"),
    "string": (f'"{VISA}"', "not_an_object"),
    "null": ("null", "not_an_object"),
    "NaN": (f'{{"card":{CARD},"count":NaN}}', "number"),
    "infinity": (f'{{"card":{CARD},"count":-Infinity}}', "number"),
    "overflow": (f'{{"card":{CARD},"count":1e999}}', "number"),
    "many digits": (f'{{"card":{CARD},"count":{"9" * 21}}}', "number"),
    "4000 digits": (f'{{"card":{CARD},"count":{"9" * 4000}}}', "number"),
    "long fraction": (f'{{"card":{CARD},"count":1.{"9" * 30}}}', "number"),
    "NUL": (GOOD.replace("4242", "\\u0000", 1), "null_character"),
    "same name twice": (f'{{"card":{CARD},"card":{CARD}}}', "duplicate_key"),
    "same name twice, escaped": (f'{{"card":{CARD},"c\\u0061rd":{CARD}}}', "duplicate_key"),
    "same name twice, below": ('{"card":{"number":"1","number":"2"}}', "duplicate_key"),
    "unknown name": (f'{{"card":{CARD},"{VISA}":1}}', "unknown_field"),
    "unknown name below": (f'{{"card":{{"number":"1","{VISA}":"1"}}}}', "unknown_field"),
    "unknown name that looks like a place": (
        f'{{"card":{CARD},"x` - at `$.card.number":1}}',
        "unknown_field",
    ),
    "deep array": ("[" * 33 + "]" * 33, "depth"),
    "deep object": ('{"a":' * 33 + "1" + "}" * 33, "depth"),
    "endlessly deep": ("[" * 60_000, "depth"),
    "many members": (json.dumps({f"n{n}": n for n in range(201)}), "members"),
    "many elements": (json.dumps([0] * 201), "members"),
    "many in all": (json.dumps([[0] * 50] * 5), "members"),
    "byte order mark": ("\ufeff" + GOOD, "not_utf8"),
}


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(("body", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_tricky_document_is_400_and_not_quoted(body: str, reason: str) -> None:
    error = refusal(body)
    assert isinstance(error, Malformed)
    assert error.reason == reason


@pytest.mark.guards("T-11")
@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_only_utf_8_is_read(coding: str) -> None:
    error = refusal(GOOD.replace("4242", "é+~", 1).encode(coding))
    assert isinstance(error, Malformed)


FIELDS = {
    "PAN as a number": (f'{{"card":{{"number":{VISA}}}}}', "card.number", "must_be_string"),
    "PAN as a float": (f'{{"card":{{"number":{VISA}.0}}}}', "card.number", "must_be_string"),
    "PAN in a list": (f'{{"card":{{"number":["{VISA}"]}}}}', "card.number", "must_be_string"),
    "PAN null": ('{"card":{"number":null}}', "card.number", "must_be_string"),
    "PAN missing": ('{"card":{}}', "card.number", "missing"),
    "card missing": ("{}", "card", "missing"),
    "card no object": (f'{{"card":"{VISA}"}}', "card", "wrong_type"),
    "month of a wrong type": (
        f'{{"card":{{"number":"{VISA}","exp_month":[]}}}}',
        "card.exp_month",
        "wrong_type",
    ),
    "no such format": (f'{{"card":{CARD},"format":"{VISA}"}}', "format", "not_allowed"),
    "pattern": (f'{{"card":{CARD},"reference":"{VISA}"}}', "reference", "not_allowed"),
    "too small": (f'{{"card":{CARD},"count":0}}', "count", "not_allowed"),
    "no time": (f'{{"card":{CARD},"expires_at":"{VISA}"}}', "expires_at", "not_allowed"),
    "in a list": (f'{{"card":{CARD},"parts":[{{"number":1}}]}}', "parts.number", "must_be_string"),
    "missing in a list": (f'{{"card":{CARD},"parts":[{{}}]}}', "parts.number", "missing"),
}


@pytest.mark.guards("T-11")
@pytest.mark.guards("T-32")
@pytest.mark.parametrize(("body", "field", "reason"), FIELDS.values(), ids=FIELDS)
def test_a_wrong_value_is_422_by_the_name_of_our_field(body: str, field: str, reason: str) -> None:
    error = refusal(body)
    assert isinstance(error, BadField)
    assert (error.field, error.reason) == (field, reason)


def test_a_place_that_is_not_of_our_schema_is_not_told() -> None:
    """Should msgspec ever word a message in another way, a name that came in stays untold."""
    names = frozenset({"card", "number"})
    told = strict_json._refusal("Expected `str`, got `int` - at `$.card.number`", names)
    assert isinstance(told, BadField)
    untold = strict_json._refusal("Expected `str`, got `int` - at `$.card.stranger`", names)
    assert isinstance(untold, Malformed)
    assert untold.reason == "unknown_field"


def test_limits_are_where_they_are_said_to_be() -> None:
    check(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    check(json.dumps([0] * MEMBERS_MAX).encode())
    check(b"9" * DIGITS_MAX)
    check(json.dumps([["a,b,c,[{" * 20]] * 3).encode())  # commas and brackets of a text


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=40,
)


@pytest.mark.guards("T-11")
@given(
    values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.text('{}[]",:0123456789eE.-+\\u tfn\x00', max_size=40).map(str.encode)
)
@example(b'{"a":1,"a":2}')
@example(b'{"a":{"b":1,"b":1}}')
@example(b"-0")
@example(b'"\\u0000"')
def test_both_parsers_agree_or_we_refuse(body: bytes) -> None:
    try:
        check(body)
    except Malformed:
        return
    pairs_seen: list[bool] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        pairs_seen.append(len({name for name, _ in found}) == len(found))
        return dict(found)

    theirs = json.loads(body, object_pairs_hook=pairs)
    assert all(pairs_seen)
    try:
        ours = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return  # and `decode` refuses
    assert ours == theirs


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_give_a_value_or_one_of_two_errors(body: bytes) -> None:
    with suppress(Malformed, BadField):
        decode(body, Outer)


class Open(Struct):
    """A type that would take unknown names."""

    a: int


class Free(Struct, forbid_unknown_fields=True):
    """A type with names of the caller's choice."""

    a: dict[str, str]


@pytest.mark.parametrize("kind", [Open, Free])
def test_a_type_that_is_not_closed_is_our_bug(kind: type[Struct]) -> None:
    with pytest.raises(AssertionError):
        decode(b'{"a":1}', kind)
