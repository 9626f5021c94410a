"""Files of fixed width, and the place of every column's value. Pure.

A row ends with LF, or with CR LF; a column is a number of bytes of it, from and up to a place. A
value's name is its column and its row, `pan[0]`; the blanks around it do not belong to its text.
Who puts other bytes in its place takes them from `fitted`: a row keeps its length, or no reader
finds its other columns. A row that ends before a column begins has none of it.
What never lives here: which columns there are, and what is in them.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.codecs.json import below
from gateway.codecs.splice import BOM, Document, Field, Format
from gateway.errors import Malformed

VALUES_MAX: Final = 100_000

_BLANKS: Final = b" \t"

Columns = Mapping[str, tuple[int, int]]


def read(body: bytes, columns: Columns) -> Document:
    """Return the values of the columns, row by row; a field is as wide as its column."""
    if b"\x00" in body:  # of UTF-16, or the end of a text for some
        raise Malformed("fixed_width")
    placed = sorted(columns.items(), key=lambda each: each[1])
    names = [(below("", name), start, end) for name, (start, end) in placed]
    fields: list[Field] = []
    for number, (row, row_end) in enumerate(_rows(body)):
        if len(fields) + len(names) > VALUES_MAX:
            raise Malformed("fixed_width_too_large")
        for name, column, column_end in names:
            start, end = row + column, min(row + column_end, row_end)
            if start < end:
                fields.append(Field(f"{name}[{number}]", _text(body[start:end]), start, end))
    return Document.of(Format.FIXED_WIDTH, fields)


def fitted(value: bytes, was: bytes) -> bytes:
    """Give the bytes of a column for a value, on the side on which the one before stood.

    Raises Malformed when the column is too narrow: a token of its own length is `pan_like`.
    """
    if len(value) > len(was):
        raise Malformed("fixed_width_too_narrow")
    stood_right = was[:1].isspace() and not was[-1:].isspace()
    return value.rjust(len(was)) if stood_right else value.ljust(len(was))


def problem_of(columns: Columns) -> str | None:
    """Say what is wrong with columns."""
    end = 0
    for name, (start, up_to) in sorted(columns.items(), key=lambda each: each[1]):
        if start >= up_to:
            return f"the column {name} has no bytes"
        if start < end:
            return f"the column {name} begins in another"
        end = up_to
    return None


def _rows(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield each row's place, its end of line left out."""
    start = len(BOM) if body.startswith(BOM) else 0
    line_ends = set()
    while start < len(body):
        line_feed = body.find(b"\n", start)
        end = len(body) if line_feed < 0 else line_feed
        if line_feed > start and body[line_feed - 1 : line_feed] == b"\r":
            end -= 1
        if line_feed >= 0:
            line_ends.add(line_feed - end)
        yield start, end
        if b"\r" in body[start:end]:
            raise Malformed("fixed_width_line_end")
        start = len(body) if line_feed < 0 else line_feed + 1
    if len(line_ends) > 1:
        raise Malformed("fixed_width_line_end")


def _text(raw: bytes) -> str | None:
    """Take the blanks off; None for what is no UTF-8."""
    try:
        return raw.strip(_BLANKS).decode()
    except UnicodeDecodeError:
        return None
