"""What a processor's post says: one event, or several. Pure.

A post is read by its scheme: JSON, XML, or XML that a form carries. Where a preset says that a post
has items, each is an event of its own, and its body is the post with that item alone: cut out of
the bytes that came, so that what signs the item still fits. What the preset does not say of a type
has no effect, and what cannot be read is left out, never guessed. An event without a usable id is
known by a digest of its content: a processor that sends it again sends the same bytes.

What never lives here: whether a post is genuine, and what follows from it.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Final, Literal, Protocol

import msgspec

from gateway.codecs import form, xml
from gateway.codecs.splice import BOM, Replacement, splice
from gateway.errors import Malformed
from gateway.preset_callbacks import CallbackEffect, CallbackEvents
from gateway.preset_conditions import Selectors
from gateway.reading import OfJson, OfXml, Reading
from gateway.result import holds
from gateway.signatures_adyen import signed_message
from vault.money import Money, minor_units_of
from vault.payment_events import Effect

ITEMS_MAX: Final = 100
ALONE_TIMES_MAX: Final = 2
"""How many times a post's size its items may come to, each alone with what stands around them."""

UNNAMED: Final = "unknown"  # the type of an event that does not say

_READ_AS: Final[Mapping[str, Literal["xml", "form", "notice"]]] = {  # all others: JSON
    "worldpay_wpg": "xml",
    "braintree": "form",
    "mollie_classic": "notice",
}
_PAYLOAD: Final = "bt_payload"
_NOTICE: Final = re.compile(r"id=([A-Za-z0-9_.-]{1,128})")
_ITEMS: Final = "[*]"
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = re.compile("[!-~]{1,255}")
_WORDS: Final = re.compile(
    r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}"
)  # a merchant's own
_TYPE: Final = re.compile("[!-~]{1,128}")
_CURRENCY: Final = re.compile("[A-Za-z]{3}")
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_MOMENT: Final = re.compile(
    r"(20[0-9]{2}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,12})?)"
    r" ?(Z|z|UTC|[+-][0-9]{2}:?[0-9]{2})?"
)
_ANY_CURRENCY: Final = "XXX"  # ISO 4217: none
_SECONDS: Final = re.compile("[0-9]{9,10}")
_MILLISECONDS: Final = re.compile("[0-9]{12,13}")


class Scheme(Protocol):
    """How a processor posts; the name tells how such a post is written."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True, repr=False)
class CallbackEvent:
    """One event: what it is known by, what it means and what it speaks of, as the processor says.

    Nothing of it has been looked through for card numbers. `amount` is in minor units; `body` is
    the post itself, or a post with this event alone.
    """

    event_id: str
    type: str
    at: datetime | None
    effect: Effect | None
    action_reference: str | None
    payment_reference: str | None
    merchant_reference: str | None
    amount: int | None
    currency: str | None
    decline_code: str | None
    body: bytes


def read_events(
    rules: CallbackEvents, scheme: Scheme, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[CallbackEvent, ...]:
    """Read a post whose signature fits; what stands in it twice is once in it. Raises Malformed."""
    events: dict[str, CallbackEvent] = {}
    named = _named(rules, headers)
    for item in _items(rules, scheme, body):
        event = _event(rules, scheme, named, item)
        events.setdefault(event.event_id, event)
    return tuple(events.values())


def read_notice(body: bytes) -> str:
    """Return what an unsigned post tells to ask about: `id=` and nothing else. Raises Malformed."""
    found = _NOTICE.fullmatch(body.decode("latin-1").strip())
    if found is None:
        raise Malformed("notice")
    return found[1]


# --- from a post to its items -------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Item:
    """An event as it can be asked, the bytes that it consists of, and the post that has it."""

    reading: Reading
    content: bytes
    body: bytes


def _items(rules: CallbackEvents, scheme: Scheme, body: bytes) -> Iterator[_Item]:
    read_as = _READ_AS.get(scheme.name)
    if read_as == "notice":
        raise Malformed("notice")  # it says of what, and not what: see `read_notice`
    if read_as == "form":
        payload = _payload(body)
        document = _base64(payload)
        yield _Item(OfXml(xml.read(document), document), payload.encode(), body)
    elif read_as == "xml":
        yield _Item(OfXml(xml.read(body), body), body, body)
    else:
        yield from _of_json(rules, body)


def _payload(body: bytes) -> str:
    """Take the one field of a form that holds the document."""
    texts = [field.text for field in form.read(body).fields if field.name == _PAYLOAD]
    if len(texts) != 1 or not texts[0]:
        raise Malformed("payload")
    return texts[0]


def _base64(text: str) -> bytes:
    try:
        return b64decode("".join(text.splitlines()), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Malformed("base64")


def _of_json(rules: CallbackEvents, body: bytes) -> Iterator[_Item]:
    document = _decoded(body)
    if not isinstance(document, dict):
        raise Malformed("json")
    listed = _listed(rules, document)
    if rules.items is None or listed is None:
        yield _Item(OfJson(document, fold=False), body, body)
        return
    if not 1 <= len(listed) <= ITEMS_MAX:
        raise Malformed("items")
    below = rules.items.partition(_ITEMS)[2]
    contents = [body] if len(listed) == 1 else _alone(rules.items, body, document)
    for each, content in zip(listed, contents, strict=True):
        found = OfJson(each, fold=False).values(below.removeprefix("."))
        if len(found) != 1 or not isinstance(found[0], dict):
            raise Malformed("items")
        yield _Item(OfJson(found[0], fold=False), content, content)


def _listed(rules: CallbackEvents, document: dict[str, object]) -> list[object] | None:
    """Return the items of a post; None where it is no list of them, but one event."""
    if rules.items is None:
        return None
    found = OfJson(document, fold=False).values(rules.items.partition(_ITEMS)[0])
    listed = found[0] if found else None
    if found and not isinstance(listed, list):
        raise Malformed("items")
    return listed if isinstance(listed, list) else None


def _alone(items: str, body: bytes, document: dict[str, object]) -> Iterator[bytes]:
    """Give the post with each of its items alone, every other byte as it came."""
    name = items.partition(_ITEMS)[0]
    whole = bytes(_members(body)[name])
    elements = _elements(whole)
    around = len(body) - len(whole) + len(b"[]")
    if sum(around + len(raw) for raw in elements) > ALONE_TIMES_MAX * len(body):
        raise Malformed("items")  # all of it would be kept a hundred times
    start = body.find(whole)
    for raw in elements:
        alone = bytes(splice(body, [Replacement(start, start + len(whole), b"[%b]" % raw)]))
        # Where the same bytes stand in the post twice, another place may have been cut.
        if _decoded(alone) != {**document, name: [_decoded(raw)]}:
            raise Malformed("items")
        yield alone


def _members(body: bytes) -> Mapping[str, msgspec.Raw]:
    """Return the members of an object that was decoded before, each as its bytes."""
    return _MEMBERS.decode(body.removeprefix(BOM))


def _elements(whole: bytes) -> list[bytes]:
    return [bytes(each) for each in _ELEMENTS.decode(whole)]


def _decoded(data: bytes) -> object:
    try:
        document: object = msgspec.json.decode(data.removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return document
    raise Malformed("json")


# --- from an item to an event -------------------------------------------------------------


def _event(rules: CallbackEvents, scheme: Scheme, named: str | None, item: _Item) -> CallbackEvent:
    reading = item.reading
    type_ = _first(reading, rules.type, _TYPE) or UNNAMED
    currency = _first(reading, rules.currency, _CURRENCY)
    currency = None if currency is None else currency.upper()
    event_id = named or _id(rules, reading)
    return CallbackEvent(
        event_id=event_id or f"sha256:{sha256(_proven(scheme, item)).hexdigest()}",
        type=type_,
        at=_time(_found(reading, rules.at)),
        effect=_effect(rules.effects, type_, reading),
        action_reference=_first(reading, rules.action_reference, _TEXT),
        payment_reference=_first(reading, rules.payment_reference, _TEXT),
        merchant_reference=_first(reading, rules.merchant_reference, _WORDS),
        amount=_amount(rules, _found(reading, rules.amount), currency),
        currency=currency,
        decline_code=_first(reading, rules.decline_code, _TEXT),
        body=item.body,
    )


def _proven(scheme: Scheme, item: _Item) -> bytes:
    """Return what of an event is signed: written otherwise, it is no other event."""
    if scheme.name == "adyen_item":
        return signed_message(item.content) or item.content
    if scheme.name == "braintree":  # it is signed with and without the line's end
        return b"".join(item.content.split())
    return item.content


def _named(rules: CallbackEvents, headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the id that a header has, if it is there once."""
    texts = [value.strip() for name, value in headers if name.lower() == rules.id_header]
    return texts[0] if len(texts) == 1 and _TEXT.fullmatch(texts[0]) else None


