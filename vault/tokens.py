"""What a token looks like, and how one is made; likewise other ids that are pure chance.

A token stands for a card and says nothing of it: its characters come from `secrets`. What never
may live here: a card's digits other than the last four, and any look-up.

- opaque: `pwt_{test|live}_`, 26 random characters, 2 check characters
- pan_like: for clients that insist on digits. As long as the card number, starts with 99, keeps
  the last four, and fails Luhn, so that no reader of cards takes it for one
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final, Literal

from vault.errors import FormatRefused
from vault.ids import BITS_A_CHARACTER, CROCKFORD_CLASS, CROCKFORD_PAIRS, crockford_number
from vault.pan import ASCII_DIGITS, PAN_DIGITS_MAX, Pan, passes_luhn

Env = Literal["test", "live"]

RANDOM_CHARACTERS: Final = 26
CHECK_CHARACTERS: Final = 2
RANDOM_BITS: Final = RANDOM_CHARACTERS * BITS_A_CHARACTER

TOKEN_PATTERN: Final = f"pwt_(?:test|live)_{CROCKFORD_CLASS}{{28}}"
"""A token's form as a regular expression: no anchors, no groups, check characters not checked."""

TOKEN_BYTES: Final = re.compile(TOKEN_PATTERN.encode("ascii"))
"""Finds what has a token's form in a body, also where other characters touch it."""

PAN_LIKE_START: Final = "99"
PAN_LIKE_DIGITS_MIN: Final = 15  # shorter, and fewer than nine digits would be left to chance

ID_CHARACTERS: Final = 26

_PREFIX: Final = re.compile("[a-z]{1,4}")
_TOKEN: Final = re.compile(TOKEN_PATTERN)
_LAST_DIGITS: Final = 4


def token_of(env: Env, random_bits: int) -> str:
    """Spell a token: for tests, which know the bits."""
    random_part = crockford_number(random_bits, RANDOM_CHARACTERS)
    return f"pwt_{env}_{random_part}{_check_characters(random_part)}"


def new_token(env: Env) -> str:
    return token_of(env, secrets.randbits(RANDOM_BITS))


def is_token(text: str, env: Env) -> bool:
    """Whether it is well-formed and of this environment; whether it exists, only the store knows.

    The check characters catch a slip before a look-up; they keep nobody from guessing.
    """
    if not text.startswith(f"pwt_{env}_") or not _TOKEN.fullmatch(text):
        return False
    random_part = text[-RANDOM_CHARACTERS - CHECK_CHARACTERS : -CHECK_CHARACTERS]
    return text.endswith(_check_characters(random_part))


def _check_characters(random_part: str) -> str:
    digest = hashlib.sha256(random_part.encode("ascii")).digest()
    first_bits = int.from_bytes(digest[:2], "big") >> 16 - CHECK_CHARACTERS * BITS_A_CHARACTER
    return CROCKFORD_PAIRS[first_bits]


def pan_like_of(pan: Pan, below: Callable[[int], int]) -> str:
    """Spell a token that looks like a card number, from a source of numbers below a bound."""
    if len(pan) < PAN_LIKE_DIGITS_MIN:
        raise FormatRefused
    free_digits = len(pan) - len(PAN_LIKE_START) - _LAST_DIGITS
    while True:  # one in ten passes Luhn and is drawn again: the others stay equally likely
        token = f"{PAN_LIKE_START}{below(10**free_digits):0{free_digits}}{pan.last4}"
        if not passes_luhn(token):
            return token


def new_pan_like(pan: Pan) -> str:
    """Make a second name for a card's token, or refuse if the number has too few digits."""
    return pan_like_of(pan, secrets.randbelow)


def looks_pan_like(text: str) -> bool:
    """Whether it has the form; nothing but the store tells one of ours from another's."""
    return (
        PAN_LIKE_DIGITS_MIN <= len(text) <= PAN_DIGITS_MAX
        and text.startswith(PAN_LIKE_START)
        and not text.strip(ASCII_DIGITS)
        and not passes_luhn(text)
    )


def id_of(prefix: str, random_bits: int, characters: int = ID_CHARACTERS) -> str:
    """Spell an id: for tests, which know the bits."""
    assert _PREFIX.fullmatch(prefix), "a prefix is a few letters, without the underscore"
    return f"{prefix}_{crockford_number(random_bits, characters)}"


def new_id(prefix: str, characters: int = ID_CHARACTERS) -> str:
    """Make an id such as `fp_…` or `t_…`: at 26 characters, 130 bits that nobody meets twice."""
    return id_of(prefix, secrets.randbits(characters * BITS_A_CHARACTER), characters)
