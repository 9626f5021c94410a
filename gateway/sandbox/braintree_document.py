"""Bodies of the simulated Braintree: XML or JSON in, the same fields whichever it was; and out.

Pure. Braintree takes names with `-`, with `_` or in camelCase and reads them as one, and writes
`-` in XML and `_` in JSON. What never lives here: what a field means.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from xml.etree import ElementTree as ET

import msgspec

Written = Literal["xml", "json"]
Value = str | list["Value"] | dict[str, "Value"] | None

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Unreadable(Exception):
    """A body that is not what its content type says."""


class Fields:
    """One level of a body, by folded names."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Value]) -> None:
        self._members = members

    def text(self, name: str) -> str | None:
        """Return the text there; None where there is none, or it is empty."""
        value = self._members.get(name)
        return value if isinstance(value, str) and value else None

    def flag(self, name: str) -> bool:
        return self.text(name) in {"true", "1"}

    def under(self, name: str) -> "Fields":
        value = self._members.get(name)
        return Fields(value if isinstance(value, dict) else {})

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def named(self, name: str) -> Iterator[str]:
        """Give every text of that name, at any depth, in order."""
        yield from _named(dict(self._members), name)


def _named(value: Value, name: str) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                if key == name and isinstance(inner, str):
                    yield inner
                yield from _named(inner, name)
        case list():
            for inner in value:
                yield from _named(inner, name)
        case _:
            return


def read(body: bytes, content_type: str) -> Fields:
    """Read a body by its content type; an empty one has no fields."""
    if not body.strip():
        return Fields({})
    kind = content_type.partition(";")[0].strip().lower()
    if kind in {"application/xml", "text/xml"}:
        return Fields(_read_xml(body))
    if kind == "application/json":
        return Fields(_read_json(body))
    raise Unreadable


def _read_xml(body: bytes) -> dict[str, Value]:
    root = None
    try:
        text = body.decode("utf-8-sig")
        if "<!DOCTYPE" not in text:
            root = ET.fromstring(text)  # noqa: S314 - without a DOCTYPE no entities
    except (ET.ParseError, UnicodeDecodeError):  # its text may quote the body
        root = None
    if root is None:
        raise Unreadable
    return {_folded(root.tag): _value(root)}


def _value(element: ET.Element) -> Value:
    if element.get("nil") == "true":
        return None
    if element.get("type") == "array":
        return [_value(child) for child in element]
    if not len(element):
        return (element.text or "").strip()
    members: dict[str, Value] = {}
    for child in element:
        name, value = _folded(child.tag), _value(child)
        earlier = members.get(name)
        if isinstance(earlier, list):
            earlier.append(value)
        else:
            members[name] = value if name not in members else [earlier, value]
    return members


def _read_json(body: bytes) -> dict[str, Value]:
    members = None
    try:
        loaded = json.loads(body, parse_int=str, parse_float=str)
        json.dumps(loaded, ensure_ascii=False).encode()  # half a surrogate pair is no text
        members = _from_json(loaded)
    except (ValueError, RecursionError):  # json's error carries the whole document
        members = None
    if not isinstance(members, dict):
        raise Unreadable
    return members


def _from_json(value: object) -> Value:
    match value:
        case dict():
            return {_folded(str(name)): _from_json(inner) for name, inner in value.items()}
        case list():
            return [_from_json(inner) for inner in value]
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return None


def _folded(name: str) -> str:
    return _CAMEL.sub(r"_\1", name).replace("-", "_").lower()


# --- what goes back -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """A list, and what XML calls each of its elements."""

    item: str
    values: "tuple[Shown, ...]" = ()


Shown = str | int | datetime | Listed | dict[str, "Shown"] | None


def written(root: str, shown: Shown, as_: Written) -> bytes:
    if as_ == "json":
        return msgspec.json.encode({root: _plain(shown)})
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', *_lines(root, shown, "")]
    return ("\n".join(lines) + "\n").encode()


def _plain(shown: Shown) -> object:
    match shown:
        case dict():
            return {name: _plain(inner) for name, inner in shown.items()}
        case Listed():
            return [_plain(inner) for inner in shown.values]
        case datetime():
            return _instant(shown)
        case _:
            return shown


def _lines(name: str, shown: Shown, indent: str) -> Iterator[str]:
    tag = name.replace("_", "-")
    match shown:
        case dict():
            inside = list(shown.items())
            yield from _nested(tag, "", inside, indent)
        case Listed(item, values) if values:
            yield from _nested(tag, ' type="array"', [(item, each) for each in values], indent)
        case _:
            yield indent + _leaf(tag, shown)


def _nested(
    tag: str, attribute: str, inside: list[tuple[str, Shown]], indent: str
) -> Iterator[str]:
    yield f"{indent}<{tag}{attribute}>"
    for name, inner in inside:
        yield from _lines(name, inner, f"{indent}  ")
    yield f"{indent}</{tag}>"


def _leaf(tag: str, shown: Shown) -> str:
    match shown:
        case None:
            return f'<{tag} nil="true"/>'
        case bool():
            return f'<{tag} type="boolean">{str(shown).lower()}</{tag}>'
        case int():
            return f'<{tag} type="integer">{shown}</{tag}>'
        case datetime():
            return f'<{tag} type="datetime">{_instant(shown)}</{tag}>'
        case str():
            return f"<{tag}>{html.escape(shown)}</{tag}>"
        case _:
            return f'<{tag} type="array"/>'


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
