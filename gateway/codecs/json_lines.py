"""JSON Lines: one JSON text a line, named by its number: `[0].a.b`. Pure.

A line ends with LF; a CR before it is white space. An empty line is refused, save after the last
one: readers differ on whether it counts. What never lives here: what JSON is.
"""

from typing import Final

from gateway.codecs.json import Scanner
from gateway.codecs.splice import BOM, Document, Format
from gateway.errors import Malformed

LINES_MAX: Final = 100_000


def read(body: bytes) -> Document:
    """Return every key and every value that is no container, in the order of their places."""
    if body.count(b"\n") > LINES_MAX:
        raise Malformed("json_too_large")
    scanner = Scanner(body)
    start = len(BOM) if body.startswith(BOM) else 0
    last = len(body) - body.endswith(b"\n")
    index = 0
    while start <= last:
        end = body.find(b"\n", start, last)
        end = last if end < 0 else end
        scanner.read(f"[{index}]", start, end)
        start = end + 1
        index += 1
    return Document.of(Format.JSON_LINES, scanner.fields, scanner.keys)
