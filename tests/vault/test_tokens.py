"""Tokens: their form, their chance, and that none is taken for a card nor a card for one."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cards
from vault.card import Card
from vault.errors import FormatRefused, InvalidCard
from vault.ids import CROCKFORD
from vault.pan import Pan, passes_luhn
from vault.tokens import (
    RANDOM_BITS,
    TOKEN_BYTES,
    TOKEN_PATTERN,
    Env,
    id_of,
    is_token,
    looks_pan_like,
    new_id,
    new_pan_like,
    new_token,
    pan_like_of,
    token_of,
)

ENVS: Final[tuple[Env, ...]] = get_args(Env)
VECTOR: Final = "pwt_test_0123456789abcdefghjkmnpqrsda"  # published beside the key contexts
PUBLISHED_FORM: Final = re.compile(r"^pwt_(test|live)_[0-9a-hjkmnp-tv-z]{28}$")
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
LONG_ENOUGH: Final = [number for number in cards.ALL if len(number) >= 15]


def bits_of(characters: str) -> int:
    value = 0
    for character in characters:
        value = value << 5 | CROCKFORD.index(character)
    return value


def drawing(*numbers: int) -> Callable[[int], int]:
    """Give these numbers one after the other, each below the bound asked for."""
    source: Iterator[int] = iter(numbers)

    def below(bound: int) -> int:
        number = next(source)
        assert number < bound
        return number

    return below


def test_the_vector() -> None:
    assert token_of("test", bits_of(VECTOR[9:35])) == VECTOR
    assert is_token(VECTOR, "test")


@settings(deadline=None)
@given(st.sampled_from(ENVS), st.integers(0, (1 << RANDOM_BITS) - 1))
def test_a_token_is_one_in_its_own_environment_alone(env: Env, random_bits: int) -> None:
    token = token_of(env, random_bits)
    assert PUBLISHED_FORM.match(token)
    assert len(token) == 37
    assert bits_of(token[9:35]) == random_bits
    assert [other for other in ENVS if is_token(token, other)] == [env]


@pytest.mark.parametrize("env", ENVS)
def test_new_tokens(env: Env) -> None:
    assert is_token(new_token(env), env)


def test_the_check_characters_catch_nearly_every_slip_of_one_character() -> None:
    """Ten bits let one slip in 1,024 pass: of these 868, this one."""
    passed = [
        (place, character)
        for place in range(9, 37)
        for character in CROCKFORD
        if character != VECTOR[place]
        and is_token(VECTOR[:place] + character + VECTOR[place + 1 :], "test")
    ]
    assert passed == [(26, "1")]


NO_TOKENS: Final = [
    "",
    "pwt_test_",
    VECTOR[:-1],
    VECTOR + "0",
    VECTOR + "\n",
    " " + VECTOR,
    VECTOR[:9] + "0" + VECTOR[9:],  # its end alone would pass
    VECTOR.upper(),
    VECTOR.replace("pwt_", "PWT_"),
    VECTOR.replace("pwt_", "pwsk_"),
    VECTOR.replace("test", "live"),
    VECTOR.replace("test", "prod"),
    VECTOR.replace("_", "-"),
    VECTOR.replace("1", "i"),
    VECTOR.replace("1", "l"),
    VECTOR.replace("0", "o"),
    VECTOR.replace("a", "u"),
    VECTOR.replace("1", "\uff11"),
    VECTOR.replace("1", "\u0661"),
    VECTOR[:9] + VECTOR[10] + VECTOR[9] + VECTOR[11:],
    *cards.ALL,
]


def test_what_is_no_token() -> None:
    assert [text for text in NO_TOKENS if is_token(text, "test")] == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"card":{"number":"%s"}}',
        b"card[number]=%s&amount=1",
        b"<n>%s</n>",
        b"x%sx",
        b"\xff%s\xff",
    ],
)
def test_token_shaped_values_are_found_in_bodies(body: bytes) -> None:
    token = VECTOR.encode()
    assert TOKEN_BYTES.findall(body.replace(b"%s", token)) == [token]
    wrong_check = token[:-2] + b"00"  # refused by name elsewhere, so it must be found here
    assert TOKEN_BYTES.findall(body.replace(b"%s", wrong_check)) == [wrong_check]
    assert not TOKEN_BYTES.search(body.replace(b"%s", token[:-1] + b"i"))


def test_the_pattern_is_the_published_one() -> None:
    assert re.fullmatch(TOKEN_PATTERN, VECTOR)
    assert PUBLISHED_FORM.pattern.replace("(", "(?:")[1:-1] == TOKEN_PATTERN


def test_no_card_number_has_a_tokens_form_nor_a_token_a_cards() -> None:
    detector = re.compile(r"(?<!\d)(?:\d[ \-\u00a0]{0,2}){11,18}\d(?!\d)")
    assert not any(re.search(TOKEN_PATTERN, number) for number in cards.ALL)
    tokens = [new_token("test") for _ in range(2000)]
    runs = [found[0] for token in tokens for found in detector.finditer(token)]
    assert not [run for run in runs if passes_luhn(run)]


@pytest.mark.guards("T-21")
def test_every_bit_of_a_token_is_chance() -> None:
    """20,000 tokens: none twice, each character as often as any other at each of 26 places."""
    tokens = [new_token("live") for _ in range(20_000)]
    assert len(set(tokens)) == len(tokens)
    for place in range(9, 35):
        counts = dict.fromkeys(CROCKFORD, 0)
        for token in tokens:
            counts[token[place]] += 1
        # 625 expected, with a deviation of 24.6: seven of them happen once in 10^11 cells.
        assert all(625 - 172 < count < 625 + 172 for count in counts.values())


# --- pan_like -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(LONG_ENOUGH)))
def test_a_pan_like_token_looks_like_a_card_and_is_none(place: int) -> None:
    pan = Pan.parse(LONG_ENOUGH[place])
    for _ in range(50):
        token = new_pan_like(pan)
        assert re.fullmatch("99[0-9]+", token)
        assert len(token) == len(pan)
        assert token[-4:] == pan.last4
        assert not passes_luhn(token)
        assert looks_pan_like(token)
        with pytest.raises(InvalidCard) as refused:
            Card.parse(token, 12, 2030, None, at=AT)
        assert refused.value.reason == "luhn"


def test_its_free_digits_are_those_drawn() -> None:
    pan = Pan.parse(cards.VISA)
    assert pan_like_of(pan, drawing(1234567890)) == "99" + "1234567890" + "4242"
    assert pan_like_of(Pan.parse(cards.UNIONPAY_19), drawing(9)) == "99" + "9".zfill(13) + "0004"


def test_one_that_passes_luhn_is_drawn_again() -> None:
    pan = Pan.parse(cards.VISA)
    passing = [free for free in range(10) if passes_luhn(f"99{free:010}4242")]
    assert len(passing) == 1
    other = (passing[0] + 1) % 10
    assert pan_like_of(pan, drawing(*passing, *passing, other)) == f"99{other:010}4242"


@pytest.mark.guards("T-21")
def test_pan_like_tokens_of_one_card_have_only_the_last_four_in_common() -> None:
    pan = Pan.parse(cards.AMEX)
    tokens = [new_pan_like(pan) for _ in range(2000)]
    assert len(set(tokens)) == len(tokens)
    for place in range(2, 11):
        assert {token[place] for token in tokens} == set("0123456789")


@pytest.mark.parametrize("digits", range(12, 20))
def test_a_number_too_short_for_the_format_is_refused(digits: int) -> None:
    pan = Pan.parse("4" * digits)
    if digits >= 15:
        assert len(new_pan_like(pan)) == digits
    else:
        with pytest.raises(FormatRefused):
            new_pan_like(pan)


@settings(deadline=None)
@given(
    st.integers(15, 19).flatmap(
        lambda digits: st.integers(0, 10 ** (digits - 2) - 1).map(
            lambda free: f"99{free:0{digits - 2}}"
        )
    )
)
def test_luhn_tells_a_pan_like_token_from_a_number(text: str) -> None:
    assert looks_pan_like(text) != passes_luhn(text)


FAILING: Final = cards.luhn_broken("99" + "0" * 13)


NOT_PAN_LIKE: Final = [
    "",
    "99",
    cards.luhn_broken("99" + "0" * 11),
    cards.luhn_broken("99" + "0" * 17),
    cards.luhn_broken("98" + "0" * 13),
    FAILING + "\n",
    FAILING[:8] + " " + FAILING[8:],
    "99" + "\uff10" * 14,
    "99" + "\u0660" * 14,
    "99" + "\ud800" * 14,
    *cards.ALL,
    VECTOR,
]


def test_what_does_not_look_pan_like() -> None:
    assert looks_pan_like(FAILING)
    assert [text for text in NOT_PAN_LIKE if looks_pan_like(text)] == []


# --- other ids ----------------------------------------------------------------------------


def test_other_ids() -> None:
    assert id_of("fp", 1) == "fp_" + "0" * 25 + "1"
    assert id_of("r", 31, 8) == "r_0000000z"
    assert re.fullmatch("t_[0-9a-hjkmnp-tv-z]{26}", new_id("t"))
    assert re.fullmatch("k_[0-9a-hjkmnp-tv-z]{16}", new_id("k", 16))
    assert len({new_id("fp") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("prefix", ["", "fp_", "FP", "abcde", "1"])
def test_a_wrong_prefix_is_our_mistake(prefix: str) -> None:
    with pytest.raises(AssertionError):
        new_id(prefix)
