import base64
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.echoes import CANDIDATES_MAX, Sought, contains_any, count_card_like, places_of
from tests import cards

_NUMBERS = (cards.VISA_ALT, cards.AMEX, cards.MASTERCARD, cards.VISA_13, cards.UNIONPAY_19)


def _spaced(number: str, separator: str) -> str:
    return separator.join(number[at : at + 4] for at in range(0, len(number), 4))


def _digits_as(spelling: Callable[[str], str]) -> Callable[[str], str]:
    return lambda number: "".join(map(spelling, number))


def _some_digits_as(spelling: Callable[[str], str]) -> Callable[[str], str]:
    return lambda number: "".join(
        spelling(digit) if at % 3 == 0 else digit for at, digit in enumerate(number)
    )


def _base64(number: str) -> str:
    return base64.b64encode(number.encode()).decode()


IN_PLACE: dict[str, Callable[[str], str]] = {
    "plain": str,
    "spaces": lambda number: _spaced(number, " "),
    "double spaces": lambda number: _spaced(number, "  "),
    "hyphens": lambda number: _spaced(number, "-"),
    "dots": lambda number: _spaced(number, "."),
    "underscores": lambda number: _spaced(number, "_"),
    "plus signs": lambda number: _spaced(number, "+"),
    "no-break spaces": lambda number: _spaced(number, "\u00a0"),
    "thin spaces": lambda number: _spaced(number, "\u2009"),
    "narrow no-break spaces": lambda number: _spaced(number, "\u202f"),
    "en dashes": lambda number: _spaced(number, "\u2013"),
    "zero-width spaces": lambda number: _spaced(number, "\u200b"),
    "a space after each digit": " ".join,
    "percent": _digits_as(lambda digit: f"%3{digit}"),
    "percent, mixed": _some_digits_as(lambda digit: f"%3{digit}"),
    "percent, spaces": lambda number: quote(_spaced(number, " ")),
    "percent, no-break spaces": lambda number: quote(_spaced(number, "\u00a0")),
    "JSON escapes": _digits_as(lambda digit: f"\\u003{digit}"),
    "JSON escapes, mixed": _some_digits_as(lambda digit: f"\\u003{digit}"),
    "JSON escapes, separators": lambda number: _spaced(number, "\\u00a0"),
    "JSON escapes, full width": _digits_as(lambda digit: f"\\uff1{digit}"),
    "HTML, decimal": _digits_as(lambda digit: f"&#{ord(digit)};"),
    "HTML, hexadecimal": _digits_as(lambda digit: f"&#x3{digit};"),
    "HTML, mixed": _some_digits_as(lambda digit: f"&#{ord(digit)};"),
    "HTML, separators": lambda number: _spaced(number, "&nbsp;"),
    "a decimal point": lambda number: f"{number[0]}.{number[1:]}",
    "full width": _digits_as(lambda digit: chr(0xFF10 + int(digit))),
}

ELSEWHERE: dict[str, Callable[[str], str]] = {
    "reversed": lambda number: number[::-1],
    "as parts": lambda number: f'{{"first":"{number[:6]}","then":"{number[6:]}"}}',
    "as a list": ",".join,
    "four spaces": lambda number: _spaced(number, "    "),
    "in tags": lambda number: "".join(f"<b>{digit}</b>" for digit in number),
    "hexadecimal": lambda number: number.encode().hex(),
    "hexadecimal, capitals": lambda number: _spaced(number, "-").encode().hex().upper(),
    "hexadecimal, spaces": lambda number: _spaced(number, " ").encode().hex(" "),
    "hexadecimal, UTF-16": lambda number: number.encode("utf-16-le").hex(),
    "byte escapes": _digits_as(lambda digit: f"\\x3{digit}"),
    "byte escapes, mixed": _some_digits_as(lambda digit: f"\\x3{digit}"),
    "octal escapes": _digits_as(lambda digit: f"\\{ord(digit):03o}"),
    "percent twice": lambda number: quote(quote(_spaced(number, " "))),
    "percent twice, all": _digits_as(lambda digit: f"%253{digit}"),
    "JSON in JSON": _some_digits_as(lambda digit: f"\\\\u003{digit}"),
    "base64": _base64,
    "base64, second alignment": lambda number: _base64("n" + number),
    "base64, third alignment": lambda number: _base64("n=" + number),
    "base64 of more": lambda number: _base64(f'{{"number":"{number}","month":1}}'),
    "base64 of spaces": lambda number: _base64(f"card {_spaced(number, ' ')}!"),
    "base64url": lambda number: base64.urlsafe_b64encode(f"??{number}>>".encode()).decode(),
    "base64, no padding": lambda number: _base64(number).rstrip("="),
    "base64, wrapped": lambda number: "\r\n ".join(_base64(number)),
    "base64, wrapped in JSON": lambda number: "\\r\\n".join(_base64(number)),
    "Arabic digits": _digits_as(lambda digit: chr(0x660 + int(digit))),
    "Arabic digits in JSON": _digits_as(lambda digit: f"\\u066{digit}"),
    "raised digits": _digits_as(lambda digit: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)]),
    "mathematical digits": _digits_as(lambda digit: chr(0x1D7CE + int(digit))),
    "full width in percent": lambda number: quote(
        "".join(chr(0xFF10 + int(digit)) for digit in number)
    ),
    "named spaces": lambda number: _spaced(number, "&ensp;&#8199;"),
}


