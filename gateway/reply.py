"""A processor's reply: nothing that was sent comes back in it. Pure.

An echo of a card number is replaced by its token where that can be done without breaking the
reply; where it cannot, the reply is withheld. Any other number that looks like a card is counted
and keeps its bytes: most are ids, and a processor's id that was changed would break a capture.

`scrub` is one of the two places of the gateway that reveal a card; the other is `fill` in
`gateway/order.py`. What never lives here: what a reply means.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gateway.codecs import json, xml
from gateway.codecs.splice import Document, Field, Replacement, Shape, splice
from gateway.echoes import Sought, contains_any, count_card_like, places_of
from gateway.errors import Malformed
from gateway.order import OpenedCard
from gateway.reading import is_xml

Headers = Sequence[tuple[str, str]]

# A code of three or four digits that stands alone; `\n` and `%3D` are not part of it.
_CODE: Final = re.compile(
    rb"(?:(?<![0-9A-Za-z])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))[0-9]{3,4}"
    rb"(?![0-9A-Za-z]|[.,-][0-9A-Za-z])"
)
_NAMED_CVC: Final = re.compile(
    r"""(?:^|[._"-])(?:cvv2?|cvc2?|csc|cid|card[_-]?code|security[_-]?code)$""", re.IGNORECASE
)
_NAMES_CODE: Final = re.compile("cv|csc|cid|code|secur|verif", re.IGNORECASE)


# --- scrubbing ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A reply with nothing in it that was sent; which of its headers pass is the preset's.

    An echo is a security event; numbers that look like cards are an alert on a rate.
    """

    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    echoes: int
    card_like: int


@dataclass(frozen=True, slots=True)
class Reflected:
    """The reply has a number that was sent, in a form that cannot be replaced: withhold it."""

    withheld_body: bytes = field(repr=False)  # for `gateway/result.py` alone


def scrub(headers: Headers, body: bytes, sent: Sequence[OpenedCard]) -> Scrubbed | Reflected:
    """Take out of a reply what was sent."""
    numbers = [card.pan.reveal() for card in sent]
    sought = [Sought(number) for number in numbers]
    headers = tuple(headers)
    if not sent:
        return Scrubbed(headers, body, echoes=0, card_like=count_card_like(body))
    if not _has_any(headers, body, sought):
        body, named = _without_named_codes(body, sent)
        return Scrubbed(headers, body, echoes=named, card_like=count_card_like(body))
    echoes = 0
    for card, number in zip(sent, numbers, strict=True):
        code = b"" if card.cvc is None else card.cvc.reveal().encode()
        cleaned = [_clean_value(value, number, card.token, code) for _, value in headers]
        headers = tuple(
            (name, value) for (name, _), (value, _) in zip(headers, cleaned, strict=True)
        )
        body, in_body = _without_number(body, number, card.token)
        body = _without_code(body, code)  # who echoes the number may echo its code
        echoes += in_body + sum(in_value for _, in_value in cleaned)
    if _has_any(headers, body, sought):
        return Reflected(body)
    return Scrubbed(headers, body, echoes, count_card_like(body))


def _has_any(headers: Headers, body: bytes, sought: Sequence[Sought]) -> bool:
    head = "\n".join(chain.from_iterable(headers))
    return contains_any(body, sought) or contains_any(head.encode(), sought)


def _clean_value(value: str, number: str, token: str, code: bytes) -> tuple[str, int]:
    places = places_of(value.encode(), number)
    cleaned = bytes(splice(value.encode(), _in_text(places, token)))
    return splice(cleaned, _codes(cleaned, code, 0, len(cleaned))).decode(), len(places)


def _document(body: bytes) -> Document | None:
    try:
        return json.read(body)
    except Malformed:
        return None


def _without_number(body: bytes, number: str, token: str) -> tuple[bytes, int]:
    places = places_of(body, number)
    document = _document(body)
    in_text = _in_text(places, token)
    replacements = list(in_text if document is None else _in_json(document, places, token))
    return bytes(splice(body, replacements)), len(replacements)


def _in_text(places: Sequence[tuple[int, int]], token: str) -> Iterator[Replacement]:
    return (Replacement(start, end, token.encode()) for start, end in places)


def _in_json(
    document: Document, places: Sequence[tuple[int, int]], token: str
) -> Iterator[Replacement]:
    """Keep it JSON: a token within a string, or a string in place of a whole number."""
    starts = [each.start for each in document.fields]
    for start, end in places:
        around = document.fields[bisect_right(starts, start) - 1]
        if around.shape is Shape.NUMBER and (start, end) == (around.start, around.end):
            yield Replacement(start, end, f'"{token}"'.encode())
        elif around.shape is not Shape.NUMBER:
            yield Replacement(start, end, token.encode())


def _without_code(body: bytes, code: bytes) -> bytes:
    """Write zeros for a code that stands alone in a text, or is a member named like one."""
    document = _document(body)
    if document is None:
        return bytes(splice(body, _codes(body, code, 0, len(body))))
    places = chain.from_iterable(_codes_of(body, each, code) for each in document.fields)
    return bytes(splice(body, places))


def _without_named_codes(body: bytes, sent: Sequence[OpenedCard]) -> tuple[bytes, int]:
    """Write zeros for a code that is the whole value of a field that is named like one."""
    codes = {card.cvc.reveal() for card in sent if card.cvc is not None}
    if not any(code.encode() in body for code in codes):
        return body, 0
    try:
        document = xml.read(body) if is_xml(body) else json.read(body)
    except Malformed:
        return body, 0
    replacements = [
        Replacement(
            each.start,
            each.end,
            b"0" if each.shape is Shape.NUMBER else b"0" * (each.end - each.start),
        )
        for each in document.fields
        if each.shape is not Shape.KEY and each.text in codes and _NAMED_CVC.search(each.name)
    ]
    return bytes(splice(body, replacements)), len(replacements)


def _codes_of(body: bytes, each: Field, code: bytes) -> Iterator[Replacement]:
    if each.shape is not Shape.NUMBER:
        yield from _codes(body, code, each.start, each.end)
    elif body[each.start : each.end] == code and _NAMES_CODE.search(each.name.rpartition(".")[2]):
        yield Replacement(each.start, each.end, b"0")  # an amount may have the same digits


def _codes(body: bytes, code: bytes, start: int, end: int) -> Iterator[Replacement]:
    for found in _CODE.finditer(body, start, end):
        if found[0] == code:
            yield Replacement(found.start(), found.end(), b"0" * len(code))
