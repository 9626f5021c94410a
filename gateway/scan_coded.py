"""Finds of what spells numbers in codes: chips, hexadecimal, packed numbers, floats. Pure.

What never lives here: how such a code is read, and what makes a number a card.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from gateway.scan_hex import HexRow, hex_rows
from gateway.scan_hits import Hit, Kind
from gateway.scan_luhn import brand_of_card, cards_among
from gateway.scan_packed import ebcdic_numbers, packed_numbers
from gateway.scan_rows import Stretch
from gateway.tracks import ChipField, chip_fields
from vault.pan import PAN_DIGITS_MAX, Pan

_STAR: Final = "*"


def chip_hits(body: bytes, *, is_hex: bool) -> Iterator[Hit]:
    fields = list(chip_fields(body, is_hex=is_hex))
    brands = cards_among({each.digits.encode() for each in fields})
    for each in fields if brands else ():
        brand = brands.get(each.digits.encode())
        if brand is not None:
            yield _chip_hit(each, brand, "hex" if is_hex else "bcd")


def _chip_hit(each: ChipField, brand: str, name: str) -> Hit:
    numbers = (Pan.parse(each.digits),)
    spell = partial(_of_chip, each)
    return Hit(Kind.EMV, each.start, each.end, name, brand, numbers, spell=spell, mask=each.masked)


def _of_chip(field: ChipField, texts: Sequence[str]) -> bytes:
    return field.spelled(texts[0])


def hex_hits(body: bytes) -> Iterator[Hit]:
    rows = [row for row in hex_rows(body) if len(row.digits) <= PAN_DIGITS_MAX]
    brands = cards_among({row.digits.encode() for row in rows})
    for row in rows if brands else ():
        brand = brands.get(row.digits.encode())
        if brand is not None:
            numbers = (Pan.parse(row.digits),)
            stars = partial(row.starred, row.digits[-4:])
            spell = partial(_of_hex, row)
            yield Hit(Kind.PAN, row.start, row.end, "hex", brand, numbers, spell=spell, mask=stars)


def _of_hex(row: HexRow, texts: Sequence[str]) -> bytes:
    return row.encoded(texts[0])


def packed_hits(body: bytes) -> Iterator[Hit]:
    for name, numbers in (("bcd", packed_numbers(body)), ("ebcdic", ebcdic_numbers(body))):
        for each in numbers:
            brand = brand_of_card(each.digits)
            if brand is not None:
                codec = "cp037" if name == "ebcdic" else "ascii"
                yield Hit(
                    Kind.PAN,
                    each.start,
                    each.end,
                    name,
                    brand,
                    (Pan.parse(each.digits),),
                    spell=partial(_in_codec, codec),
                    mask=partial(_packed_mask, name, each.end - each.start, each.digits[-4:]),
                )


def _in_codec(codec: str, texts: Sequence[str]) -> bytes:
    return texts[0].encode(codec, "replace")


def _packed_mask(name: str, length: int, kept: str) -> bytes:
    if name == "ebcdic":
        return kept.rjust(length, _STAR).encode("cp037")
    return bytes.fromhex(kept.rjust(2 * length, "0"))


# --- exponents ------------------------------------------------------------------------------

# Of fewer digits it is a large number, and by chance one in ten would be a card's.
_EXPONENT: Final = re.compile(rb"\.([0-9]{11,18})[eE]\+?(1[1-8])(?![0-9])")
_WHOLE: Final = re.compile(rb"(?<![0-9.])[0-9]")


def in_exponents(body: bytes) -> Iterator[Stretch]:
    """Yield whole numbers that a program wrote as it writes floats."""
    written = []
    for found in _EXPONENT.finditer(body):
        exponent, start = int(found[2]), found.start() - 1
        if start >= 0 and len(found[1]) <= exponent and _WHOLE.match(body, start):
            written.append(
                (start, found.end(), body[start : start + 1] + found[1].ljust(exponent, b"0"))
            )
    if written:
        cards = cards_among({digits for _, _, digits in written})
        for start, end, digits in written:
            if digits in cards:
                yield Stretch(start, end, digits.decode(), cards[digits])
