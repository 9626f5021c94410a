"""Ids of events and authorizations, and the alphabet in which all our ids are written.

Here live Crockford's base 32, UUIDs of version 7 (RFC 9562), and an authorization's public id.
What never may: tokens and keys, whose strength is chance alone, and anything made of card data.
"""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # lower-case: no i, l, o, u
CROCKFORD_PAIRS: Final = tuple(first + second for first in CROCKFORD for second in CROCKFORD)
CROCKFORD_CLASS: Final = "[0-9a-hjkmnp-tv-z]"  # one character of it, in a regular expression
BITS_A_CHARACTER: Final = 5
BITS_A_PAIR: Final = 2 * BITS_A_CHARACTER

_UUID_BYTES: Final = 16
_UUID_TAIL_BYTES: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# 26 characters hold 130 bits, a UUID has 128: the first character is at most 7.
_AUTHORIZATION: Final = re.compile(f"aut_([0-7]{CROCKFORD_CLASS}{{25}})")
# int() reads base 32 in another alphabet, 0-9a-v: the value of each character is its place.
_TO_INT_BASE_32: Final = str.maketrans(CROCKFORD, "0123456789abcdefghijklmnopqrstuv")


def crockford_number(value: int, characters: int) -> str:
    """Write a number in so many characters, zeros in front."""
    assert 0 <= value < 1 << characters * BITS_A_CHARACTER, "a number that does not fit"
    odd = CROCKFORD[value & 31] if characters % 2 else ""
    value >>= len(odd) * BITS_A_CHARACTER
    shifts = range((characters // 2 - 1) * BITS_A_PAIR, -1, -BITS_A_PAIR)
    return "".join([CROCKFORD_PAIRS[value >> shift & 1023] for shift in shifts]) + odd


def crockford_encode(data: bytes) -> str:
    """Write bytes as one big-endian number, in the fewest characters that hold every such."""
    return crockford_number(int.from_bytes(data, "big"), -(-len(data) * 8 // BITS_A_CHARACTER))


def uuid7(at_ms: int, random_bytes: bytes) -> UUID:
    """Put 48 bits of Unix milliseconds before 74 random ones (RFC 9562, 5.7)."""
    return UUID(int=_uuid7(at_ms, random_bytes))


def _uuid7(at_ms: int, random_bytes: bytes) -> int:
    assert 0 <= at_ms < 1 << 48, "a time outside of what fits"
    assert len(random_bytes) == _UUID_TAIL_BYTES, "ten bytes, of which six bits are not used"
    tail = int.from_bytes(random_bytes, "big")
    tail = tail & ~(0xF << 76) | 0x7 << 76  # version
    tail = tail & ~(0b11 << 62) | 0b10 << 62  # variant
    return at_ms << 80 | tail


def new_uuid7(now: datetime) -> UUID:
    """Make one for this moment; within a millisecond their order is by chance."""
    return uuid7((now - _EPOCH) // _MILLISECOND, secrets.token_bytes(_UUID_TAIL_BYTES))


def new_uuid7_text(now: datetime) -> str:
    """Make one as text, which costs half as much: a new entry has one, and so has each card."""
    text = f"{_uuid7((now - _EPOCH) // _MILLISECOND, secrets.token_bytes(_UUID_TAIL_BYTES)):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def authorization_id(intent: str) -> str:
    """Give the public id of the authorization whose first attempt is this intent."""
    return f"aut_{crockford_encode(UUID(intent).bytes)}"


def intent_of(authorization: str) -> str | None:
    """Give the intent back as UUID text, or None if this is no authorization's id."""
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        return None
    return str(UUID(int=int(found[1].translate(_TO_INT_BASE_32), 32)))
