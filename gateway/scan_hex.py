"""Rows of digits spelled in hexadecimal: where, and what they say. Pure.

What never lives here: what makes a number a card.
"""

import re
from binascii import a2b_hex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.scan_places import Part

_HEX_ROW: Final = re.compile(
    rb"(?<!3[0-9])3[0-9](?:(?:(?:20|2[dDeE]|[cC]2[aA]0){1,2}+|00|000000)?3[0-9]){11,}+"
)
_HEX_SPACED: Final = re.compile(rb"(?<![0-9A-Fa-f ])(?:[0-9A-Fa-f]{2}[ :]){11,}+[0-9A-Fa-f]{2}")


_SPELLED_ROW: Final = re.compile(rb"(?<![0-9])[0-9](?:[ \-.]{0,2}+[0-9]){11,18}+(?![0-9])")
_HEX_FIRSTS: Final = bytes.maketrans(b"20", b"33")
_HEX_ENOUGH: Final = b"3" * 12
_NO_DIGITS: Final = bytes(byte for byte in range(256) if byte not in b"0123456789")


@dataclass(slots=True, repr=False)
class HexRow:
    """The hex of a row of digits."""

    start: int
    end: int
    digits: str
    raw: bytes

    def encoded(self, text: str) -> bytes:
        plain = text.encode()
        gap = self.raw[2:3] if self.raw[2:3] in b" :" else b""
        width = 4 if self.raw[2:8] == b"000000" else 2 if self.raw[2:4] == b"00" else 1
        if width > 1:
            plain = text.encode(f"utf-{16 if width == 2 else 32}-le")  # noqa: PLR2004 - bytes a unit
        spelled = (plain.hex(gap.decode()) if gap else plain.hex()).encode()
        return spelled.upper() if self.raw != self.raw.lower() else spelled

    def starred(self, kept: str) -> bytes:
        unit = len(self.encoded("00")) - len(self.encoded("0"))
        return self.encoded(kept.rjust(-(-len(self.raw) // unit), "*"))


def may_hold_hex(part: Part) -> bool:
    """Whether digits may be spelled there: `3` and a digit, four times or more."""
    raw = part.raw
    if _RUN in part.letters and (b"3333" in raw[::2] or b"3333" in raw[1::2]):
        return True
    is_apart = _PAIRS in part.near or _COLONS in part.near
    return is_apart and (_may_have(raw, 2) or _may_have(raw, 3))


_RUN: Final = b"b" * 24
_PAIRS: Final = b"0" * 24
_COLONS: Final = b"00:" * 11


def _may_have(part: bytes, step: int) -> bool:
    """Whether enough characters so far apart are first ones of the hex of digits."""
    firsts = part.translate(_HEX_FIRSTS)
    return any(_HEX_ENOUGH in firsts[phase::step] for phase in range(step))


def hex_rows(body: bytes) -> Iterator[HexRow]:
    """Yield the rows of digits spelled in hex."""
    for found in _HEX_ROW.finditer(body):
        raw = found[0]
        digits = a2b_hex(raw).translate(None, _NO_DIGITS).decode()
        yield HexRow(found.start(), found.end(), digits, raw)
    if _may_have(body, 3):
        for found in _HEX_SPACED.finditer(body):
            yield from _in_pairs(found)


def _in_pairs(found: re.Match[bytes]) -> Iterator[HexRow]:
    """Yield the rows of digits in hex with a space or a colon after each byte."""
    pairs = bytes.fromhex(found[0].decode().replace(":", " "))
    for row in _SPELLED_ROW.finditer(pairs):
        start, end = row.start() * 3, row.end() * 3 - 1
        digits = row[0].translate(None, _NO_DIGITS).decode()
        yield HexRow(found.start() + start, found.start() + end, digits, found[0][start:end])
