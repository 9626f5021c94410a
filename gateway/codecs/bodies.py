"""From a content type to the codec that reads a body of it. Pure.

T-10: what is doubtful has no codec: two types in one header, a parameter given twice, a charset
other than UTF-8 (some readers would honor UTF-7), a parameter that might change how a body is read.
What never lives here: which types a call may have.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from gateway.codecs import csv, form, graphql, json, json_lines, multipart, xml
from gateway.codecs.splice import Document, Format
from gateway.errors import Malformed

_TYPES: Final[Mapping[str, Format]] = {
    "application/x-www-form-urlencoded": Format.FORM,
    "application/json": Format.JSON,
    "application/json-lines": Format.JSON_LINES,
    "application/jsonl": Format.JSON_LINES,
    "application/jsonlines": Format.JSON_LINES,
    "application/ndjson": Format.JSON_LINES,
    "application/x-jsonlines": Format.JSON_LINES,
    "application/x-ndjson": Format.JSON_LINES,
    "application/xml": Format.XML,
    "text/xml": Format.XML,
    "multipart/form-data": Format.MULTIPART,
    "text/csv": Format.CSV,
}
_SUFFIXES: Final[Mapping[str, Format]] = {"json": Format.JSON, "xml": Format.XML}  # RFC 6839
_PARAMETERS: Final[Mapping[Format, Mapping[str, frozenset[str] | None]]] = {
    Format.MULTIPART: {"boundary": None},
    Format.CSV: {"header": frozenset({"present"})},  # RFC 4180
    Format.XML: {"action": None},  # of SOAP 1.2
}
"""What a type may say beside its charset, and the values if not any."""

_READERS: Final[Mapping[Format, Callable[[bytes], Document]]] = {
    Format.FORM: form.read,
    Format.JSON: json.read,
    Format.JSON_LINES: json_lines.read,
    Format.XML: xml.read,
    Format.GRAPHQL: graphql.read,
    Format.CSV: csv.read,
}


@lru_cache(maxsize=256)
def format_of(content_type: str) -> Format | None:
    """Return how a body of this type is written, or None if that is doubtful."""
    found = multipart.media_type(content_type)
    if found is None:
        return None
    format_ = _TYPES.get(found.name) or _SUFFIXES.get(found.name.rpartition("+")[2])
    if format_ is None or (format_ is Format.MULTIPART and "boundary" not in found.parameters):
        return None
    allowed = {"charset": frozenset({"utf-8"}), **_PARAMETERS.get(format_, {})}
    for name, value in found.parameters.items():
        if name not in allowed:
            return None
        values = allowed[name]
        if values is not None and value.lower() not in values:
            return None
    return format_


def read_body(content_type: str, body: bytes) -> Document:
    """Read a body by its content type."""
    format_ = format_of(content_type)
    if format_ is None:
        raise Malformed("content_type")
    return read_as(format_, content_type, body)


def read_as(format_: Format, content_type: str, body: bytes) -> Document:
    """Read a body in a format: GraphQL has no type of its own, which of all is for the caller."""
    if format_ is Format.MULTIPART:
        return multipart.read(content_type, body, _read_part)
    return _READERS[format_](body)


def _read_part(content_type: str, content: bytes) -> Document | None:
    format_ = format_of(content_type)
    if format_ is None or format_ is Format.MULTIPART:
        return None
    return _READERS[format_](content)
