"""Finds what looks like a token where none may be, and names the field. Pure.

Only the `pwt_` form counts (T-28): anything of digits alone could be the merchant's own. A name
that came in is told only if it cannot be more than a name. What never lives here: which fields
are declared.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.codecs import form
from gateway.codecs.splice import Field
from gateway.errors import Malformed
from vault.tokens import TOKEN_BYTES, TOKEN_PATTERN

TOKEN: Final = re.compile(TOKEN_PATTERN)
_MARK: Final = TOKEN_PATTERN.partition("(")[0]  # how each begins: it is found five times sooner

SHOWN_CHARACTERS_MAX: Final = 100
_SHOWABLE: Final = re.compile(r"(?!(?:.*[0-9]){9})[A-Za-z_][A-Za-z0-9_.\[\]-]{0,99}")


def in_fields(body: bytes, fields: Iterable[Field], *, place: str = "body") -> Iterator[str]:
    """Name the fields that have a token in their value or in their name."""
    for field in fields:
        if (_MARK in field.name and TOKEN.search(field.name)) or _has_token(body, field):
            yield shown(field.name, place)


def in_bytes(body: bytes, *, place: str = "body") -> Iterator[str]:
    """Name the whole, of which no fields are known."""
    if TOKEN_BYTES.search(body):
        yield place


def between_fields(body: bytes, fields: Sequence[Field], *, place: str = "body") -> Iterator[str]:
    """Name the body if what is no field of it has a token: a comment, a preamble, a gap."""
    places = [found.span() for found in TOKEN_BYTES.finditer(body)]
    if not places:
        return
    by_start = sorted(fields, key=lambda field: field.start)
    starts = [field.start for field in by_start]
    for start, end in places:
        around = bisect_right(starts, start) - 1
        if around < 0 or end > by_start[around].end:
            yield place
            return


def in_head(path: str, query: str, headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Name the parts before a body that have a token."""
    if TOKEN.search(path):
        yield "path"
    for name, value in headers:
        if (_MARK in value or _MARK in name) and (TOKEN.search(name) or TOKEN.search(value)):
            yield shown(name.lower(), "header")
    if not query:
        return
    raw = query.encode("utf-8", "surrogateescape")
    try:
        fields = form.read(raw).fields
    except Malformed:
        yield from in_bytes(raw, place="query")
    else:
        yield from in_fields(raw, fields, place="query")


def _has_token(body: bytes, field: Field) -> bool:
    if field.text is None:  # it does not decode: a token in it would still be read by some
        return TOKEN_BYTES.search(body, field.start, field.end) is not None
    return _MARK in field.text and TOKEN.search(field.text) is not None


def shown(name: str, place: str) -> str:
    """Return a name that came in if it can be no more than a name, else where it stood."""
    is_short = len(name) <= SHOWN_CHARACTERS_MAX  # else counting its digits takes for ever
    return name if is_short and _SHOWABLE.fullmatch(name) and not TOKEN.search(name) else place
