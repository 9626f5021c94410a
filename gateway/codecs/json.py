r"""JSON (RFC 8259) with the place of every value, so that one of them can be changed. Pure.

A value's name is its path: `a.b[0].c`; a key of other characters is quoted (`a["b.c"]`, with `\"`
for a quote in it), so that no key can pass for a path. A byte order mark is kept, a key given
twice is reported, and what either means is not decided here. What never lives here: which values
matter.
"""

import re
from typing import Final

import msgspec

from gateway.codecs.splice import BOM, Document, Field, Format, Shape
from gateway.errors import Malformed

DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000
NAME_CHARACTERS_MAX: Final = 2000
NAMES_CHARACTERS_MAX: Final = 8_000_000  # of all of them: each repeats what it stands in

_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"([^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+)"'
_NUMBER: Final = rb"(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)"
_WORD: Final = rb"(true|false|null)"

_START: Final = re.compile(_SPACE)
_SCALAR: Final = re.compile(_STRING + b"|" + _NUMBER + b"|" + _WORD)
_OPEN: Final = re.compile(rb"([{\[])" + _SPACE + rb"([}\]])?" + _SPACE)
_MEMBER: Final = re.compile(_STRING + _SPACE + b":" + _SPACE)
_NEXT: Final = re.compile(_SPACE + rb"([,}\]])" + _SPACE)
_SHAPES: Final = (Shape.TEXT, Shape.NUMBER, Shape.WORD)  # by the groups of _SCALAR

_PLAIN_KEY: Final = re.compile("[A-Za-z0-9_-]+")


def read(body: bytes) -> Document:
    """Return every key and every value that is no container, in the order of their places."""
    scanner = Scanner(body)
    scanner.read("", len(BOM) if body.startswith(BOM) else 0, len(body))
    return Document.of(Format.JSON, scanner.fields, scanner.keys, roots=scanner.roots)


def below(name: str, key: str) -> str:
    """Name what stands under a key of what is called `name`. Raises Malformed.

    The length is bounded: a long key is part of the name of every value below it.
    """
    if len(name) + len(key) > NAME_CHARACTERS_MAX:
        raise Malformed("json_too_large")
    if not _PLAIN_KEY.fullmatch(key):
        escaped = key.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}["{escaped}"]'
    return f"{name}.{key}" if name else key


class Scanner:
    """One pass over one body, or over the JSON texts that stand in it one after another."""

    def __init__(self, body: bytes) -> None:
        self.fields: list[Field] = []
        self.keys: list[str] = []
        self.roots: list[str] = []
        self._body = body
        self._end = 0
        self._name_characters = 0

    def read(self, name: str, start: int, end: int) -> None:
        """Take the JSON text between two places; `name` is what it is called."""
        self._end = end
        at = self._value(name, self._after(_START, start).end(), 0)
        if self._after(_START, at).end() != end:
            raise Malformed("json")

    def _value(self, name: str, at: int, depth: int) -> int:
        """Return where the value ends, or any white space behind it."""
        self._name_characters += len(name)
        if (
            depth > DEPTH_MAX
            or len(self.fields) > VALUES_MAX
            or self._name_characters > NAMES_CHARACTERS_MAX
        ):
            raise Malformed("json_too_large")
        found = _SCALAR.match(self._body, at, self._end)
        if found is None:
            return self._container(name, at, depth)
        group = found.lastindex or 0
        text = _text(found[1]) if group == 1 else found[0].decode()
        start, end = found.span(group)
        self.fields.append(Field(name, text, start, end, _SHAPES[group - 1]))
        return found.end()

    def _container(self, name: str, at: int, depth: int) -> int:
        opened = self._after(_OPEN, at)
        is_object = opened[1] == b"{"
        close = b"}" if is_object else b"]"
        at = opened.end()
        index = 0
        mark = opened[2] or b","
        while mark == b",":
            if is_object:
                key, at = self._key(name, at, depth)
                at = self._value(key, at, depth + 1)
            else:
                at = self._value(f"{name}[{index}]", at, depth + 1)
                index += 1
            found = self._after(_NEXT, at)
            mark, at = found[1], found.end()
        if mark != close:
            raise Malformed("json")
        return at

    def _key(self, name: str, at: int, depth: int) -> tuple[str, int]:
        found = self._after(_MEMBER, at)
        text = _text(found[1])
        if text is None:
            raise Malformed("json")
        key = below(name, text)
        start, end = found.span(1)
        self.fields.append(Field(key, text, start, end, Shape.KEY))
        self.keys.append(key)
        if depth == 0:
            self.roots.append(key)
        return key, found.end()

    def _after(self, pattern: re.Pattern[bytes], at: int) -> re.Match[bytes]:
        found = pattern.match(self._body, at, self._end)
        if found is None:
            raise Malformed("json")
        return found


def _text(raw: bytes) -> str | None:
    """Undo the escapes; None for invalid UTF-8 and for half of a surrogate pair."""
    try:
        return msgspec.json.decode(b'"%b"' % raw, type=str) if b"\\" in raw else raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
