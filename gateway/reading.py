"""A processor's reply as something to be asked: what stands at this path? Pure.

Replies come as JSON or XML, whatever the request was. One that is neither, or broken, has nothing
at any path. What never lives here: what an answer means.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from gateway.codecs import xml
from gateway.codecs.splice import BOM, Document
from gateway.errors import Malformed
from gateway.plain_paths import folded
from gateway.selectors import find

_SPACE: Final = b" \t\r\n"
_STEP: Final = re.compile(r"([^].[]+)|\[([0-9]{1,6}|\*)\]")


class Reading(Protocol):
    """A reply that was read."""

    def values(self, path: str) -> Sequence[object]:
        """Return what stands at a path, null left out."""
        ...


class OfJson:
    """A reply in JSON."""

    def __init__(self, decoded: object, *, fold: bool) -> None:
        self._decoded = decoded
        self._fold = fold

    def values(self, path: str) -> Sequence[object]:
        found = [self._decoded]
        for name, index in _STEP.findall(path):
            found = [
                below for each in found for below in _below(each, name, index, fold=self._fold)
            ]
        return [each for each in found if each is not None]


class OfXml:
    """A reply in XML: all values are text."""

    def __init__(self, document: Document, body: bytes) -> None:
        self._document = document
        self._body = body

    def values(self, path: str) -> Sequence[object]:
        found = find(path, self._document, self._body, fold=True)
        return [match.field.text for match in found if match.field.text is not None]


def read_reply(body: bytes, *, fold: bool) -> Reading:
    """Read a reply by what it is: its content type is not always true."""
    if is_xml(body):
        try:
            return OfXml(xml.read(body), body)
        except Malformed:
            return OfJson(None, fold=fold)
    try:
        decoded: object = msgspec.json.decode(body.removeprefix(BOM))
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    return OfJson(decoded, fold=fold)


def is_xml(body: bytes) -> bool:
    """Whether it begins as XML does, and JSON does not."""
    return body.removeprefix(BOM).lstrip(_SPACE).startswith(b"<")


def _below(value: object, name: str, index: str, *, fold: bool) -> Iterable[object]:
    """Go one step down from a decoded value, to any number of others."""
    if index:
        items = value if isinstance(value, list) else []
        return items if index == "*" else items[int(index) : int(index) + 1]
    members: dict[str, object] = value if isinstance(value, dict) else {}
    if name == "*":
        return members.values()
    if fold:
        return [each for key, each in members.items() if folded(key) == folded(name)]
    return [members[name]] if name in members else []
