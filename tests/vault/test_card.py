"""Cards: what their brand asks of them, when they are over, and what is refused without a trace."""

import dataclasses
import json
import pickle
import tomllib
import traceback
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cards
from vault.card import NO_EXPIRY, UNKNOWN, Card, Expiry, is_published_test_number
from vault.errors import InvalidCard
from vault.pan import Cvc, Pan

AT: Final = datetime(2026, 7, 15, 12, tzinfo=UTC)
COUNTS: Final = range(12, 20)


@pytest.mark.parametrize("place", range(len(cards.ALL)))
def test_published_cards_have_their_brand(place: int) -> None:
    number = cards.ALL[place]
    code = "1234" if cards.BRANDS[number] == "amex" else "123"
    card = Card.parse(number, 12, 2030, code, at=AT)
    assert card.brand == cards.BRANDS[number]
    assert card.pan.reveal() == number
    assert card.expiry == Expiry(2030, 12)
    assert card.cvc == Cvc.parse(code)


def test_published_test_numbers_are_known() -> None:
    assert all(is_published_test_number(Pan.parse(number)) for number in cards.ALL)
    assert not is_published_test_number(Pan.parse(cards.luhn_completed("4" * 15)))
    listed = tomllib.loads(files("vault").joinpath("published_test_cards.toml").read_text())
    assert len(set(listed["numbers"])) == len(listed["numbers"])
    for number in listed["numbers"]:
        assert cards.luhn_sum(number) % 10 == 0
        assert Card.parse(number, 12, 2030, None, at=AT).brand != UNKNOWN


# --- what a brand asks ----------------------------------------------------------------------


def refusal(*fields: object, at: datetime = AT) -> tuple[str, str] | None:
    number, exp_month, exp_year, cvc = fields
    try:
        Card.parse(number, exp_month, exp_year, cvc, at=at)  # type: ignore[arg-type]  # as it came
    except InvalidCard as error:
        return error.field, error.reason
    return None


@pytest.mark.parametrize("count", COUNTS)
def test_an_unknown_brand_is_no_reason_to_refuse(count: int) -> None:
    head = "7".ljust(count - 1, "3")
    assert Card.parse(cards.luhn_completed(head), 12, 2030, "123", at=AT).brand == UNKNOWN
    assert refusal(cards.luhn_broken(head), 12, 2030, "123") == ("number", "luhn")


def test_the_codes_length_goes_by_brand() -> None:
    for number, name in cards.BRANDS.items():
        right, wrong = ("1234", "123") if name == "amex" else ("123", "1234")
        assert refusal(number, 12, 2030, right) is None
        assert refusal(number, 12, 2030, wrong) == ("cvc", "length")
        assert Card.parse(number, 12, 2030, None, at=AT).cvc is None
    for cvc, reason in {"": "length", "12": "length", "12x": "not_digits"}.items():
        assert refusal(cards.VISA, 12, 2030, cvc) == ("cvc", reason)


def test_the_number_is_read_before_the_date_and_the_date_before_the_code() -> None:
    assert refusal("4", 13, 1, "x") == ("number", "length")
    assert refusal(cards.VISA, 13, 1, "x") == ("exp_month", "range")
    assert refusal(cards.VISA, 12, 1, "x") == ("exp_year", "format")
    assert refusal(cards.VISA, 12, 30, "x") == ("cvc", "not_digits")


@pytest.mark.guards("T-12")
def test_a_number_in_disguise_is_no_card() -> None:
    full_width = "".join(chr(0xFF10 + int(digit)) for digit in cards.VISA)
    assert refusal(full_width, 12, 2030, None) == ("number", "not_digits")
    assert refusal(cards.VISA.replace("4", "4\u00a0", 1), 12, 2030, None) == (
        "number",
        "not_digits",
    )


# --- expiry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exp_month", "exp_year", "expiry"),
    [
        (1, 2030, Expiry(2030, 1)),
        (12, 30, Expiry(2030, 12)),
        ("1", "30", Expiry(2030, 1)),
        ("01", "2030", Expiry(2030, 1)),
        ("09", 30, Expiry(2030, 9)),
        (7, 2046, Expiry(2046, 7)),
        (12, 2049, NO_EXPIRY),
        ("12", "49", NO_EXPIRY),
        (12, 2025, Expiry(2025, 12)),
        (12, "0030", Expiry(30, 12)),
    ],
)
def test_dates(exp_month: int | str, exp_year: int | str, expiry: Expiry) -> None:
    assert Expiry.parse(exp_month, exp_year, at=AT) == expiry


NO_DATES: Final[list[tuple[int | str, int | str, str, str]]] = [
    (0, 2030, "exp_month", "range"),
    (13, 2030, "exp_month", "range"),
    ("00", 2030, "exp_month", "range"),
    ("13", 2030, "exp_month", "range"),
    (-1, 2030, "exp_month", "range"),
    (10**5000, 2030, "exp_month", "range"),
    (123, 2030, "exp_month", "format"),
    ("", 2030, "exp_month", "format"),
    ("012", 2030, "exp_month", "format"),
    ("1 ", 2030, "exp_month", "not_digits"),
    ("\uff11", 2030, "exp_month", "not_digits"),
    ("\u0661", 2030, "exp_month", "not_digits"),
    ("+1", 2030, "exp_month", "not_digits"),
    (True, 2030, "exp_month", "format"),
    (12, True, "exp_year", "format"),
    (12, 5, "exp_year", "format"),
    (12, 203, "exp_year", "format"),
    (12, "203", "exp_year", "format"),
    (12, "", "exp_year", "format"),
    (12, "20300", "exp_year", "format"),
    (12, 20300, "exp_year", "range"),
    (12, -30, "exp_year", "range"),
    (12, "30\n", "exp_year", "not_digits"),
    (12, "2O30", "exp_year", "not_digits"),
    (12, "\uff13\uff10", "exp_year", "not_digits"),
    (8, 2046, "exp_year", "too_far"),
    (12, 9999, "exp_year", "too_far"),
    (11, 2049, "exp_year", "too_far"),
    (1, 2050, "exp_year", "too_far"),
]


