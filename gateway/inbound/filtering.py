"""What becomes of a message in front of a merchant's endpoint: decided, before anything is done.

Pure. A message is read, its declared fields are treated, and what is left is looked at for cards
that nobody declared. The outcome is a `Plan`: which cards have to be stored, and where their
tokens go. What cannot be read where a field is declared is refused, never passed on unread. What
never lives here: storing a card, and sending anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from gateway.codecs.splice import Format
from gateway.errors import BodyUnreadable, CardFieldRefused, UnsupportedMedia
from gateway.inbound.alike import is_alike, may_be_code, may_be_number
from gateway.inbound.areas import (
    BODY,
    HEADER,
    PATH,
    QUERY,
    ROWS,
    Area,
    Areas,
    Spot,
    body_area,
    format_read,
    header_areas,
    query_area,
    type_of,
)
from gateway.inbound.declared import Declared
from gateway.inbound.filter_problems import fits, problems_of
from gateway.inbound.looking import is_clean
from gateway.inbound.plan import (
    Draft,
    Edit,
    Finding,
    Head,
    Headers,
    Plan,
    Rewritten,
    Target,
    WantedCard,
    bytes_of,
)
from gateway.inbound.rules import Filter, InboundConfig, Phase, Undeclared
from gateway.inbound.undeclared import Policy, may_hold_cards, names_of
from gateway.scan import Hit

__all__ = [
    "Edit",
    "Finding",
    "Head",
    "Plan",
    "Rewritten",
    "WantedCard",
    "is_rows",
    "plan_raw",
    "plan_reply",
    "plan_request",
    "plan_rows",
    "problems_of",
    "reads",
]

_NO_QUERY = query_area("", is_declared=False)
_NO_BODY = Area(BODY, b"")


# --- which bodies are read ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a route does with bodies of one type."""

    format: Format | None
    of_body: tuple[Filter, ...]
    """The filters that are for such a body."""
    filters: tuple[Filter, ...]
    """Those, and the ones that are for every head."""
    is_whole: bool


def reads(route: InboundConfig, phase: Phase, content_type: str) -> bool:
    """Whether a filter, or a field that is allowed to hold numbers, needs this body whole."""
    return _reading(route, phase, content_type).is_whole


def is_rows(route: InboundConfig, content_type: str) -> Format | None:
    """Tell the format of a file whose rows can pass one after the other, through filters."""
    reading = _reading(route, "request", content_type)
    return reading.format if reading.format in ROWS and reading.of_body else None


def _reading(route: InboundConfig, phase: Phase, content_type: str) -> _Reading:
    format_ = format_read(route, content_type)
    type_ = "" if format_ is None else type_of(content_type)
    return _prepared(route.filters, route.allow, phase, format_, type_)


@lru_cache(maxsize=1024)
def _prepared(
    filters: tuple[Filter, ...],
    allow: tuple[str, ...],
    phase: Phase,
    format_: Format | None,
    type_: str,
) -> _Reading:
    of_phase = [each for each in filters if each.phase == phase]
    of_body = tuple(each for each in of_phase if _is_for(each, format_, type_))
    treated = tuple(each for each in of_phase if each in of_body or _has_head(each))
    is_allowed = format_ is not None and any(
        fits(each, format_) for each in allow if not _of_head(each) and each != PATH
    )
    return _Reading(format_, of_body, treated, is_whole=bool(of_body) or is_allowed)


def _is_for(declared: Filter, format_: Format | None, type_: str) -> bool:
    if format_ is None or declared.content_type not in {None, type_}:
        return False
    return any(not _of_head(one) and fits(one, format_) for one in _selectors(declared))


def _selectors(declared: Filter) -> tuple[str, ...]:
    return (declared.selector, *declared.beside())


def _of_head(selector: str) -> bool:
    return selector.startswith((HEADER, QUERY))


# --- plans --------------------------------------------------------------------------------


def plan_request(
    route: InboundConfig, head: Head, content_type: str, body: bytes, *, at: datetime
) -> Plan:
    """Plan one request that is there as a whole, or, without a body, its head alone.

    Raises CardFieldRefused, UndeclaredCard, BodyUnreadable, UnsupportedMedia.
    """
    reading = _reading(route, "request", content_type)
    if body:
        _check_type(route, head, read=bool(reading.of_body))
    areas = Areas(
        body=_body(route, reading, content_type, body),
        query=_query(route, head.query),
        headers=header_areas(head.headers),
    )
    draft = Draft()
    declared = Declared(draft, areas, at=at)
    declared.treat(reading.filters)
    allowed = tuple(_allowed(route, areas))
    _check_alike(route, areas, reading.filters, allowed)
    path = "" if PATH in route.allow else head.path
    _look(Policy(draft, route.undeclared), path, areas, (*declared.taken, *allowed))
    return draft.plan(query=head.query, headers=head.headers, body=body)