def _found(body: bytes, number: str) -> bool:
    return contains_any(body, [Sought(number)])


@pytest.mark.guards("T-12", "T-40")
@pytest.mark.parametrize("number", _NUMBERS)
@pytest.mark.parametrize("spelling", [*IN_PLACE, *ELSEWHERE])
def test_a_number_is_found_however_it_is_spelled(spelling: str, number: str) -> None:
    spelled = (IN_PLACE | ELSEWHERE)[spelling](number)
    assert _found(f'{{"id":"x_9","echo":"{spelled}","at":7}}'.encode(), number)


@pytest.mark.guards("T-12", "T-40")
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32", "cp037"])
@pytest.mark.parametrize("number", _NUMBERS)
def test_a_number_is_found_in_other_encodings_of_a_body(encoding: str, number: str) -> None:
    assert _found(f"number {number}!".encode(encoding), number)


@pytest.mark.guards("T-12", "T-40")
@pytest.mark.parametrize("number", _NUMBERS)
def test_a_number_is_found_packed_two_digits_a_byte(number: str) -> None:
    packed = bytes.fromhex(number if len(number) % 2 == 0 else f"{number}f")
    assert _found(b"\x01\xff" + packed + b"\x00", number)


def test_letters_of_a_text_are_no_packed_number() -> None:
    letters = bytes.fromhex(cards.VISA).decode()
    assert not _found(f"a text with {letters}".encode(), cards.VISA)


def test_one_of_several_numbers_is_enough_and_none_is_never_found() -> None:
    body = f"... {cards.MASTERCARD} ...".encode()
    assert contains_any(body, [Sought(cards.VISA), Sought(cards.MASTERCARD)])
    assert not contains_any(body, [Sought(cards.VISA), Sought(cards.AMEX)])
    assert not contains_any(body, [])


def test_a_masked_number_and_other_numbers_are_not_found() -> None:
    number = cards.VISA_ALT
    for body in (
        f"{number[:6]}******{number[-4:]}",
        f'{{"bin":"{number[:8]}","last4":"{number[-4:]}"}}',
        number[:-1],
        cards.VISA,
        "100 % &amp; \\u0041 \\n &#169; %zz \\ud800 \u00e9 \u0663",
        "",
    ):
        assert not _found(body.encode(), number)


@given(st.binary(max_size=200))
def test_no_body_makes_the_search_fail(body: bytes) -> None:
    _found(body, cards.VISA_ALT)
    places_of(body, cards.VISA_ALT)
    count_card_like(body)


@given(
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.sampled_from(_NUMBERS),
    st.integers(0, 2),
)
def test_a_number_is_found_in_any_surroundings(
    before: bytes, after: bytes, number: str, form: int
) -> None:
    spelled = (
        number.encode(),
        number[::-1].encode(),
        b"%" + b"%".join(b"3%c" % digit for digit in number.encode()),
    )[form]
    assert _found(before + spelled + after, number)


# --- places -------------------------------------------------------------------------------


@pytest.mark.guards("T-40")
@pytest.mark.parametrize("number", _NUMBERS)
@pytest.mark.parametrize("spelling", IN_PLACE)
def test_what_is_spelled_digit_by_digit_has_a_place(spelling: str, number: str) -> None:
    spelled = IN_PLACE[spelling](number).encode()
    body = b"12 <" + spelled + b"> 34"
    assert places_of(body, number) == [(4, 4 + len(spelled))]


@pytest.mark.parametrize("spelling", ELSEWHERE)
def test_what_is_spelled_otherwise_has_no_place(spelling: str) -> None:
    body = f"<{ELSEWHERE[spelling](cards.VISA_ALT)}>".encode()
    assert places_of(body, cards.VISA_ALT) == []


