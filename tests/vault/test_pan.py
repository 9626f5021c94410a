"""A card number is read from text: what is one, what is refused, and why."""

import base64
import hmac
import re
import traceback
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cards
from vault.errors import InvalidCard
from vault.pan import REASONS, Cvc, Pan, passes_luhn

CODE: Final = "7392"


def test_it_is_made_by_parsing_alone() -> None:
    for cls in (Pan, Cvc):
        with pytest.raises(TypeError, match="parsed"):
            cls()


def test_reveal_gives_back_what_was_parsed() -> None:
    for number in cards.ALL:
        assert Pan.parse(number).reveal() == number
    for code in ("000", "0000", "123", CODE):
        assert Cvc.parse(code).reveal() == code


def test_length() -> None:
    assert [len(Pan.parse(number)) for number in (cards.VISA_13, cards.AMEX)] == [13, 15]
    assert len(Pan.parse(cards.UNIONPAY_19)) == 19
    assert len(Cvc.parse("123")) == 3


@pytest.mark.parametrize("digits", range(12, 20))
def test_shown_digits(digits: int) -> None:
    number = cards.luhn_completed("4" * 6 + "0" * (digits - 11) + "1357")
    pan = Pan.parse(number)
    assert pan.last4 == number[-4:]
    assert pan.bin == (None if digits == 12 else "444444")


def test_equality_is_by_digits_and_kind() -> None:
    assert Pan.parse(cards.VISA) == Pan.parse(cards.VISA)
    assert Pan.parse(cards.VISA) != Pan.parse(cards.VISA_ALT)
    assert Pan.parse(cards.VISA) != Pan.parse(cards.VISA_13)
    assert Cvc.parse("123") == Cvc.parse("123")
    assert Cvc.parse("123") != Cvc.parse("124")
    assert Pan.parse(cards.VISA) != cards.VISA
    assert Pan.parse(cards.VISA).__eq__(Cvc.parse("123")) is NotImplemented


def test_it_has_no_hash() -> None:
    assert [vars(cls).get("__hash__", cls.__hash__) for cls in (Pan, Cvc)] == [None, None]


@pytest.mark.guards("T-25")
def test_equality_takes_the_same_time_wherever_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    compare = hmac.compare_digest

    def counting(a: str, b: str) -> bool:
        compared.append(1)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert Pan.parse(cards.VISA) != Pan.parse(cards.VISA_ALT)
    assert Cvc.parse("123") == Cvc.parse("123")
    assert len(compared) == 2


# --- reading ------------------------------------------------------------------------------


def grouped(number: str, separator: str) -> str:
    return separator.join(number[at : at + 4] for at in range(0, len(number), 4))


def in_script(zero: str) -> Callable[[str], str]:
    return lambda number: "".join(chr(ord(zero) + int(digit)) for digit in number)


@pytest.mark.parametrize("separator", [" ", "-"], ids=["space", "hyphen"])
@pytest.mark.parametrize("place", range(len(cards.ALL)))
def test_single_separators_are_left_out(place: int, separator: str) -> None:
    number = cards.ALL[place]
    assert Pan.parse(grouped(number, separator)).reveal() == number
    assert Pan.parse(separator.join(number)).reveal() == number


def test_separators_may_be_mixed() -> None:
    number = cards.AMEX
    assert Pan.parse(f"{number[:4]} {number[4:10]}-{number[10:]}").reveal() == number


DISGUISES: Final[dict[str, Callable[[str], str]]] = {
    "full_width": in_script("\uff10"),
    "arabic_indic": in_script("\u0660"),
    "extended_arabic": in_script("\u06f0"),
    "devanagari": in_script("\u0966"),
    "bengali": in_script("\u09e6"),
    "thai": in_script("\u0e50"),
    "mathematical_bold": in_script("\U0001d7ce"),
    "monospace": in_script("\U0001d7f6"),
    "circled": lambda number: in_script("\u245f")(number.replace("0", "1")),
    "superscript_four": lambda number: number[:-1] + "\u2074",
    "one_full_width": lambda number: number[:7] + in_script("\uff10")(number[7]) + number[8:],
    "no_break_space": lambda number: grouped(number, "\u00a0"),
    "narrow_no_break_space": lambda number: grouped(number, "\u202f"),
    "thin_space": lambda number: grouped(number, "\u2009"),
    "figure_space": lambda number: grouped(number, "\u2007"),
    "ideographic_space": lambda number: grouped(number, "\u3000"),
    "zero_width_space": lambda number: grouped(number, "\u200b"),
    "zero_width_joiner": lambda number: grouped(number, "\u200d"),
    "soft_hyphen": lambda number: grouped(number, "\u00ad"),
    "non_breaking_hyphen": lambda number: grouped(number, "\u2011"),
    "figure_dash": lambda number: grouped(number, "\u2012"),
    "en_dash": lambda number: grouped(number, "\u2013"),
    "minus_sign": lambda number: grouped(number, "\u2212"),
    "byte_order_mark": lambda number: "\ufeff" + number,
    "right_to_left": lambda number: "\u202e" + number[::-1],
    "combining": lambda number: number + "\u0301",
    "underscore": lambda number: grouped(number, "_"),
    "dot": lambda number: grouped(number, "."),
    "comma": lambda number: grouped(number, ","),
    "slash": lambda number: grouped(number, "/"),
    "tab": lambda number: grouped(number, "\t"),
    "line_feed": lambda number: grouped(number, "\n"),
    "trailing_line_feed": lambda number: number + "\n",
    "trailing_carriage_return": lambda number: number + "\r\n",
    "nul": lambda number: number + "\0",
    "plus": lambda number: "+" + number,
    "fraction": lambda number: number + ".0",
    "exponent": lambda number: number[0] + "." + number[1:] + "e15",
    "hexadecimal": lambda number: hex(int(number)),
    "percent_encoded": lambda number: "".join(f"%3{digit}" for digit in number),
    "html_entities": lambda number: "".join(f"&#4{8 + int(digit)};" for digit in number),
    "json_escapes": lambda number: "".join(f"\\u003{digit}" for digit in number),
    "quoted": lambda number: f'"{number}"',
    "base64": lambda number: base64.b64encode(number.encode()).decode(),
    "utf_16": lambda number: number.encode("utf-16-be").decode("latin-1"),
    "lone_surrogate": lambda number: number + "\ud800",
    "label": lambda number: "PAN" + number,
}

