"""What every codec hands out, and the one way a body is changed. Pure.

A codec reads a body into `Field`s, each with the place of its value's bytes. Putting other bytes
there leaves all the rest as it was sent: order, duplicates, white space, a byte order mark.
What never lives here: the rules of one format, and anything that re-serializes a body.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Self

import msgspec

BOM: Final = b"\xef\xbb\xbf"


class Format(StrEnum):
    """How a body is written."""

    FORM = "form"
    JSON = "json"
    JSON_LINES = "json_lines"
    XML = "xml"
    MULTIPART = "multipart"
    GRAPHQL = "graphql"  # JSON around it
    CSV = "csv"
    FIXED_WIDTH = "fixed_width"  # of columns that its reader has to be told


class Shape(Enum):
    """What stands at a place."""

    TEXT = "text"
    NUMBER = "number"
    WORD = "word"  # true, false, null
    KEY = "key"  # the name of a member, where a format has names apart from values
    ATTRIBUTE = "attribute"  # of an XML element: text, in quotes


class Unprinted(msgspec.Struct, frozen=True):
    """What a file has thousands of, and prints nothing: a text in it may be anything."""

    def __repr__(self) -> str:
        return type(self).__name__


class Field(Unprinted, frozen=True, gc=False):
    """One value of a body: its decoded name and text, and where its bytes stand.

    `text` is None where the bytes do not decode; only a declared field has to.
    """

    name: str
    text: str | None
    start: int
    end: int
    shape: Shape = Shape.TEXT


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A body's values in the order of their places, and the names that were given twice.

    `roots` is what a body says that it is, where one URL serves many operations: the root element
    of XML, the keys of a JSON object, the fields that a GraphQL mutation asks for.
    """

    format: Format
    fields: tuple[Field, ...]
    repeated: frozenset[str]
    roots: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Of a table: the fields are its rows, one after the other, with a value for each."""

    @classmethod
    def of(
        cls,
        format_: Format,
        fields: Iterable[Field],
        names: Iterable[str] = (),
        *,
        roots: Iterable[str] = (),
        columns: tuple[str, ...] = (),
    ) -> Self:
        """Take the fields of one body; `names` is every name in it, as often as it stands there."""
        counts = Counter(names)
        repeated = frozenset(name for name, count in counts.items() if count > 1)
        return cls(format_, tuple(fields), repeated, tuple(roots), columns)

    def repeats(self, name: str) -> bool:
        """Whether `name`, or what it stands in, was given twice: two readers could differ."""
        if not self.repeated:
            return False
        ends = (at for at, character in enumerate(name) if character in ".[")
        return name in self.repeated or any(name[:at] in self.repeated for at in ends)


@dataclass(frozen=True, slots=True, repr=False)
class Replacement:
    """Bytes to put in the place of those from `start` to `end`."""

    start: int
    end: int
    value: bytes


def splice(body: bytes, replacements: Iterable[Replacement]) -> bytearray:
    """Return the body with each replacement made, every other byte as it was."""
    spliced = bytearray()
    done = 0
    for replacement in sorted(replacements, key=lambda each: each.start):
        assert done <= replacement.start <= replacement.end <= len(body), "overlapping places"
        spliced += body[done : replacement.start]
        spliced += replacement.value
        done = replacement.end
    spliced += body[done:]
    return spliced