def test_a_number_has_a_place_within_a_longer_row_and_beside_other_digits() -> None:
    number = cards.VISA_ALT
    body = f"99{number}00 {number} 12/30 {cards.VISA}".encode()
    assert [body[start:end] for start, end in places_of(body, number)] == [number.encode()] * 2


def test_an_escaped_backslash_begins_no_digit() -> None:
    spelled = "".join(f"\\\\u003{digit}" for digit in cards.VISA_ALT)
    assert places_of(f'"{spelled}"'.encode(), cards.VISA_ALT) == []


# --- counting -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", cards.ALL)
def test_published_test_cards_look_like_cards(number: str) -> None:
    assert count_card_like(f'{{"a":"{number}"}}'.encode()) == 1


@pytest.mark.parametrize("separator", [" ", "-", "  "])
@pytest.mark.parametrize("number", [cards.VISA_ALT, cards.MASTERCARD, cards.UNIONPAY_19])
def test_so_do_numbers_in_groups_with_other_digits_beside_them(number: str, separator: str) -> None:
    assert count_card_like(f"no. {_spaced(number, separator)} 12/30".encode()) == 1


def test_so_does_an_amex_in_its_own_groups() -> None:
    number = cards.AMEX
    assert count_card_like(f"{number[:4]} {number[4:10]} {number[10:]}".encode()) == 1


def test_every_one_is_counted() -> None:
    body = f"{cards.VISA} {cards.AMEX}, {cards.VISA}\n{_spaced(cards.MASTERCARD, ' ')}"
    assert count_card_like(body.encode()) == 4


@pytest.mark.parametrize(
    "text",
    [
        cards.luhn_broken(cards.VISA[:-1]),
        "1700000000 1700000000000 1700000000000000",  # times
        "9" * 16,  # no brand
        cards.VISA * 2,  # a row longer than a card
        f"0.{cards.VISA_ALT}",  # decimals
        "2024-01-02 2024-01-03",
        "4242 4242",
        "0049 30 1234567",
        cards.VISA[:12] + "x" + cards.VISA[12:],
    ],
)
def test_other_numbers_do_not_look_like_cards(text: str) -> None:
    assert count_card_like(text.encode()) == 0


def test_groups_after_a_longer_row_of_digits_begin_with_the_next() -> None:
    assert count_card_like(f"12{_spaced(cards.VISA, '-')}".encode()) == 0
    assert count_card_like(f"123456-{_spaced(cards.VISA, '-')}".encode()) == 1


def test_a_uuid_of_digits_is_no_card() -> None:
    ending = f"1234-{cards.VISA[:4]}-{cards.VISA[4:]}"
    assert count_card_like(f'"12345678-1234-{ending}"'.encode()) == 0
    assert count_card_like(f'"{ending}"'.encode()) == 1


def test_a_dot_that_follows_no_digit_makes_no_decimals() -> None:
    assert count_card_like(f".{cards.VISA}".encode()) == 1
    assert count_card_like(f"no.{cards.VISA}".encode()) == 1


def test_a_body_made_of_digits_is_not_examined_for_ever() -> None:
    body = (cards.VISA + " ") * (CANDIDATES_MAX + 5)
    assert count_card_like(body.encode()) == CANDIDATES_MAX


# --- time ---------------------------------------------------------------------------------

_WORST = {
    "digits": b"4" * 400_000,
    "digits and spaces": b"4 " * 200_000,
    "groups": b"4242 " * 300_000,
    "rows too short": b"42424242424x" * 33_000,
    "separators": b"4   " * 100_000,
    "hyphens": b"0000-" * 80_000,
    "percent": b"%34" * 133_000,
    "backslashes": rb"\u0034" * 66_000,
    "entities": b"&#52;" * 80_000,
    "ampersands": b"&" * 400_000,
    "full width": "\uff14".encode() * 133_000,
    "all scripts": "".join(map(chr, range(0x80, 0xD800))).encode() * 3,
    "uuids": b"41111111-1111-1111-1111-111111111111 " * 10_000,
}


@pytest.mark.parametrize("body", _WORST.values(), ids=_WORST)
def test_no_body_takes_long(body: bytes) -> None:
    """A bound against catastrophes; speed is measured by the benchmarks."""
    started = time.process_time()
    contains_any(body, [Sought(cards.VISA_ALT)])
    count_card_like(body)
    places_of(body, cards.VISA_ALT)
    assert time.process_time() - started < 10
