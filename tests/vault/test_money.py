"""Amounts are whole minor units with a currency, or they are not known."""

from typing import Final

import pytest

from tests import cards
from vault.money import MINOR_UNITS_MAX, Money


@pytest.mark.parametrize(
    ("minor_units", "currency", "money"),
    [
        (1999, "EUR", Money(1999, "EUR")),
        ("1999", "eur", Money(1999, "EUR")),
        ("0", "jpY", Money(0, "JPY")),
        (0, "usd", Money(0, "USD")),
        ("000000001999", "EUR", Money(1999, "EUR")),  # as ISO 8583 writes it
        (MINOR_UNITS_MAX, "IDR", Money(MINOR_UNITS_MAX, "IDR")),
        (str(MINOR_UNITS_MAX), "IDR", Money(MINOR_UNITS_MAX, "IDR")),
    ],
)
def test_amounts(minor_units: int | str, currency: str, money: Money) -> None:
    assert Money.parse(minor_units, currency) == money


NO_AMOUNTS: Final[list[int | str]] = [
    -1,
    True,
    MINOR_UNITS_MAX + 1,
    "",
    "-1",
    "+1",
    "19.99",
    "1e3",
    "1_000",
    " 1",
    "1\n",
    "\u0661",
    "\uff11",
    "1" * 13,
    "1" * 5000,
]


def test_what_is_no_amount_is_not_known() -> None:
    assert [text for text in NO_AMOUNTS if Money.parse(text, "EUR") is not None] == []


@pytest.mark.parametrize("currency", ["", "EU", "EURO", "E1R", "978", " EUR", "EUR\n", "\u20acUR"])
def test_what_is_no_currency_is_not_known(currency: str) -> None:
    assert Money.parse(1999, currency) is None


def test_a_card_number_is_never_an_amount() -> None:
    for number in cards.ALL:
        assert Money.parse(number, "EUR") is None
        assert Money.parse(int(number), "EUR") is None


@pytest.mark.parametrize(
    ("minor_units", "currency"), [(-1, "EUR"), (MINOR_UNITS_MAX + 1, "EUR"), (1, "euro")]
)
def test_impossible_money_is_our_mistake(minor_units: int, currency: str) -> None:
    with pytest.raises(AssertionError):
        Money(minor_units, currency)
