"""Adyen's standard callbacks: each item of the post holds its own signature. Pure.

The only scheme here whose body must be read before it is proven, so it is read within narrow
limits, and a name that is given twice is refused: whoever reads it next could take the other one.
Eight fields are signed, joined by `:` without any escape. Only the merchant's reference may hold
that sign; in two fields, it could wander from one into the next and the signature would still fit.
All else in an item (`reason`, `additionalData`) is nobody's word. What never lives here: what an
item means.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.codecs import json
from gateway.codecs.splice import Field, Replacement, Shape, splice
from gateway.errors import Malformed
from gateway.signatures_layouts import Written
from gateway.signatures_macs import BASE64, Claimed, Mac, hex_key, in_base64
from gateway.signatures_recipes import plain_id
from gateway.signatures_terms import (
    CannotSign,
    Forged,
    Genuine,
    Posted,
    Random,
    Reason,
    Secret,
    Secrets,
)

ITEMS_MAX: Final = 100
COMMAS_MAX: Final = 10_000  # as many values cost anybody a tenth of a second of ours

_LIST: Final = "notificationItems"
_ITEM: Final = re.compile(
    rf"{_LIST}\[([0-9]{{1,4}})\]\.NotificationRequestItem(?:[.\[](.*))?", re.DOTALL
)
_SIGNATURE: Final = "additionalData.hmacSignature"
_SIGNED: Final[Mapping[str, re.Pattern[str]]] = {
    "pspReference": re.compile("[^:]{0,256}"),
    "originalReference": re.compile("[^:]{0,256}"),
    "merchantAccountCode": re.compile("[^:]{0,256}"),
    "merchantReference": re.compile(".{0,512}", re.DOTALL),
    "amount.value": re.compile("(?:-?[0-9]{1,18})?"),
    "amount.currency": re.compile("(?:[A-Z]{3})?"),
    "eventCode": re.compile("[A-Z0-9_]{1,64}"),
    "success": re.compile("true|false"),
}
_NUMBER: Final = "amount.value"


@dataclass(frozen=True, slots=True, repr=False)
class _Item:
    message: bytes
    signature: Field | None


@dataclass(frozen=True, slots=True)
class AdyenItems:
    """The scheme of `hmacSignature` in each item."""

    mac: Mac = field(default_factory=lambda: Mac(hex_key, (in_base64,)))

    def proven(self, posted: Posted, secrets: Secrets, *, at: datetime) -> Genuine | Forged:
        del at  # no time is signed: that an event comes once is the inbox's to see
        if not self.mac.has_key(secrets.signing):
            return Forged("secret_missing")
        items = _items(posted.body)
        if items is None:
            return Forged("signature_malformed")
        reasons = {reason for item in items if (reason := self._refused(item, secrets))}
        return Forged(min(reasons)) if reasons else Genuine()

    def signed(
        self, posted: Posted, secret: Secret, *, at: datetime, keep: bool
    ) -> tuple[Written, bytes]:
        """Sign each item in the place of its signature: there is room for one."""
        del at, keep
        keys, items = self.mac.keys(secret.text), _items(posted.body)
        if not keys or items is None:
            raise CannotSign
        made: list[Replacement] = []
        for item in items:
            if item.signature is None:
                raise CannotSign
            code = self.mac.made(keys[0], item.message).encode("ascii")
            made.append(Replacement(item.signature.start, item.signature.end, code))
        return tuple(posted.headers), bytes(splice(posted.body, made))

    def new_secret(self, random: Random) -> Secret:
        return Secret(plain_id(random), random(32).hex().upper())

    def _refused(self, item: _Item, secrets: Secrets) -> Reason | None:
        if item.signature is None:
            return "signature_missing"
        text = item.signature.text or ""
        if item.signature.shape is not Shape.TEXT or not BASE64.fullmatch(text):
            return "signature_malformed"
        matches = self.mac.matches((item.message,), secrets.signing, (Claimed(text),))
        return None if matches else "signature_mismatch"


def signed_message(body: bytes) -> bytes | None:
    """Return what is signed of a post with one item; None for another post."""
    items = _items(body)
    return items[0].message if items is not None and len(items) == 1 else None


def _items(body: bytes) -> list[_Item] | None:
    """Read the items, all of them; None for what is no such post, or could be read otherwise."""
    if body.count(b",") > COMMAS_MAX:
        return None
    try:
        document = json.read(body)
    except (Malformed, RecursionError):
        return None
    found = None if document.repeated else _by_place(document.fields)
    if not found or len(found) > ITEMS_MAX or max(found) >= len(found):
        return None
    items = [_item(found[at]) for at in range(len(found))]
    return [item for item in items if item is not None] if None not in items else None


def _by_place(fields: Iterable[Field]) -> dict[int, dict[str, Field]] | None:
    """Give the values of each item by their paths; None where the list has what is no item."""
    found: dict[int, dict[str, Field]] = {}
    for each in fields:
        if not each.name.startswith(_LIST) or each.name == _LIST:
            continue
        place = _ITEM.fullmatch(each.name)
        if place is None:
            return None
        values = found.setdefault(int(place[1]), {})
        if each.shape is not Shape.KEY:
            values[place[2] or ""] = each
    return found


def _item(values: Mapping[str, Field]) -> _Item | None:
    texts: list[str] = []
    for name, pattern in _SIGNED.items():
        text = _text(values.get(name), Shape.NUMBER if name == _NUMBER else Shape.TEXT)
        if text is None or not pattern.fullmatch(text):
            return None
        texts.append(text)
    return _Item(":".join(texts).encode(), values.get(_SIGNATURE))


def _text(found: Field | None, shape: Shape) -> str | None:
    """Return the text as it is signed; what is absent or null is signed as nothing."""
    if found is None or (found.shape is Shape.WORD and found.text == "null"):
        return ""
    return found.text if found.shape is shape else None
