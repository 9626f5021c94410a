"""A sample callback, as its processor would post it, of a type that means nothing. Pure.

It is read back by the preset's own rules before anybody gets it: what could have an effect, or be
taken for a payment's, is no sample. What never lives here: signatures, and where it is posted.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import msgspec

from gateway.callback_events import read_events
from gateway.errors import Malformed
from gateway.preset_callbacks import CallbackEvents
from gateway.signatures import Scheme
from vault.payment_events import Effect

TEST_TYPE: Final = "panward.test"
_TEST_TYPES: Final = {"adyen_item": "PANWARD_TEST"}  # where small letters and a point are no type

_PATH: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ITEMS: Final = re.compile(r"([A-Za-z0-9_-]+)\[\*\](?:\.([A-Za-z0-9_-]+))?")
_NONE: Final = "x"  # where a signature will stand

Document = dict[str, object]
Headers = tuple[tuple[str, str], ...]


class NoSample(Exception):
    """By this preset no sample can be told from what means something."""


def type_of(scheme: Scheme) -> str:
    """Return the type that a sample of a scheme has."""
    return _TEST_TYPES.get(scheme.name, TEST_TYPE)


def sample(
    rules: CallbackEvents, scheme: Scheme, name: str, *, at: datetime
) -> tuple[Headers, bytes]:
    """Compose a post, not signed yet, of one event that is known by `name`. Raises NoSample."""
    document: Document = {}
    if scheme.name == "adyen_item":  # what its signature is made of has to be there, and where
        document = {"success": "true", "additionalData": {"hmacSignature": _NONE}}
    for path, text in _values(rules, type_of(scheme), name, at):
        if path not in document:
            _put(document, path, text)
    headers = (("Content-Type", scheme.content_types[0]),)
    body = _written(rules, scheme, document)
    if _meaning(rules, scheme, headers, body) != [(type_of(scheme), None)]:
        raise NoSample
    return headers, body


def _meaning(
    rules: CallbackEvents, scheme: Scheme, headers: Headers, body: bytes
) -> Sequence[tuple[str, Effect | None]]:
    try:
        return [(each.type, each.effect) for each in read_events(rules, scheme, headers, body)]
    except Malformed:
        return []


def _values(
    rules: CallbackEvents, type_text: str, name: str, at: datetime
) -> Iterator[tuple[str, str]]:
    """Give what an event needs to be known: type, id and time; no reference of any kind."""
    type_ = rules.type[0]
    yield type_, type_text
    for path in [selectors[0] for selectors in rules.id_parts] or rules.id[:1]:
        if path != type_:
            yield path, name
    for path in rules.at[:1]:
        yield path, at.isoformat(timespec="milliseconds")


def _put(document: Document, path: str, text: str) -> None:
    if not _PATH.fullmatch(path):
        raise NoSample
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise NoSample
        place = inner
    if place.setdefault(last, text) != text:
        raise NoSample


def _written(rules: CallbackEvents, scheme: Scheme, document: Document) -> bytes:
    if scheme.name == "braintree":
        payload = b64encode(b"".join(_elements(document)))
        return urlencode({"bt_signature": _NONE, "bt_payload": payload}).encode()
    items = _ITEMS.fullmatch(rules.items or "")
    if items is not None and scheme.name == "adyen_item":
        document = {items[1]: [{items[2]: document} if items[2] else document]}
    return msgspec.json.encode(document)


def _elements(document: Mapping[str, object]) -> Iterator[bytes]:
    for name, value in document.items():
        inner = (
            b"".join(_elements(value)) if isinstance(value, dict) else escape(str(value)).encode()
        )
        yield b"<%b>%b</%b>" % (name.encode(), inner, name.encode())
