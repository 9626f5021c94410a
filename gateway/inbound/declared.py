"""Declared fields of a message: what each holds, and what is written in its place. Pure.

A field that is to become a token holds a card, nothing, a token, or a mask that hides a number;
all else is refused, for it may be a card that is written in a way nobody foresaw. A code never
goes on, whatever it stands beside. What never lives here: how a field is found, and what stands
where none is declared.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from gateway import strays
from gateway.codecs.splice import Format
from gateway.errors import CardFieldRefused
from gateway.inbound.areas import BODY, ROWS, Areas, Spot, selected
from gateway.inbound.expiry_fields import month_and_year
from gateway.inbound.plan import Action, Draft, Edit, Finding, Target
from gateway.inbound.rules import Filter
from gateway.inbound.written import emptied, put
from gateway.scan import Kind
from vault.card import UNKNOWN, Card, check_cvc
from vault.errors import InvalidCard
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, Cvc, Pan
from vault.tokens import PAN_LIKE_DIGITS_MIN, looks_pan_like, token_of

TOKEN_CHARACTERS: Final = len(token_of("test", 0))
STARS: Final = "*" * 16

_WHITE: Final = " \t\r\n"
_MASKED: Final = re.compile("(?=.*[*Xx\u2022\u25cf#])[0-9*Xx\u2022\u25cf# -]+")
_MASKED_CHARACTERS_MAX: Final = 64
_CODE_DIGITS_MAX: Final = 4

_Write = Callable[[Sequence[str], Mapping[str, str]], bytes]


class Declared:
    """Goes through the filters of one message, one after the other; the first to a field has it."""

    def __init__(self, draft: Draft, areas: Areas, *, at: datetime | None = None) -> None:
        self._draft = draft
        self._areas = areas
        self._at = at
        self._taken: dict[tuple[Target, int], Spot] = {}

    @property
    def taken(self) -> Iterable[Spot]:
        """The fields of which nothing will be left."""
        return self._taken.values()

    def treat(self, filters: Iterable[Filter]) -> None:
        """Raises CardFieldRefused, BodyUnreadable."""
        for each in filters:
            for selector in (each.selector, *each.beside()):
                for spot in self._areas.unread(selector):
                    raise self._refusal(selector, spot, "unreadable")
            match each.operation:
                case "tokenize":
                    self._tokenize(each)
                case "mask":
                    self._mask(each)
                case "remove":
                    self._remove(each)
                case "reveal-masked":
                    self._show(each)

    # --- tokenize -------------------------------------------------------------------------

    def _tokenize(self, declared: Filter) -> None:
        for selector in (declared.selector, *declared.beside()):
            for spot in self._areas.below(selector, whole=True):
                if not spot.is_empty:
                    raise self._refusal(selector, spot, "not_a_value")
        tied = _Tied(self._areas, declared.selector)
        for spot in self._areas.find(declared.selector):
            if spot.key not in self._taken and not spot.is_empty:
                self._number(declared, spot, tied)
        for spot in self._areas.find(declared.cvc) if declared.cvc is not None else ():
            self._zero(spot)

    def _number(self, declared: Filter, spot: Spot, tied: "_Tied") -> None:
        typed = self._typed(declared.selector, spot)
        if strays.TOKEN.fullmatch(typed) or is_masked(typed):
            return
        if declared.format == "pan_like" and looks_pan_like(typed):
            return
        card = self._card(declared, spot, typed, tied)
        is_pan_like = declared.format == "pan_like"
        if is_pan_like and len(card.pan) < PAN_LIKE_DIGITS_MIN:
            raise self._refusal(declared.selector, spot, "pan_like_length")
        width = len(card.pan) if is_pan_like else TOKEN_CHARACTERS
        if spot.area.format is Format.FIXED_WIDTH and spot.field.end - spot.field.start < width:
            raise self._refusal(declared.selector, spot, "too_narrow")
        wanted = self._draft.want(card, declared.format, row_of(declared.selector, spot))
        format_, raw, field = spot.area.format, spot.area.raw, spot.field

        def write(made: Sequence[str], _masks: Mapping[str, str]) -> bytes:
            return put(format_, raw, field, made[wanted], bare=is_pan_like)

        self._edit(spot, write=write)
        self._note(spot, "tokenize", card.pan, card.brand)

    def _card(self, declared: Filter, spot: Spot, typed: str, tied: "_Tied") -> Card:
        month, year = self._dates(declared, spot, tied)
        code = self._beside(declared.cvc, spot, tied)
        try:
            if month is not None and year is not None:
                assert self._at is not None, "requests have a time"
                return Card.parse(typed, month, year, code, at=self._at)
            card = Card.number_only(typed)
            if code is None:
                return card
            cvc = Cvc.parse(code)
            check_cvc(cvc, card.brand)
            return replace(card, cvc=cvc)
        except InvalidCard as error:
            field, reason = error.field, error.reason
        del typed, month, year, code
        selectors = {
            "exp_month": declared.exp_month or declared.expiry,
            "exp_year": declared.exp_year or declared.expiry,
            "cvc": declared.cvc,
        }
        raise self._refusal(selectors.get(field) or declared.selector, spot, reason)

    def _dates(
        self, declared: Filter, spot: Spot, tied: "_Tied"
    ) -> tuple[str, str] | tuple[None, None]:
        if declared.expiry is not None:
            text = self._beside(declared.expiry, spot, tied)
            found = None if text is None else month_and_year(text)
            if text is not None and found is None:
                raise self._refusal(declared.expiry, spot, "format")
            return found or (None, None)
        month = self._beside(declared.exp_month, spot, tied)
        year = self._beside(declared.exp_year, spot, tied)
        if month is not None and year is not None:
            return month, year
        if month is not None or year is not None:
            lacking = declared.exp_year if year is None else declared.exp_month
            raise self._refusal(lacking or declared.selector, spot, "missing")
        return None, None

    def _beside(self, selector: str | None, spot: Spot, tied: "_Tied") -> str | None:
        """Give what belongs to a number; nothing for an empty field."""
        if selector is None:
            return None
        found = tied.beside(selector, spot)
        if len(found) > 1:
            raise self._refusal(selector, spot, "repeated")
        if not found or found[0].is_empty:
            return None
        return self._typed(selector, found[0])

    def _zero(self, spot: Spot) -> None:
        """A code is kept for its card, or for nobody: what goes on is zeros."""
        if spot.key in self._taken or spot.is_empty:
            return
        text = spot.field.text or "000"
        typed = text.strip(_WHITE)
        zeros = "0" * min(len(typed), _CODE_DIGITS_MAX)
        if strays.TOKEN.fullmatch(typed):
            return
        self._put(spot, zeros)

    # --- the other operations -------------------------------------------------------------

    def _mask(self, declared: Filter) -> None:
        for spot in self._spots(declared.selector):
            self._put_mask(spot, or_stars=True)

    def _put_mask(self, spot: Spot, *, or_stars: bool) -> None:
        """Leave the last four of a number; of what is none, `or_stars` leaves nothing."""
        typed = (spot.field.text or STARS).strip(_WHITE)
        if spot.field.text is not None and (strays.TOKEN.fullmatch(typed) or is_masked(typed)):
            return
        pan, brand = _number_in(typed)
        if pan is not None:
            self._put(spot, pan.mask)
            self._note(spot, "mask", pan, brand)
        elif or_stars:
            self._put(spot, "*" * min(len(typed), PAN_DIGITS_MAX))

    def _remove(self, declared: Filter) -> None:
        for spot in self._spots(declared.selector):
            pan, brand = _number_in((spot.field.text or "").strip(_WHITE))
            if spot.area.target.part == "header":
                self._edit(spot, write=None)
            else:
                self._edit(spot, write=_always(emptied(spot.area.format, spot.field)))
            if pan is not None:
                self._note(spot, "remove", pan, brand)

    def _show(self, declared: Filter) -> None:
        for spot in self._spots(declared.selector):
            token = (spot.field.text or "").strip(_WHITE)
            if not strays.TOKEN.fullmatch(token) and not looks_pan_like(token):
                self._put_mask(spot, or_stars=False)
                continue
            self._draft.tokens[token] = None
            self._edit(spot, write=_shown(spot, token))

    def _spots(self, selector: str) -> Iterable[Spot]:
        """Yield the fields, and what stands in an array or object in the place of one."""
        for spot in (*self._areas.find(selector), *self._areas.below(selector)):
            if spot.key not in self._taken and not spot.is_empty:
                yield spot

    # --- what is done and said ------------------------------------------------------------

    def _put(self, spot: Spot, text: str) -> None:
        value = put(spot.area.format, spot.area.raw, spot.field, text)
        self._edit(spot, write=_always(value))

    def _edit(self, spot: Spot, *, write: _Write | None) -> None:
        self._taken[spot.key] = spot
        self._draft.edits.append(Edit(spot.area.target, spot.field.start, spot.field.end, write))

    def _note(self, spot: Spot, action: Action, pan: Pan, brand: str) -> None:
        self._draft.findings.append(
            Finding(
                place=spot.area.place(spot.field),
                kind=Kind.PAN,
                encoding="plain",
                brand=brand,
                length=len(pan),
                action=action,
                declared=True,
            )
        )

    def _typed(self, selector: str, spot: Spot) -> str:
        if spot.field.text is None:
            raise self._refusal(selector, spot, "unreadable")
        return spot.field.text.strip(_WHITE)

    def _refusal(self, selector: str, spot: Spot, reason: str) -> CardFieldRefused:
        return CardFieldRefused(row_of(selector, spot), reason)


class _Tied:
    """Finds what belongs to a number: by what the wildcards of both selectors stand for.

    Where the same field is given several times, the first goes with the first.
    """

    def __init__(self, areas: Areas, number: str) -> None:
        self._areas = areas
        self._by_captured: dict[str, Mapping[tuple[str, ...], Sequence[Spot]]] = {}
        self._numbers = self._grouped(number)
        self._ordinals = {
            spot.key: ordinal
            for group in self._numbers.values()
            for ordinal, spot in enumerate(group)
        }

    def beside(self, selector: str, number: Spot) -> Sequence[Spot]:
        """Give the field at a selector that goes with a number; several if nothing tells which."""
        groups = self._grouped(selector)
        for length in range(len(number.captured), -1, -1):
            found = groups.get(number.captured[:length], ())
            if not found:
                continue
            if len(found) > 1 and len(found) == len(self._numbers[number.captured]):
                return (found[self._ordinals[number.key]],)
            return found
        return ()

    def _grouped(self, selector: str) -> Mapping[tuple[str, ...], Sequence[Spot]]:
        known = self._by_captured.get(selector)
        if known is None:
            groups: defaultdict[tuple[str, ...], list[Spot]] = defaultdict(list)
            for spot in self._areas.find(selector):
                groups[spot.captured].append(spot)
            known = self._by_captured[selector] = dict(groups)
        return known


def is_masked(text: str) -> bool:
    """Whether it is what a shop shows of a stored card: of too few digits to be one."""
    return (
        len(text) <= _MASKED_CHARACTERS_MAX
        and _MASKED.fullmatch(text) is not None
        and sum(map(str.isdigit, text)) < PAN_DIGITS_MIN
    )


def row_of(selector: str, spot: Spot) -> str:
    """Name a field in the words of its selector, with its row where there are rows."""
    if spot.area.format not in ROWS or selector[0] in "$/" or spot.area.target != BODY:
        return selector
    format_ = spot.area.format
    written = selected(selector, format_)
    row = f"[{spot.area.row_of(spot.field)}]"
    if format_ is Format.JSON_LINES:
        return row + written.removeprefix("[*]") if written.startswith("[*]") else selector
    return written.removesuffix("[*]") + row if written.endswith("[*]") else selector


def _number_in(text: str) -> tuple[Pan | None, str]:
    """Read a number that may be none of a brand's; its brand, if it is."""
    pan: Pan | None = None
    with suppress(InvalidCard):
        pan = Pan.parse(text)
        card = Card.number_only(text)
        return card.pan, card.brand
    return pan, UNKNOWN


def _always(value: bytes) -> _Write:
    return lambda _made, _masks: value


def _shown(spot: Spot, token: str) -> _Write:
    format_, raw, field = spot.area.format, spot.area.raw, spot.field
    width = field.end - field.start if format_ is Format.FIXED_WIDTH else PAN_DIGITS_MAX

    def write(_made: Sequence[str], masks: Mapping[str, str]) -> bytes:
        return put(format_, raw, field, masks.get(token, STARS)[-width:])

    return write
