"""Whether a leaf holds a card number (rule V9): in its text, or in base64 or hex within it.

No leaf may, so a hit is a violation and must not be a guess. What is drawn at random in an
alphabet of its own (UUIDs, tokens, ids, replicas) is left out by its shape. In what remains,
digits come as times, counts, and names from the configuration, none of which has twelve in a
row; base64url of a hash has, by chance, once in 10^8 times. An id that is nothing but digits is
not left out: the price of finding a number in place of an id, once in 10^9 ids.

Not found: numbers of the few brands without a check digit, and encodings other than these.
Pure; says whether, never what or where.
"""

import re
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Final

from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, passes_luhn

# One pass makes bytes comparable: every digit, every separator, and every letter with which the
# base64 of digits begins a group (0x30 to 0x39 are 0011xxxx: M, N or O) become one of a kind.
_SHAPE: Final = bytes.maketrans(b"123456789 NO", b"000000000-MM")
_PLAIN_RUN: Final = b"0" * PAN_DIGITS_MIN
_RUN_IN_FOURS: Final = b"0000-0000-0000"  # as cards are embossed
_RUN_OF_AMEX: Final = b"0000-000000-0000"
_BASE64_RUN: Final = re.compile(rb"M...M...M")  # twelve digits fill at least three groups

_DRAWN: Final = re.compile(
    rb'"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
    rb"|pwt_(?:test|live)_[0-9a-z]{28}"
    rb"|r_[0-9a-z]{8}-[0-9]{1,4}"
    rb'|[a-z]{1,4}_(?=[0-9]*[a-z])[0-9a-z]{2,32})"'
)
_DIGITS: Final = re.compile(rb"[0-9](?:[ -]?[0-9]){%d,}" % (PAN_DIGITS_MIN - 1))
_HEX_OF_DIGITS: Final = re.compile(rf"(?:3[0-9]){{{PAN_DIGITS_MIN},}}")
_BASE64: Final = re.compile(rb"[0-9A-Za-z+/_-]{16,}")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
# ISO/IEC 7812: 2 to 6 are cards; 81 and 86, 96 to 98 national brands; 1 airlines, 15 digits.
_CARD: Final = re.compile(r"(?:[2-6]|8[16]|9[678]).*|1.{14}")


def holds_card(body: bytes) -> bool:
    shape = body.translate(_SHAPE)
    if _may_be_text(shape) and _in_text(body):
        return True
    return _BASE64_RUN.search(shape) is not None and any(map(_in_text, _decoded(body)))


def any_holds_card(lines: bytes) -> bool:
    """Whether a line of many holds a card number; one across two lines is none."""
    shapes = lines.translate(_SHAPE)
    if _may_be_text(shapes):
        return any(map(holds_card, lines.split(b"\n")))
    for run in _BASE64_RUN.finditer(shapes):
        first, end = shapes.rfind(b"\n", 0, run.start()) + 1, shapes.find(b"\n", run.start())
        if holds_card(lines[first:end] if end > 0 else lines[first:]):
            return True
    return False


def _may_be_text(shape: bytes) -> bool:
    return _PLAIN_RUN in shape or _RUN_IN_FOURS in shape or _RUN_OF_AMEX in shape


def _in_text(text: bytes) -> bool:
    runs = _DIGITS.findall(_DRAWN.sub(b'""', text))
    return any(_in_digits(run.translate(None, b" -").decode("ascii")) for run in runs)


def _decoded(body: bytes) -> Iterator[bytes]:
    """Yield what the base64 in it stands for, wherever in a run of its letters it begins."""
    for run in _BASE64.findall(body):
        for start in range(4):
            text = run[start:].translate(_STANDARD)
            yield a2b_base64(text[: len(text) - (len(text) % 4 == 1)] + b"==")


def _in_digits(run: str) -> bool:
    """Whether a run is a card number or, where it is longer than any, has one in it."""
    if len(run) <= PAN_DIGITS_MAX:
        return _is_card(run)
    windows = (
        run[start : start + length]
        for length in range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
        for start in range(len(run) - length + 1)
    )
    of_hex = (pairs[1::2] for pairs in _HEX_OF_DIGITS.findall(run))
    return any(map(_is_card, windows)) or any(map(_in_digits, of_hex))


def _is_card(digits: str) -> bool:
    return _CARD.fullmatch(digits) is not None and passes_luhn(digits)
