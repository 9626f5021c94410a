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
_LAST_DIGITS: Final = 4

# What such a number looks like in any body that has none of these: then nothing is hidden.
_MAY_BE_NUMBER: Final = re.compile(rb"[0-9](?:[ -]?[0-9]){11}")
_HIDING: Final = (b"\\", b"&#", b"<![CDATA[")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cards these will be."""

    tenant: str
    actor: Actor


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """A card that stands in a reply."""

    number: Field
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
        replacements = []
        for one in _cards_in(preset, cleaned.body):
            shown = await self._shown(one, owner)
            replacements.append(Replacement(one.number.start, one.number.end, shown))
            if one.cvc is not None:
                zeros = b"0" * (one.cvc.end - one.cvc.start)
                replacements.append(Replacement(one.cvc.start, one.cvc.end, zeros))
        return replace(cleaned, body=bytes(splice(cleaned.body, replacements)))

    async def _shown(self, one: _Found, owner: Owner) -> bytes:
        """Return what may stand there: its token, or the last four."""
        number = one.number.text or ""
        try:
            card = Card.parse(number, one.exp_month, one.exp_year, None, at=self._now())
            row, _ = await self._cards.tokenize(card, NewToken(owner.tenant, owner.actor))
        except CustodyError:
            shown = "*" * (len(number) - _LAST_DIGITS) + number[-_LAST_DIGITS:]
        else:
            shown = row.id
        in_quotes = one.number.shape is not Shape.NUMBER
        return (shown if in_quotes else f'"{shown}"').encode()


def _cards_in(preset: Preset, body: bytes) -> Iterator[_Found]:
    if not _MAY_BE_NUMBER.search(body) and not any(each in body for each in _HIDING):
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
    for match in finder.find(declared.number):
        month, year = months.get(match.captured), years.get(match.captured)
        if month is not None and year is not None and _NUMBER.fullmatch(match.field.text or ""):
            code = codes.get(match.captured)
            yield _Found(
                match.field,
                month.text or "",
                year.text or "",
                code if code is not None and (code.text or "").isdigit() else None,
            )
