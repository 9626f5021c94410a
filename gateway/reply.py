"""A processor's reply: nothing that was sent comes back in it, and what it means. Pure.

An echo of a card number is replaced by its token where that can be done without breaking the
reply; where it cannot, the reply is withheld. Any other number that looks like a card is counted
and keeps its bytes: most are ids, and a processor's id that was changed would break a capture.

`scrub` is one of the two places of the gateway that reveal a card; the other is `fill` in
`gateway/order.py`. What never lives here: what is sent, and whether it is sent again.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import msgspec

from gateway.codecs import json
from gateway.codecs.splice import BOM, Document, Field, Replacement, Shape, splice
from gateway.errors import Malformed
from gateway.order import OpenedCard
from gateway.preset import Condition, Operation, Preset, ResultRule
from gateway.scan import Sought, contains_any, count_card_like, places_of
from vault.authorization import Result

Headers = Sequence[tuple[str, str]]

# A code of three or four digits that stands alone; `\n` and `%3D` are not part of it.
_CODE: Final = re.compile(
    rb"(?:(?<![0-9A-Za-z])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))[0-9]{3,4}(?![0-9A-Za-z])"
)
_NAMES_CODE: Final = re.compile("cv|csc|cid|code|secur|verif", re.IGNORECASE)
_REFERENCE: Final = re.compile("[!-~]{1,255}")


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

    withheld_body: bytes = field(repr=False)  # for `read_result` alone


def scrub(headers: Headers, body: bytes, sent: Sequence[OpenedCard]) -> Scrubbed | Reflected:
    """Take out of a reply what was sent."""
    numbers = [card.pan.reveal() for card in sent]
    sought = [Sought(number) for number in numbers]
    headers = tuple(headers)
    if not _has_any(headers, body, sought):
        return Scrubbed(headers, body, echoes=0, card_like=count_card_like(body))
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
    head = "\n".join(part for header in headers for part in header)
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


def _codes_of(body: bytes, each: Field, code: bytes) -> Iterator[Replacement]:
    if each.shape is not Shape.NUMBER:
        yield from _codes(body, code, each.start, each.end)
    elif body[each.start : each.end] == code and _NAMES_CODE.search(each.name.rpartition(".")[2]):
        yield Replacement(each.start, each.end, b"0")  # an amount may have the same digits


def _codes(body: bytes, code: bytes, start: int, end: int) -> Iterator[Replacement]:
    for found in _CODE.finditer(body, start, end):
        if found[0] == code:
            yield Replacement(found.start(), found.end(), b"0" * len(code))


# --- what it means ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class References:
    """What a reply is remembered by."""

    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The processor said what became of the call; `executed` is false if it was not even tried."""

    result: Result
    references: References
    executed: bool


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """The reply leaves open what became of the call; `reason` is a public code."""

    reason: str
    references: References


def read_result(
    preset: Preset, operation: Operation, status: int, reply: Scrubbed | Reflected
) -> Settled | UnknownOutcome:
    """Tell what a reply means. Of a withheld one nothing is remembered but that."""
    body = reply.body if isinstance(reply, Scrubbed) else reply.withheld_body
    document = _decoded(body)
    said = _said(preset, operation, status, document)
    references = References()
    if isinstance(reply, Scrubbed):
        references = _references(preset, document, declined=said is Result.DECLINED)
    if isinstance(said, Result):
        return Settled(said, references, executed=status not in preset.not_executed_statuses)
    return UnknownOutcome(said, references)


def _said(preset: Preset, operation: Operation, status: int, document: object) -> Result | str:
    """Return the result, or the reason why there is none."""
    for rule in preset.results:
        if _fits(rule, operation, status, document):
            return rule.reason if rule.reason is not None else Result(rule.result)
    if 400 <= status < 500:  # noqa: PLR2004 - RFC 9110 15.5: refused before an issuer saw it
        return Result.ERROR
    return "upstream_error" if status >= 500 else "upstream_protocol_error"  # noqa: PLR2004


def _fits(rule: ResultRule, operation: Operation, status: int, document: object) -> bool:
    return (
        (not rule.kinds or operation.kind in rule.kinds)
        and any(said in {str(status), f"{status // 100}xx"} for said in rule.statuses)
        and all(_holds(condition, document) for condition in rule.where)
    )


def _holds(condition: Condition, document: object) -> bool:
    values = [each for each in json.values_at(document, condition.path) if each is not None]
    if condition.exists is not None:
        return bool(values) is condition.exists
    # By type too: to Python, true is 1.
    return any(
        type(each) is type(said) and each == said for each in values for said in condition.equals
    )


def _references(preset: Preset, document: object, *, declined: bool) -> References:
    paths = preset.references
    return References(
        processor_reference=_first(document, paths.processor),
        decline_code=_first(document, paths.decline_code) if declined else None,
        authorization_code=_first(document, paths.authorization_code),
    )


def _first(document: object, paths: Sequence[str]) -> str | None:
    found = (each for path in paths for each in json.values_at(document, path))
    return next(
        (each for each in found if isinstance(each, str) and _REFERENCE.fullmatch(each)), None
    )


def _decoded(body: bytes) -> object:
    try:
        document: object = msgspec.json.decode(body.removeprefix(BOM))
    except (msgspec.DecodeError, RecursionError):
        return None
    return document
