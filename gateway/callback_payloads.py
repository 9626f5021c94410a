"""Documents that a form carries in base64: taken out, and written back as they were written. Pure.

What never lives here: what is looked for in them.
"""

import binascii
import re
from base64 import b64decode, b64encode
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

PAYLOADS: Final = {"braintree": "bt_payload"}
"""By scheme: the field that has it."""

_WRITTEN: Final = re.compile(rb"%[0-9A-Fa-f]{2}|[/=\r\n]")
_LINE_END: Final = re.compile(rb"\r?\n")


def unpacked(text: str | None) -> bytes | None:
    """Return what is carried, or None if it is no base64 in lines."""
    try:
        return b64decode(_LINE_END.sub(b"", (text or "").encode()), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def packed(document: bytes, before: bytes) -> bytes:
    """Write a document in base64 in a form: in lines as long, and escaped alike."""
    plain = unquote_to_bytes(before)
    end = _LINE_END.search(plain)
    text = b64encode(document)
    if end is not None:
        width = end.start() or len(text)
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        text = end[0].join(lines) + (end[0] if plain.endswith(end[0]) else b"")
    spelled = {unquote_to_bytes(one): one for one in _WRITTEN.findall(before)}
    each = (text[at : at + 1] for at in range(len(text)))
    return b"".join(spelled.get(one) or quote_from_bytes(one, safe="").encode() for one in each)
