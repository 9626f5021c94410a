"""Whether a number that was sent is in a reply, and how many numbers in it look like cards. Pure.

Two questions. *Is this number in there, however it is spelled?* is asked of a reply about the
numbers that were sent, and has to be answered for every spelling that an echo can have.
*How many numbers in there look like cards?* feeds an alert on a rate and nothing else: 2.8 % of
random 16-digit ids pass for cards. Finding cards that nobody knows is `gateway.scan`.

What never lives here: what is done about a find. Nothing returned, raised or printed holds a
digit of the body. No pattern is made from a number either: `re` keeps patterns in a cache.
"""

import base64
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Final

from vault.card import UNKNOWN, brand_of
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN, passes_luhn

_DIGITS: Final = b"0123456789"
_NO_DIGITS: Final = bytes(byte for byte in range(256) if byte not in _DIGITS)
_ASCII: Final = bytes(range(128))
_WHITE: Final = b" \t\r\n"
_NO_BREAK_SPACE: Final = "\u00a0"
_DOT_OR_NO_BREAK: Final = frozenset(".\u00a0".encode())  # not worth a pass over the body each


# --- is this number in there? -------------------------------------------------------------

# Answered on the body's digits alone, all else left out. Then every separator, UTF-16 and a split
# over several values come to the same thing, and what spells ASCII digits in hexadecimal (`%34`,
# `\u0034`, `&#x34;`), decimal or octal is a longer row of digits, known beforehand.

UNESCAPED_TIMES: Final = 2  # an escape within an escape: %2534

_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BACKSLASH: Final = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([\\nrt]))")
_ENTITY: Final = re.compile(rb"&#?[0-9A-Za-z]{1,31};?")


class Sought:
    """A number to look for, and what it looks like in each spelling. It holds digits: drop it.

    Every spelling begins with the same four digits. So what those look like in each encoding is
    looked for first, and all that can follow is spelled out only where they are.
    """

    __slots__ = ("_base64_starts", "_number", "_row_starts", "_rows")

    def __init__(self, number: str) -> None:
        plain, start = number.encode(), number[:4].encode()
        self._number = number
        self._rows = (plain, plain[::-1])  # digits stand for themselves: no separator is seen
        self._row_starts = tuple(_digits_of(encode(start)) for encode in _ENCODINGS)
        self._base64_starts = tuple(_base64_cores(start))

    def is_in(self, views: "Views") -> bool:
        return (
            any(self._is_in_digits(view) for view in views.digits)
            or self._is_in_base64(views.unwrapped)
            or (bool(views.binary) and any(each in views.binary for each in self._binary()))
        )

    def _is_in_digits(self, view: bytes) -> bool:
        if len(view) < len(self._number):
            return False
        if any(row in view for row in self._rows):
            return True
        if not any(start in view for start in self._row_starts):
            return False
        spelled = (encode(each) for each in self._spellings() for encode in _ENCODINGS)
        return any(_digits_of(each) in view for each in spelled)

    def _is_in_base64(self, unwrapped: bytes) -> bool:
        if not any(start in unwrapped for start in self._base64_starts):
            return False
        plain = (each for each in self._spellings() if not _DOT_OR_NO_BREAK & set(each))
        return any(core in unwrapped for each in plain for core in _base64_cores(each))

    def _spellings(self) -> frozenset[bytes]:
        return frozenset((self._number.encode(), *_grouped(self._number)))

    def _binary(self) -> tuple[bytes, bytes]:
        """Spell it in BCD and in EBCDIC."""
        even = self._number if len(self._number) % 2 == 0 else f"{self._number}f"
        return bytes.fromhex(even), self._number.encode("cp037")


@dataclass(frozen=True, slots=True, repr=False)
class Views:
    """One body in the forms that are searched: made once, for any number of numbers."""

    digits: Sequence[bytes]
    unwrapped: bytes
    binary: bytes  # empty for a body in ASCII: eight letters could be a number in packed form

    @classmethod
    def of(cls, body: bytes) -> "Views":
        plain = _unescaped(body)
        texts = [body] if plain is body else [body, plain]
        if not plain.isascii() and (in_ascii := _with_ascii_digits(plain)) is not plain:
            texts.append(in_ascii)
        return cls(
            digits=tuple(text.translate(None, _NO_DIGITS) for text in texts),
            unwrapped=plain.translate(None, _WHITE),
            binary=b"" if body.isascii() else body,
        )


