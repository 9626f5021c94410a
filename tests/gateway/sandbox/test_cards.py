"""How the simulated processor reads a card."""

from collections.abc import Mapping

import pytest

from gateway.sandbox.cards import (
    Approved,
    Challenged,
    Declined,
    brand_of,
    is_card_number,
    outcome_of,
    read_card,
)
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import Refusal
from tests.cards import (
    ALL,
    AMEX,
    BRANDS,
    CVC_WRONG,
    DECLINED,
    EXPIRED,
    FUNDS,
    PROCESSING,
    STORED_THEN_DECLINED,
    THREE_D_SECURE,
    VISA,
    VISA_13,
    luhn_broken,
    luhn_completed,
    luhn_sum,
)
from tests.gateway.sandbox.harness import NOW, case_name

DECLINE_CODES = {
    DECLINED: "generic_decline",
    FUNDS: "insufficient_funds",
    EXPIRED: "expired_card",
    CVC_WRONG: "incorrect_cvc",
    PROCESSING: "processing_error",
    STORED_THEN_DECLINED: "generic_decline",
}


def read(**fields: str) -> object:
    card = {"number": VISA, "exp_month": "5", "exp_year": "2031"} | fields
    params = Params([(f"card[{name}]", value) for name, value in card.items()])
    return read_card(params, "card", at=NOW)


def code_of(**fields: str) -> str | None:
    with pytest.raises(Refusal) as refused:
        read(**fields)
    return refused.value.error.code


@pytest.mark.parametrize("number", ALL, ids=case_name)
def test_every_published_number_has_its_outcome(number: str) -> None:
    match outcome_of(number):
        case Declined(decline_code=code):
            assert DECLINE_CODES[number] == code
        case Challenged():
            assert number == THREE_D_SECURE
        case Approved():
            assert number not in DECLINE_CODES


def test_the_other_number_for_three_d_secure() -> None:
    assert outcome_of(luhn_completed("400000276000" + "318")) == Challenged()


def test_a_number_that_only_begins_like_a_declined_one() -> None:
    assert outcome_of(luhn_completed("400000000000123")) == Approved()


@pytest.mark.parametrize("number", ALL, ids=case_name)
def test_every_published_number_is_one(number: str) -> None:
    assert is_card_number(number)


@pytest.mark.parametrize("digit", range(10))
def test_one_check_digit_fits(digit: int) -> None:
    number = f"{VISA[:-1]}{digit}"
    assert is_card_number(number) == (luhn_sum(number) % 10 == 0)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("0" * 11, id="too_short"),
        pytest.param("0" * 20, id="too_long"),
        pytest.param(f" {VISA}", id="space_before"),
        pytest.param(f"{VISA}\n", id="line_end_after"),
        pytest.param(VISA.replace("4", "\N{ARABIC-INDIC DIGIT FOUR}"), id="other_digits"),
        pytest.param("\N{SUPERSCRIPT TWO}" * 16, id="superscripts"),
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert not is_card_number(text)


@pytest.mark.parametrize("number", [VISA, VISA_13, AMEX], ids=case_name)
def test_the_brands_that_a_reply_names(number: str) -> None:
    assert brand_of(number) == BRANDS[number]


def test_a_number_of_no_brand() -> None:
    assert brand_of("9" * 16) == "unknown"


def test_the_number_is_not_printed() -> None:
    assert VISA not in repr(read())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"number": ""}, "parameter_missing"),
        ({"number": luhn_broken(VISA[:-1])}, "incorrect_number"),
        ({"exp_month": ""}, "parameter_missing"),
        ({"exp_month": "0"}, "invalid_expiry_month"),
        ({"exp_month": "13"}, "invalid_expiry_month"),
        ({"exp_month": "005"}, "invalid_expiry_month"),
        ({"exp_month": "-1"}, "invalid_expiry_month"),
        ({"exp_month": "4"}, "invalid_expiry_month"),
        ({"exp_year": "2030"}, "invalid_expiry_year"),
        ({"exp_year": "2082"}, "invalid_expiry_year"),
        ({"exp_year": "031"}, "invalid_expiry_year"),
        ({"exp_year": "next"}, "invalid_expiry_year"),
        ({"cvc": "12"}, "invalid_cvc"),
        ({"cvc": "1234"}, "invalid_cvc"),
        ({"cvc": "12x"}, "invalid_cvc"),
        ({"cvc": "123", "number": AMEX}, "invalid_cvc"),
    ],
)
def test_the_first_wrong_field_is_named(fields: Mapping[str, str], code: str) -> None:
    assert code_of(**fields) == code


@pytest.mark.parametrize(
    "fields", [{}, {"exp_year": "31"}, {"cvc": "123"}, {"cvc": ""}, {"number": AMEX, "cvc": "1234"}]
)
def test_what_is_read(fields: Mapping[str, str]) -> None:
    assert "exp_month=5, exp_year=2031" in repr(read(**fields))
