"""A card in the fields of a JSON body."""

import pytest

from gateway.sandbox.sent_card import CardField, WrongCard, digits, sent_card
from tests.cards import AMEX, VISA, luhn_broken
from tests.gateway.sandbox.harness import NOW


def wrong(
    number: str | None = VISA,
    month: int | None = 5,
    year: int | None = 2031,
    cvc: str | None = "123",
) -> CardField | None:
    try:
        sent_card(number, month, year, cvc, at=NOW)
    except WrongCard as error:
        return error.field
    return None


def test_a_card() -> None:
    card = sent_card(VISA, 5, 2031, None, at=NOW)
    assert VISA not in repr(card)
    shown = card.shown
    assert (shown.bin, shown.last4, shown.brand) == (VISA[:6], VISA[-4:], "visa")
    assert VISA not in repr(shown)
    assert wrong(AMEX, cvc="1234") is None


@pytest.mark.parametrize(
    "number", [None, "", "pwt_test", luhn_broken(VISA[:15])], ids=["none", "empty", "token", "luhn"]
)
def test_not_a_number(number: str | None) -> None:
    assert wrong(number) == "number"


def test_the_other_fields() -> None:
    for month in (None, 0, 13, 4):
        assert wrong(month=month) == "month"
    for year in (None, 2030, 31, 2082):
        assert wrong(year=year) == "year"
    for cvc in ("", "12", "1234", "\N{ARABIC-INDIC DIGIT ONE}23", "pwt"):
        assert wrong(cvc=cvc) == "cvc"
    assert wrong(AMEX, cvc="123") == "cvc"


def test_digits() -> None:
    assert (digits("03", most=2), digits("2030", most=4)) == (3, 2030)
    for text in (None, "", "003", "-1", " 1", "\N{ARABIC-INDIC DIGIT ONE}"):
        assert digits(text, most=2) is None