def contains_any(body: bytes, sought: Sequence[Sought]) -> bool:
    """Whether any of these numbers is in there, however it is spelled."""
    if not sought:
        return False
    views = Views.of(body)
    return any(number.is_in(views) for number in sought)


def _grouped(number: str) -> Iterator[bytes]:
    """Yield it in fours, and as it is printed on cards, with each separator."""
    fours = [number[at : at + 4] for at in range(0, len(number), 4)]
    amex = [number[:4], number[4:10], number[10:]] if len(number) == 15 else fours  # noqa: PLR2004
    for separator in (" ", "-", ".", _NO_BREAK_SPACE):
        yield separator.join(fours).encode()
        yield separator.join(amex).encode()


def _base64_cores(spelling: bytes) -> Iterator[bytes]:
    """Yield its base64 as it is after 0, 1 and 2 other bytes, without what those bear on.

    Digits need neither of the two characters in which base64url differs.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + spelling)
        yield encoded[-(-before * 8 // 6) : (before + len(spelling)) * 8 // 6]


def _digits_of(text: bytes) -> bytes:
    return text.translate(None, _NO_DIGITS)


_ENCODINGS: Final[tuple[Callable[[bytes], bytes], ...]] = (  # each byte by itself
    lambda spelling: spelling.hex().encode(),
    lambda spelling: spelling.hex("~").replace("~", "00").encode(),  # UTF-16, and so `\u0034`
    lambda spelling: b"".join(b"%d" % byte for byte in spelling),  # `&#52;`
    lambda spelling: b"".join(b"%03o" % byte for byte in spelling),  # `\064`
)


def _unescaped(body: bytes) -> bytes:
    """Undo percent, JSON and HTML escapes: a mixture of them hides a number from the above."""
    for _ in range(UNESCAPED_TIMES):
        before = body
        for start, escape, character in _ESCAPES:
            if start in body:
                undone, times = escape.subn(character, body)
                body = undone if times else body
        if body is before:
            break
    return body


def _of_percent(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape[1].decode())


def _of_backslash(escape: re.Match[bytes]) -> bytes:
    code, byte, letter = escape.groups()
    if letter:
        return letter if letter == b"\\" else b""
    if byte:
        return bytes.fromhex(byte.decode())
    return chr(int(code, 16)).encode("utf-8", "ignore")


def _of_entity(escape: re.Match[bytes]) -> bytes:
    return unescape(escape[0].decode()).encode("utf-8", "ignore")


_ESCAPES: Final = (
    (b"%", _PERCENT, _of_percent),
    (b"\\", _BACKSLASH, _of_backslash),
    (b"&", _ENTITY, _of_entity),
)


def _with_ascii_digits(text: bytes) -> bytes:
    """Write the digits of other scripts, full-width, raised and circled ones in ASCII."""
    for character in set(text.translate(None, _ASCII).decode("utf-8", "ignore")):
        digit = unicodedata.digit(character, None)
        if digit is not None:
            text = text.replace(character.encode(), b"%d" % digit)
    return text


# --- where can it be replaced? ------------------------------------------------------------

_DIGIT: Final = (
    rb"(?:%3|(?<!\\)\\u(?:003|[fF]{2}1))?([0-9])"
    rb"|&#[xX]3([0-9]);|&#(4[89]|5[0-7]);|\xef\xbc([\x90-\x99])"
)
_SEPARATOR: Final = (
    rb"[ .\-+_\t]|\xc2\xa0|\xe2\x80[\x80-\x95\xaf]|%20|%2[DdEe]|%[Cc]2%[Aa]0"
    rb"|\\u00[Aa]0|\\u20[01][0-9A-Fa-f]|\\u202[Ff]|&nbsp;|&#(?:160|32|45);"
)
# Without groups: CPython 3.11 loses count of those within a possessive repeat (SystemError).
_ANY_DIGIT: Final = re.sub(rb"\((?!\?)", b"(?:", _DIGIT)
_SPELLED: Final = re.compile(
    rb"(?:%b)(?:(?:%b){0,3}+(?:%b)){11,}+" % (_ANY_DIGIT, _SEPARATOR, _ANY_DIGIT)
)
_UNESCAPED: Final = _DIGITS + b" .-+_\t"
_ONE: Final = re.compile(rb"%b|%b" % (_SEPARATOR, _DIGIT))


def places_of(body: bytes, number: str) -> list[tuple[int, int]]:
    """Find where it is spelled digit by digit, so that a token can stand in its place.

    That is: plain, with separators, and with some or all of it in percent, JSON or HTML escapes.
    """
    sought = number.encode()
    places = []
    for row in _SPELLED.finditer(body):
        text = row[0]
        if not text.strip(_UNESCAPED) and sought not in text.translate(None, _NO_DIGITS):
            continue  # found out sooner than digit by digit
        ones = _ONE.finditer(body, row.start(), row.end())
        spelled = [each for each in ones if any(each.groups())]
        digits = b"".join(_digit(each) for each in spelled)
        found = digits.find(sought)
        while found >= 0:
            last = found + len(sought) - 1
            places.append((spelled[found].start(), spelled[last].end()))
            found = digits.find(sought, last + 1)
    return places


def _digit(spelled: re.Match[bytes]) -> bytes:
    plain, hexadecimal, decimal, full_width = spelled.groups()
    if decimal:
        return bytes([int(decimal)])
    return bytes([full_width[0] - 0x90 + _DIGITS[0]]) if full_width else plain or hexadecimal


# --- how many numbers look like cards? ----------------------------------------------------

CANDIDATES_MAX: Final = 10_000  # it is a count for an alert: a body made of digits gets no more

_ROW_START: Final = b"0" * PAN_DIGITS_MIN
_GROUPS_START: Final = b"0000-"
_OUTLINE: Final = bytes(
    ord("0") if byte in _DIGITS else ord("-") if byte in b" -" else ord(".") for byte in range(256)
)
# Literal beginnings: found several times faster than a class, and looked for without a pattern.
_ROW: Final = re.compile(_ROW_START + rb"0*+")
_GROUPS: Final = re.compile(_GROUPS_START + rb"-?+0++(?:-{1,2}+0++)*+")
_DECIMALS: Final = re.compile(rb"[0-9]\.")
_GROUP: Final = re.compile(rb"[0-9]++")
_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_UUID_LENGTH: Final = 36


def count_card_like(body: bytes) -> int:
    """Count the numbers, plain or in groups, with a brand's prefix and length that pass Luhn.

    Rows of more digits than a card has are no candidates: within a row of 32 random digits 71 %
    would find a card.
    """
    outline = body.translate(_OUTLINE)
    count = 0
    for examined, candidate in enumerate(_candidates(body, outline)):
        if examined == CANDIDATES_MAX:
            break
        count += _looks_like_a_card(candidate.decode())
    return count


def _candidates(body: bytes, outline: bytes) -> Iterator[bytes]:
    for start, end in _spans(_ROW_START, _ROW, outline):
        if end - start <= PAN_DIGITS_MAX and not _DECIMALS.match(body, max(0, start - 2)):
            yield body[start:end]
    for start, end in _spans(_GROUPS_START, _GROUPS, outline):
        if not _in_uuid(body, start):
            groups = _GROUP.findall(body, start, end)
            partial = outline.startswith(b"0", max(0, start - 1)) and start > 0
            yield from _windows(groups[partial:])


def _spans(
    beginning: bytes, pattern: re.Pattern[bytes], outline: bytes
) -> Iterator[tuple[int, int]]:
    if beginning in outline:
        for found in pattern.finditer(outline):
            yield found.span()


def _in_uuid(body: bytes, place: int) -> bool:
    near = max(0, place - _UUID_LENGTH)
    return any(
        found.start() <= place < found.end()
        for found in _UUID.finditer(body, near, place + _UUID_LENGTH)
    )


def _windows(groups: Sequence[bytes]) -> Iterator[bytes]:
    """Yield neighboring groups that together have the digits of a card: a date may follow one."""
    for first in range(len(groups) - 1):
        joined = groups[first]
        for group in groups[first + 1 : first + PAN_DIGITS_MAX]:
            joined += group
            if len(joined) > PAN_DIGITS_MAX:
                break
            if len(joined) >= PAN_DIGITS_MIN:
                yield joined


def _looks_like_a_card(digits: str) -> bool:
    brand = brand_of(digits)
    return brand.name != UNKNOWN and len(digits) in brand.lengths and passes_luhn(digits)
