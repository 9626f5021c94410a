"""Runs of base64 and of hex that may hold a number: where, and what they decode to. Pure.

What never lives here: what makes a number a card.
"""

import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.scan_rows import Work

# The base64 of three digits begins with M, N or O, of a space, a hyphen, a point or an escape
# between digits with I to L: three groups of four letters at least.
_FIRST: Final = b"IJKLMNO"
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_SHAPE: Final = bytes(
    ord("M") if byte in _FIRST else ord("a") if byte in _LETTERS else ord(" ")
    for byte in range(256)
)
_LIKELY: Final = b"MMM"  # of every fourth letter
# Of the base64 of the base64 of digits every fourth letter is one of these.
_NESTED_SHAPE: Final = bytes(ord("M") if byte in b"MNQRSTUVWYZade" else 32 for byte in range(256))
_NESTED: Final = b"M" * 4
_IN_RUN: Final = bytes(97 if shape != 32 or byte == 0 else 32 for byte, shape in enumerate(_SHAPE))  # noqa: PLR2004 - a width or a byte, named beside it
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_\-\0]{16,}+")
_PADDING: Final = re.compile(rb"(?:=|%3[Dd]|\\u003[dD]){1,2}")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_WITHIN: Final = (  # what stands between the letters of one run, or for one of them
    *((b"%2B", b"\0\0+"), (b"%2b", b"\0\0+"), (b"%2F", b"\0\0/"), (b"%2f", b"\0\0/")),
    *(
        (b"%0D%0A", b"\0" * 6),
        (b"%0A", b"\0" * 3),
        (b"\\u002b", b"\0" * 5 + b"+"),
        (b"\\u002B", b"\0" * 5 + b"+"),
    ),
    *((b"\\/", b"\0/"), (b"\\r\\n", b"\0" * 4)),
)
_GROUP: Final = 4
_RUN_STEPS: Final = 32
_LINE_MIN: Final = 60
_LINE_MAX: Final = 78
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r"
_BYTES: Final = 3
TAIL_MAX: Final = 3 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Base64Run:
    """A run of base64 from one of its groups on, and what it decodes to."""

    start: int
    end: int
    """With its padding."""
    decoded: bytes
    is_straight: bool
    """Whether each of its letters is one byte of the body, one after the other."""
    is_url_safe: bool
    is_padded: bool
    in_percent: bool

    def from_byte(self, place: int) -> tuple[int, int]:
        """Give the last group's start at or before a decoded byte: in the body, and decoded."""
        if not self.is_straight:
            return self.start, 0
        groups = place // _BYTES
        return self.start + groups * _GROUP, groups * _BYTES

    def up_to(self, place: int, end_max: int) -> tuple[int, int]:
        """Give where to end: with the run or, in a long one, with the group of a decoded byte."""
        if self.end <= end_max or not self.is_straight:
            return self.end, len(self.decoded)
        groups = -(-place // _BYTES)
        end = self.start + groups * _GROUP
        return (end, groups * _BYTES) if end < self.end else (self.end, len(self.decoded))

    def label(self, inner: str) -> str:
        around = "percent/base64" if self.in_percent else "base64"
        return around if inner == "plain" else f"{around}/{inner}"

    def encoded(self, decoded: bytes) -> bytes:
        text = b64encode(decoded)
        if self.is_url_safe:
            text = text.translate(_URL_SAFE)
        if not self.is_padded:
            text = text.rstrip(b"=")
        if self.in_percent:
            for letter, escape in ((b"+", b"%2B"), (b"/", b"%2F"), (b"=", b"%3D")):
                text = text.replace(letter, escape)
        return text


def base64_runs(body: bytes, work: Work, *, may_be_nested: bool) -> Iterator[Base64Run]:
    """Yield what may be base64 of digits, for each phase in which it may be."""
    text = body
    for escape, letter in _WITHIN:
        if escape in text:
            text = text.replace(escape, letter)
    if _is_wrapped(body):
        text = text.replace(b"\r", b"\0").replace(b"\n", b"\0").replace(b"\\\0", b"\0\0")
    kinds = ((_SHAPE, _LIKELY), (_NESTED_SHAPE, _NESTED))
    for shape, enough in kinds[: 1 + may_be_nested]:
        for start, end in _likely_runs(text, shape, enough, work):
            letters = text[start:end].translate(None, b"\0")
            shaped = letters.translate(shape)
            for phase in range(_GROUP):
                steps = _RUN_STEPS + len(letters) // 32
                if enough in shaped[phase::_GROUP] and work.spend(steps):
                    yield _run(body, text, (start, end), letters, phase)


def _is_wrapped(body: bytes) -> bool:
    """Whether a line of it is base64 of the usual width and nothing else (RFC 2045, RFC 7468)."""
    if not 0 < body.count(b"\n") * _LINE_MIN <= 2 * len(body):
        return False
    return any(
        _LINE_MIN <= len(line) <= _LINE_MAX and not line.translate(None, _ALPHABET)
        for line in body.split(b"\n")
    )


def _likely_runs(text: bytes, shape: bytes, enough: bytes, work: Work) -> list[tuple[int, int]]:
    """List the runs with every fourth letter as it would be, often enough."""
    shaped = text.translate(shape)
    if b"\0" in text:  # letters are not four apart where lines are wrapped
        straight = text.translate(shape, b"\0")
        if not any(enough in straight[phase::_GROUP] for phase in range(_GROUP)):
            return []
        return [run.span() for run in _RUN.finditer(text) if work.spend(1 + len(run[0]) // 16)]
    runs: dict[tuple[int, int], None] = {}
    outline = b""
    for phase in range(_GROUP):
        fourths = shaped[phase::_GROUP]
        at = fourths.find(enough)
        while at >= 0 and work.spend():
            place = at * _GROUP + phase
            found = _RUN.match(text, place)
            if found is not None and work.spend(1 + len(found[0]) // 32):
                outline = outline or text.translate(_IN_RUN)
                runs[outline.rfind(b" ", 0, place) + 1, found.end()] = None
            end = place if found is None else found.end()
            at = fourths.find(enough, max(at + 1, (end - phase) // _GROUP))
    return sorted(runs)


def _run(body: bytes, text: bytes, span: tuple[int, int], letters: bytes, phase: int) -> Base64Run:
    start, end = span
    raw = text[start:end]
    is_straight = len(letters) == len(raw)
    if is_straight:
        start += phase
    else:
        start = _place_of_letter(text, start, phase)
        while end > start and text[end - 1] == 0:
            end -= 1
    letters = letters[phase:]
    if len(letters) % _GROUP == 1:
        letters, end = letters[:-1], end - 1
    padding = _PADDING.match(body, end) if len(letters) % _GROUP else None
    before_padding, end = end, padding.end() if padding else end
    return Base64Run(
        start=start,
        end=end,
        decoded=a2b_base64(letters.translate(_STANDARD) + b"=="),
        is_straight=is_straight,
        is_url_safe=b"-" in letters or b"_" in letters,
        is_padded=padding is not None or len(letters) % _GROUP == 0,
        in_percent=b"%" in body[start:end] and before_padding <= end,
    )


def _place_of_letter(text: bytes, start: int, count: int) -> int:
    while count or text[start] == 0:
        count -= text[start] != 0
        start += 1
    return start


# --- hex ------------------------------------------------------------------------------------

_HEX_ROW: Final = re.compile(
    rb"(?<!3[0-9])3[0-9](?:(?:(?:20|2[dDeE]|[cC]2[aA]0){1,2}+|00|000000)?3[0-9]){11,}+"
)
_HEX_SPACED: Final = re.compile(rb"(?<![0-9A-Fa-f ])(?:[0-9A-Fa-f]{2}[ :]){11,}+[0-9A-Fa-f]{2}")


_SPELLED_ROW: Final = re.compile(rb"(?<![0-9])[0-9](?:[ \-.]{0,2}+[0-9]){11,18}+(?![0-9])")
_HEX_FIRSTS: Final = bytes.maketrans(b"20", b"33")
_HEX_ENOUGH: Final = b"3" * 12
_NO_DIGITS: Final = bytes(byte for byte in range(256) if byte not in b"0123456789")


@dataclass(frozen=True, slots=True, repr=False)
class HexRow:
    """The hex of a row of digits."""

    start: int
    end: int
    digits: str
    raw: bytes

    def encoded(self, text: str) -> bytes:
        plain = text.encode()
        gap = self.raw[2:3] if self.raw[2:3] in b" :" else b""
        width = 4 if self.raw[2:8] == b"000000" else 2 if self.raw[2:4] == b"00" else 1
        if width > 1:
            plain = text.encode(f"utf-{16 if width == 2 else 32}-le")  # noqa: PLR2004 - a width or a byte, named beside it
        spelled = (plain.hex(gap.decode()) if gap else plain.hex()).encode()
        return spelled.upper() if self.raw != self.raw.lower() else spelled

    def starred(self, kept: str) -> bytes:
        unit = len(self.encoded("00")) - len(self.encoded("0"))
        return self.encoded(kept.rjust(-(-len(self.raw) // unit), "*"))


def _may_have(body: bytes, step: int) -> bool:
    """Whether enough characters so far apart are first ones of the hex of digits."""
    firsts = body.translate(_HEX_FIRSTS)
    return any(_HEX_ENOUGH in firsts[phase::step] for phase in range(step))


def hex_rows(body: bytes, work: Work) -> Iterator[HexRow]:
    """Yield the rows of digits spelled in hex."""
    if _may_have(body, 2):
        for found in _HEX_ROW.finditer(body):
            if not work.spend(2 + len(found[0]) // 32):
                return
            digits = bytes.fromhex(found[0].decode()).translate(None, _NO_DIGITS).decode()
            yield HexRow(found.start(), found.end(), digits, found[0])
    if _may_have(body, 3):
        for found in _HEX_SPACED.finditer(body):
            if not work.spend(2 + len(found[0]) // 16):
                return
            yield from _in_pairs(found)


def _in_pairs(found: re.Match[bytes]) -> Iterator[HexRow]:
    """Yield the rows of digits in hex with a space or a colon after each byte."""
    pairs = bytes.fromhex(found[0].decode().replace(":", " "))
    for row in _SPELLED_ROW.finditer(pairs):
        start, end = row.start() * 3, row.end() * 3 - 1
        digits = row[0].translate(None, _NO_DIGITS).decode()
        yield HexRow(found.start() + start, found.start() + end, digits, found[0][start:end])
