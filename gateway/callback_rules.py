"""What a preset's `callbacks` must hold to make sense, beyond its types. Pure.

Every finding is a sentence that says what to change. What never lives here: the types, and what
a post says.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from gateway.codecs.splice import Format
from gateway.preset_callbacks import CallbackEffect, CallbackEvents
from gateway.preset_conditions import Condition
from gateway.selectors import problem_of
from gateway.signatures import SCHEMES
from vault.payment_events import Effect

_ITEMS: Final = re.compile(r"([A-Za-z0-9_-]+)\[\*\](?:\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*))?")
_HEADER: Final = re.compile("[a-z0-9-]+")
_TYPE: Final = re.compile(r"[!-)+-~]{1,128}\*?")  # a star only at the end


def problems_of_callbacks(events: CallbackEvents) -> Iterator[str]:
    """Say what is wrong, a sentence each."""
    yield from _schemes(events)
    yield from _identity(events)
    for where, selector in _selectors(events):
        yield from _selector(where, selector)
    for number, effect in enumerate(events.effects, start=1):
        for finding in _effect(effect):
            yield f"effects {number}: {finding}"
        if effect.effect is Effect.LATE_DECLINE and not events.at:
            yield f"effects {number}: late_decline needs `at`: what came later may be the approval"


def _schemes(events: CallbackEvents) -> Iterator[str]:
    if not events.schemes:
        yield "schemes: at least one"
    for name, count in Counter(events.schemes).items():
        if name not in SCHEMES:
            yield f"schemes: there is no scheme {name}"
        if count > 1:
            yield f"schemes: {name} is given twice"


def _identity(events: CallbackEvents) -> Iterator[str]:
    if sum(map(bool, (events.id, events.id_parts, events.id_header))) > 1:
        yield "id, id_parts, id_header: one of them, or none"
    if events.id_parts and not all(events.id_parts):
        yield "id_parts: each says where it stands"
    if events.id_header is not None and not _HEADER.fullmatch(events.id_header):
        yield f"id_header: {events.id_header!r} is no lower-case header name"
    if events.id_header is not None and events.items is not None:
        yield "id_header: the items of one post would have one id"
    if events.items is not None and not _ITEMS.fullmatch(events.items):
        yield "items: a name of the post, [*], and what stands in each, like items[*].item"
    if not events.type:
        yield "type: where an event says what it is"
    if events.amount and events.amount_unit == "major" and not events.currency:
        yield "currency: without one, nobody knows the minor units of an amount"


def _selectors(events: CallbackEvents) -> Iterator[tuple[str, str]]:
    named = (
        ("type", events.type),
        ("id", events.id),
        *(("id_parts", part) for part in events.id_parts),
        ("at", events.at),
        ("action_reference", events.action_reference),
        ("payment_reference", events.payment_reference),
        ("merchant_reference", events.merchant_reference),
        ("amount", events.amount),
        ("currency", events.currency),
        ("decline_code", events.decline_code),
        ("numbers", events.numbers),
    )
    for where, selectors in named:
        yield from ((where, selector) for selector in selectors)


def _selector(where: str, selector: str) -> Iterator[str]:
    """A post is asked by plain paths, of a JSON document or of an XML one."""
    if selector.startswith(("$", "/")):
        yield f"{where}: {selector!r}: a post is asked by plain paths"
    elif problem_of(selector, Format.JSON) and (problem := problem_of(selector, Format.XML)):
        yield f"{where}: {selector!r}: {problem}"


def _effect(effect: CallbackEffect) -> Iterator[str]:
    if not effect.types:
        yield "types: at least one"
    for name in effect.types:
        if not _TYPE.fullmatch(name) and name != "*":
            yield f"types: {name!r} is no type, with a * at its end or none"
    for condition in effect.where:
        yield from _condition(condition)


def _condition(condition: Condition) -> Iterator[str]:
    for path in condition.paths:
        yield from _selector("path", path)
    if bool(condition.equals) == (condition.exists is not None) or not condition.paths:
        yield "where: a path, and either `is` or `exists`"
