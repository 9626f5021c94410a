"""An order: which tokens of a call are to become what they stand for, and where. Pure.

Opened in a description, a token would come back as a card number in the processor's echo of it.
So everything that looks like a token where no card is declared is refused, naming the field,
unless the field is declared as text. What is not a token, and not declared, is none of our
business and passes.

`fill` is one of the two places of the gateway that reveal a card; the other is `gateway/reply.py`.
What never lives here: looking a token up, and deciding whether a call may be made.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Final, Literal
from xml.sax.saxutils import escape

import msgspec
from msgspec import structs

from gateway import strays
from gateway.call import CallRefused, ReadCall, Refusal, folds, is_empty, repeated
from gateway.codecs import form
from gateway.codecs.splice import Field, Format, Replacement, Shape, splice
from gateway.echoes import count_card_like
from gateway.preset import Operation
from gateway.slots import Part, Slot, find_slots
from vault.card import Expiry
from vault.errors import CvcExpired, ExpiryUnknown
from vault.money import minor_units_of
from vault.pan import Cvc, Pan
from vault.tokens import Env

REFERENCE_CHARACTERS_MAX: Final = 100

_CDATA: Final = b"<![CDATA["
_AMOUNT: Final = re.compile("[0-9]{1,12}")  # longer is no amount, and could be a card number
_MAJOR_AMOUNT: Final = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,3})?")
_CURRENCY: Final = re.compile("[A-Za-z]{3}")
_KEYS: Final[Mapping[Part, Literal["pan", "cvc"]]] = {Part.NUMBER: "pan", Part.CVC: "cvc"}
"""What is opened; the other parts are dates, which lie in the row."""


# --- what was asked, and what is made of it -----------------------------------------------


@dataclass(frozen=True, slots=True)
class Opens:
    """One thing that has to be opened, by the name of the key that does it."""

    key: Literal["pan", "cvc"]
    token: str


@dataclass(frozen=True, slots=True, repr=False)
class LoginSlots:
    """Where a body carries the login itself, and how it is written there."""

    format: Format
    name: tuple[Field, ...] = ()
    key: tuple[Field, ...] = ()
    in_cdata: frozenset[int] = frozenset()  # where a field starts

    def put(self, login: Mapping[str, str]) -> Iterator[Replacement]:
        """Put a login's name and key in their places."""
        for fields, text in ((self.name, login["user"]), (self.key, login["api_key"])):
            for field in fields:
                written = _written(self.format, text, in_cdata=field.start in self.in_cdata)
                yield Replacement(field.start, field.end, written)

    def blanks(self) -> Iterator[Replacement]:
        return (Replacement(each.start, each.end, b"") for each in (*self.name, *self.key))


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """A call of a declared operation, its tokens found and still in place."""

    operation: Operation
    body: bytes
    slots: tuple[Slot, ...]
    login: LoginSlots
    amount: int | None
    currency: str | None
    merchant_reference: str | None

    def identity(self, method: str, path: str, query: str) -> bytes:
        """Return what makes two requests the same one, tokens still in place: to be digested.

        A login in the body is none of it: with another key the payment is the same.
        """
        body = bytes(splice(self.body, self.login.blanks()))
        parts = (method.encode(), path.encode(), query.encode(), body)
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Return each token once, in the order of the body."""
        return tuple(dict.fromkeys(slot.token for slot in self.slots))

    @property
    def opens(self) -> tuple[Opens, ...]:
        """Return what will be opened, each once, in the order that the intent records."""
        return tuple(
            dict.fromkeys(
                Opens(_KEYS[slot.part], slot.token) for slot in self.slots if slot.part in _KEYS
            )
        )

    @property
    def dated(self) -> frozenset[str]:
        """Return the tokens whose expiry date is to be sent."""
        return frozenset(slot.token for slot in self.slots if slot.part not in _KEYS)


@dataclass(frozen=True, slots=True)
class OpenedCard:
    """A card on its way to a processor; `token` is its `pwt_` id, by any name it was sent."""

    token: str
    pan: Pan
    cvc: Cvc | None
    expiry: Expiry | None


# --- reading a call -----------------------------------------------------------------------


def read_order(read: ReadCall, operation: Operation, *, env: Env) -> Order | CallRefused:
    """Find the tokens of a call of `operation`, or refuse it."""
    refusal = _refusal(read)
    if refusal is not None:
        return refusal
    found = find_slots(read, operation.cards, env=env)
    if isinstance(found, CallRefused):
        return found
    stray = next(_strays(read, _undeclared(read, operation, found.declared)), None)
    if stray is not None:
        return CallRefused(Refusal.TOKEN_UNDECLARED, stray)
    twice = _given_twice(read, operation)
    if twice is not None:
        return CallRefused(Refusal.FIELD_REPEATED, twice)
    preset = read.preset
    currency = read.first(preset.selectors(operation, "currency"), _CURRENCY.fullmatch)
    return Order(
        operation=operation,
        body=read.call.body,
        slots=found.slots,
        login=login_slots(read),
        amount=_amount(read, operation, currency),
        currency=currency.upper() if currency else None,
        merchant_reference=read.first(
            preset.selectors(operation, "merchant_reference"), _is_reference
        ),
    )


def pass_through_refusal(read: ReadCall) -> CallRefused | None:
    """Refuse a call of no declared operation if it has a token anywhere, text fields included."""
    refusal = _refusal(read)
    if refusal is not None:
        return refusal
    stray = next(_strays(read, read.document.fields), None)
    return None if stray is None else CallRefused(Refusal.TOKEN_UNDECLARED, stray)


def login_slots(read: ReadCall) -> LoginSlots:
    """Find where the body carries a login, in any operation."""
    credential = read.preset.credential
    if not credential.key:
        return LoginSlots(read.document.format)
    name, key = (
        tuple(match.field for selector in selectors for match in read.find(selector))
        for selectors in (credential.name, credential.key)
    )
    body = read.call.body
    in_cdata = (each.start for each in (*name, *key) if body[: each.start].endswith(_CDATA))
    return LoginSlots(read.document.format, name, key, frozenset(in_cdata))


def fill(
    order: Order, opened: Mapping[str, OpenedCard], login: Mapping[str, str] | None = None
) -> bytearray:
    """Put the cards in place; `opened` has one for each of the order's tokens.

    With `login` the processor's own goes where the caller's stood. A bytearray, which its owner
    can overwrite when it has been sent. Raises CvcExpired, ExpiryUnknown.
    """
    cards = (
        Replacement(slot.start, slot.end, _value(slot.part, opened[slot.token]).encode())
        for slot in order.slots
    )
    logins = order.login.put(login) if login is not None else ()
    return splice(order.body, chain(cards, logins))


def _value(part: Part, card: OpenedCard) -> str:
    if part is Part.NUMBER:
        return card.pan.reveal()
    if part is Part.CVC:
        if card.cvc is None:
            raise CvcExpired
        return card.cvc.reveal()
    if card.expiry is None:
        raise ExpiryUnknown
    year = f"{card.expiry.year:04}"
    spelled = part.value.replace("YYYY", year).replace("YY", year[-2:])
    return spelled.replace("MM", f"{card.expiry.month:02}").replace("M", str(card.expiry.month))


def _written(format_: Format, text: str, *, in_cdata: bool) -> bytes:
    """Write a login's text as the body's format has it, inside whatever quotes stand there."""
    if in_cdata:
        return text.replace("]]>", "]]]]><![CDATA[>").encode()
    if format_ is Format.XML:
        return escape(text, {'"': "&quot;", "'": "&apos;"}).encode()
    return msgspec.json.encode(text)[1:-1]


# --- tokens where none may be -------------------------------------------------------------


def _undeclared(read: ReadCall, operation: Operation, declared: frozenset[int]) -> Iterator[Field]:
    """Yield what may hold no token. Of a text field that is its name."""
    form = read.document.format in {Format.FORM, Format.MULTIPART}
    fold = folds(read.preset, read.document)
    for field in read.document.fields:
        if field.start not in declared or field.shape is Shape.KEY:
            is_text = read.preset.is_text(operation, field.name, form=form, fold=fold)
            yield structs.replace(field, text="", end=field.start) if is_text else field


def _strays(read: ReadCall, fields: Iterable[Field]) -> Iterator[str]:
    """Name the places outside of declared and text fields that have what looks like a token."""
    call = read.call
    yield from strays.in_head(call.path, call.query, call.headers)
    yield from strays.in_fields(call.body, fields)
    yield from strays.between_fields(call.body, read.document.fields)


def _refusal(read: ReadCall) -> CallRefused | None:
    """Refuse what may not pass at all, and a login where none could be put in its place."""
    for selector in read.preset.refused:
        if any(not is_empty(match.field) for match in read.find(selector)):
            return CallRefused(Refusal.FIELD_REFUSED, selector)
    login = login_slots(read)
    for field in (*login.name, *login.key):
        if field.shape not in {Shape.TEXT, Shape.ATTRIBUTE}:
            return CallRefused(Refusal.INVALID_FIELD, strays.shown(field.name, "body"))
    return None


# --- what is recorded of it ---------------------------------------------------------------


_RECORDED: Final[tuple[Literal["amount", "currency", "merchant_reference"], ...]] = (
    "amount",
    "currency",
    "merchant_reference",
)


def _given_twice(read: ReadCall, operation: Operation) -> str | None:
    """Name a recorded field that stands there twice, or in the URL too.

    The processor might go by the other one, and the record would be false.
    """
    in_query = form.names(read.call.query)
    for what in _RECORDED:
        for selector in read.preset.selectors(operation, what):
            found_twice = repeated(read.finder, read.document, selector)
            if found_twice or selector in in_query:
                return selector
    declared = (name for card in operation.cards for name in card.fields())
    return next((name for name in declared if name in in_query), None)


def _amount(read: ReadCall, operation: Operation, currency: str | None) -> int | None:
    selectors = read.preset.selectors(operation, "amount")
    if read.preset.unit(operation) == "minor":
        text = read.first(selectors, _AMOUNT.fullmatch)
        return int(text) if text else None
    text = read.first(selectors, _MAJOR_AMOUNT.fullmatch)
    return minor_units_of(Decimal(text), currency) if text and currency else None


def _is_reference(text: str) -> bool:
    """Whether it can be recorded: a merchant may write anything there, a card number too."""
    return (
        0 < len(text) <= REFERENCE_CHARACTERS_MAX
        and text.isprintable()
        and all(character.isascii() for character in text if character.isdigit())
        and not count_card_like(text.encode())
    )
