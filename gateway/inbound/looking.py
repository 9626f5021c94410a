"""Where a part of a message is looked at for cards, and how: as bytes, and as text. Pure.

The scanner sees the bytes with the declared fields starred out, so that no find reaches into one.
What it undoes of escapes is not all that a reader of the format does (a CDATA section within a
number, a number with an exponent): so every value that its bytes do not spell is looked at as
text too. What never lives here: what is done about a find.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Final

from gateway.codecs.multipart import media_type
from gateway.codecs.splice import Field, Format, Shape
from gateway.inbound.areas import Area
from gateway.scan import Hit, Kind, find_cards
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN

BINARY_TYPES: Final = (
    *("image/", "audio/", "video/", "font/"),
    *("application/octet-stream", "application/pdf", "application/zip", "application/gzip"),
    *(
        "application/vnd.openxmlformats",
        "application/x-tar",
        "application/x-7z",
        "application/wasm",
    ),
)
"""Bytes of these types spell numbers in plain digits only: all else in them is chance."""

_BETWEEN: Final = b"\x01"  # stands in no number, in no escape and in no base64
_STAR: Final = b"*"
_PART_HEAD_BYTES_MAX: Final = 4200
_PART_TYPE: Final = re.compile(rb"\r\ncontent-type:[ \t]*([^\r\n]*)", re.IGNORECASE)
_PART_LENGTH: Final = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_EXPONENT: Final = re.compile(r"-?([0-9]+(?:\.[0-9]+)?)(?:[eE][+-]?0*[0-9]{1,2})?")
_NUMBER_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, repr=False)
class Located:
    """A find and its place in a part of a message, or in the text of one field."""

    hit: Hit
    start: int
    end: int


@dataclass(frozen=True, slots=True, repr=False)
class Read:
    """A field in which a reader sees cards that its bytes do not show."""

    field: Field
    text: bytes
    found: tuple[Located, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Seen:
    """All that was found in one part of a message."""

    in_bytes: tuple[Located, ...]
    in_texts: tuple[Read, ...]
    exhausted: bool


class Look:
    """Looks at one part of a message, save for some of its fields."""

    def __init__(self, area: Area, without: Iterable[Field], *, windows: bool = False) -> None:
        self._area = area
        self._without = {(each.start, each.end) for each in without}
        self._windows = windows

    def all(self) -> Seen:
        raw = bytearray(self._area.raw)
        for start, end in (*self._without, *self._boundaries()):
            raw[start:end] = _STAR * (end - start)
        if self._area.format is Format.CSV:
            self._separate(raw)
        pieces = list(self._islands())
        islands = [(field, bytes(raw[field.start : field.end]), binary) for field, binary in pieces]
        for field, _, _ in islands:
            raw[field.start : field.end] = _STAR * (field.end - field.start)
        whole = find_cards(bytes(raw), windows=self._windows)
        found = [Located(hit, hit.start, hit.end) for hit in whole.hits]
        exhausted = whole.exhausted
        for binary in (False, True):
            alike = [(field, value) for field, value, is_binary in islands if is_binary is binary]
            here = in_each([value for _, value in alike], windows=self._windows, binary=binary)
            for index, each in here.found:
                at = alike[index][0].start
                found.append(Located(each.hit, at + each.start, at + each.end))
            exhausted |= here.exhausted
        read, texts_exhausted = self._texts()
        found.sort(key=lambda each: each.start)
        return Seen(tuple(found), read, exhausted or texts_exhausted)

    # --- bytes ----------------------------------------------------------------------------

    def _boundaries(self) -> Iterator[tuple[int, int]]:
        """Yield what separates the parts: a client's program made it, and it is no data."""
        if self._area.format is not Format.MULTIPART:
            return
        found = media_type(self._area.content_type)
        boundary = b"--" + (found.parameters.get("boundary", "") if found else "").encode()
        at = self._area.raw.find(boundary)
        while at >= 0:
            yield at, at + len(boundary)
            at = self._area.raw.find(boundary, at + len(boundary))

    def _separate(self, raw: bytearray) -> None:
        """Tabs stand between the groups of a number too; these stand between two values."""
        if b"\t" not in raw:
            return
        fields = self._area.fields
        head = fields[0].start if fields else len(raw)
        raw[:head] = raw[:head].replace(b"\t", b"\n")
        for one, other in pairwise(fields):
            if raw.find(b"\t", one.end, other.start) >= 0:
                raw[one.end : other.start] = raw[one.end : other.start].replace(b"\t", b"\n")

    def _islands(self) -> Iterator[tuple[Field, bool]]:
        """Yield fields whose neighbors say nothing of them, and whether they are binary."""
        if self._area.format is Format.FIXED_WIDTH:
            yield from ((each, False) for each in self._fields())
        elif self._area.format is Format.MULTIPART:
            for each in self._fields():
                if each.text is None and is_binary_part(self._area.raw, each):
                    yield each, True

    def _fields(self) -> Iterator[Field]:
        for each in self._area.fields:
            if (each.start, each.end) not in self._without:
                yield each

    # --- texts ----------------------------------------------------------------------------

    def _texts(self) -> tuple[tuple[Read, ...], bool]:
        raw = self._area.raw
        hidden: list[tuple[Field, bytes]] = []
        for each in self._fields():
            if each.text is None or each.end - each.start < PAN_DIGITS_MIN:
                continue
            if each.shape is Shape.NUMBER:
                whole = _whole_number(each.text)
                if whole is not None:
                    hidden.append((each, whole))
                continue
            text = each.text.encode("utf-8", "surrogatepass")
            if text != raw[each.start : each.end]:
                hidden.append((each, text))
        here = in_each([text for _, text in hidden], windows=False, binary=False)
        by_field: dict[int, list[Located]] = {}
        for index, located in here.found:
            by_field.setdefault(index, []).append(located)
        read = (Read(*hidden[index], tuple(found)) for index, found in by_field.items())
        return tuple(read), here.exhausted


