"""Rows of digits with separators between them, and which stretch of a row is a card. Pure.

A row is looked for in an outline: one byte a kind, so that patterns are short and never
backtrack. What never lives here: escapes, containers, and what is made of a find.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vault.card import UNKNOWN, brand_of, brand_rows
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, passes_luhn

DIGITS: Final = b"0123456789"
_SEPARATORS: Final = b" -._+\t"
_FILLER: Final = 0
_OUTLINE: Final = bytes(
    ord("0")
    if byte in DIGITS
    else ord("-")
    if byte in _SEPARATORS
    else ord("~")
    if byte == _FILLER
    else ord(".")
    for byte in range(256)
)
_ESCAPING: Final = (
    *(b"%", b"\\u", b"\\x", b"\\0", b"\\t", b"\\\\", b"&#", b"&amp;", b"sp;", b"&shy;"),
    *(b"&hyphen;", b"dash;", b"&minus;", b"&Tab;", b"&period;", b"&zw"),
)
_IN_PLAIN: Final = _SEPARATORS + bytes((0, *range(128, 256)))
_IN_SPELLINGS: Final = bytes(
    byte
    for byte in range(256)
    if byte >= 128 or byte in b"\0 -._+\t%&#;\\XABCDEFTabcdefghijlmnoprstuwxyz"  # noqa: PLR2004 - a width or a byte, named beside it
)
_ENOUGH: Final = b"0" * PAN_DIGITS_MIN
BLOCK: Final = 2048
_GROUP_STEPS: Final = 2
_OVERLAP: Final = 256
_MARGIN: Final = 512  # a number has fewer bytes, however it is spelled

_ROW: Final = re.compile(
    rb"(?<!0)0(?=[0~-]{%d})0*+(?:~{0,16}+(?:-~{0,16}+){0,3}+0++)*+" % (PAN_DIGITS_MIN - 1)
)
_GROUP: Final = re.compile(rb"0++(?:~++0++)*+")
_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_UUID_LENGTH: Final = 36
_IBAN: Final = re.compile(
    rb"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)"
)
_IBAN_LENGTH: Final = 45
_FOUR: Final = 4
_AMEX_REST: Final = ((6, 5), (6, 4))
_CARD_GROUPS: Final = (4, 5, 6, 8)
_PLAUSIBLE: Final = {
    digits: frozenset(
        f"{two:02}"
        for row in brand_rows()
        if row.brand.name != UNKNOWN and digits in row.digit_counts and digits in row.brand.lengths
        for prefix in row.prefixes
        for two in range(100)
        if f"{two:02}".startswith(prefix[:2])
    )
    for digits in range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
}


@dataclass(slots=True)
class Work:
    """How much may still be done for one body: a step is about a microsecond."""

    steps: int
    exhausted: bool = False

    def spend(self, steps: int = 1) -> bool:
        """Whether there is enough left."""
        self.steps -= steps
        if self.steps < 0:
            self.exhausted = True
        return self.steps >= 0


@dataclass(frozen=True, slots=True, repr=False)
class Stretch:
    """The digits of a card, from the first one's place to the last one's, and past it."""

    start: int
    end: int
    digits: str
    brand: str
    is_window: bool = False


class _Group(NamedTuple):
    start: int
    end: int
    digits: bytes


def brand_of_card(digits: str) -> str | None:
    """Tell the brand of what has a brand's prefix and length and passes Luhn."""
    if digits[:2] not in _PLAUSIBLE.get(len(digits), ()) or not passes_luhn(digits):
        return None
    brand = brand_of(digits)
    return brand.name if brand.name != UNKNOWN and len(digits) in brand.lengths else None


def _may_hold(part: bytes, *, escaped: bool) -> bool:
    if _ENOUGH in part.translate(_OUTLINE, _IN_PLAIN):
        return True
    return escaped and _ENOUGH in part.translate(_OUTLINE, _IN_SPELLINGS)


def near_digits(body: bytes) -> list[tuple[int, int]]:
    """List the parts of a body in which a card may be spelled, in escapes or out of them.

    One pass tells that there are none, at the speed of memory.
    """
    escaped = any(each in body for each in _ESCAPING)
    if not _may_hold(body, escaped=escaped):
        return []
    parts: list[tuple[int, int]] = []
    for block in range(0, len(body), BLOCK):
        start, end = max(0, block - _MARGIN), min(len(body), block + BLOCK + _MARGIN)
        if _may_hold(body[start:end], escaped=escaped):
            if parts and start <= parts[-1][1]:
                start = parts.pop()[0]
            parts.append((start, end))
    return parts


_EXPONENT: Final = re.compile(rb"\.([0-9]{1,18})[eE]\+?(1[1-8])(?![0-9])")
_WHOLE: Final = re.compile(rb"(?<![0-9.])[0-9]\Z")


def in_exponents(body: bytes, work: Work) -> Iterator[Stretch]:
    """Yield whole numbers that a program wrote as it writes floats."""
    if not any(each in body for each in (b"e1", b"E1", b"e+1", b"E+1")):
        return
    for found in _EXPONENT.finditer(body):
        if not work.spend(2):
            return
        exponent, start = int(found[2]), found.start() - 1
        whole = _WHOLE.search(body[max(0, start - 1) : start + 1])
        if whole is None or len(found[1]) > exponent:
            continue
        digits = (whole[0] + found[1].ljust(exponent, b"0")).decode()
        brand = brand_of_card(digits)
        if brand is not None:
            yield Stretch(start, found.end(), digits, brand)


