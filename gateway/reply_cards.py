"""Cleans replies: what was sent goes, and a card that a preset declares becomes a token.

Some processors hand out numbers that they were never sent: an issued card, an updated one. Where a
preset says so, the number is stored as any card is, and its token stands in the reply; one that
cannot be stored keeps its last four. What never lives here: what a reply means.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gateway.codecs import json, xml
from gateway.codecs.splice import Field, Replacement, Shape, splice
from gateway.errors import Malformed
from gateway.exchange import Replied
from gateway.order import OpenedCard
from gateway.preset import Preset, ReplyCard
from gateway.reading import is_xml
from gateway.reply import Reflected, Scrubbed, scrub
from gateway.selectors import Finder
from vault.card import Card
from vault.card_vault import CardVault, NewToken
from vault.errors import CustodyError
from vault.ledger.entry import Actor

_NUMBER: Final = re.compile("[0-9](?:[ -]?[0-9]){11,18}")
_CODE: Final = re.compile("[0-9]{3,4}")
_LAST_DIGITS: Final = 4
STORED_MAX: Final = 100  # cards of one reply that become tokens; the others keep their last four

# What such a number looks like in any body that has none of these: then nothing is hidden.
_MAY_BE_NUMBER: Final = re.compile(rb"[0-9](?:[ -]?[0-9]){11}")
_NAMES_CODE: Final = re.compile(rb"cv[cv]", re.IGNORECASE)
_HIDING: Final = (b"\\", b"&#", b"<![CDATA[")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cards these will be."""

    tenant: str
    actor: Actor


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """A card that stands in a reply, or its code alone."""

    number: Field | None
    exp_month: str
    exp_year: str
    cvc: Field | None


class ReplyCards:
    """Makes replies fit to be passed on."""

    def __init__(self, cards: CardVault, *, now: Callable[[], datetime]) -> None:
        self._cards = cards
        self._now = now

    async def cleaned(
        self, preset: Preset, owner: Owner, reply: Replied, sent: Sequence[OpenedCard]
    ) -> Scrubbed | Reflected:
        """Return a reply without any number that was sent, or that the preset declares."""
        cleaned = scrub(reply.headers, reply.body, sent)
        if not preset.reply_cards or isinstance(cleaned, Reflected):
            return cleaned
        replacements: dict[int, Replacement] = {}
        found = list(_cards_in(preset, cleaned.body))
        for count, one in enumerate(found):
            if one.number is not None:
                store = count < STORED_MAX
                shown = await self._shown(one, one.number, owner) if store else _masked(one.number)
                place = Replacement(one.number.start, one.number.end, shown)
                replacements.setdefault(one.number.start, place)
            if one.cvc is not None:
                replacements.setdefault(one.cvc.start, _zeros(one.cvc))
        return replace(cleaned, body=bytes(splice(cleaned.body, replacements.values())))

    async def _shown(self, one: _Found, number: Field, owner: Owner) -> bytes:
        """Return what may stand there: its token, or the last four."""
        try:
            card = Card.parse(number.text or "", one.exp_month, one.exp_year, None, at=self._now())
            row, _ = await self._cards.tokenize(card, NewToken(owner.tenant, owner.actor))
        except CustodyError:
            return _masked(number)
        return _quoted(number, row.id)


def _masked(number: Field) -> bytes:
    text = number.text or ""
    return _quoted(number, "*" * (len(text) - _LAST_DIGITS) + text[-_LAST_DIGITS:])


def _quoted(field: Field, shown: str) -> bytes:
    return (f'"{shown}"' if field.shape is Shape.NUMBER else shown).encode()


def _zeros(code: Field) -> Replacement:
    """`000` is no number in JSON."""
    zeros = b"0" if code.shape is Shape.NUMBER else b"0" * (code.end - code.start)
    return Replacement(code.start, code.end, zeros)


def _cards_in(preset: Preset, body: bytes) -> Iterator[_Found]:
    hidden = any(each in body for each in _HIDING) or _NAMES_CODE.search(body) is not None
    if not hidden and not _MAY_BE_NUMBER.search(body):
        return  # most replies: they need not be read
    try:
        document = xml.read(body) if is_xml(body) else json.read(body)
    except Malformed:
        return
    finder = Finder(document, body, fold=preset.fold_names)
    for declared in preset.reply_cards:
        yield from _declared(declared, finder)


def _declared(declared: ReplyCard, finder: Finder) -> Iterator[_Found]:
    def beside(selector: str | None) -> dict[tuple[str, ...], Field]:
        found = finder.find(selector) if selector is not None else ()
        return {match.captured: match.field for match in found}

    months, years, codes = map(beside, (declared.exp_month, declared.exp_year, declared.cvc))
    numbers = beside(declared.number)
    for which in dict.fromkeys((*numbers, *codes)):
        month, year = months.get(which), years.get(which)
        number, code = _digits(numbers.get(which), _NUMBER), _digits(codes.get(which), _CODE)
        if month is not None and year is not None and (number or code):
            yield _Found(number, month.text or "", year.text or "", code)


def _digits(field: Field | None, pattern: re.Pattern[str]) -> Field | None:
    return field if field is not None and pattern.fullmatch(field.text or "") else None
