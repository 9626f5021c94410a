"""JSON (RFC 8259) with the place of every value, so that one of them can be changed. Pure.

A value's name is its path: `a.b[0].c`; a key of other characters is quoted (`a["b.c"]`), so that
no key can pass for a path. A byte order mark is kept, a key given twice is reported, and what
either means is not decided here. What never lives here: which values matter.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.codecs.splice import BOM, Document, Field, Format, Shape
from gateway.errors import Malformed

DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_STRING: Final = re.compile(
    rb'"([^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+)"'
)
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+")
_WORD: Final = re.compile(rb"true|false|null")
_PLAIN_KEY: Final = re.compile("[A-Za-z0-9_-]+")
_STEP: Final = re.compile(r"([A-Za-z0-9_-]+)|\[([0-9]{1,6})\]")
_PATH: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+|\[[0-9]{1,6}\])*")


def read(body: bytes) -> Document:
    """Return every key and every value that is no container, in the order of their places."""
    scanner = _Scanner(body)
    scanner.read()
    return Document.of(Format.JSON, scanner.fields, scanner.keys, roots=scanner.roots)


def is_path(path: str) -> bool:
    """Whether `values_at` can follow it."""
    return _PATH.fullmatch(path) is not None


def values_at(document: object, path: str) -> Sequence[object]:
    """Follow a path into a decoded document: one value, or none where it does not lead anywhere."""
    value = document
    for key, index in _STEP.findall(path):
        if key and isinstance(value, dict) and key in value:
            value = value[key]
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        else:
            return ()
    return (value,)


class _Scanner:
    """One pass over one body."""

    def __init__(self, body: bytes) -> None:
        self.fields: list[Field] = []
        self.keys: list[str] = []
        self.roots: list[str] = []
        self._body = body
        self._at = len(BOM) if body.startswith(BOM) else 0

    def read(self) -> None:
        self._value("", 0)
        self._skip_space()
        if self._at != len(self._body):
            raise Malformed("json")

    def _value(self, name: str, depth: int) -> None:
        if depth > DEPTH_MAX or len(self.fields) > VALUES_MAX:
            raise Malformed("json_too_large")
        self._skip_space()
        match self._body[self._at : self._at + 1]:
            case b"{":
                self._object(name, depth)
            case b"[":
                self._array(name, depth)
            case b'"':
                self._string(name, Shape.TEXT)
            case b"t" | b"f" | b"n":
                self._bare(name, _WORD, Shape.WORD)
            case _:
                self._bare(name, _NUMBER, Shape.NUMBER)

    def _object(self, name: str, depth: int) -> None:
        self._at += 1
        if self._took(b"}"):
            return
        while True:
            self._skip_space()
            key = _below(name, self._string(name, Shape.KEY))
            self.keys.append(key)
            if depth == 0:
                self.roots.append(key)
            if not self._took(b":"):
                raise Malformed("json")
            self._value(key, depth + 1)
            if self._took(b"}"):
                return
            if not self._took(b","):
                raise Malformed("json")

    def _array(self, name: str, depth: int) -> None:
        self._at += 1
        if self._took(b"]"):
            return
        index = 0
        while True:
            self._value(f"{name}[{index}]", depth + 1)
            index += 1
            if self._took(b"]"):
                return
            if not self._took(b","):
                raise Malformed("json")

    def _string(self, name: str, shape: Shape) -> str | None:
        found = _STRING.match(self._body, self._at)
        if found is None:
            raise Malformed("json")
        text = _text(found[1])
        named = name if shape is Shape.TEXT else _below(name, text)
        self.fields.append(Field(named, text, found.start(1), found.end(1), shape))
        self._at = found.end()
        return text

    def _bare(self, name: str, pattern: re.Pattern[bytes], shape: Shape) -> None:
        found = pattern.match(self._body, self._at)
        if found is None:
            raise Malformed("json")
        self.fields.append(Field(name, found[0].decode(), found.start(), found.end(), shape))
        self._at = found.end()

    def _took(self, mark: bytes) -> bool:
        self._skip_space()
        if not self._body.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._body, self._at)
        assert space is not None, "the pattern matches nothing too"
        self._at = space.end()


def _text(raw: bytes) -> str | None:
    """Undo the escapes; None for invalid UTF-8 and for half of a surrogate pair."""
    try:
        return msgspec.json.decode(b'"%b"' % raw, type=str) if b"\\" in raw else raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _below(name: str, key: str | None) -> str:
    if key is None:
        raise Malformed("json")
    if not _PLAIN_KEY.fullmatch(key):
        return f'{name}["{key}"]'
    return f"{name}.{key}" if name else key
