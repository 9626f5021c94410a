"""Rows of digits with separators between them, and which stretch of a row is a card. Pure.

All rows of a text are read at once: split, joined and summed up at the speed of C, since a body
may be nothing but ids that are nearly cards. A place is looked up for the few that are one.
What never lives here: escapes, containers, and what is made of a find.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

from gateway.scan_luhn import (
    GROUP_MAX,
    cards_among,
    cards_in_groups,
    windows_in,
)
from gateway.scan_places import DELETED, SEPARATORS, ZEROS, Part
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN

DIGITS: Final = b"0123456789"
FILLER: Final = b"\0"
_OUTLINE: Final = bytes(
    byte
    if byte in DIGITS
    else ord("-")
    if byte in SEPARATORS
    else ord("~")
    if byte == FILLER[0]
    else ord(" ")
    for byte in range(256)
)
_ENOUGH: Final = b"0" * PAN_DIGITS_MIN
_TWO_GROUPS: Final = (b"0000-0000", b"0000--0000", b"0000---0000")
# More of these than stand between the digits of one number.
_APART: Final = ((b"-" * 4, b" " * 4), (b"~" * 24, b" " * 24))
_GROUPS: Final = re.compile(
    rb"(?<![0-9])(?:[0-9]{4,8}+(?![0-9])-{1,3}+)++(?:[0-9]{1,8}+(?![0-9]))?+"
)
_GROUPS_MIN: Final = PAN_DIGITS_MIN + 1
_BREAK: Final = b"0" * GROUP_MAX  # between two rows: of no shape
_GROUP: Final = re.compile(rb"[0-9]++")

_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_UUID_LENGTH: Final = 36
_IBAN: Final = re.compile(
    rb"(?<![0-9A-Za-z])([A-Z]{2})[0-9]{2}(?:(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)"
    rb"(?![0-9A-Za-z])"
)
_IBAN_LENGTH: Final = 45
_IBAN_LENGTHS: Final = {  # ISO 13616, as SWIFT's registry has them
    code: length
    for length, codes in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for code in codes.split()
}


@dataclass(frozen=True, slots=True, repr=False)
class Stretch:
    """The digits of a card, from the first one's place to the last one's, and past it."""

    start: int
    end: int
    digits: str
    brand: str
    is_window: bool = False

    def placed(self, places: Sequence[int]) -> "Stretch":
        """Give it in a text with fillers, by the place of each byte that is none."""
        start, end = places[self.start], places[self.end - 1] + 1
        return Stretch(start, end, self.digits, self.brand, self.is_window)


_OTHERS: Final = SEPARATORS + bytes((0, *range(128, 256)))


def may_hold_row(part: Part) -> bool:
    """Whether twelve digits stand near each other, with nothing but separators between them."""
    if _ENOUGH not in part.bare:
        return False
    if part.raw.count(b"-") * _HYPHENS_APART < len(part.raw):
        return True
    # Digits within a UUID are near each other too; what has its shape is no card.
    return _ENOUGH in _UUID_REST.sub(b"!", part.raw).translate(ZEROS, DELETED)


_UUID_REST: Final = re.compile(rb"-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_HYPHENS_APART: Final = 500  # fewer, and it is quicker to look


def may_hold_other_row(part: Part) -> bool:
    """Whether they do when what is not ASCII may be a separator too."""
    return _ENOUGH in part.raw.translate(ZEROS, _OTHERS)


def stretches(text: bytes, *, windows: bool) -> list[Stretch]:
    """List the cards of an ironed text, from the left and without overlaps."""
    outline = text.translate(_OUTLINE)
    for many, blanks in _APART:
        if many in outline:
            outline = outline.replace(many, blanks)
    has_fillers = b"~" in outline
    compact = outline.translate(None, b"~") if has_fillers else outline
    rows = _long_rows(compact)
    if not rows:
        return []
    sparse = None if _DENSE * sum(map(len, rows)) > len(compact) else _Sparse(compact, rows)
    places: Sequence[int] = ()
    found: list[Stretch] = []
    looked_at = compact if sparse is None else sparse.joined
    for candidates in _by_precedence(looked_at, rows, windows=windows):
        if not candidates:
            continue
        here = candidates if sparse is None else sparse.placed(candidates)
        if has_fillers:
            places = places or list(compress(range(len(outline)), outline.translate(_IS_KEPT)))
            here = [each.placed(places) for each in here]
        cards = [each for each in here if each.is_window or not _is_other(text, each)]
        found = _without_overlaps(found, cards)
    return found


_DENSE: Final = 3


def _long_rows(compact: bytes) -> list[bytes]:
    """List the rows with enough digits, with what separates at their ends."""
    rows = [row for row in compact.split() if len(row) >= PAN_DIGITS_MIN]
    joined = b" ".join(rows)
    if b"-" not in joined:
        return rows
    bare = joined.translate(None, b"-").split(b" ")
    return list(compress(rows, [len(digits) >= PAN_DIGITS_MIN for digits in bare]))


class _Sparse:
    """The rows of a text that has few, one behind the other, and where they stand in it."""

    def __init__(self, compact: bytes, rows: list[bytes]) -> None:
        self._compact = compact
        self._rows = rows
        self.joined = b" ".join(rows)

    def placed(self, found: Sequence[Stretch]) -> list[Stretch]:
        """Give them in the text: what rows alike hold was found in the first of them too."""
        placed: list[Stretch] = []
        begins, at, index, searched = 0, -1, 0, 0
        for each in sorted(found, key=lambda other: other.start):
            while begins + len(self._rows[index]) < each.end:
                begins += len(self._rows[index]) + 1
                at = -1
                index += 1
            if at < 0:
                at = _place(self._compact, self._rows[index], searched, b" ")
                searched = at + len(self._rows[index])
            by = at - begins
            placed.append(
                Stretch(each.start + by, each.end + by, each.digits, each.brand, each.is_window)
            )
        return placed


_IS_KEPT: Final = bytes(byte != ord("~") for byte in range(256))


def _by_precedence(
    compact: bytes, rows: list[bytes], *, windows: bool
) -> Iterator[Sequence[Stretch]]:
    """Yield what may be cards; of two that overlap the earlier yielded is the one."""
    joined = b"\n".join(rows)
    groups = rows
    if b"-" in joined:
        yield _whole_rows(compact, joined, rows)
        groups = [
            each for each in joined.replace(b"-", b" ").split() if len(each) >= PAN_DIGITS_MIN
        ]
        yield _singles(compact, groups) + _shaped(compact)
    else:
        yield _singles(compact, groups)
    if windows:
        yield _windows(compact, groups)


def _whole_rows(compact: bytes, joined: bytes, rows: list[bytes]) -> list[Stretch]:
    """List the rows that are a card from end to end, with separators in it."""
    bare = joined.translate(None, b"-").split(b"\n")
    fitting = [PAN_DIGITS_MIN <= len(each) <= PAN_DIGITS_MAX for each in bare]
    cards = cards_among(set(compress(bare, fitting)))
    found: list[Stretch] = []
    if not cards:
        return found
    at = 0
    for row, digits in zip(rows, bare, strict=True):
        brand = cards.get(digits)
        if brand is not None:
            at = _place(compact, row, at, b" ")
            start = at + len(row) - len(row.lstrip(b"-"))
            found.append(Stretch(start, at + len(row.rstrip(b"-")), digits.decode(), brand))
            at += len(row)
    return found


def _place(compact: bytes, row: bytes, at: int, apart: bytes) -> int:
    """Find it where no more of the same kind is before or after it."""
    while True:
        at = compact.index(row, at)
        before, after = compact[at - 1 : at] if at else b"", compact[at + len(row) :][:1]
        if (before in apart) and (after in apart):
            return at
        at += 1


def _singles(compact: bytes, groups: list[bytes]) -> list[Stretch]:
    """List the groups that are a card each."""
    cards = cards_among({each for each in groups if len(each) <= PAN_DIGITS_MAX})
    found: list[Stretch] = []
    if not cards:
        return found
    at = 0
    for each in [each for each in groups if each in cards]:
        at = _place(compact, each, at, b" -")
        found.append(Stretch(at, at + len(each), each.decode(), cards[each]))
        at += len(each)
    return found


def _shaped(compact: bytes) -> list[Stretch]:
    """List the neighboring groups that are grouped as the digits of a card are in print."""
    zeros = compact.translate(ZEROS)
    if not any(each in zeros for each in _TWO_GROUPS):
        return []
    rows = [each for each in _GROUPS.finditer(compact) if each.end() - each.start() >= _GROUPS_MIN]
    joined = b"-%b-" % _BREAK
    groups = joined.join([each[0] for each in rows]).replace(b"-", b" ").split()
    cards = cards_in_groups(groups)
    if not cards:
        return []
    firsts = [0, *(at + 1 for at, each in enumerate(groups) if len(each) == GROUP_MAX)]
    places: dict[int, list[tuple[int, int]]] = {}
    found = []
    for first, count, digits, brand in cards:
        index = bisect_right(firsts, first) - 1
        if index not in places:
            row = _GROUP.finditer(compact, *rows[index].span())
            places[index] = [each.span() for each in row]
        at = first - firsts[index]
        start, end = places[index][at][0], places[index][at + count - 1][1]
        found.append(Stretch(start, end, digits.decode(), brand))
    return found


def _without_overlaps(sure: list[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """Add to the sure ones the others, from the left and the longer first, where there is room."""
    if not others:
        return sure
    found: list[Stretch] = []
    kept = iter([*sure, None])
    following = next(kept)
    for each in sorted(others, key=lambda other: (other.start, -other.end)):
        while following is not None and following.start <= each.start:
            found.append(following)
            following = next(kept)
        is_free = not found or found[-1].end <= each.start
        if is_free and (following is None or each.end <= following.start):
            found.append(each)
    if following is not None:
        found += [following, *(each for each in kept if each is not None)]
    return found


def _windows(compact: bytes, groups: list[bytes]) -> list[Stretch]:
    """List what passes for a card within a longer run of digits, as most runs have by chance."""
    places = []
    at = 0
    for each in groups:
        at = _place(compact, each, at, b" -")
        places += [
            Stretch(at + start, at + start + len(digits), digits.decode(), brand, is_window=True)
            for start, digits, brand in windows_in(each)
        ]
        at += len(each)
    return places


# --- what is something else -----------------------------------------------------------------


def _is_other(text: bytes, found: Stretch) -> bool:
    return _is_decimals(text, found) or _in_uuid(text, found.start) or _in_iban(text, found.start)


def _is_decimals(text: bytes, found: Stretch) -> bool:
    """Whether a point in it, or before it, is that of a decimal fraction."""
    start, end = found.start, found.end
    if text[start - 1 : start] == b"." and text[max(0, start - 2) : start - 1].isdigit():
        return True
    between = text[start:end]
    points = between.count(b".")
    if not points:
        return False
    gaps = len(between.translate(ZEROS).replace(FILLER, b"").translate(_SPACES).split()) - 1
    return 2 * points <= gaps + (gaps == 1)


_SPACES: Final = bytes(byte if byte in DIGITS else ord(" ") for byte in range(256))


def _in_uuid(text: bytes, place: int) -> bool:
    near = max(0, place - _UUID_LENGTH)
    if text.count(b"-", near, place + _UUID_LENGTH) < 4:  # noqa: PLR2004 - as a UUID has
        return False
    return any(
        found.start() <= place < found.end()
        for found in _UUID.finditer(text, near, place + _UUID_LENGTH)
    )


def _in_iban(text: bytes, place: int) -> bool:
    """Whether it is part of an account number as it is written, alone, with its check digits.

    Whoever writes a card number may put 22 other characters around it that make it one, and it
    goes unseen: an account number of a country whose length it has, and no longer word.
    """
    near = max(0, place - _IBAN_LENGTH)
    for found in _IBAN.finditer(text, near, place + _IBAN_LENGTH):
        if found.start() <= place < found.end():
            plain = found[0].translate(None, b" ").decode()
            if len(plain) == _IBAN_LENGTHS.get(plain[:2]):
                value = "".join(str(int(each, 36)) for each in plain[4:] + plain[:4])
                if int(value) % 97 == 1:
                    return True
    return False


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
