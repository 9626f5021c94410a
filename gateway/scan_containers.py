"""Runs of base64 and of hex that may hold a number: where, and what they decode to. Pure.

What never lives here: what makes a number a card.
"""

import re
from base64 import b64encode
from binascii import a2b_base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from gateway.scan_places import Part

# Three bytes are four letters, and if the second and the third byte are digits, then the second
# letter is of the first of these sets, the third of the second, the fourth of the third. Grouped
# as ever, a card has that again four, eight or twelve letters on.
_SHAPE: Final = bytes(
    ord("1")
    if byte in b"DTjz"  # the z is of the third set too
    else ord("2")
    if byte in b"AEIMQUYcgk"
    else ord("3")
    if byte in b"wxy012345"
    else ord(".")
    for byte in range(256)
)
_LIKE_CHAIN: Final = re.compile(rb"12[13](?=(?s:.|.{5}|.{9})12[13])")
_CHAIN: Final = re.compile(
    rb"[DTjz][AEIMQUYcgk][w-z0-5](?=(?s:.|.{5}|.{9})[DTjz][AEIMQUYcgk][w-z0-5])"
)
# What is nested in base64 is ASCII, or UTF-16 of it: neither of the two other letters.
_NESTED_MIN: Final = 32
_NESTED: Final = b"b" * _NESTED_MIN
_NESTED_RUN: Final = re.compile(rb"[A-Za-z0-9]{%d}" % _NESTED_MIN)
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_\-\0]{16,}+")
_IN_RUNS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_SHORT: Final = 44
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
_LINE_MIN: Final = 60
# Behind a line of that width, where another follows: a boundary or an empty line ends the run.
_FOLDS: Final = tuple(  # each begins with plain bytes, which are found quickly
    (re.compile(rb"%b(?<=[A-Za-z0-9+/]{60}%b)(?=[A-Za-z0-9+/])" % (end, end)), b"\0" * length)
    for end, length in ((rb"\n", 1), (rb"\r\n", 2), (rb"\\\n", 2), (rb"\\\r\n", 3))
)
_LINE_MAX: Final = 78
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r"
_BYTES: Final = 3
TAIL_MAX: Final = 3 * 1024


@dataclass(slots=True, repr=False)
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
    is_open: bool
    """Whether more of it may follow, past what was looked at."""

    def from_byte(self, place: int) -> tuple[int, int]:
        """Give the last group's start at or before a decoded byte: in the body, and decoded."""
        if not self.is_straight:
            return self.start, 0
        groups = place // _BYTES
        return self.start + groups * _GROUP, groups * _BYTES

    def up_to(self, place: int, end_max: int) -> tuple[int, int]:
        """Give where to end: with the run or, in a long one, with the group of a decoded byte."""
        if (self.end <= end_max and not self.is_open) or not self.is_straight:
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


def may_hold_base64(part: Part) -> bool:
    """Whether there may be base64 of a card, or of what spells one."""
    if _LIKE_CHAIN.search(part.raw.translate(_SHAPE)) is not None:
        return True
    letters = part.letters
    at = letters.find(_NESTED)
    while at >= 0:
        end = letters.find(b" ", at)
        if not part.raw[at : len(letters) if end < 0 else end].islower():
            return True  # in lower case it is hex, or an id: base64 of ASCII has capitals
        at = letters.find(_NESTED, end) if end >= 0 else -1
    return False


def around_runs(body: bytes, start: int, end: int) -> tuple[int, int]:
    """Widen a place so that it cuts no run, unless that is a long one."""
    before, after = body[max(0, start - TAIL_MAX) : start], body[end : end + TAIL_MAX]
    return (
        start - len(before) + len(before.rstrip(_IN_RUNS)),
        end + len(after) - len(after.lstrip(_IN_RUNS)),
    )


@dataclass(slots=True, repr=False)
class _Letters:
    """What is between the ends of a run, without line ends."""

    start: int
    end: int
    letters: bytes
    phases: Sequence[int]