def rows_of(text: bytes, work: Work) -> Iterator[tuple[int, int, bytes]]:
    """Yield where enough digits stand near each other, and the outline."""
    outline = text.translate(_OUTLINE)
    row_end = 0
    for block in range(0, len(text), BLOCK):
        block_end = block + BLOCK + _OVERLAP
        if _ENOUGH not in outline[block:block_end].translate(None, b"-~"):
            continue
        for found in _ROW.finditer(outline, max(block, row_end), block_end):
            start, end = found.span()
            if start >= block + BLOCK:
                break
            if end >= block_end and (whole := _ROW.match(outline, start)):
                end = whole.end()
            if not work.spend(2 + outline.count(b"-", start, end) * _GROUP_STEPS):
                return
            row_end = end
            if outline.count(b"0", start, end) >= PAN_DIGITS_MIN:
                yield start, end, outline


def cards_in(
    text: bytes, row: tuple[int, int, bytes], work: Work, *, windows: bool
) -> Iterator[Stretch]:
    """Yield the cards of one row, from the left."""
    start, end, outline = row
    if text[start:end].isdigit():  # nearly all rows, and they should not take long
        yield from _plain(text, _Group(start, end, text[start:end]), work, windows=windows)
        return
    groups = [
        _Group(found.start(), found.end(), text[found.start() : found.end()].translate(None, b"\0"))
        for found in _GROUP.finditer(outline, start, end)
    ]
    whole = _whole(text, groups, work)
    if whole is not None:
        yield whole
        return
    yield from _parts(text, groups, work, windows=windows)


def _plain(text: bytes, group: _Group, work: Work, *, windows: bool) -> Iterator[Stretch]:
    found = _card(text, [group]) if len(group.digits) <= PAN_DIGITS_MAX else None
    if found is not None:
        yield found
    elif windows:
        yield from _windows(group, work)


def _parts(text: bytes, groups: list[_Group], work: Work, *, windows: bool) -> Iterator[Stretch]:
    """Yield the cards that are some neighboring groups of a row."""
    first = 0
    while first < len(groups):
        after = first + 1
        found = None
        for last in _ends(groups, first):
            if not work.spend():
                return
            found = _card(text, groups[first : last + 1])
            if found is not None:
                after = last + 1
                yield found
                break
        if found is None and windows:
            yield from _windows(groups[first], work)
        first = after


def _whole(text: bytes, groups: list[_Group], work: Work) -> Stretch | None:
    if not PAN_DIGITS_MIN <= sum(len(group.digits) for group in groups) <= PAN_DIGITS_MAX:
        return None
    return _card(text, groups) if work.spend() else None


def _ends(groups: list[_Group], first: int) -> Iterator[int]:  # noqa: C901 - a table of cases, read from above
    """Yield the last group of what is grouped as cards are; the longer first."""
    size = len(groups[first].digits)
    if PAN_DIGITS_MIN <= size <= PAN_DIGITS_MAX:
        yield first
    if size == _FOUR:
        rest = tuple(len(group.digits) for group in groups[first + 1 : first + 3])
        if rest in _AMEX_REST:
            yield first + 2
    if size not in _CARD_GROUPS:
        return
    fitting, total = [], size
    for last in range(first + 1, len(groups)):
        more = len(groups[last].digits)
        total += more
        if total > PAN_DIGITS_MAX or more > size:
            break
        if total >= PAN_DIGITS_MIN:
            fitting.append(last)
        if more < size:
            break
    yield from reversed(fitting)


def _card(text: bytes, groups: list[_Group]) -> Stretch | None:
    digits = b"".join(group.digits for group in groups).decode()
    brand = brand_of_card(digits)
    if brand is None:
        return None
    start, end = groups[0].start, groups[-1].end
    if _is_decimals(text, groups) or _in_uuid(text, start) or _in_iban(text, start):
        return None
    return Stretch(start, end, digits, brand)


def _is_decimals(text: bytes, groups: list[_Group]) -> bool:
    """Whether a point in it, or before it, is that of a decimal fraction."""
    start = groups[0].start
    if text[start - 1 : start] == b"." and text[max(0, start - 2) : start - 1].isdigit():
        return True
    between = text[start : groups[-1].end]
    return b"." in between and 2 * between.count(b".") <= len(groups) - 1 + (len(groups) == 2)  # noqa: PLR2004 - a width or a byte, named beside it


def _in_uuid(text: bytes, place: int) -> bool:
    near = max(0, place - _UUID_LENGTH)
    return any(
        found.start() <= place < found.end()
        for found in _UUID.finditer(text, near, place + _UUID_LENGTH)
    )


def _in_iban(text: bytes, place: int) -> bool:
    """Whether it is part of an account number, with the check digits of one (ISO 13616)."""
    near = max(0, place - _IBAN_LENGTH)
    for found in _IBAN.finditer(text, near, place + _IBAN_LENGTH):
        if found.start() <= place < found.end():
            plain = found[0].translate(None, b" ").decode()
            value = "".join(str(int(each, 36)) for each in plain[4:] + plain[:4])
            if int(value) % 97 == 1:
                return True
    return False


def _windows(group: _Group, work: Work) -> Iterator[Stretch]:
    """Yield what passes for a card within a longer run of digits, as most runs have by chance."""
    text = group.digits.decode()
    if len(text) != group.end - group.start or len(text) <= PAN_DIGITS_MIN:
        return
    at = 0
    while at + PAN_DIGITS_MIN <= len(text) and work.spend(4):
        for digits in range(PAN_DIGITS_MAX, PAN_DIGITS_MIN - 1, -1):
            piece = text[at : at + digits]
            brand = brand_of_card(piece) if len(piece) == digits else None
            if brand is not None:
                place = group.start + at
                yield Stretch(place, place + digits, piece, brand, is_window=True)
                at += digits - 1
                break
        at += 1