def test_what_is_no_date() -> None:
    for exp_month, exp_year, field, reason in NO_DATES:
        with pytest.raises(InvalidCard) as refused:
            Expiry.parse(exp_month, exp_year, at=AT)
        assert (refused.value.field, refused.value.reason) == (field, reason)
        assert refusal(cards.VISA, exp_month, exp_year, None) == (field, reason)


def test_an_expired_card_is_refused_after_its_last_hour_on_earth() -> None:
    last = datetime(2026, 7, 1, 11, 59, 59, 999_999, tzinfo=UTC)  # 30 June in UTC-12
    assert refusal(cards.VISA, 6, 2026, None, at=last) is None
    over = last + timedelta(microseconds=1)
    assert refusal(cards.VISA, 6, 2026, None, at=over) == ("exp_year", "expired")
    assert refusal(cards.VISA, 12, 1999, None) == ("exp_year", "expired")
    assert refusal(cards.VISA, 12, "0000", None) == ("exp_year", "expired")


zones = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda m: timezone(timedelta(minutes=m)))


@settings(deadline=None)
@given(
    st.integers(2001, 2200),
    st.integers(1, 12),
    zones,
    st.timedeltas(timedelta(0), timedelta(days=365_000)),
)
def test_a_card_is_over_from_noon_utc_of_the_next_month(
    year: int, month: int, zone: timezone, apart: timedelta
) -> None:
    expiry = Expiry(year, month)
    noon = datetime(year + month // 12, month % 12 + 1, 1, 12, tzinfo=UTC)
    before = noon - timedelta(microseconds=1)
    assert expiry.is_over(noon.astimezone(zone))
    assert expiry.is_over((noon + apart).astimezone(zone))
    assert not expiry.is_over(before.astimezone(zone))
    assert not expiry.is_over((before - apart).astimezone(zone))


@settings(deadline=None)
@given(st.datetimes(datetime(2001, 1, 1), datetime(2999, 1, 1)), st.integers(-400, 400))  # noqa: DTZ001 - Hypothesis wants bounds without a zone
def test_a_date_is_too_far_beyond_240_months(at: datetime, months: int) -> None:
    here = at.replace(tzinfo=timezone(timedelta(hours=-12)))
    year, month = divmod(here.year * 12 + here.month - 1 + months, 12)
    expiry = Expiry(year, month + 1)
    too_far = months > 240 and expiry != NO_EXPIRY
    try:
        assert Expiry.parse(month + 1, f"{year:04}", at=here) == expiry
    except InvalidCard as error:
        outcome = error.reason
    else:
        outcome = ""
    assert outcome == ("too_far" if too_far else "")
    assert expiry.is_over(here) == (months < 0)


def test_dates_are_written_and_ordered() -> None:
    assert Expiry(2030, 1).text() == "2030-01"
    assert Expiry(30, 12).text() == "0030-12"
    assert Expiry(2030, 2) > Expiry(2029, 12)


def test_impossible_dates_and_times_are_our_mistake() -> None:
    for month in (0, 13):
        with pytest.raises(AssertionError):
            Expiry(2030, month)
    with pytest.raises(AssertionError):
        Expiry(2030, 1).is_over(AT.replace(tzinfo=None))


# --- nothing is shown -----------------------------------------------------------------------


CODE: Final = "7392"
CARD: Final = Card.parse(cards.AMEX, 12, 2030, CODE, at=AT)


@pytest.mark.guards("T-32")
def test_a_card_shows_neither_number_nor_code() -> None:
    assert repr(CARD) == (
        "Card(pan=<Pan>, expiry=Expiry(year=2030, month=12), cvc=<Cvc>, brand='amex')"
    )
    for copier in (dataclasses.asdict, dataclasses.astuple, pickle.dumps, json.dumps, hash, vars):
        with pytest.raises(TypeError) as refused:
            copier(CARD)
        told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        assert cards.AMEX not in "".join(told.format())


# Found by a global name, so that no frame of the tests holds them.
REFUSED: Final[dict[str, tuple[str, int, int | str, str]]] = {
    "disguised": ("\uff14" + cards.AMEX, 12, 2030, CODE),
    "length": (cards.AMEX + "0", 12, 2030, CODE),
    "luhn": (cards.luhn_broken(cards.AMEX[:-1]), 12, 2030, CODE),
    "expired": (cards.AMEX, 12, 2020, CODE),
    "month": (cards.AMEX, 13, 2020, CODE),
    "number_as_year": (cards.AMEX, 12, cards.AMEX, CODE),
    "code": (cards.AMEX, 12, 2030, CODE + cards.AMEX),
    "short_code": (cards.AMEX, 12, 2030, "739"),
}


@pytest.mark.guards("T-32")
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_card_is_in_no_traceback(name: str) -> None:
    with pytest.raises(InvalidCard) as refused:
        Card.parse(*REFUSED[name], at=AT)
    error = refused.value
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = "".join(told.format()) + repr((error, error.args, vars(error)))
    assert cards.AMEX[:-1] not in shown
    assert "'739" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def test_cards_compare_by_what_they_hold() -> None:
    assert Card.parse(cards.AMEX, 12, 2030, CODE, at=AT) == CARD
    assert Card.parse(cards.AMEX, 12, 2030, None, at=AT) != CARD
    assert Card.parse(cards.AMEX, 11, 2030, CODE, at=AT) != CARD