def _id(rules: CallbackEvents, reading: Reading) -> str | None:
    if not rules.id_parts:
        return _first(reading, rules.id, _TEXT)
    parts = [_first(reading, part, _TEXT) for part in rules.id_parts]
    # What separates parts is escaped in them: no two events become one by where a colon stands.
    plain = [part.replace("%", "%25").replace(":", "%3A") for part in parts if part is not None]
    whole = ":".join(plain)
    return whole if len(plain) == len(parts) and _TEXT.fullmatch(whole) else None


def _effect(effects: Sequence[CallbackEffect], type_: str, reading: Reading) -> Effect | None:
    for each in effects:
        named = any(
            type_.startswith(pattern[:-1]) if pattern.endswith("*") else type_ == pattern
            for pattern in each.types
        )
        if named and all(holds(condition, reading) for condition in each.where):
            return each.effect
    return None


def _found(reading: Reading, paths: Selectors) -> Iterator[str]:
    """Give what stands at these paths as text; of a number, its digits."""
    for path in paths:
        for value in reading.values(path):
            if isinstance(value, str):
                yield value.strip()
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield str(value)


def _first(reading: Reading, paths: Selectors, form_of_it: re.Pattern[str]) -> str | None:
    return next((each for each in _found(reading, paths) if form_of_it.fullmatch(each)), None)


def _amount(rules: CallbackEvents, texts: Iterator[str], currency: str | None) -> int | None:
    """Return minor units; of major ones, only where the currency says how many those are."""
    text = next(texts, "")
    if rules.amount_unit == "minor":
        money = Money.parse(text, currency or _ANY_CURRENCY)
        return None if money is None else money.minor_units
    if currency is None or not _DECIMAL.fullmatch(text):
        return None
    return minor_units_of(Decimal(text), currency)


def _time(texts: Iterator[str]) -> datetime | None:
    """Read the first time that is one; without a zone it is UTC."""
    return next(filter(None, map(_moment, texts)), None)


def _moment(text: str) -> datetime | None:
    if _SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC)
    if _MILLISECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    zone = "Z" if found[3] in {None, "z", "UTC"} else found[3]
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}").astimezone(UTC)
    except ValueError:
        return None


def unreadable(body: bytes) -> CallbackEvent:
    """Return what is made of a genuine post that no rule reads: received, and of no effect."""
    return CallbackEvent(
        event_id=f"sha256:{sha256(body).hexdigest()}",
        type=UNNAMED,
        at=None,
        effect=None,
        action_reference=None,
        payment_reference=None,
        merchant_reference=None,
        amount=None,
        currency=None,
        decline_code=None,
        body=body,
    )
