"""Which places of a call's body take something of a card, and which token names it. Pure.

A token is opened at the declared fields of a declared operation and nowhere else. What else may
stand there is a short list. What never lives here: looking a token up, and opening it.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway import strays
from gateway.call import CallRefused, ReadCall, Refusal, folds, is_empty
from gateway.codecs.splice import Field, Shape
from gateway.plain_paths import folded
from gateway.preset import CardFields
from gateway.selectors import Match
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from vault.tokens import Env, is_token, looks_pan_like

CARDS_MAX: Final = 16  # an intent lists what it opens: a number and a code each

_STORED_CVC: Final = frozenset({"000", "0000"})  # beside a token, for SDKs that insist on digits
_EXPIRY: Final = re.compile("[0-9]{0,4}")
_WHOLE_EXPIRY: Final = re.compile("[0-9]{1,4}[-/]?[0-9]{0,4}|X{4}")
_LAST4: Final = re.compile("(?:X{4})?[0-9]{4}")


class Part(StrEnum):
    """What a token stands for at its place; expiry dates by the way they are written there."""

    NUMBER = "number"
    CVC = "cvc"
    MONTH = "M"
    MONTH_PADDED = "MM"
    YEAR = "YYYY"
    YEAR_SHORT = "YY"
    YEAR_AND_MONTH = "YYYY-MM"
    MONTH_AND_YEAR = "MM/YYYY"
    MONTH_AND_YEAR_SHORT = "MM/YY"
    MONTH_YEAR_SHORT = "MMYY"
    MONTH_YEAR = "MMYYYY"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the body where something of a token's card goes.

    `token` is what names the card: the token as it was sent, which may be a pan_like one.
    """

    part: Part
    token: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a call in the order of its body, and every declared field that it has."""

    slots: tuple[Slot, ...]
    declared: frozenset[int]  # where they start


def find_slots(read: ReadCall, cards: Sequence[CardFields], *, env: Env) -> Slots | CallRefused:
    """Find every place that takes something of a card, or what is wrong at one of them."""
    below = next(_below_declared(read, cards), None)
    if below is not None:
        return CallRefused(Refusal.INVALID_FIELD, below)
    slots: list[Slot] = []
    declared: set[int] = set()
    for card in cards:
        tokens: dict[tuple[str, ...], str] = {}
        for part, match in _places(read, card, declared):
            if isinstance(match, CallRefused):
                return match
            declared.add(match.field.start)
            found = _found(card, part, match, tokens, env)
            if isinstance(found, CallRefused):
                return found
            if found is not None:
                slots.append(found)
    if len({slot.token for slot in slots}) > CARDS_MAX:
        return CallRefused(Refusal.TOO_MANY_CARDS, "body")
    return Slots(tuple(sorted(slots, key=lambda slot: slot.start)), frozenset(declared))


def _below_declared(read: ReadCall, cards: Sequence[CardFields]) -> Iterator[str]:
    """Name a number or code that is no value: `number: ["…"]`, `card[number][]=…`.

    A lax reader might take what stands in it.
    """
    plain = (
        selector
        for card in cards
        for selector in (card.number, card.cvc)
        if selector is not None and "*" not in selector and selector[0] not in "$/"
    )
    fold = folds(read.preset, read.document)
    starts = tuple(f"{folded(each) if fold else each}{mark}" for each in plain for mark in ".[")
    for field in read.document.fields:
        name = folded(field.name) if fold else field.name
        has_token = strays.TOKEN.search(field.text or "") is not None  # which is refused anyway
        is_value = field.shape is not Shape.KEY and not is_empty(field) and not has_token
        if is_value and name.startswith(starts):
            yield strays.shown(field.name, "body")


def _places(
    read: ReadCall, card: CardFields, declared: Collection[int]
) -> Iterator[tuple[Part, Match | CallRefused]]:
    """Yield the fields of one card, its number first: it says which token the others go with.

    What an earlier card of the operation has is left out: an array and a single one are declared
    as two.
    """
    for part, selector in ((Part.NUMBER, card.number), *_beside(card)):
        for match in _matches(read, selector, frozenset(declared)):
            yield part, match


def _found(
    card: CardFields, part: Part, match: Match, tokens: dict[tuple[str, ...], str], env: Env
) -> Slot | CallRefused | None:
    """Judge one field; the token of a number is kept for the fields beside it."""
    if is_empty(match.field):
        return None
    if part is Part.NUMBER:
        number = _number(card, match.field, env)
        if isinstance(number, Slot):
            tokens[match.captured] = number.token
        return number
    token = tokens.get(match.captured)
    if part is Part.CVC:
        return _code(match.field, token)
    return _expiry(part, match.field, token)


def _beside(card: CardFields) -> Iterator[tuple[Part, str]]:
    for part, selector in (
        (Part.CVC, card.cvc),
        (Part(card.month_format), card.exp_month),
        (Part(card.year_format), card.exp_year),
        (Part(card.expiry_format), card.expiry),
    ):
        if selector is not None:
            yield part, selector


def _matches(
    read: ReadCall, selector: str, declared: Collection[int]
) -> Iterator[Match | CallRefused]:
    """Yield what a selector names; a field given twice might be read either way."""
    seen: set[tuple[str, ...]] = set()
    for match in read.find(selector):
        if match.field.start in declared:
            continue
        if match.captured in seen or read.document.repeats(match.field.name):
            yield CallRefused(Refusal.FIELD_REPEATED, selector)
            return
        seen.add(match.captured)
        yield match


def _number(card: CardFields, field: Field, env: Env) -> Slot | CallRefused | None:
    text = field.text or ""
    is_text = field.shape in {Shape.TEXT, Shape.ATTRIBUTE}
    if is_text and (is_token(text, env) or looks_pan_like(text)):
        return _slot(Part.NUMBER, field, text)
    if "last4" in card.number_forms and _LAST4.fullmatch(text):
        return None
    raw = _digits(text) in range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
    code = Refusal.RAW_CARD_NUMBER if raw else Refusal.TOKEN_UNKNOWN
    return CallRefused(code, strays.shown(field.name, "body"))


def _digits(text: str) -> int:
    """Count the digits of what has no letters, whatever stands between and from what script."""
    return 0 if any(map(str.isalpha, text)) else sum(map(str.isdigit, text))


def _code(field: Field, token: str | None) -> Slot | CallRefused:
    """Take what stands for the stored code; one in digits never passes."""
    if token is not None and field.text in {token, *_STORED_CVC}:
        return _slot(Part.CVC, field, token)
    name = strays.shown(field.name, "body")
    if strays.TOKEN.search(field.text or ""):
        return CallRefused(Refusal.TOKEN_MISMATCH, name)
    return CallRefused(Refusal.RAW_CVC, name)


def _expiry(part: Part, field: Field, token: str | None) -> Slot | CallRefused | None:
    """Expiry dates are sent as they are; merchants have them from the masked card."""
    if token is not None and field.text == token:
        return _slot(part, field, token)
    whole = "M" in part and "Y" in part
    if (_WHOLE_EXPIRY if whole else _EXPIRY).fullmatch(field.text or "-"):
        return None
    name = strays.shown(field.name, "body")
    if strays.TOKEN.search(field.text or ""):
        return CallRefused(Refusal.TOKEN_MISMATCH, name)
    return CallRefused(Refusal.INVALID_FIELD, name)


def _slot(part: Part, field: Field, token: str) -> Slot:
    return Slot(part, token, field.start, field.end)
