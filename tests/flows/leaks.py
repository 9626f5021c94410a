"""Whether bytes hold one of the tests' card numbers, as it is or encoded.

Every answer, every log line and, at the end, every file of the deployment goes through here.
"""

import base64
import re
from collections.abc import Iterator

from tests.cards import ALL


def forms_of(number: str) -> Iterator[bytes]:
    """Spell a number as it is, in fours, in hex, and in base64 at each of its three offsets."""
    digits = number.encode()
    yield digits
    yield from (mark.join(_fours(digits)) for mark in (b" ", b"-"))
    yield digits.hex().encode()
    for offset in range(3):  # a character has six bits: only those that no neighbor has part in
        encoded = base64.b64encode(bytes(offset) + digits)
        yield encoded[-(-offset * 8 // 6) : (offset + len(digits)) * 8 // 6]


def _fours(digits: bytes) -> list[bytes]:
    return [digits[start : start + 4] for start in range(0, len(digits), 4)]


_ANY = re.compile(b"|".join({re.escape(form) for number in ALL for form in forms_of(number)}))


def first_leak(content: bytes) -> bytes | None:
    """Give what stands around the first card number, to find who wrote it."""
    found = _ANY.search(content)
    if found is None:
        return None
    return content[max(0, found.start() - 80) : found.end() + 40]
