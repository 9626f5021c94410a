"""Numbers in bodies that are no text: packed two digits a byte, and in EBCDIC. Pure.

A packed number is taken where its length stands before it, as in ISO 8583, or where the body is
so short that chance finds none. What never lives here: what makes a number a card.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN

SHORT_BODY: Final = 1024
MESSAGE_MAX: Final = 64 * 1024  # of the kind that has packed numbers in it
_ENOUGH: Final = b"0" * PAN_DIGITS_MIN
_EBCDIC_OUTLINE: Final = bytes(ord("0") if 0xF0 <= byte <= 0xF9 else 32 for byte in range(256))  # noqa: PLR2004 - the digits of cp037
_DIGITS: Final = (
    rb"\x00-\x09\x10-\x19\x20-\x29\x30-\x39\x40-\x49\x50-\x59\x60-\x69\x70-\x79\x80-\x89\x90-\x99"
)
_ALONE: Final = re.compile(
    rb"(?<![%b])[%b]{5,10}+[\x0f\x1f\x2f\x3f\x4f\x5f\x6f\x7f\x8f\x9f]?+(?![%b])"
    % (_DIGITS, _DIGITS, _DIGITS)
)
_COUNTED: Final = re.compile(rb"[\x0c-\x19](?=[%b]{6})" % _DIGITS)
_EBCDIC: Final = re.compile(
    rb"(?<![\xf0-\xf9])[\xf0-\xf9](?:[\x40\x60]?[\xf0-\xf9]){11,18}+(?![\xf0-\xf9])"
)


@dataclass(slots=True, repr=False)
class Packed:
    """A number's place, and its digits."""

    start: int
    end: int
    digits: str


def packed_numbers(body: bytes) -> Iterator[Packed]:
    if len(body) > MESSAGE_MAX:
        return
    for found in _COUNTED.finditer(body):
        written = found[0].hex()  # in binary, or in BCD itself
        for count in {found[0][0], int(written) if written.isdecimal() else 0}:
            yield from _counted(body, found.end(), count)
    if len(body) <= SHORT_BODY:
        for found in _ALONE.finditer(body):
            digits = found[0].hex().rstrip("f")
            for each in (digits, digits[1:] if digits[:1] == "0" else ""):
                if PAN_DIGITS_MIN <= len(each) <= PAN_DIGITS_MAX:
                    yield Packed(found.start(), found.end(), each)


def _counted(body: bytes, start: int, count: int) -> Iterator[Packed]:
    if not PAN_DIGITS_MIN <= count <= PAN_DIGITS_MAX:
        return
    end = start + (count + 1) // 2
    digits = body[start:end].hex()
    for each in {digits[:count], digits[-count:]}:
        if len(digits) >= count and each.isdecimal():
            yield Packed(start, end, each)


def ebcdic_numbers(body: bytes) -> Iterator[Packed]:
    if _ENOUGH not in body.translate(_EBCDIC_OUTLINE, b"\x40\x60"):
        return
    for found in _EBCDIC.finditer(body):
        digits = "".join(each for each in found[0].decode("cp037") if each.isdecimal())
        yield Packed(found.start(), found.end(), digits)
