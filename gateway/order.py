"""An order: which tokens of a call are to become what they stand for, and where. Pure.

A token is opened at the declared fields of a declared operation and nowhere else: opened in a
description, it would come back as a card number in the processor's echo of it. Everything that
looks like a token elsewhere is refused, naming the field, unless the field is declared as text.
What is not a token, and not declared, is none of our business and passes.

`fill` is one of the two places of the gateway that reveal a card; the other is `gateway/reply.py`.
What never lives here: looking a token up, and deciding whether a call may be made.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Final, Literal, assert_never

from gateway import strays
from gateway.codecs import form, json
from gateway.codecs.splice import Document, Field, Format, Replacement, Shape, splice
from gateway.errors import Malformed
from gateway.preset import FORM, JSON, CardFields, Operation, Preset
from gateway.scan import count_card_like
from vault.card import Expiry
from vault.errors import CvcExpired
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, Cvc, Pan
from vault.tokens import Env, is_token, looks_pan_like

REFERENCE_CHARACTERS_MAX: Final = 100

_CODECS: Final[Mapping[str, Callable[[bytes], Document]]] = {FORM: form.read, JSON: json.read}
_CHARSETS: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})
_STORED_CVC: Final = frozenset({"000", "0000"})  # beside a token, for SDKs that insist on digits
_EXPIRY: Final = re.compile("[0-9]{0,4}")
_LAST4: Final = re.compile("[0-9]{4}")
_AMOUNT: Final = re.compile("[0-9]{1,12}")  # longer is no amount, and could be a card number
_CURRENCY: Final = re.compile("[A-Za-z]{3}")


# --- what was asked, and what is made of it -----------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A call to a processor as it came in: `path` and `query` raw, its body complete."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class Refusal(StrEnum):
    """Why a call is not made: public codes."""

    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 - no password
    TOKEN_UNDECLARED = "token_undeclared"  # noqa: S105
    TOKEN_MISMATCH = "token_mismatch"  # noqa: S105
    RAW_CARD_NUMBER = "raw_card_number"
    RAW_CVC = "raw_cvc"
    INVALID_FIELD = "invalid_field"
    FIELD_REPEATED = "field_repeated"
    MALFORMED = "malformed_request"
    UNSUPPORTED = "unsupported_media_type"


REFUSALS: Final[Mapping[Refusal, tuple[int, str]]] = {
    Refusal.TOKEN_UNKNOWN: (422, "There is no such token"),
    Refusal.TOKEN_UNDECLARED: (422, "A token may not stand in this field"),
    Refusal.TOKEN_MISMATCH: (422, "This field holds another token than the number field"),
    Refusal.RAW_CARD_NUMBER: (422, "This field takes a token, not a card number"),
    Refusal.RAW_CVC: (422, "This field takes the card's token, or 000, not a code"),
    Refusal.INVALID_FIELD: (422, "This field does not hold what it must"),
    Refusal.FIELD_REPEATED: (422, "This field is given twice"),
    Refusal.MALFORMED: (400, "The body is not of its content type"),
    Refusal.UNSUPPORTED: (415, "This call does not accept the body's content type"),
}
"""Status and words of each, for the table of answers."""


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """Nothing is opened and nothing sent; `field` is a name that is fit to be shown."""

    code: Refusal
    field: str


class Part(StrEnum):
    """What a token stands for at its place; expiry dates by the way they are written there."""

    NUMBER = "number"
    CVC = "cvc"
    MONTH = "M"
    MONTH_PADDED = "MM"
    YEAR = "YYYY"
    YEAR_SHORT = "YY"


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
class Opens:
    """One thing that has to be opened, by the name of the key that does it."""

    key: Literal["pan", "cvc"]
    token: str


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """A call of a declared operation, its tokens found and still in place."""

    operation: Operation
    body: bytes
    slots: tuple[Slot, ...]
    amount: int | None
    currency: str | None
    merchant_reference: str | None

    def identity(self, method: str, path: str, query: str) -> bytes:
        """Return what makes two requests the same one, tokens still in place: to be digested."""
        parts = (method.encode(), path.encode(), query.encode(), self.body)
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Return each token once, in the order of the body."""
        return tuple(dict.fromkeys(slot.token for slot in self.slots))

    @property
    def opens(self) -> tuple[Opens, ...]:
        """Return what will be opened, each once, in the order that the intent records."""
        keys: Mapping[Part, Literal["pan", "cvc"]] = {Part.NUMBER: "pan", Part.CVC: "cvc"}
        return tuple(
            dict.fromkeys(
                Opens(keys[slot.part], slot.token) for slot in self.slots if slot.part in keys
            )
        )


