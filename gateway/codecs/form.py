"""application/x-www-form-urlencoded, as the WHATWG URL standard parses it, with places. Pure.

Names are compared decoded: one client sends `card[number]=`, another `card%5Bnumber%5D=`, and a
`;` separates nothing. What never lives here: which fields matter.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.codecs.splice import Document, Field, Format
from gateway.errors import Malformed

FIELDS_MAX: Final = 1000

_NESTED: Final = re.compile(r"[^][]++(?:\[[^][]*+\])*+")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def decode(raw: bytes) -> str | None:
    """Return the text of a name or a value, or None where it is no percent-encoded UTF-8."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            return None
        raw = unquote_to_bytes(raw.replace(b"+", b" "))
    elif b"+" in raw:
        raw = raw.replace(b"+", b" ")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def read(body: bytes) -> Document:
    """Return the fields in their order; a name that does not decode makes the body malformed."""
    if body.count(b"&") >= FIELDS_MAX:
        raise Malformed("form_too_long")
    fields = []
    start = 0
    for piece in body.split(b"&"):
        if piece:
            fields.append(_field(piece, start))
        start += len(piece) + 1
    return Document.of(Format.FORM, fields, (field.name for field in fields))


def names(query: str) -> frozenset[str]:
    """Return the names in a URL's query; none of one that does not decode."""
    if not query:
        return frozenset()
    try:
        return frozenset(field.name for field in read(query.encode("utf-8", "replace")).fields)
    except Malformed:
        return frozenset()


def _nests_plainly(name: str) -> bool:
    """Whether brackets nest in the one way that all readers take: `[a][b]=` and `a[b=` do not."""
    if "[" not in name and "]" not in name:
        return True
    return _NESTED.fullmatch(name) is not None


def _field(piece: bytes, start: int) -> Field:
    raw_name, equals, raw_value = piece.partition(b"=")
    name = decode(raw_name)
    if name is None or not _nests_plainly(name):
        raise Malformed("form_field_name")
    value_at = start + len(raw_name) + len(equals)
    return Field(name, decode(raw_value), value_at, start + len(piece))
