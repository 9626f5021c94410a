"""What a card's magnetic stripe or chip says, in text and in BER-TLV. Pure.

All of a track goes, the discretionary data and the expiry too: it is sensitive authentication
data (PCI DSS 3.3.1). EMV is read by lengths (ISO/IEC 8825-1), for a pattern would run on into the
next tag. Lengths of templates around a tag are not corrected when its value is replaced.

What never lives here: what makes a number a card, and what is done about a find.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.scan_hits import Kind
from gateway.scan_luhn import PLAUSIBLE

_CARET: Final = rb"(?:\^|%5[Ee]|\\u005[eE])"
_EQUALS: Final = rb"(?:=|%3[Dd]|\\u003[dD]|&#61;)"
_QUESTION: Final = rb"(?:\?|%3[Ff]|\\u003[fF]|&#63;)?"
_AFTER_1: Final = re.compile(
    rb"%b[^\^\x00-\x1f\"<>]{2,80}?%b(?:[0-9]{4}|%b)(?:[0-9]{3}|%b)[^?\x00-\x1f\"'<>&,]{0,60}+%b"
    % (_CARET, _CARET, _CARET, _CARET, _QUESTION)
)
_AFTER_2: Final = re.compile(
    rb"(?:%b(?:[0-9]{4}|=)(?:[0-9]{3}|=)[0-9]{0,30}+|[Dd][0-9]{7,30}+[Ff]?)%b"
    % (_EQUALS, _QUESTION)
)
_AFTER_ANY: Final = frozenset(b"%c" % byte for byte in b"^=%\\&Dd")
_BEFORE_1: Final = re.compile(rb"(?:%25|%)?[A-Z]\Z")
_BEFORE_2: Final = re.compile(rb"(?:;|%3[Bb]|\\u003[bB]|&#59;)\Z")
_BEFORE_MAX: Final = 8

_DIGIT_BYTES: Final = (
    rb"\x00-\x09\x10-\x19\x20-\x29\x30-\x39\x40-\x49\x50-\x59\x60-\x69\x70-\x79\x80-\x89\x90-\x99"
)
_TAGS: Final = (  # the length last, and one byte in the longer form (81) at most
    re.compile(rb"\x5a\x81?([\x06-\x0a])(?=[%b]{5})" % _DIGIT_BYTES),
    re.compile(rb"\x57\x81?([\x0a-\x13])(?=[%b]{5})" % _DIGIT_BYTES),
    re.compile(rb"\x9f\x6b\x81?([\x0a-\x13])(?=[%b]{5})" % _DIGIT_BYTES),
)
_HEX_TAGS: Final = (
    re.compile(rb"5[Aa](?:81)?(0[6-9Aa])(?=[0-9]{10})"),
    re.compile(rb"57(?:81)?(0[A-Fa-f]|1[0-3])(?=[0-9]{10})"),
    re.compile(rb"9[Ff]6[Bb](?:81)?(0[A-Fa-f]|1[0-3])(?=[0-9]{10})"),
)
_LONG_FORM: Final = 0x81
_MORE_TAG: Final = 0x1F
_VALUE: Final = re.compile(r"([0-9]{12,19})(?:[dD][0-9]{7,}[fF]?|[fF]*)\Z")
_SHORT_MAX: Final = 127
_BEGINNINGS: Final = frozenset().union(*PLAUSIBLE.values())


def track_around(body: bytes, start: int, end: int) -> tuple[Kind, int, int]:
    """Widen a number's place to the track that it stands in, if it does."""
    if body[end : end + 1] not in _AFTER_ANY:
        return Kind.PAN, start, end
    before = body[max(0, start - _BEFORE_MAX) : start]
    for kind, opening, rest in (
        (Kind.TRACK_1, _BEFORE_1, _AFTER_1),
        (Kind.TRACK_2, _BEFORE_2, _AFTER_2),
    ):
        after = rest.match(body, end)
        if after is not None:
            opened = opening.search(before)
            return kind, start - (len(opened[0]) if opened else 0), after.end()
    return Kind.PAN, start, end


@dataclass(slots=True, repr=False)
class ChipField:
    """The length and the value of a tag: what is replaced. In hex, or the bytes themselves."""

    start: int
    end: int
    digits: str
    value: str
    head: str
    is_hex: bool

    def spelled(self, text: str) -> bytes:
        plain = text.encode()
        length = (
            bytes([len(plain)]) if len(plain) <= _SHORT_MAX else bytes([_LONG_FORM, len(plain)])
        )
        return self._written((length + plain).hex())

    def masked(self) -> bytes:
        """Put zeros in the place of digits, for there is no star in a packed number."""
        kept = (
            self.value[:0] if len(self.value.rstrip("fF")) > len(self.digits) else self.digits[-4:]
        )
        zeros = re.sub("[0-9]", "0", self.value[: len(self.digits) - len(kept)])
        rest = self.value[len(self.digits) :]
        return self._written(self.head + zeros + kept + re.sub("[0-9]", "0", rest))

    def _written(self, text: str) -> bytes:
        return text.encode() if self.is_hex else bytes.fromhex(text)


def chip_fields(body: bytes, *, is_hex: bool) -> Iterator[ChipField]:
    """Yield the tags 5A, 57 and 9F6B whose length is that of a number or a track in them."""
    for pattern in _HEX_TAGS if is_hex else _TAGS:
        for tag in pattern.finditer(body):
            found = _field(body, tag, is_hex=is_hex)
            if found is not None:
                yield found


def _field(body: bytes, tag: re.Match[bytes], *, is_hex: bool) -> ChipField | None:
    width = 2 if is_hex else 1
    start, end = tag.span()
    length = (int(tag[1], 16) if is_hex else tag[1][0]) * width
    raw = body[end : end + length]
    value = raw.decode("latin-1") if is_hex else raw.hex()
    if value[:2] not in _BEGINNINGS:
        return None
    if not is_hex and start and body[start - 1] & _MORE_TAG == _MORE_TAG:
        return None  # the second byte of a longer tag
    digits = _VALUE.match(value) if len(raw) == length else None
    if digits is None:
        return None
    begin = tag.start(1)
    long = body[begin - width : begin].lower() in (b"\x81", b"81")
    begin -= width * long
    head = body[begin:end]
    return ChipField(
        start=begin,
        end=end + length,
        digits=digits[1],
        value=value,
        head=head.decode() if is_hex else head.hex(),
        is_hex=is_hex,
    )