MISPLACED: Final[dict[str, Callable[[str], str]]] = {
    "leading_space": lambda number: " " + number,
    "trailing_space": lambda number: number + " ",
    "leading_hyphen": lambda number: "-" + number,
    "trailing_hyphen": lambda number: number + "-",
    "double_space": lambda number: grouped(number, "  "),
    "double_hyphen": lambda number: grouped(number, "--"),
    "spaced_hyphen": lambda number: grouped(number, " - "),
}


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_number_in_disguise_is_refused(disguise: str) -> None:
    for number in cards.ALL:
        with pytest.raises(InvalidCard) as refused:
            Pan.parse(DISGUISES[disguise](number))
        assert (refused.value.field, refused.value.reason) == ("number", "not_digits")


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("disguise", MISPLACED)
def test_misplaced_separators_are_refused(disguise: str) -> None:
    for number in cards.ALL:
        with pytest.raises(InvalidCard) as refused:
            Pan.parse(MISPLACED[disguise](number))
        assert (refused.value.field, refused.value.reason) == ("number", "format")


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "4", "4" * 11, "4" * 20, "4" * 5000, "- " * 20, cards.VISA.encode().hex()],
    ids=["empty", "space", "hyphen", "one", "eleven", "twenty", "thousands", "bare", "hex"],
)
def test_any_other_count_of_digits_is_refused(text: str) -> None:
    with pytest.raises(InvalidCard) as refused:
        Pan.parse(text)
    assert (refused.value.field, refused.value.reason) == ("number", "length")


def test_neither_luhn_nor_brand_matters_here() -> None:
    assert Pan.parse(cards.luhn_broken("9" * 15)).last4 == cards.luhn_broken("9" * 15)[-4:]


def test_a_code_is_three_or_four_digits() -> None:
    for text, reason in {
        "": "length",
        "12": "length",
        "12345": "length",
        "12a": "not_digits",
        " 123": "not_digits",
        "1-23": "not_digits",
        "+123": "not_digits",
        "123\n": "not_digits",
        "\uff11\uff12\uff13": "not_digits",
        "\u0661\u0662\u0663": "not_digits",
        cards.VISA: "length",
    }.items():
        with pytest.raises(InvalidCard) as refused:
            Cvc.parse(text)
        assert (refused.value.field, refused.value.reason) == ("cvc", reason)


REFUSED_NUMBER: Final = cards.VISA + "\uff10"
REFUSED_CODE: Final = CODE + "x"


@pytest.mark.guards("T-32")
@pytest.mark.parametrize(
    ("attempt", "digits"),
    [
        (lambda: Pan.parse(REFUSED_NUMBER), cards.VISA),
        (lambda: Cvc.parse(REFUSED_CODE), CODE),
    ],
    ids=["number", "code"],
)
def test_what_was_refused_is_in_no_traceback(attempt: Callable[[], object], digits: str) -> None:
    with pytest.raises(InvalidCard) as refused:
        attempt()
    error = refused.value
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame.locals for frame in told.stack if frame.filename != __file__]
    assert ours
    assert digits not in repr(ours)
    assert digits not in repr((error, error.args, vars(error)))
    assert error.__cause__ is None
    assert error.__context__ is None


def parsed(text: str) -> Pan | InvalidCard:
    try:
        return Pan.parse(text)
    except InvalidCard as error:
        return error


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("0123456789 -_+\uff14\u0664\u00a0\n"), max_size=40))
def test_any_text_gives_a_number_or_a_reason(text: str) -> None:
    outcome = parsed(text)
    if isinstance(outcome, InvalidCard):
        assert outcome.field == "number"
        assert outcome.reason in REASONS
    else:
        assert outcome.reveal() == text.replace(" ", "").replace("-", "")
        assert re.fullmatch("[0-9]{12,19}", outcome.reveal())
        assert not re.search("^[ -]|[ -]{2}|[ -]$", text)


# --- Luhn ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(alphabet="0123456789", min_size=1, max_size=24))
def test_luhn_is_as_the_book_says(digits: str) -> None:
    assert passes_luhn(digits) == (cards.luhn_sum(digits) % 10 == 0)
    assert passes_luhn(cards.luhn_completed(digits))
    assert not passes_luhn(cards.luhn_broken(digits))


def test_every_published_card_passes_luhn_and_no_slip_of_one_digit_does() -> None:
    for number in cards.ALL:
        assert passes_luhn(number)
        for place, digit in enumerate(number):
            for other in set("0123456789") - {digit}:
                assert not passes_luhn(number[:place] + other + number[place + 1 :])