@dataclass(frozen=True, slots=True, repr=False)
class _InEach:
    found: tuple[tuple[int, Located], ...]
    exhausted: bool


def in_each(pieces: Sequence[bytes], *, windows: bool, binary: bool) -> _InEach:
    """Look at several texts, each by itself, in one go."""
    if not pieces:
        return _InEach((), exhausted=False)
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece) + len(_BETWEEN)
    found = find_cards(_BETWEEN.join(pieces), windows=windows, binary=binary)
    placed = []
    for hit in found.hits:
        index = bisect_right(starts, hit.start) - 1
        start, end = hit.start - starts[index], hit.end - starts[index]
        if end <= len(pieces[index]):
            placed.append((index, Located(hit, start, end)))
    return _InEach(tuple(placed), found.exhausted)


def is_clean(texts: Iterable[bytes]) -> bool:
    """Whether there is nothing in any of these, as is mostly so of a head: in one look.

    Beyond ASCII a number may be packed in bytes that only stand by themselves.
    """
    together = _BETWEEN.join(texts)
    if not together.isascii():
        return False
    found = find_cards(together)
    return not found.hits and not found.exhausted


class Fields:
    """Tells which field a place stands in."""

    def __init__(self, area: Area) -> None:
        self._area = area

    def around(self, found: Located) -> Field | None:
        """Give the field that holds all of a find."""
        fields, starts = self._ordered
        at = bisect_right(starts, found.start) - 1
        if at < 0 or found.end > fields[at].end:
            return None
        return fields[at]

    @cached_property
    def _ordered(self) -> tuple[list[Field], list[int]]:
        fields = sorted(self._area.fields, key=lambda each: each.start)
        return fields, [each.start for each in fields]


def is_binary_part(raw: bytes, field: Field) -> bool:
    found = _PART_TYPE.search(_part_head(raw, field))
    return found is not None and found[1].lower().startswith(
        tuple(each.encode() for each in BINARY_TYPES)
    )


def has_length(raw: bytes, field: Field) -> bool:
    """Whether the length of a part is written beside it, as some old clients do."""
    return _PART_LENGTH.search(_part_head(raw, field)) is not None


def _part_head(raw: bytes, field: Field) -> bytes:
    if not raw.endswith(b"\r\n\r\n", 0, field.start):
        return b""  # within a part that was read
    before = raw[max(0, field.start - _PART_HEAD_BYTES_MAX) : field.start - 2]
    return before[before.rfind(b"\r\n--") + 2 :]


def _whole_number(text: str) -> bytes | None:
    """Spell a number with an exponent or decimals without them, if it can be a card's."""
    written = _EXPONENT.fullmatch(text) if len(text) <= _NUMBER_CHARACTERS_MAX else None
    if written is None or text.isdecimal() or len(written[1]) < PAN_DIGITS_MIN:
        return None  # 4.2e15 is a large number, and by chance one in ten would be a card's
    number = Decimal(text)
    if not PAN_DIGITS_MIN <= number.adjusted() + 1 <= PAN_DIGITS_MAX:
        return None
    whole = int(number)
    return str(abs(whole)).encode() if whole == number else None


def is_certain(located: Located) -> bool:
    """Whether it is more than what most long rows of digits hold by chance."""
    return located.hit.kind is not Kind.WINDOW
