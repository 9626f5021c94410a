"""How a value is written at its place, so that whoever reads the format reads that value. Pure.

What never may live here: which value.
"""

from typing import Final
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import msgspec

from gateway.codecs.fixed_width import fitted
from gateway.codecs.splice import Field, Format, Shape

_CDATA: Final = b"<![CDATA["
_XML_WRITTEN: Final = {'"': "&quot;", "'": "&apos;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
_BARE: Final = frozenset({Shape.NUMBER, Shape.WORD})


def put(
    format_: Format | None, raw: bytes, field: Field, text: str, *, bare: bool = False
) -> bytes:
    """Write a token, a mask or zeros: nothing that any format would escape.

    Where JSON has a number or a word the text gets quotes, unless it is to be a number.
    """
    value = text.encode()
    if format_ is Format.FIXED_WIDTH:
        return fitted(value, raw[field.start : field.end])
    if field.shape in _BARE and not bare:
        return b'"%b"' % value
    return value


def emptied(format_: Format | None, field: Field) -> bytes:
    """Write nothing: blanks where a width is kept, null where JSON has no quotes."""
    if format_ is Format.FIXED_WIDTH:
        return b" " * (field.end - field.start)
    return b"null" if field.shape in _BARE else b""


def escaped(format_: Format | None, raw: bytes, field: Field, text: str) -> bytes | None:
    """Write any text; None where the format at that place is not known for sure."""
    match format_:
        case Format.JSON | Format.JSON_LINES:
            return msgspec.json.encode(text)[1:-1]
        case Format.FORM:
            return quote_plus(text).encode()
        case Format.XML if raw.endswith(_CDATA, 0, field.start):
            return text.replace("]]>", "]]]]><![CDATA[>").encode()
        case Format.XML:
            return escape(text, _XML_WRITTEN).encode()
        case Format.CSV:
            return text.replace('"', '""').encode()
        case _:
            return None
