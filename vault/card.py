"""A card: number, expiry date and code, checked by what its brand asks of them.

Here live the brand table (`brands.toml`), the expiry rules and the last place where a card is a
bare string. What never may: keys, tokens, tenants, and a message that quotes what was refused.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib.resources import files
from typing import Final, Literal, Self

import msgspec

from vault.errors import InvalidCard
from vault.pan import ASCII_DIGITS, PAN_DIGITS_MAX, PAN_DIGITS_MIN, Cvc, Pan, passes_luhn

UNKNOWN: Final = "unknown"

_UTC_MINUS_12: Final = timezone(timedelta(hours=-12))  # where a month ends last
_MONTHS: Final = range(1, 13)
_MONTHS_AHEAD_MAX: Final = 20 * 12
_CENTURY: Final = 2000
_YEAR_DIGITS: Final = 4
_MONTH_WIDTHS: Final = (1, 2)
_YEAR_WIDTHS: Final = (2, _YEAR_DIGITS)
_WHOLE_MAX: Final = 9999


# --- brands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Brand:
    """What a brand asks of a card; a 0 in `cvc_lengths` says that it may have no code."""

    name: str
    lengths: tuple[int, ...]
    cvc_lengths: tuple[int, ...]
    luhn_required: bool


@dataclass(frozen=True, slots=True)
class BrandRow:
    """Among numbers of these digit counts: a brand, and the prefixes that tell it."""

    brand: Brand
    digit_counts: tuple[int, ...]
    prefixes: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[brand]]` of `brands.toml`, which explains the fields."""

    name: str
    prefixes: tuple[str, ...]
    lengths: tuple[int, ...]
    cvc_lengths: tuple[int, ...]
    luhn: Literal["required", "optional"]
    report_as: str = ""
    only_at_its_lengths: bool = False
    last_resort: bool = False

    def brand(self) -> Brand:
        name = self.report_as or self.name
        return Brand(name, self.lengths, self.cvc_lengths, self.luhn == "required")

    def claims(self, digit_count: int) -> bool:
        """Whether it has a say about numbers of so many digits, be it only to refuse them."""
        return digit_count in self.lengths or not self.only_at_its_lengths


class _BrandFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `brands.toml`."""

    brand: tuple[_Entry, ...]


class _TestCardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `published_test_cards.toml`."""

    numbers: frozenset[str]


def prefixes_between(first: str, last: str) -> Iterator[str]:
    """Yield the fewest prefixes that hold for just the numbers from `first` to `last`."""
    width, low, high = len(first), int(first), int(last)
    while low <= high:
        zeros = 0
        while low % 10 ** (zeros + 1) == 0 and low + 10 ** (zeros + 1) - 1 <= high:
            zeros += 1
        yield str(low).zfill(width)[: width - zeros]
        low += 10**zeros


def _by_precedence(entries: tuple[_Entry, ...]) -> list[tuple[str, str, Brand]]:
    """List every claimed range, the one that wins first: the longest, then the narrowest."""
    ranked = []
    for entry in entries:
        brand = entry.brand()
        for claimed in entry.prefixes:
            first, _, end = claimed.partition("..")
            last = end or first
            rank = (entry.last_resort, -len(first), int(last) - int(first))
            ranked.append((rank, first, last, brand))
    ranked.sort(key=lambda claim: claim[0])
    return [(first, last, brand) for _, first, last, brand in ranked]


def _prefix_table(entries: tuple[_Entry, ...]) -> dict[str, Brand]:
    """Spell the ranges out as prefixes, so that the longest one found is the right one."""
    table: dict[str, Brand] = {}
    for first, last, brand in _by_precedence(entries):
        for prefix in prefixes_between(first, last):
            if not any(prefix[:digits] in table for digits in range(1, len(prefix) + 1)):
                table[prefix] = brand
    return table


def _data(name: str) -> bytes:
    return files("vault").joinpath(name).read_bytes()  # part of the package, read once at import


_ENTRIES: Final = msgspec.toml.decode(_data("brands.toml"), type=_BrandFile).brand
_DIGIT_COUNTS: Final = range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
_TABLES: Final[Mapping[int, Mapping[str, Brand]]] = {
    digit_count: _prefix_table(tuple(entry for entry in _ENTRIES if entry.claims(digit_count)))
    for digit_count in _DIGIT_COUNTS
}
_PREFIX_DIGITS: Final = range(
    max(len(prefix) for table in _TABLES.values() for prefix in table), 0, -1
)
_UNKNOWN_BRAND: Final = Brand(UNKNOWN, tuple(_DIGIT_COUNTS), (3,), luhn_required=True)
_CVC_LENGTHS: Final[Mapping[str, frozenset[int]]] = {
    name: frozenset(
        digits for entry in _ENTRIES if entry.brand().name == name for digits in entry.cvc_lengths
    )
    for name in {entry.brand().name for entry in _ENTRIES}
}


def brand_of(digits: str) -> Brand:
    """Tell the brand of a number of 12 to 19 digits: a hint, hence `unknown` is an answer too."""
    table = _TABLES[len(digits)]
    for prefix_digits in _PREFIX_DIGITS:
        brand = table.get(digits[:prefix_digits])
        if brand is not None:
            return brand
    return _UNKNOWN_BRAND


def brand_rows() -> tuple[BrandRow, ...]:
    """Give the table to those who tell brands elsewhere, such as a page in a browser.

    Of the rows that hold a number's digit count, the one with the longest prefix of it wins.
    """
    counts: defaultdict[tuple[Brand, str], list[int]] = defaultdict(list)
    for digit_count, table in _TABLES.items():
        for prefix, brand in table.items():
            counts[brand, prefix].append(digit_count)
    rows: defaultdict[tuple[Brand, tuple[int, ...]], list[str]] = defaultdict(list)
    for (brand, prefix), found in counts.items():
        rows[brand, tuple(found)].append(prefix)
    return tuple(BrandRow(*row, tuple(sorted(prefixes))) for row, prefixes in rows.items())


