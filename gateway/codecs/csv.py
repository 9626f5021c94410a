"""CSV (RFC 4180) with a header row, and the place of every value in the rows below it. Pure.

A value's name is its column and its row, `pan[0]`; a column of other characters is quoted as a
JSON key is (`["Card number"][0]`). The header row shows what separates: comma, semicolon or tab.
What two readers could take differently is refused: a header row with two of these, a row of
another length, an empty line, a quote in a value that is not quoted, lines that end now one way
and now another. What never lives here: which columns matter, and numbers or dates: a value is text.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from gateway.codecs.json import below
from gateway.codecs.splice import BOM, Document, Field, Format
from gateway.errors import Malformed

COLUMNS_MAX: Final = 1000
VALUES_MAX: Final = 100_000
NAMES_CHARACTERS_MAX: Final = 8_000_000

_SEPARATORS: Final = (b",", b";", b"\t")
_QUOTED: Final = re.compile(rb'"[^"]*+"')
_HEADER: Final = re.compile(rb'(?:[^"\r\n]++|"[^"]*+")*+')
_CELLS: Final = {
    each: re.compile(rb'(?:"((?:[^"]++|"")*+)"|([^"\r\n%b]*+))(%b|\r?\n|\Z)' % (each, each))
    for each in _SEPARATORS
}


def read(body: bytes) -> Document:
    """Return the values of the rows in their order; of the header row, nothing."""
    rows = _plain_rows(body) or _rows(body)
    columns = [_column(body[start:end]) for start, end in next(rows)]
    if len(columns) > COLUMNS_MAX:
        raise Malformed("csv_too_large")
    fields: list[Field] = []
    row_names = sum(map(len, columns))
    text_at = _texts(body)
    for number, places in enumerate(rows):
        if len(places) != len(columns):
            raise Malformed("csv_row_length")
        if len(fields) + len(columns) > VALUES_MAX or number * row_names > NAMES_CHARACTERS_MAX:
            raise Malformed("csv_too_large")
        row = f"[{number}]"
        for column, (start, end) in zip(columns, places, strict=True):
            fields.append(Field(column + row, text_at(start, end), start, end))
    return Document.of(Format.CSV, fields, columns, columns=tuple(columns))


def _plain_rows(body: bytes) -> Iterator[list[tuple[int, int]]] | None:
    """Yield what `_rows` does, where nothing is quoted and no line is doubtful."""
    if b'"' in body or b"\r" in body or b"\x00" in body:
        return None
    lines = body.removesuffix(b"\n").split(b"\n")
    if not all(lines) or body.startswith(BOM):
        return None
    return _split(lines, _separator(body, 0))


def _split(lines: list[bytes], separator: bytes) -> Iterator[list[tuple[int, int]]]:
    at = 0
    for line in lines:
        places = []
        for value in line.split(separator):
            end = at + len(value)
            places.append((at, end))
            at = end + 1
        yield places


def _rows(body: bytes) -> Iterator[list[tuple[int, int]]]:
    """Yield the places of each row's values: within the quotes, where there are any."""
    if b"\x00" in body:  # of UTF-16, or the end of a text for some
        raise Malformed("csv")
    at = len(BOM) if body.startswith(BOM) else 0
    separator = _separator(body, at)
    cell = _CELLS[separator]
    line_ends = set()
    places = []
    while found := cell.match(body, at):
        quoted, _, mark = found.groups()
        places.append(found.span(2 if quoted is None else 1))
        at = found.end()
        if mark == separator:
            continue
        if len(places) == 1 and found[0] == mark:
            raise Malformed("csv_empty_line")
        line_ends.add(mark)
        yield places
        if at == len(body):
            break
        places = []
    else:
        raise Malformed("csv")
    if line_ends >= {b"\n", b"\r\n"}:
        raise Malformed("csv_line_end")


def _separator(body: bytes, at: int) -> bytes:
    header = _HEADER.match(body, at)
    assert header is not None, "the pattern matches nothing too"
    unquoted = _QUOTED.sub(b"", header[0])
    found = [each for each in _SEPARATORS if each in unquoted]
    if len(found) > 1:
        raise Malformed("csv_separator")
    return found[0] if found else b","


def _column(raw: bytes) -> str:
    name = _text(raw)
    if name is None:
        raise Malformed("csv_column")
    return below("", name)


def _texts(body: bytes) -> Callable[[int, int], str | None]:
    """Read values by their places: from one text where each byte is a character."""
    if not body.isascii() or b'"' in body:
        return lambda start, end: _text(body[start:end])
    text = body.decode("ascii")
    return lambda start, end: text[start:end]


def _text(raw: bytes) -> str | None:
    """Undo the doubling of quotes; None for what is no UTF-8."""
    try:
        return raw.decode().replace('""', '"')
    except UnicodeDecodeError:
        return None
