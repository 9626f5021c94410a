"""Whether bytes hold one of the tests' card numbers, in any spelling in which one could lie there.

One compiled pattern for all numbers and spellings, quick enough for every file of a deployment.
It says which card by its last four digits and how it is spelled, never the number itself.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cards import ALL

ZEROS_MAX = 2  # packed digits that are mostly zeros are any other number, too
EMPTY = bytes(4096)  # no number goes across so many zeros: most of a database's files


def spellings(number: str) -> Iterator[tuple[str, bytes]]:
    """Give each spelling by its name."""
    digits = number.encode()
    yield "plain", digits
    yield "reversed", digits[::-1]
    fours = [digits[start : start + 4] for start in range(0, len(digits), 4)]
    yield "in fours", b" ".join(fours)
    yield "with hyphens", b"-".join(fours)
    yield "hexadecimal", digits.hex().encode()
    yield "percent-encoded", b"".join(b"%%%x" % digit for digit in digits)
    yield "JSON escapes", b"".join(b"\\u%04x" % digit for digit in digits)
    yield "UTF-16", number.encode("utf-16-le")[:-1]  # and, one byte on, big-endian
    for offset in range(3):
        for name, encode in (("", base64.b64encode), (" for URLs", base64.urlsafe_b64encode)):
            yield f"base64{name} at {offset}", _core(encode(bytes(offset) + digits), offset, number)
    for name, packed in _packed(number):
        if packed.count(0) <= ZEROS_MAX and len(set(packed)) > 1:
            yield name, packed


def _core(encoded: bytes, offset: int, number: str) -> bytes:
    """The letters of base64, six bits each, that hold no bit of a neighbor."""
    return encoded[-(-offset * 8 // 6) : (offset + len(number)) * 8 // 6]


def _packed(number: str) -> Iterator[tuple[str, bytes]]:
    if len(number) % 2:
        yield "BCD, zero first", bytes.fromhex(f"0{number}")
        yield "BCD, F last", bytes.fromhex(f"{number}f")
    else:
        yield "BCD", bytes.fromhex(number)
    if int(number) < 1 << 63:
        yield "integer, big-endian", int(number).to_bytes(8, "big")
        yield "integer, little-endian", int(number).to_bytes(8, "little")


@dataclass(frozen=True)
class Hit:
    """A card number was found: where, whose last four, spelled how."""

    where: str
    last4: str
    spelling: str


class CardSearch:
    """Looks for numbers in bytes, files and folders."""

    def __init__(self, numbers: Sequence[str] = ALL) -> None:
        self._known = {
            spelled: (number[-4:], name)
            for number in numbers
            for name, spelled in spellings(number)
        }
        self._pattern = re.compile(_pattern_of(self._known), re.DOTALL)
        self._clean: set[bytes] = set()  # digests of files: databases begin as copies of one

    def within(self, content: bytes, where: str) -> list[Hit]:
        """Give the distinct hits in some bytes."""
        found = {
            match[0]
            for piece in content.split(EMPTY)
            if piece
            for match in self._pattern.finditer(piece)
        }
        return [Hit(where, *self._known[spelled]) for spelled in sorted(found)]

    def in_folder(self, folder: Path) -> list[Hit]:
        """Look through every file; what is gone in the meantime is gone."""
        hits = []
        for path in sorted(folder.rglob("*")):
            try:
                content = path.read_bytes() if path.is_file() else b""
            except FileNotFoundError:
                continue
            digest = hashlib.blake2b(content).digest()
            found = [] if digest in self._clean else self.within(content, str(path))
            if not found:
                self._clean.add(digest)
            hits += found + self.within(path.name.encode(), f"the name of a file in {folder}")
        return hits


def _pattern_of(spelled: Iterable[bytes]) -> bytes:
    """Write an alternation that shares beginnings: many times as fast as one that does not."""
    tree: dict[Any, Any] = {}
    for word in spelled:
        node = tree
        for byte in word:
            node = node.setdefault(byte, {})
        node[None] = {}
    return _branch(tree)


def _branch(node: dict[Any, Any]) -> bytes:
    if None in node:
        return b""
    ways = [re.escape(bytes([byte])) + _branch(below) for byte, below in node.items()]
    return ways[0] if len(ways) == 1 else b"(?:" + b"|".join(ways) + b")"
