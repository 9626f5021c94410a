"""Bodies of the simulated Authorize.Net: XML or JSON in, elements in their order; and out. Pure.

Its JSON is its XML in other clothes: the order of keys is the order of elements. Every answer
begins with a byte order mark, and a client may drop the first three bytes unseen. What never
lives here: which elements there are.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal
from xml.etree import ElementTree as ET

import msgspec

Written = Literal["xml", "json"]

NAMESPACE: Final = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
BOM: Final = b"\xef\xbb\xbf"
CONTENT_TYPES: Final[dict[Written, str]] = {
    "xml": "application/xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class Element:
    """One element, or one JSON member, with what is in it."""

    name: str
    text: str
    children: tuple["Element", ...] = ()

    def all(self, name: str) -> Iterator["Element"]:
        return (child for child in self.children if child.name == name)

    def first(self, *path: str) -> "Element | None":
        """Walk down by names, always into the first of a name."""
        here: Element | None = self
        for name in path:
            here = None if here is None else next(here.all(name), None)
        return here

    def at(self, *path: str) -> str | None:
        """Return the text there; None where there is none, or it is empty."""
        found = self.first(*path)
        return None if found is None or not found.text else found.text

    def everywhere(self, name: str) -> Iterator[str]:
        for child in self.children:
            if child.name == name and child.text:
                yield child.text
            yield from child.everywhere(name)


def form_of(content_type: str) -> Written | None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in {"application/xml", "text/xml"}:
        return "xml"
    return "json" if kind in {"application/json", "text/json"} else None


def read(body: bytes, form: Written) -> Element | None:
    """None: not such a document."""
    try:
        text = body.decode("utf-8-sig")
        return _read_xml(text) if form == "xml" else _read_json(text)
    except (ET.ParseError, ValueError, RecursionError):  # their texts may quote the body
        return None


def _read_xml(text: str) -> Element | None:
    if "<!DOCTYPE" in text:
        return None
    root = ET.fromstring(text)  # noqa: S314 - without a DOCTYPE no entities
    return _element(root) if root.tag.startswith(f"{{{NAMESPACE}}}") else None


def _element(node: ET.Element) -> Element:
    name = node.tag.rpartition("}")[2]
    return Element(name, (node.text or "").strip(), tuple(_element(child) for child in node))


def _read_json(text: str) -> Element | None:
    read_members = json.JSONDecoder(
        object_pairs_hook=tuple, parse_int=_Number, parse_float=_Number, parse_constant=_Number
    )
    pairs = read_members.decode(text)
    json.dumps(pairs, ensure_ascii=False).encode()  # half a surrogate pair is no text
    members = _members(pairs)
    return members[0] if len(members) == 1 else None


class _Number(str):
    """A number of a JSON body, as it was written."""

    __slots__ = ()


def _members(value: object) -> tuple[Element, ...]:
    """Make elements of the pairs of an object; a list is one element after the other."""
    if not isinstance(value, tuple):
        return ()
    return tuple(
        _member(str(name), each)
        for name, inner in value
        for each in (inner if isinstance(inner, list) else [inner])
    )


def _member(name: str, value: object) -> Element:
    match value:
        case bool():
            return Element(name, "true" if value else "false")
        case str():
            return Element(name, value.strip())
        case _:
            return Element(name, "", _members(value))


# --- what goes back -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repeated:
    """An element that comes once for each of these; in JSON, a list."""

    values: "tuple[Shown, ...]"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A list with an element around it, which JSON leaves out."""

    item: str
    values: "tuple[Shown, ...]"


Shown = str | int | Decimal | Repeated | Wrapped | dict[str, "Shown"] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is written; None in it is left out."""

    root: str
    messages: dict[str, Shown]
    ref_id: str | None
    content: dict[str, Shown]


def written(reply: Reply, form: Written) -> bytes:
    """JSON has no root, and its content before the messages, as the real one writes it."""
    around: dict[str, Shown] = {"refId": reply.ref_id, "messages": reply.messages}
    if form == "json":
        return BOM + msgspec.json.encode(_plain(reply.content | around))
    inside = "".join(_lines(around | reply.content))
    head = '<?xml version="1.0" encoding="utf-8"?>'
    schemas = (
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    )
    document = f'{head}<{reply.root} {schemas} xmlns="{NAMESPACE}">{inside}</{reply.root}>'
    return BOM + document.encode()


def _plain(shown: Shown) -> object:
    match shown:
        case dict():
            return {name: _plain(inner) for name, inner in shown.items() if inner is not None}
        case Repeated(values) | Wrapped(_, values):
            return [_plain(inner) for inner in values]
        case Decimal():
            return float(shown)
        case _:
            return shown


def _lines(members: dict[str, Shown]) -> Iterator[str]:
    for name, shown in members.items():
        match shown:
            case None:
                continue
            case Repeated(values):
                yield from (_line(name, each) for each in values)
            case _:
                yield _line(name, shown)


def _line(name: str, shown: Shown) -> str:
    match shown:
        case dict():
            inside = "".join(_lines(shown))
        case Wrapped(item, values):
            inside = "".join(_line(item, each) for each in values)
        case bool():
            inside = "true" if shown else "false"
        case _:
            inside = html.escape(str(shown))
    return f"<{name}>{inside}</{name}>" if inside else f"<{name} />"
