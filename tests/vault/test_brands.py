"""The brand table: what it says is what `brand_of` finds, and what a card has to fit.

The table is read here a second time, by brute force, to compare.
"""

import dataclasses
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cards
from vault.card import (
    UNKNOWN,
    Brand,
    Card,
    _Entry,
    _prefix_table,
    brand_of,
    brand_rows,
    prefixes_between,
)
from vault.errors import InvalidCard

COUNTS: Final = range(12, 20)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A range of `brands.toml`, as it stands there."""

    first: str
    last: str
    name: str
    lengths: tuple[int, ...]
    cvc_lengths: tuple[int, ...]
    luhn_required: bool
    only_at_its_lengths: bool
    last_resort: bool

    def holds(self, digits: str) -> bool:
        inside = self.first <= digits[: len(self.first)] <= self.last
        return inside and (len(digits) in self.lengths or not self.only_at_its_lengths)

    def rank(self) -> tuple[bool, int, int]:
        return self.last_resort, -len(self.first), int(self.last) - int(self.first)


def read_claims() -> Iterator[Claim]:
    table = tomllib.loads(files("vault").joinpath("brands.toml").read_text())
    for entry in table["brand"]:
        for claimed in entry["prefixes"]:
            first, _, last = claimed.partition("..")
            yield Claim(
                first=first,
                last=last or first,
                name=entry.get("report_as", entry["name"]),
                lengths=tuple(entry["lengths"]),
                cvc_lengths=tuple(entry["cvc_lengths"]),
                luhn_required=entry["luhn"] == "required",
                only_at_its_lengths=entry.get("only_at_its_lengths", False),
                last_resort=entry.get("last_resort", False),
            )


CLAIMS: Final = tuple(read_claims())
UNKNOWN_BRAND: Final = Brand(UNKNOWN, tuple(COUNTS), (3,), luhn_required=True)


def by_brute_force(digits: str) -> Brand:
    found = min((claim for claim in CLAIMS if claim.holds(digits)), key=Claim.rank, default=None)
    if found is None:
        return UNKNOWN_BRAND
    return Brand(found.name, found.lengths, found.cvc_lengths, found.luhn_required)


def by_rows(digits: str) -> Brand:
    """Tell the brand as a page would that was given the rows alone."""
    found = [
        (len(prefix), row.brand)
        for row in brand_rows()
        if len(digits) in row.digit_counts
        for prefix in row.prefixes
        if digits.startswith(prefix)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else UNKNOWN_BRAND


def edges() -> Iterator[str]:
    """Yield the beginnings about every end of every range."""
    for claim in CLAIMS:
        width = len(claim.first)
        for end in (int(claim.first), int(claim.last)):
            for near in (end - 1, end, end + 1):
                yield str(near).zfill(width)[-width:]


def test_the_table_is_well_formed() -> None:
    for claim in CLAIMS:
        assert claim.first.isascii()
        assert claim.first.isdecimal()
        assert claim.last.isdecimal()
        assert len(claim.first) == len(claim.last) <= 8
        assert claim.first <= claim.last
        assert claim.lengths == tuple(sorted(set(claim.lengths)))
        assert set(claim.lengths) <= set(COUNTS)
        assert claim.cvc_lengths in {(3,), (4,), (0, 3)}


def test_no_two_entries_claim_the_same_range_or_overlap_without_a_winner() -> None:
    ranked = sorted(CLAIMS, key=lambda claim: (len(claim.first), claim.first, claim.last))
    for one, other in pairwise(ranked):
        if len(one.first) == len(other.first) and other.first <= one.last:
            shared = one.only_at_its_lengths or other.only_at_its_lengths
            lesser = one.last_resort or other.last_resort
            narrower = int(one.last) - int(one.first) != int(other.last) - int(other.first)
            assert shared or lesser or narrower


@pytest.mark.parametrize("count", COUNTS)
def test_brand_equals_brute_force_about_every_edge(count: int) -> None:
    wrong = [
        start
        for start in edges()
        for fill in ("0", "9")
        if brand_of(start.ljust(count, fill)) != by_brute_force(start.ljust(count, fill))
    ]
    assert wrong == []


near_a_range = st.sampled_from(sorted(set(edges()))).flatmap(
    lambda start: st.text("0123456789", min_size=19, max_size=19).map(lambda rest: start + rest)
)


@settings(deadline=None)
@given(near_a_range | st.text("0123456789", min_size=19, max_size=19), st.sampled_from(COUNTS))
def test_brand_equals_brute_force(digits: str, count: int) -> None:
    assert brand_of(digits[:count]) == by_brute_force(digits[:count])
    assert by_rows(digits[:count]) == by_brute_force(digits[:count])


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("4", "visa"),
        ("4026", "visa"),
        ("4571", "visa"),
        ("401178", "elo"),
        ("402918", "naranja"),
        ("51", "mastercard"),
        ("2221", "mastercard"),
        ("2720", "mastercard"),
        ("2721", UNKNOWN),
        ("605272", "mastercard"),
        ("527572", "naranja"),
        ("34", "amex"),
        ("6011", "discover"),
        ("65", "discover"),
        ("622126", "discover"),
        ("622925", "discover"),
        ("622926", "unionpay"),
        ("62", "unionpay"),
        ("8100", "unionpay"),
        ("8172", "rupay"),
        ("82", "rupay"),
        ("508", "rupay"),
        ("60", "rupay"),
        ("508160", "mada"),
        ("36", "diners"),
        ("3095", "diners"),
        ("3096", "jcb"),
        ("353", "jcb"),
        ("357111", "lankapay"),
        ("2204", "mir"),
        ("2205", "borica"),
        ("5018", "maestro"),
        ("5019", "dankort"),
        ("676770", "maestro"),
        ("6771", "maestro"),
        ("501080", "maestro"),
        ("650031", "elo"),
        ("650922", "elo"),
        ("650923", "troy"),
        ("65083704", "troy"),
        ("65083705", "discover"),
        ("9792", "troy"),
        ("650002", "verve"),
        ("506199", "carnet"),
        ("506198", "verve"),
        ("60420099", "ukrcard"),
        ("60420100", "cabal"),
        ("65027299", "cabal"),
        ("606282", "hipercard"),
        ("637095", "hiper"),
        ("507803", "meeza"),
        ("560408", "cartes_bancaires"),
        ("600722", "forbrugsforeningen"),
        ("5614", "uzcard"),
        ("9860", "humo"),
        ("9704", "napas"),
        ("315", "t_union"),
        ("3112", "jcb"),
        ("1", "uatp"),
        ("0", UNKNOWN),
        ("7", UNKNOWN),
        ("99", UNKNOWN),
    ],
)
def test_brands_by_their_beginnings(start: str, name: str) -> None:
    assert brand_of(start.ljust(16, "0")).name == name


@pytest.mark.parametrize(
    ("start", "count", "name", "lengths"),
    [
        ("4917", 16, "visa", (16,)),
        ("4917", 19, "visa", (13, 16, 19)),
        ("60", 16, "rupay", (16,)),
        ("60", 19, "maestro", tuple(COUNTS)),
        ("1800", 15, "jcb", (15,)),
    ],
)
def test_a_shared_range_goes_by_length(
    start: str, count: int, name: str, lengths: tuple[int, ...]
) -> None:
    brand = brand_of(start.ljust(count, "0"))
    assert (brand.name, brand.lengths) == (name, lengths)


@settings(deadline=None)
@given(st.integers(1, 5), st.data())
def test_prefixes_cover_a_range_and_nothing_else(width: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 10**width - 1))
    last = data.draw(st.integers(first, 10**width - 1))
    prefixes = list(prefixes_between(str(first).zfill(width), str(last).zfill(width)))
    covered: list[str] = []
    for prefix in prefixes:
        free = width - len(prefix)
        covered += [f"{prefix}{rest:0{free}}" if free else prefix for rest in range(10**free)]
    assert covered == [str(number).zfill(width) for number in range(first, last + 1)]


def entry(name: str, *prefixes: str, last_resort: bool = False) -> _Entry:
    return _Entry(name, prefixes, (16,), (3,), "required", last_resort=last_resort)


def test_what_was_claimed_with_more_digits_wins_however_short_it_can_be_spelled() -> None:
    wide = entry("wide", "6500..6599")  # spelled as 65
    shorter = entry("shorter", "650", "6", "7")
    guess = entry("guess", "70000000", "8", last_resort=True)
    for entries in ((wide, shorter, guess), (guess, shorter, wide)):
        table = {prefix: brand.name for prefix, brand in _prefix_table(entries).items()}
        assert table == {"65": "wide", "6": "shorter", "7": "shorter", "8": "guess"}


def test_of_ranges_with_as_many_digits_the_narrower_wins() -> None:
    table = _prefix_table((entry("wide", "6500..6599"), entry("narrow", "6510..6519", "6523")))
    named = {prefix: brand.name for prefix, brand in table.items()}
    assert named == {"65": "wide", "651": "narrow", "6523": "narrow"}


# --- what a brand asks ----------------------------------------------------------------------


def refused(number: str) -> str | None:
    try:
        Card.parse(number, 12, 2030, None, at=datetime(2026, 1, 1, tzinfo=UTC))
    except InvalidCard as error:
        assert error.field == "number"  # noqa: PT017 - the caller looks at the reason
        return error.reason
    return None


@pytest.mark.parametrize("count", COUNTS)
def test_length_and_luhn_go_by_brand(count: int) -> None:
    for claim in CLAIMS:
        head = claim.first.ljust(count - 1, "3")
        brand = by_brute_force(head + "0")
        good, bad = cards.luhn_completed(head), cards.luhn_broken(head)
        if count not in brand.lengths:
            assert refused(good) == "length"
        else:
            assert refused(good) is None
            assert refused(bad) == ("luhn" if brand.luhn_required else None)


def test_brands_whose_cards_may_have_no_code() -> None:
    without = {row.brand.name for row in brand_rows() if 0 in row.brand.cvc_lengths}
    assert {"maestro", "uatp"} <= without
    assert without.isdisjoint({"visa", "mastercard", "amex", "discover", "unionpay", UNKNOWN})