@dataclass(frozen=True, slots=True)
class OpenedCard:
    """A card on its way to a processor; `token` is its `pwt_` id, by any name it was sent."""

    token: str
    pan: Pan
    cvc: Cvc | None
    expiry: Expiry


# --- reading a call -----------------------------------------------------------------------


def read_order(
    preset: Preset, operation: Operation, call: Call, *, env: Env
) -> Order | OrderRefused:
    """Find the tokens of a matched call, or refuse it."""
    document = _document(operation, call)
    if isinstance(document, OrderRefused):
        return document
    slots = _slots(operation, document, env)
    if isinstance(slots, OrderRefused):
        return slots
    undeclared = _undeclared(preset, operation, document)
    in_body = strays.in_fields(call.body, undeclared)
    for stray in chain(strays.in_head(call.path, call.query, call.headers), in_body):
        return OrderRefused(Refusal.TOKEN_UNDECLARED, stray)
    values = {each.name: "" if _is_empty(each) else each.text or "" for each in _values(document)}
    amount = _first(values, preset.selectors(operation, "amount"), _AMOUNT.fullmatch)
    currency = _first(values, preset.selectors(operation, "currency"), _CURRENCY.fullmatch)
    references = preset.selectors(operation, "merchant_reference")
    return Order(
        operation=operation,
        body=call.body,
        slots=tuple(sorted(slots, key=lambda slot: slot.start)),
        amount=int(amount) if amount else None,
        currency=currency.upper() if currency else None,
        merchant_reference=_first(values, references, _is_reference),
    )


def pass_through_refusal(call: Call) -> OrderRefused | None:
    """Refuse a call of no declared operation if it has a token anywhere, text fields included."""
    try:
        fields = _CODECS[_media_type(call)](call.body).fields
    except (KeyError, Malformed):
        in_body = strays.in_bytes(call.body)
    else:
        in_body = strays.in_fields(call.body, fields)
    for stray in chain(strays.in_head(call.path, call.query, call.headers), in_body):
        return OrderRefused(Refusal.TOKEN_UNDECLARED, stray)
    return None


def fill(order: Order, opened: Mapping[str, OpenedCard]) -> bytearray:
    """Put the cards in place; `opened` has one for each of the order's tokens.

    A bytearray, which its owner can overwrite when it has been sent. Raises CvcExpired.
    """
    return splice(
        order.body,
        (
            Replacement(slot.start, slot.end, _value(slot.part, opened[slot.token]).encode())
            for slot in order.slots
        ),
    )


def _value(part: Part, card: OpenedCard) -> str:
    match part:
        case Part.NUMBER:
            return card.pan.reveal()
        case Part.CVC:
            if card.cvc is None:
                raise CvcExpired
            return card.cvc.reveal()
        case Part.MONTH | Part.MONTH_PADDED:
            return str(card.expiry.month).zfill(len(part))
        case Part.YEAR | Part.YEAR_SHORT:
            return f"{card.expiry.year:04}"[-len(part) :]
        case _ as unreachable:
            assert_never(unreachable)


# --- the body -----------------------------------------------------------------------------


def _document(operation: Operation, call: Call) -> Document | OrderRefused:
    if not call.body:
        return Document.of(Format.FORM, ())
    if _media_type(call) != operation.content_type:
        return OrderRefused(Refusal.UNSUPPORTED, "content-type")
    try:
        return _CODECS[operation.content_type](call.body)
    except Malformed:
        return OrderRefused(Refusal.MALFORMED, "body")


def _media_type(call: Call) -> str:
    """Return the body's type, or nothing if it is doubtful: two of them, or another charset."""
    values = [value for name, value in call.headers if name.lower() == "content-type"]
    if len(values) != 1:
        return ""
    media_type, _, parameters = values[0].lower().partition(";")
    return media_type.strip() if parameters.strip() in _CHARSETS else ""


# --- cards --------------------------------------------------------------------------------