_PUBLISHED: Final = msgspec.toml.decode(
    _data("published_test_cards.toml"), type=_TestCardFile
).numbers


def is_published_test_number(pan: Pan) -> bool:
    """Whether a processor prints it in its manual: refused where env is live (PCI DSS 6.5.6)."""
    return pan.reveal() in _PUBLISHED


# --- expiry -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Expiry:
    """The month at whose end a card is over."""

    year: int
    month: int

    def __post_init__(self) -> None:
        assert self.month in _MONTHS, "a month that no year has"

    @classmethod
    def parse(cls, exp_month: int | str, exp_year: int | str, *, at: datetime) -> Self:
        """Read a month (1 or 2 digits) and a year (2 or 4), at most twenty years ahead of `at`.

        A date in the past is well-formed: a stored card may be over and still be refunded.
        """
        month = int(_written(exp_month, "exp_month", _MONTH_WIDTHS))
        if month not in _MONTHS:
            raise InvalidCard("exp_month", "range")
        year = _written(exp_year, "exp_year", _YEAR_WIDTHS)
        expiry = cls(int(year) if len(year) == _YEAR_DIGITS else _CENTURY + int(year), month)
        if expiry != NO_EXPIRY and expiry._months_after(at) > _MONTHS_AHEAD_MAX:
            raise InvalidCard("exp_year", "too_far")
        return expiry

    def is_over(self, at: datetime) -> bool:
        """Whether its last day has ended everywhere on Earth, that is in UTC-12."""
        return self._months_after(at) < 0

    def text(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    def _months_after(self, at: datetime) -> int:
        return self.year * 12 + self.month - _month_of(at)


@lru_cache(maxsize=4)  # all cards of a file are read at one time, a thousand of them
def _month_of(at: datetime) -> int:
    """Count the months up to the one that it is where the day ends last, which is in UTC-12."""
    assert at.tzinfo is not None, "a time without a zone"
    here = at.astimezone(_UTC_MINUS_12)
    return here.year * 12 + here.month


NO_EXPIRY: Final = Expiry(2049, 12)  # 12/49: how a card that never ends is printed


def _written(value: int | str, field: str, widths: tuple[int, ...]) -> str:
    """Give the ASCII digits of a month or a year, of one of these widths."""
    if isinstance(value, bool):  # JSON's true is an int to Python
        raise InvalidCard(field, "format")
    if isinstance(value, int):
        if not 0 <= value <= _WHOLE_MAX:  # before str(), which balks at thousands of digits
            raise InvalidCard(field, "range")
        value = str(value)
    if value.strip(ASCII_DIGITS):
        raise InvalidCard(field, "not_digits")
    if len(value) not in widths:
        raise InvalidCard(field, "format")
    return value


# --- cards --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """A card that has passed every check there is without asking its issuer.

    Without an expiry date it is a number that was found alone: in a partner's feed, in a file.
    """

    pan: Pan
    expiry: Expiry | None
    cvc: Cvc | None
    brand: str

    @classmethod
    def parse(
        cls,
        number: str,
        exp_month: int | str,
        exp_year: int | str,
        cvc: str | None,
        *,
        at: datetime,
    ) -> Self:
        """Read a card as it was typed. After this no bare string is one.

        Raises InvalidCard with the first field that is wrong and the reason.
        """
        try:
            card = cls._checked(number, exp_month, exp_year, cvc, at=at)
        except InvalidCard as error:
            refusal = InvalidCard(error.field, error.reason)
        else:
            return card
        # A new error, whose traceback begins here: no frame of it holds what was typed.
        del number, exp_month, exp_year, cvc
        raise refusal

    @classmethod
    def number_only(cls, number: str) -> Self:
        """Read a number that came without a date and a code, checked as that of any card.

        Raises InvalidCard.
        """
        try:
            pan, brand = _numbered(number)
        except InvalidCard as error:
            refusal = InvalidCard(error.field, error.reason)
        else:
            return cls(pan, None, None, brand.name)
        del number  # as above
        raise refusal

    @classmethod
    def _checked(
        cls,
        number: str,
        exp_month: int | str,
        exp_year: int | str,
        cvc: str | None,
        *,
        at: datetime,
    ) -> Self:
        pan, brand = _numbered(number)
        expiry = Expiry.parse(exp_month, exp_year, at=at)
        if expiry.is_over(at):
            raise InvalidCard("exp_year", "expired")
        code = None if cvc is None else Cvc.parse(cvc)
        if code is not None and len(code) not in brand.cvc_lengths:
            raise InvalidCard("cvc", "length")
        return cls(pan, expiry, code, brand.name)


def _numbered(number: str) -> tuple[Pan, Brand]:
    """Read a number and tell its brand; all that is asked of a number alone."""
    pan = Pan.parse(number)
    brand = brand_of(pan.reveal())
    if len(pan) not in brand.lengths:
        raise InvalidCard("number", "length")
    if brand.luhn_required and not passes_luhn(pan.reveal()):
        raise InvalidCard("number", "luhn")
    return pan, brand


def check_cvc(cvc: Cvc, brand: str) -> None:
    """Refuse a code that no card of this brand has. Raises InvalidCard."""
    if len(cvc) not in _CVC_LENGTHS.get(brand, _UNKNOWN_BRAND.cvc_lengths):
        raise InvalidCard("cvc", "length")