def plan_rows(
    route: InboundConfig, format_: Format, block: bytes, *, at: datetime, first_row: int = 0
) -> Plan:
    """Plan some rows of a file; a CSV's have its header in front of them.

    Findings and refusals name the row. Raises CardFieldRefused, UndeclaredCard, BodyUnreadable.
    """
    body = body_area(route, format_, "", block, first_row)
    areas = Areas(body, _NO_QUERY, ())
    draft = Draft()
    declared = Declared(draft, areas, at=at)
    filters = [
        each
        for each in route.filters
        if each.phase == "request" and not _is_for_head(each) and _is_for_rows(route, each, format_)
    ]
    declared.treat(filters)
    allowed = tuple(_allowed(route, areas))
    _check_alike(route, areas, filters, allowed)
    policy = Policy(draft, route.undeclared)
    without = (*declared.taken, *allowed)
    is_reported = route.undeclared == "report"
    policy.body(body, (spot.field for spot in without), windows=is_reported)
    return draft.plan(body=block)


def plan_reply(route: InboundConfig, content_type: str, headers: Headers, body: bytes) -> Plan:
    """Plan a merchant's answer, or, without a body, its head alone.

    Raises BodyUnreadable, and UndeclaredCard for what cannot be masked.
    """
    reading = _reading(route, "response", content_type)
    areas = Areas(_body(route, reading, content_type, body), _NO_QUERY, header_areas(headers))
    draft = Draft()
    declared = Declared(draft, areas)
    declared.treat(reading.filters)
    _look(Policy(draft, route.replies), "", areas, (*declared.taken, *_allowed(route, areas)))
    return draft.plan(headers=headers, body=body)


def plan_raw(undeclared: Undeclared, raw: bytes, hits: Sequence[Hit], place: str) -> Plan:
    """Plan a piece of a stream of which no fields are known. Raises UndeclaredCard."""
    draft = Draft()
    Policy(draft, undeclared).piece(BODY, hits, place)
    return draft.plan(body=raw)


# --- the parts of a message ---------------------------------------------------------------


def _body(route: InboundConfig, reading: _Reading, content_type: str, body: bytes) -> Area:
    """Read a body; one that only `allow` would have read may be anything."""
    if not reading.is_whole:
        return body_area(route, None, content_type, body)
    if reading.of_body:
        return body_area(route, reading.format, content_type, body)
    try:
        return body_area(route, reading.format, content_type, body)
    except BodyUnreadable:
        return body_area(route, None, content_type, body)


def _query(route: InboundConfig, query: str) -> Area:
    return query_area(query, is_declared=_declares(route, QUERY)) if query else _NO_QUERY


def _check_type(route: InboundConfig, head: Head, *, read: bool) -> None:
    """Refuse a body that no filter reads where there are filters, and one of two types."""
    filters = [each for each in route.filters if each.phase == "request"]
    of_bodies = [each for each in filters if not _is_for_head(each)]
    if not of_bodies:
        return
    types = [value for name, value in head.headers if name.lower() == "content-type"]
    if len(types) > 1 or (not read and route.other_content == "refuse"):
        raise UnsupportedMedia("content_type")


def _check_alike(
    route: InboundConfig, areas: Areas, filters: Sequence[Filter], allowed: Iterable[Spot]
) -> None:
    """Refuse what some readers take for a declared field, and nobody has treated.

    Of a number the scanner sees to that, unless it only tells; a code it cannot know. Raises
    CardFieldRefused.
    """
    named = (spot for each in filters for one in _selectors(each) for spot in areas.find(one))
    known = {spot.key for spot in (*named, *allowed)}
    of_query = Areas(_NO_BODY, areas.query, ())
    for each in route.filters:
        if each.phase != "request":
            continue
        seen = areas if each in filters else of_query
        codes = [each.cvc] if each.cvc is not None else []
        if each.operation != "tokenize":
            codes.append(each.selector)  # it may be one
        alike = [one for one in codes if is_alike(seen, one, known, may_be_code)]
        if route.undeclared == "report" and is_alike(seen, each.selector, known, may_be_number):
            alike.append(each.selector)
        if alike:
            raise CardFieldRefused(alike[0], "spelled_otherwise")


def _look(policy: Policy, path: str, areas: Areas, without: Sequence[Spot]) -> None:
    by_target: dict[Target, list[Spot]] = {}
    for spot in without:
        by_target.setdefault(spot.area.target, []).append(spot)
    looked_at = [
        each for each in areas.headers if each.target not in by_target and may_hold_cards(each)
    ]
    names, values = names_of(areas.headers), (each.raw for each in looked_at)
    is_head_clean = is_clean([bytes_of(path), bytes_of(names), *values])
    if not is_head_clean:
        policy.fixed("path", path)
    for area in (areas.query, areas.body):
        policy.body(area, (spot.field for spot in by_target.get(area.target, ())))
    if not is_head_clean:
        policy.headers(areas.headers, looked_at)


def _allowed(route: InboundConfig, areas: Areas) -> Iterable[Spot]:
    """Yield the fields that may hold long numbers. Raises BodyUnreadable."""
    for selector in route.allow:
        if selector != PATH:
            yield from areas.find(selector)


def _is_for_head(declared: Filter) -> bool:
    return all(map(_of_head, _selectors(declared)))


def _has_head(declared: Filter) -> bool:
    """Whether it is for every message: its body, if there is another, has none of its fields."""
    return any(map(_of_head, _selectors(declared)))


def _is_for_rows(route: InboundConfig, declared: Filter, format_: Format) -> bool:
    wanted = declared.content_type
    return wanted is None or format_read(route, wanted) is format_


def _declares(route: InboundConfig, part: str) -> bool:
    return any(
        one.startswith(part)
        for each in route.filters
        if each.phase == "request"
        for one in _selectors(each)
    )
