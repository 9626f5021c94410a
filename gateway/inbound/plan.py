"""What is going to be done with a message: what has to be stored, and what is written where. Pure.

A plan is made before a card is stored, and carried out when there is a token for each: all bytes
that no edit names stay as they came. What never may live here: which fields hold cards, a log,
a text made of what came in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

from gateway.codecs.splice import Replacement, Unprinted, splice
from gateway.inbound.rules import TokenFormat
from gateway.scan import Kind
from vault.card import Card

Part = Literal["body", "query", "header"]
Action = Literal["tokenize", "mask", "remove", "reveal-masked", "refuse", "report"]
Headers = Sequence[tuple[str, str]]

NO_MASKS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before a body; path and query as they were sent."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]


class WantedCard(Unprinted, frozen=True):
    """A card that needs a token; `field` is the filter's selector, or the place of a find."""

    card: Card
    format: TokenFormat
    field: str


class Finding(Struct, frozen=True):
    """What was found where, told without a digit of it."""

    place: str
    kind: Kind
    encoding: str
    brand: str
    length: int
    action: Action
    declared: bool


class Target(Struct, frozen=True, order=True, gc=False):
    """A part of a message; of headers, which one."""

    part: Part
    index: int = 0


class Edit(Unprinted, frozen=True):
    """Other bytes for a place, made when the tokens and the masks are known."""

    target: Target
    start: int
    end: int
    write: Callable[[Sequence[str], Mapping[str, str]], bytes] | None
    """None takes the header away."""


@dataclass(frozen=True, slots=True, repr=False)
class Rewritten:
    """A message as it goes on."""

    query: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What has to be stored or looked up, what was found, and how the message is then written."""

    cards: tuple[WantedCard, ...] = ()
    tokens: tuple[str, ...] = ()
    """To be looked up, so that their masks can be shown."""
    findings: tuple[Finding, ...] = ()
    query: str = ""
    headers: Headers = ()
    body: bytes = b""
    edits: tuple[Edit, ...] = ()

    def apply(self, made: Sequence[str], masks: Mapping[str, str] = NO_MASKS) -> Rewritten:
        """Write the message with `made`, a token for each card in order, in place."""
        assert len(made) == len(self.cards), "a token for each card"
        query, body = self.query, self.body
        headers: dict[int, str | None] = {}
        ordered = sorted(self.edits, key=lambda each: each.target)
        for target, edits in groupby(ordered, key=lambda each: each.target):
            here = list(edits)
            if target.part == "body":
                body = _spliced(body, here, made, masks)
            elif target.part == "query":
                query = text_of(_spliced(bytes_of(query), here, made, masks))
            elif any(each.write is None for each in here):
                headers[target.index] = None
            else:
                value = bytes_of(self.headers[target.index][1])
                headers[target.index] = text_of(_spliced(value, here, made, masks))
        return Rewritten(query, self._with(headers) if headers else self.headers, body)

    def _with(self, changed: Mapping[int, str | None]) -> Headers:
        put = (
            (name, changed.get(index, value)) for index, (name, value) in enumerate(self.headers)
        )
        return tuple((name, value) for name, value in put if value is not None)


@dataclass(slots=True, repr=False)
class Draft:
    """A plan in the making."""

    cards: list[WantedCard] = field(default_factory=list)
    tokens: dict[str, None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def want(self, card: Card, format_: TokenFormat, name: str) -> int:
        """Ask for a token; the number is its place among those that will be made."""
        self.cards.append(WantedCard(card, format_, name))
        return len(self.cards) - 1

    def plan(self, *, query: str = "", headers: Headers = (), body: bytes = b"") -> Plan:
        return Plan(
            cards=tuple(self.cards),
            tokens=tuple(self.tokens),
            findings=tuple(self.findings),
            query=query,
            headers=headers,
            body=body,
            edits=tuple(self.edits),
        )


def bytes_of(text: str) -> bytes:
    """Give the bytes of what the server decoded: also those that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _spliced(
    raw: bytes, edits: Iterable[Edit], made: Sequence[str], masks: Mapping[str, str]
) -> bytes:
    replacements = (
        Replacement(each.start, each.end, each.write(made, masks))
        for each in edits
        if each.write is not None
    )
    return bytes(splice(raw, replacements))
