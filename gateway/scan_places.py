"""Where in a body a card may be spelled at all: a look that costs next to nothing. Pure.

A test is asked of the whole piece, and where it says maybe, of each small block of it with what a
card may span on both sides. What never lives here: the tests, and the exact look.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

PIECE: Final = 64 * 1024
BLOCK: Final = 4096
MARGIN: Final = 512
"""A card has fewer bytes, however it is spelled."""
_DIGITS: Final = b"0123456789"
SEPARATORS: Final = b" -._+\t"
DELETED: Final = SEPARATORS + b"\0"  # which is every other byte of digits in UTF-16
ZEROS: Final = bytes(ord("0") if byte in _DIGITS else byte for byte in range(256))
_IN_ROWS: Final = _DIGITS + DELETED

Span = tuple[int, int]


_NEAR: Final = bytes(
    ord("0") if byte in _IN_ROWS else byte if byte == ord(":") else ord(" ") for byte in range(256)
)
# ASCII's letters and digits: what a long run of is base64, or hex.
_LETTERS: Final = bytes(
    ord("b") if chr(byte).isalnum() and byte < 128 else ord(" ")  # noqa: PLR2004 - ASCII
    for byte in range(256)
)


class Part:
    """A part of a body, and what the tests look at: each made once."""

    __slots__ = ("_bare", "_letters", "_near", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._bare: bytes | None = None
        self._near: bytes | None = None
        self._letters: bytes | None = None

    @property
    def bare(self) -> bytes:
        """Zeros for its digits, the separators between them gone, and the rest as it is."""
        if self._bare is None:
            self._bare = self.raw.translate(ZEROS, DELETED)
        return self._bare

    @property
    def near(self) -> bytes:
        """Zeros for its digits and for the separators too, in their places."""
        if self._near is None:
            self._near = self.raw.translate(_NEAR)
        return self._near

    @property
    def letters(self) -> bytes:
        """One letter for all of ASCII's letters and digits, in their places."""
        if self._letters is None:
            self._letters = self.raw.translate(_LETTERS)
        return self._letters


Test = Callable[[Part], bool]


def likely_spans(body: bytes, tests: Sequence[Test]) -> list[list[Span]]:
    """List for each test the parts of which it says that they may hold something."""
    spans: list[list[Span]] = [[] for _ in tests]
    for start in range(0, len(body), PIECE):
        end = min(len(body), start + PIECE)
        whole = body if len(body) <= PIECE else body[max(0, start - MARGIN) : end + MARGIN]
        piece = Part(whole)
        passed = [(at, test) for at, test in enumerate(tests) if test(piece)]
        if len(whole) <= BLOCK + MARGIN:
            for at, _ in passed:
                _add(spans[at], max(0, start - MARGIN), len(body))
        elif passed:
            for block in range(start, end, BLOCK):
                first, last = max(0, block - MARGIN), min(len(body), block + BLOCK + MARGIN)
                part = Part(body[first:last])
                for at, test in passed:
                    if test(part):
                        _add(spans[at], first, last)
    return spans


def _add(spans: list[Span], start: int, end: int) -> None:
    if spans and start <= spans[-1][1]:
        start = spans.pop()[0]
    spans.append((start, end))


def pieces_of(body: bytes, spans: list[Span]) -> Iterator[Span]:
    """Yield the spans in pieces of a size to work on, whose ends cut no row of digits short."""
    for first, last in spans:
        start = first
        while start < last:
            end = min(last, start + PIECE)
            yield _before_row(body, start), _after_row(body, end)
            if end == last:
                break
            start = end - MARGIN


def _before_row(body: bytes, start: int) -> int:
    before = body[max(0, start - MARGIN) : start]
    return start - len(before) + len(before.rstrip(_IN_ROWS))


def _after_row(body: bytes, end: int) -> int:
    after = body[end : end + MARGIN]
    return end + len(after) - len(after.lstrip(_IN_ROWS))
