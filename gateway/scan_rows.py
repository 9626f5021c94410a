"""Rows of digits with separators between them, and which stretch of a row is a card. Pure.

All rows of a text are read at once: split, joined and summed up at the speed of C, since a body
may be nothing but ids that are nearly cards. A place is looked up for the few that are one.
What never lives here: escapes, containers, and what is made of a find.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Final

from gateway.scan_luhn import (
    GROUP_MAX,
    cards_among,
    cards_in_groups,
    windows_in,
)
from gateway.scan_places import DELETED, MARGIN, SEPARATORS, ZEROS, Part
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
_COUNTRY: Final = re.compile(rb"[A-Z][0-9]{2}")
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


@dataclass(slots=True, repr=False)  # not frozen: making one took twice as long
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
    raw, near = part.raw, part.near
    at = near.find(_ENOUGH)
    while at >= 0:
        row = near[at : at + MARGIN]
        end = at + len(row) - len(row.lstrip(b"0"))
        if len(raw[at:end].translate(None, DELETED)) >= PAN_DIGITS_MIN:
            if end == at + MARGIN or b"-" not in raw[at:end]:
                return True
            # Digits within a UUID are near each other too; what has its shape is no card.
            around = raw[max(0, at - _UUID_LENGTH) : end + _UUID_LENGTH]
            if _ENOUGH in _UUID_REST.sub(b"!", around).translate(ZEROS, DELETED):
                return True
        at = near.find(_ENOUGH, end)
    return False


_UUID_REST: Final = re.compile(
    rb"(?<=[0-9A-Fa-f]{8})-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Fa-f])"
)


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
    rows = _Rows(compact)
    if not rows.found:
        return []
    places: Sequence[int] = ()
    found: list[Stretch] = []
    for candidates in _by_precedence(rows, windows=windows):
        if not candidates:
            continue
        here = rows.placed(candidates)
        if has_fillers:
            places = places or list(compress(range(len(outline)), outline.translate(_IS_KEPT)))
            here = [each.placed(places) for each in here]
        cards = [each for each in here if each.is_window or not _is_other(text, each)]
        found = _without_overlaps(found, cards)
    return found


class _Rows:
    """The rows with enough digits, one behind the other, and where they stand in the text."""

    def __init__(self, compact: bytes) -> None:
        self._compact = compact
        self._places: list[int] = []
        zeros = compact.translate(_IN_ROW)
        if zeros.count(_ENOUGH) * _DENSE > len(zeros):
            found = [row for row in compact.split() if len(row) >= PAN_DIGITS_MIN]
        else:
            spans = list(_long_rows(zeros))
            found = [compact[at:end] for at, end in spans]
            self._places = [at for at, _ in spans]
        if b"-" in compact and (joined := b" ".join(found)).count(b"-"):
            bare = joined.translate(None, b"-").split(b" ")
            fitting = [len(digits) >= PAN_DIGITS_MIN for digits in bare]
            found = [row.strip(b"-") for row in compress(found, fitting)]
            self._places = list(compress(self._places, fitting))
        self.found: list[bytes] = found
        self.joined = b" ".join(found)

    def placed(self, candidates: Sequence[Stretch]) -> Sequence[Stretch]:
        """Give them in the text, by where they are in the joined rows."""
        if self._compact.startswith(self.joined):
            return candidates
        begins = list(accumulate([len(row) + 1 for row in self.found], initial=0))
        self._places = self._places or list(self._found_places())
        placed: list[Stretch] = []
        for each in candidates:
            index = bisect_right(begins, each.start) - 1
            by = self._compact.index(self.found[index], self._places[index]) - begins[index]
            placed.append(
                Stretch(each.start + by, each.end + by, each.digits, each.brand, each.is_window)
            )
        return placed

    def _found_places(self) -> Iterator[int]:
        at = 0
        for row in self.found:  # what stands between two of them has fewer digits than a row
            at = self._compact.index(row, at)
            yield at
            at += len(row)


_DENSE: Final = 30  # one row in fewer bytes: it is quicker to split


def _long_rows(zeros: bytes) -> Iterator[tuple[int, int]]:
    """Yield the places of what has as many bytes as a card has digits: with separators."""
    size, end = len(zeros), 0
    while end < size:
        limit = end + _NEAR
        at = zeros.find(_ENOUGH, end, limit)
        if at < 0:
            end = limit - PAN_DIGITS_MIN + 1
            continue
        end = zeros.find(b" ", at)
        end = size if end < 0 else end
        yield at, end


_IN_ROW: Final = bytes(ord("0") if byte in b"0123456789-" else 32 for byte in range(256))
_NEAR: Final = 16 * 1024  # past that, bytes.find prepares for long, each time


_IS_KEPT: Final = bytes(byte != ord("~") for byte in range(256))


def _by_precedence(rows: _Rows, *, windows: bool) -> Iterator[Sequence[Stretch]]:
    """Yield what may be cards; of two that overlap the earlier yielded is the one."""
    joined = rows.joined
    groups = rows.found
    if b"-" in joined:
        yield _whole_rows(joined, [row for row in groups if b"-" in row])
        groups = [
            each for each in joined.replace(b"-", b" ").split() if len(each) >= PAN_DIGITS_MIN
        ]
        yield _singles(joined, groups) + _shaped(joined)
    else:
        yield _singles(joined, groups)
    if windows:
        yield _windows(joined, groups)


def _whole_rows(compact: bytes, rows: list[bytes]) -> list[Stretch]:
    """List the rows that are a card from end to end, with separators in it."""
    bare = b"\n".join(rows).translate(None, b"-").split(b"\n")
    fitting = [len(each) <= PAN_DIGITS_MAX for each in bare]
    cards = cards_among(set(compress(bare, fitting)))
    found: list[Stretch] = []
    if not cards:
        return found
    at = 0
    for row, digits in zip(rows, bare, strict=True):
        brand = cards.get(digits)
        if brand is not None:
            at = _place(compact, row, at, b" ")
            found.append(Stretch(at, at + len(row), digits.decode(), brand))
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
    if _COUNTRY.search(text, near, place + 1) is None:
        return False
    for found in _IBAN.finditer(text, near, place + _IBAN_LENGTH):
        if found.start() <= place < found.end():
            plain = found[0].translate(None, b" ").decode()
            if len(plain) == _IBAN_LENGTHS.get(plain[:2]):
                value = "".join(str(int(each, 36)) for each in plain[4:] + plain[:4])
                if int(value) % 97 == 1:
                    return True
    return False