@dataclass(slots=True, repr=False)
class Batch:
    """Many runs in one phase each, decoded one behind the other."""

    body: bytes
    text: bytes
    runs: Sequence[_Letters]
    phase: int
    decoded: bytes
    goes_on: bool

    starts: Sequence[int]

    def run_of(self, place: int) -> tuple[Base64Run, int]:
        """Give the run that a decoded byte is of, and where in `decoded` it begins."""
        index = bisect_right(self.starts, place) - 1
        each = self.runs[index]
        size = (len(each.letters) - self.phase) * _BYTES // _GROUP
        decoded = self.decoded[self.starts[index] : self.starts[index] + size]
        is_open = self.goes_on and each.end == len(self.text)
        return _run(self.body, self.text, each, self.phase, decoded, is_open), self.starts[index]


def base64_batches(body: bytes, *, may_be_nested: bool, goes_on: bool) -> Iterator[Batch]:
    """Yield what may be base64 of digits, for each phase in which it may be.

    `goes_on`: there is more behind it that is not looked at now.
    """
    text = body
    for escape, letter in _WITHIN if b"%" in text or b"\\" in text else ():
        if escape in text:
            text = text.replace(escape, letter)
    if _is_wrapped(body):
        for fold, nothing in _FOLDS:
            text = fold.sub(nothing, text)
    runs = list(_likely_runs(text, may_be_nested=may_be_nested))
    for phase in range(_GROUP):
        here = [each for each in runs if phase in each.phases]
        if here:
            padded = [
                each.letters[phase:] + _FILLED[(len(each.letters) - phase) % _GROUP]
                for each in here
            ]
            decoded = a2b_base64(b"".join(padded).translate(_STANDARD))
            lengths = [len(each) // _GROUP * _BYTES for each in padded]
            starts = list(accumulate(lengths, initial=0))[:-1]
            yield Batch(body, text, here, phase, decoded, goes_on, starts)


_FILLED: Final = (b"AQEB", b"AAAAQEB", b"AAAQEB", b"AAQEB")  # whole groups, and three bytes more


def _likely_runs(text: bytes, *, may_be_nested: bool) -> Iterator[_Letters]:
    for found in _RUN.finditer(text):
        letters = found[0]
        if b"\0" in letters:
            letters = letters.translate(None, b"\0")
        if len(letters) < _SHORT:
            chain = _CHAIN.search(letters)
            if chain is not None:
                yield _Letters(*found.span(), letters, ((chain.start() - 1) % _GROUP,))
                continue
        elif _CHAIN.search(letters) is not None:
            yield _Letters(*found.span(), letters, range(_GROUP))
            continue
        if may_be_nested and not letters.islower() and _NESTED_RUN.search(letters):
            yield _Letters(*found.span(), letters, range(_GROUP))


def _is_wrapped(body: bytes) -> bool:
    """Whether a line of it is base64 of the usual width and nothing else (RFC 2045, RFC 7468)."""
    if not 0 < body.count(b"\n") * _LINE_MIN <= 2 * len(body):
        return False
    return any(
        _LINE_MIN <= len(line) <= _LINE_MAX and not line.translate(None, _ALPHABET)
        for line in body.split(b"\n")
    )


def _run(
    body: bytes,
    text: bytes,
    each: _Letters,
    phase: int,
    decoded: bytes,
    is_open: bool,  # noqa: FBT001 - called in one place
) -> Base64Run:
    start, end, letters = each.start, each.end, each.letters
    is_straight = len(letters) == end - start
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
    end = padding.end() if padding else end
    return Base64Run(
        start=start,
        end=end,
        decoded=decoded[: len(letters) * _BYTES // _GROUP],
        is_straight=is_straight,
        is_url_safe=b"-" in letters or b"_" in letters,
        is_padded=padding is not None or len(letters) % _GROUP == 0,
        in_percent=b"%" in body[start:end],
        is_open=is_open,
    )


def _place_of_letter(text: bytes, start: int, count: int) -> int:
    while count or text[start] == 0:
        count -= text[start] != 0
        start += 1
    return start