def _slots(operation: Operation, document: Document, env: Env) -> list[Slot] | OrderRefused:
    values = {each.name: each for each in _values(document)}
    slots = []
    for card in operation.cards:
        for found in _card(card, values, document, env):
            if isinstance(found, OrderRefused):
                return found
            slots.append(found)
    return slots


def _card(
    card: CardFields, values: Mapping[str, Field], document: Document, env: Env
) -> Iterator[Slot | OrderRefused]:
    """Yield the slots of one card, or what is wrong with it."""
    for declared in filter(document.repeats, card.fields()):
        yield OrderRefused(Refusal.FIELD_REPEATED, declared)  # a processor might read the other
    number = _number(card, values.get(card.number), env)
    if number is not None:
        yield number
    token = number.token if isinstance(number, Slot) else None
    beside = (
        (Part.CVC, card.cvc),
        (Part(card.month_format), card.exp_month),
        (Part(card.year_format), card.exp_year),
    )
    for part, name in beside:
        field = values.get(name) if name is not None else None
        if field is not None and not _is_empty(field):
            found = _code(field, token) if part is Part.CVC else _expiry(part, field, token)
            if found is not None:
                yield found


def _number(card: CardFields, field: Field | None, env: Env) -> Slot | OrderRefused | None:
    if field is None or _is_empty(field):
        return None
    text = field.text or ""
    if field.shape is Shape.TEXT and (is_token(text, env) or looks_pan_like(text)):
        return _slot(Part.NUMBER, field, text)
    if "last4" in card.number_forms and _LAST4.fullmatch(text):
        return None
    raw = _digits(text) in range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
    return OrderRefused(Refusal.RAW_CARD_NUMBER if raw else Refusal.TOKEN_UNKNOWN, field.name)


def _digits(text: str) -> int:
    """Count the digits of what has no letters, whatever stands between and from what script."""
    return 0 if any(map(str.isalpha, text)) else sum(map(str.isdigit, text))


def _code(field: Field, token: str | None) -> Slot | OrderRefused:
    """Take what stands for the stored code; one in digits never passes."""
    if token is not None and field.text in {token, *_STORED_CVC}:
        return _slot(Part.CVC, field, token)
    if strays.TOKEN.search(field.text or ""):
        return OrderRefused(Refusal.TOKEN_MISMATCH, field.name)
    return OrderRefused(Refusal.RAW_CVC, field.name)


def _expiry(part: Part, field: Field, token: str | None) -> Slot | OrderRefused | None:
    """Expiry dates are sent as they are; merchants have them from the masked card."""
    if token is not None and field.text == token:
        return _slot(part, field, token)
    if _EXPIRY.fullmatch(field.text or "-"):
        return None
    if strays.TOKEN.search(field.text or ""):
        return OrderRefused(Refusal.TOKEN_MISMATCH, field.name)
    return OrderRefused(Refusal.INVALID_FIELD, field.name)


def _slot(part: Part, field: Field, token: str) -> Slot:
    return Slot(part, token, field.start, field.end)


def _is_empty(field: Field) -> bool:
    return field.text == "" or (field.shape is Shape.WORD and field.text == "null")


# --- tokens where none may be -------------------------------------------------------------


def _undeclared(preset: Preset, operation: Operation, document: Document) -> Iterator[Field]:
    """Yield what may hold no token. Of a text field that is its name."""
    declared = {name for card in operation.cards for name in card.fields()}
    for field in document.fields:
        if field.name not in declared:
            is_text = preset.is_text(operation, field.name)
            yield replace(field, text="", end=field.start) if is_text else field


# --- what is recorded of it ---------------------------------------------------------------


def _values(document: Document) -> Iterator[Field]:
    return (field for field in document.fields if field.shape is not Shape.KEY)


def _first(
    values: Mapping[str, str], selectors: Sequence[str], fits: Callable[[str], object]
) -> str | None:
    return next((values[each] for each in selectors if each in values and fits(values[each])), None)


def _is_reference(text: str) -> bool:
    """Whether it can be recorded: a merchant may write anything there, a card number too."""
    return (
        0 < len(text) <= REFERENCE_CHARACTERS_MAX
        and text.isprintable()
        and all(character.isascii() for character in text if character.isdigit())
        and not count_card_like(text.encode())
    )
