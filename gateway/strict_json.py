"""Bytes of a request become a value of one of our types here, or are refused. Pure.

JSON leaves room that attackers use: the same name twice (which one counts?), numbers of a
thousand digits, nesting without end, NUL in text. RFC 8259 allows most of it, so two parsers
may disagree; here whatever can be read in two ways is refused, and two parsers must both read
the rest.

msgspec's messages quote names and values that came in, and those may be a card number: of a
message only the place is kept, and only if each step of it is a name of our own schema.
"""

import json
import math
import re
from functools import lru_cache
from typing import Final, Never, TypeVar

import msgspec
from msgspec import inspect

from gateway.errors import BadField, GatewayError, Malformed

DEPTH_MAX: Final = 32
MEMBERS_MAX: Final = 200
"""Members of all objects and elements of all arrays of one document, together."""
DIGITS_MAX: Final = 20
"""Characters of one number, with its sign, point and exponent."""

T = TypeVar("T", bound=msgspec.Struct)

_LEAVES: Final = (
    inspect.StrType,
    inspect.IntType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
    inspect.EnumType,
    inspect.DateTimeType,
)
_BOM: Final = b"\xef\xbb\xbf"
_PLACE = re.compile(r" - at `\$([^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[[0-9.]+\]")


def decode(body: bytes, kind: type[T]) -> T:
    """Read `body` as one `kind`; raise Malformed (400) or, at a field of ours, BadField (422)."""
    check(body)
    decoder, names = _reader(kind)
    refusal: GatewayError
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        refusal = _refusal(str(error), names)
    except (msgspec.DecodeError, UnicodeDecodeError):
        refusal = Malformed("not_json")
    else:
        assert isinstance(value, kind)
        return value
    raise refusal


def check(body: bytes) -> None:
    """Refuse what two parsers could read in two ways, and what costs more than it is worth."""
    if body.startswith(_BOM):
        raise Malformed("not_utf8")  # RFC 8259 section 8.1 forbids sending one
    if b"\\u0000" in body:
        raise Malformed("null_character")
    value = _parsed(body)
    containers = body.count(b"{") + body.count(b"[")  # at least as many as there are
    if containers > DEPTH_MAX or containers + body.count(b",") > MEMBERS_MAX:
        _measure(value, depth=1)


def _parsed(body: bytes) -> object:
    refusal: Malformed
    try:
        return _STRICT.decode(body.decode())
    except Malformed:
        raise
    except UnicodeDecodeError:  # its repr is the whole body
        refusal = Malformed("not_utf8")
    except RecursionError:
        refusal = Malformed("depth")
    except ValueError:  # json's error carries the whole document
        refusal = Malformed("not_json")
    raise refusal


def _measure(value: object, *, depth: int) -> int:
    """Count what is in `value` and below."""
    inner: list[object]
    match value:
        case dict():
            inner = list(value.values())
        case list():
            inner = value
        case _:
            return 0
    if depth > DEPTH_MAX:
        raise Malformed("depth")
    members = len(inner) + sum(_measure(item, depth=depth + 1) for item in inner)
    if members > MEMBERS_MAX:
        raise Malformed("members")
    return members


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("duplicate_key")
    return members


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise Malformed("number")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits) if len(digits) <= DIGITS_MAX else math.inf
    if math.isinf(number):
        raise Malformed("number")
    return number


def _constant(_name: str) -> Never:
    raise Malformed("number")  # NaN and the infinities are JavaScript, not JSON


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def _refusal(message: str, names: frozenset[str]) -> GatewayError:
    """Tell msgspec's refusal in fixed words; nothing of `message` gets into it unchecked."""
    if message.startswith("Object contains unknown field"):
        return Malformed("unknown_field")
    found = _PLACE.search(message)
    steps = _steps(found[1] if found else "")
    missing = _MISSING.match(message)
    if missing:
        steps.append(missing[1])
    if not steps:
        return Malformed("not_an_object")
    if not names.issuperset(steps):
        return Malformed("unknown_field")
    return BadField(".".join(steps), "missing" if missing else _reason(message))


def _steps(place: str) -> list[str]:
    return [step[1] for step in _STEP.finditer(place) if step[1] is not None]


def _reason(message: str) -> str:
    if message.startswith("Expected `str`, got"):
        return "must_be_string"  # a card number sent as a JSON number, above all
    if message.startswith("Expected") and ", got" in message:
        return "wrong_type"
    return "not_allowed"


@lru_cache(maxsize=64)
def _reader(
    kind: type[msgspec.Struct],
) -> tuple[msgspec.json.Decoder[msgspec.Struct], frozenset[str]]:
    names: set[str] = set()
    _collect(inspect.type_info(kind), names)
    return msgspec.json.Decoder(kind), frozenset(names)


def _collect(node: inspect.Type, names: set[str]) -> None:
    """Gather the field names of a schema, which must be closed: no free names, no free types."""
    match node:
        case inspect.StructType():
            assert node.forbid_unknown_fields, "a request type that takes unknown fields"
            for field in node.fields:
                names.add(field.encode_name)
                _collect(field.type, names)
        case inspect.UnionType():
            for member in node.types:
                _collect(member, names)
        case inspect.ListType():
            _collect(node.item_type, names)
        case _:
            assert isinstance(node, _LEAVES), "a request type that is not closed"
