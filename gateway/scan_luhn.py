"""Check digits of thousands of numbers at once, and whose prefix they have. Pure.

A digit a byte, all numbers in one long row, and the row in one large integer: adding that to
itself, moved by a byte, adds up all neighbors at the speed of C. What never lives here: where the
digits come from.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import compress
from typing import Final

from vault.card import UNKNOWN, brand_of, brand_rows
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, passes_luhn

_WIDTH: Final = 20  # of a number with zeros before it, which leave its sum alone: even
_HALF: Final = _WIDTH // 2
GROUP_MAX: Final = 9
_GROUP_WIDTH: Final = 10
_RAW: Final = bytes(byte - 48 if 48 <= byte <= 57 else 0 for byte in range(256))  # noqa: PLR2004 - ASCII digits
_DOUBLED: Final = bytes(
    (2 * digit) // 10 + (2 * digit) % 10 if digit <= 9 else 0  # noqa: PLR2004 - one digit
    for digit in (_RAW[byte] for byte in range(256))
)
_IS_CHECKED: Final = bytes(total % 10 == 0 for total in range(256))
_LAST_DIGIT: Final = bytes(total % 10 for total in range(256))
_BYTE: Final = 8

PLAUSIBLE: Final = {
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
_FIRSTS: Final = frozenset(two.encode() for each in PLAUSIBLE.values() for two in each)


def _added(row: bytes) -> int:
    return int.from_bytes(row, "little")


def _bytes(total: int, length: int) -> bytes:
    return total.to_bytes(length, "little")


def cards_among(numbers: Collection[bytes]) -> dict[bytes, str]:
    """Give the brands of those of 12 to 19 digits that a brand's prefix and Luhn make cards."""
    likely = [each for each in numbers if each[:2] in _FIRSTS]
    row = b"".join([each.rjust(_WIDTH, b"0") for each in likely])
    pairs = _added(row[::2].translate(_DOUBLED)) + _added(row[1::2].translate(_RAW))
    fours = pairs + (pairs >> _BYTE)
    eights = fours + (fours >> 2 * _BYTE)
    sixteens = eights + (eights >> 4 * _BYTE)
    totals = sixteens + (fours >> 8 * _BYTE)  # at most 180 in the first byte of each ten
    # What is carried within a number stays below a byte: ten pairs of at most 18.
    checked = _bytes(totals & _mask(len(row) // 2), len(row) // 2)[::_HALF].translate(_IS_CHECKED)
    cards = {}
    for each in compress(likely, checked):
        brand = brand_by_prefix(each.decode())
        if brand is not None:
            cards[each] = brand
    return cards


def _mask(length: int) -> int:
    return (1 << length * _BYTE) - 1


def brand_by_prefix(digits: str) -> str | None:
    """Tell the brand that has this prefix and length."""
    if digits[:2] not in PLAUSIBLE.get(len(digits), ()):
        return None
    brand = brand_of(digits)
    return brand.name if brand.name != UNKNOWN and len(digits) in brand.lengths else None


def brand_of_card(digits: str) -> str | None:
    """Tell the brand of what has a brand's prefix and length and passes Luhn."""
    brand = brand_by_prefix(digits)
    return brand if brand is not None and passes_luhn(digits) else None


# --- groups ---------------------------------------------------------------------------------


def _shapes() -> Iterator[tuple[int, ...]]:
    """Yield how the digits of a card are grouped in print: alike, save for the last group."""
    yield from ((4, 6, 5), (4, 6, 4))
    for size in (4, 5, 6, 8):
        for count in range(2, 6):
            for last in range(1, size + 1):
                shape = (*(size,) * (count - 1), last)
                if PAN_DIGITS_MIN <= sum(shape) <= PAN_DIGITS_MAX:
                    yield shape


SHAPES: Final = tuple(sorted(_shapes(), key=sum, reverse=True))


def cards_in_groups(groups: Sequence[bytes]) -> list[tuple[int, int, bytes, str]]:
    """List where neighboring groups are a card: the first, how many, the digits, the brand.

    The longer first. No group has more than nine digits.
    """
    lengths = bytes(map(len, groups))
    shapes = [shape for shape in SHAPES if bytes(shape) in lengths]
    if not shapes:
        return []
    row = b"".join([each.rjust(_GROUP_WIDTH, b"0") for each in groups])
    sums = (_group_sums(row, _RAW, _DOUBLED), _group_sums(row, _DOUBLED, _RAW))
    likely = _added(bytes([each[:2] in _FIRSTS for each in groups]))
    found = []
    for shape in shapes:
        flags = _flags(shape, lengths, sums, likely)
        at = flags.find(1)
        while at >= 0:
            digits = b"".join(groups[at : at + len(shape)])
            brand = brand_by_prefix(digits.decode())
            if brand is not None:
                found.append((at, len(shape), digits, brand))
            at = flags.find(1, at + 1)
    return found


def _group_sums(row: bytes, odd: bytes, even: bytes) -> int:
    """Add up each group's digits, the last of which is not doubled, or is."""
    size = len(row) // 2
    pairs = _added(row[1::2].translate(odd)) + _added(row[::2].translate(even))
    fours = pairs + (pairs >> _BYTE)
    totals = fours + (fours >> 2 * _BYTE) + (pairs >> 4 * _BYTE)
    digits = _bytes(totals & _mask(size), size)[:: _GROUP_WIDTH // 2].translate(_LAST_DIGIT)
    return _added(digits)


def _flags(shape: tuple[int, ...], lengths: bytes, sums: tuple[int, int], likely: int) -> bytes:
    """Tell of each group whether a card of this shape begins with it."""
    total, fits, behind = 0, likely, sum(shape)
    for place, length in enumerate(shape):
        behind -= length
        total += sums[behind % 2] >> place * _BYTE
        here = lengths.translate(bytes(each == length for each in range(256)))
        fits &= _added(here) >> place * _BYTE
    count = len(lengths)
    checked = _bytes(total & _mask(count), count).translate(_IS_CHECKED)
    return _bytes(_added(checked) & fits, count)


# --- windows --------------------------------------------------------------------------------


def windows_in(digits: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Yield what passes for a card within a longer run, from the left and without overlaps."""
    at = 0
    for start, length in sorted(_windows(digits), key=lambda each: (each[0], -each[1])):
        if start < at:
            continue
        piece = digits[start : start + length]
        brand = brand_by_prefix(piece.decode())
        if brand is not None:
            yield start, piece, brand
            at = start + length


def _windows(digits: bytes) -> Iterator[tuple[int, int]]:
    size = len(digits)
    doubled, raw = _added(digits.translate(_DOUBLED)), _added(digits.translate(_RAW))
    for length in range(PAN_DIGITS_MIN, min(PAN_DIGITS_MAX, size) + 1):
        total = 0
        for place in range(length):
            total += (raw if (length - place) % 2 else doubled) >> place * _BYTE
        flags = _bytes(total & _mask(size), size).translate(_IS_CHECKED)
        at = flags.find(1)
        while 0 <= at <= size - length:
            if digits[at : at + 2].decode() in PLAUSIBLE[length]:
                yield at, length
            at = flags.find(1, at + 1)
