"""Finds card numbers in bytes, however they are spelled. Pure.

First a look that costs next to nothing (`scan_places`), and is all there is for a body without
twelve digits near each other. Where it says maybe, escapes are ironed (`scan_spellings`), and all
rows of digits judged at once (`scan_rows`). Runs of base64 are decoded and scanned the same way,
two deep. What is limited is the finds of one body, and how much is decoded: past that a body is
given up as `exhausted`.

What never lives here: what is done about a find. Nothing returned or raised prints a digit.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from gateway.scan_coded import chip_hits, hex_hits, in_exponents, packed_hits
from gateway.scan_containers import (
    TAIL_MAX,
    Base64Run,
    Batch,
    around_runs,
    base64_batches,
    may_hold_base64,
)
from gateway.scan_hex import may_hold_hex
from gateway.scan_hits import Found, Hit, Kind, replaced
from gateway.scan_packed import MESSAGE_MAX
from gateway.scan_places import BLOCK, MARGIN, Part, Span, likely_spans, pieces_of
from gateway.scan_rows import (
    Stretch,
    may_hold_other_row,
    may_hold_row,
    stretches,
)
from gateway.scan_spellings import (
    encoding_of,
    has_escapes,
    has_other_digits,
    ironed,
    is_text,
    may_hold_escaped,
    spelled_as,
)
from gateway.tracks import track_around
from vault.pan import PAN_DIGITS_MIN, Pan

__all__ = ["HITS_MAX", "Found", "Hit", "Kind", "find_cards"]

HITS_MAX: Final = 10_000
SHORT: Final = 1024
DEPTH: Final = 2
DECODED_TIMES_MAX: Final = 16
"""How many bytes may be decoded of runs within runs, for each byte of the body."""
DECODED_LEAST: Final = 64 * 1024
_TWICE_MAX: Final = 500  # found twice, where pieces overlap
_STAR: Final = "*"
_TEXT_BYTES: Final = bytes((9, 10, 13, *range(32, 127)))  # a chip's data has others too
_WITHOUT_DIGITS: Final = _TEXT_BYTES.translate(None, b"0123456789")
_NUMBER_BEFORE: Final = re.compile(rb"(?:[:,\[][ \t\r\n]{0,64}|\A[ \t\r\n]{0,64})\Z")
_NUMBER_AFTER: Final = re.compile(rb"(?:\.0{1,8})?(?=[ \t\r\n]{0,64}(?:[,\]}]|\Z))")
_LOOK_BACK: Final = 65


class _Limits:
    """What may still be found and decoded for one body."""

    def __init__(self, length: int) -> None:
        self.bytes = DECODED_LEAST + length * DECODED_TIMES_MAX
        self.is_met = False

    def decode(self, count: int) -> bool:
        self.bytes -= count
        self.is_met |= self.bytes < 0
        return self.bytes >= 0


def find_cards(body: bytes, *, windows: bool = False, binary: bool = False) -> Found:
    """Find the card numbers, tracks and chip data in there.

    With `windows`, also what passes for a card within longer runs of digits: most runs have one.
    With `binary`, plain digits alone: an image or an archive holds everything else by chance.
    """
    if len(body) <= SHORT and _has_none(body):
        return _NOTHING
    limits = _Limits(len(body))
    hits = _apart(_scan(body, limits, DEPTH, windows=windows, binary=binary))
    exhausted = limits.is_met or len(hits) > HITS_MAX
    return Found(tuple(hits[:HITS_MAX]), exhausted=exhausted)


def _has_none(body: bytes) -> bool:
    """Whether a short text holds none: a header's value, a field. Several times quicker."""
    rest = body.translate(None, _WITHOUT_DIGITS)
    if rest and not rest.isdigit():
        return False
    part = Part(body)
    if len(rest) >= PAN_DIGITS_MIN and (
        b"0" * PAN_DIGITS_MIN in part.bare
        or ((b"%" in body or b"&" in body or b"\\" in body) and may_hold_escaped(body))
        or may_hold_hex(part)
    ):
        return False
    return len(body) < _BASE64_MIN or not may_hold_base64(part)


_BASE64_MIN: Final = 16  # as a run has
_NOTHING: Final = Found((), exhausted=False)


def _scan(body: bytes, limits: _Limits, depth: int, *, windows: bool, binary: bool) -> list[Hit]:
    hits: list[Hit] = []
    for found in _stages(body, limits, depth, windows=windows, binary=binary):
        hits.append(found)
        if len(hits) > HITS_MAX + _TWICE_MAX:
            limits.is_met = True
            break
    return hits


def _stages(
    body: bytes, limits: _Limits, depth: int, *, windows: bool, binary: bool
) -> Iterator[Hit]:
    """Look for each way of spelling where the body may have it."""
    in_base64 = may_hold_base64 if depth else _never
    tests = (may_hold_row, _may_hold_other, may_hold_hex, in_base64)[: 1 if binary else 4]
    spans, *others = likely_spans(body, tests)
    yield from _in_text(body, spans, windows=windows, binary=True)
    if binary:
        return
    escaped, in_hex, in_base64_too = others
    yield from _in_text(body, escaped, windows=windows, binary=False)
    if spans:
        yield from _exponents(body)
    if body.translate(None, _TEXT_BYTES):
        yield from chip_hits(body, is_hex=False)
    yield from _in_pieces(body, spans, partial(chip_hits, is_hex=True))
    yield from _in_pieces(body, in_hex, hex_hits)
    if depth == DEPTH and len(body) <= MESSAGE_MAX and not body.isascii() and not is_text(body):
        yield from packed_hits(body)
    yield from _in_base64(body, in_base64_too, limits, depth)


def _in_pieces(
    body: bytes, spans: list[Span], look: Callable[[bytes], Iterator[Hit]]
) -> Iterator[Hit]:
    for start, end in pieces_of(body, spans):
        for hit in look(body[start:end]):
            yield hit.moved(start)


def _never(_part: Part) -> bool:
    return False


def _may_hold_other(part: Part) -> bool:
    """Whether digits may be spelled in escapes there, or in other scripts."""
    raw = part.raw
    if not raw.isascii() and (may_hold_other_row(part) or has_other_digits(raw)):
        return True
    if not may_hold_escaped(raw):
        return False
    return len(raw) > BLOCK + 2 * MARGIN or may_hold_row(Part(ironed(raw)[0]))


def _apart(hits: list[Hit]) -> list[Hit]:
    """Leave out what overlaps: of two, the one that is no guess, then the one that is more."""
    chosen: list[Hit] = []
    for guesses in (False, True):
        of_kind = [hit for hit in hits if (hit.kind is Kind.WINDOW) is guesses]
        if guesses and not of_kind:
            break
        merged = sorted((*chosen, *of_kind), key=lambda hit: (hit.start, -hit.end))
        chosen = []
        for hit in merged:
            last = chosen[-1] if chosen else None
            if last is None or hit.start >= last.end:
                chosen.append(hit)
            elif last.kind is Kind.WINDOW and hit.kind is not Kind.WINDOW:
                chosen[-1] = hit
    return chosen


# --- text -----------------------------------------------------------------------------------


def _in_text(body: bytes, spans: list[Span], *, windows: bool, binary: bool) -> Iterator[Hit]:
    for start, end in pieces_of(body, spans):
        piece = body[start:end]
        text = piece if binary else ironed(piece)[0]
        readings = [text]
        if not binary and has_escapes(text) and _ESCAPE_AND_DIGIT.search(text) is not None:
            readings.append(_ESCAPE.sub(_blank, text))
        for each in readings:
            for stretch in stretches(each, windows=windows):
                hit = _text_hit(body, start, piece, each, stretch)
                if hit is not None:
                    yield hit


# Before digits (`%D0` and a number) an escape may be one, or not: each is tried.
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}")
_ESCAPE_AND_DIGIT: Final = re.compile(
    rb"(?:%[0-9A-Fa-f]|\\u[0-9A-Fa-f]{3}|\\x[0-9A-Fa-f])[0-9](?=[0-9])"
)


def _blank(escape: re.Match[bytes]) -> bytes:
    return b"~" * len(escape[0])


def _exponents(body: bytes) -> Iterator[Hit]:
    for stretch in in_exponents(body):
        yield _made(body, stretch, (Kind.PAN, stretch.start, stretch.end), "exponent")


def _text_hit(body: bytes, shift: int, piece: bytes, text: bytes, stretch: Stretch) -> Hit | None:
    """Make a hit of what was found in an ironed piece of the body, which begins at `shift`."""
    if text is piece:
        start, end = stretch.start + shift, stretch.end + shift
    else:
        start, end = _widened(piece, text, stretch)
        start, end = start + shift, end + shift
    if b"\0" in body[start:end]:
        wide = _wide_place(body, start, end)
        if wide is None:
            return None
        start, end = wide
    place = (Kind.WINDOW, start, end) if stretch.is_window else track_around(body, start, end)
    return _made(body, stretch, place, encoding_of(body[start:end]))


def _widened(body: bytes, text: bytes, stretch: Stretch) -> tuple[int, int]:
    """Take in what is before the first digit, and after the last, of their own escapes."""
    start, end = stretch.start, stretch.end
    while start and text[start - 1] == 0 and body[start - 1] != 0:
        start -= 1
    for closing in (b";", b"%3B", b"%3b"):  # of an entity before it
        start += len(closing) * body.startswith(closing, start, stretch.start)
    for closing in (b";", b"%3B", b"%3b"):
        if body.startswith(closing, end) and text[end : end + 1] == b"\0":
            end += len(closing)
    return start, end


def _wide_place(body: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Give the place in UTF-16 or UTF-32, or nothing where the NULs are something else."""
    for unit, name in ((2, "utf-16"), (4, "utf-32")):
        for order, first, last in (("le", start, end + unit - 1), ("be", start - unit + 1, end)):
            raw = body[first:last] if first >= 0 else b""
            if len(raw) % unit or not raw or last > len(body):
                continue
            plain = raw.decode(f"{name}-{order}", "replace")
            if plain.isprintable() and plain.strip("0123456789 -._\u00a0\u2009\u202f") == "":
                return first, last
    return None


def _made(body: bytes, stretch: Stretch, place: tuple[Kind, int, int], encoding: str) -> Hit:
    kind, start, end = place
    is_number = False
    if kind is Kind.PAN and encoding in _OF_NUMBERS and body[max(0, start - 1) : start] in _OPENING:
        after = _NUMBER_AFTER.match(body, end)
        is_number = after is not None and _is_number_before(body, start)
        end = after.end() if after is not None and is_number else end
    raw = body[start:end]
    whole = kind in (Kind.TRACK_1, Kind.TRACK_2)
    return Hit(
        kind,
        start,
        end,
        encoding,
        stretch.brand,
        (Pan.parse(stretch.digits),),
        spell=partial(_spelled, encoding, raw),
        mask=partial(_masked, encoding, raw, "" if whole else stretch.digits[-4:], len(raw)),
        short_mask=partial(_short_mask, encoding, raw, "" if whole else stretch.digits),
        is_json_number=is_number,
    )


_OF_NUMBERS: Final = frozenset({"plain", "exponent"})
_OPENING: Final = frozenset((b"", b":", b",", b"[", b" ", b"\t", b"\r", b"\n"))


def _is_number_before(body: bytes, start: int) -> bool:
    return _NUMBER_BEFORE.search(body[max(0, start - _LOOK_BACK) : start]) is not None


def _spelled(encoding: str, raw: bytes, texts: Sequence[str]) -> bytes:
    return spelled_as(encoding, raw, texts[0])


def _masked(encoding: str, raw: bytes, kept: str, length: int) -> bytes:
    unit = int(encoding[4:]) // 8 if encoding.startswith("utf_") else 1
    text = kept.rjust(length // unit, _STAR)
    return spelled_as(encoding, raw, text) if unit > 1 else text.encode()


def _short_mask(encoding: str, raw: bytes, digits: str) -> bytes:
    length = len(digits) or len(raw)
    return spelled_as(encoding, raw, digits[-4:].rjust(length, _STAR))


# --- base64 ---------------------------------------------------------------------------------


def _in_base64(body: bytes, spans: list[Span], limits: _Limits, depth: int) -> Iterator[Hit]:
    for first, last in pieces_of(body, spans):
        start, end = around_runs(body, first, last)
        goes_on = end < len(body)
        piece = body[start:end]
        for batch in base64_batches(piece, may_be_nested=depth > 1, goes_on=goes_on):
            if not limits.decode(len(batch.decoded)):
                return
            inner = _apart(_scan(batch.decoded, limits, depth - 1, windows=False, binary=False))
            for hit in _batch_hits(batch, inner):
                yield hit.moved(start)


def _batch_hits(batch: Batch, inner: list[Hit]) -> Iterator[Hit]:
    at = 0
    while at < len(inner):
        run, begins = batch.run_of(inner[at].start)
        limit = begins + len(run.decoded)
        here = []
        while at < len(inner) and inner[at].start < limit:
            here.append(inner[at].moved(-begins))
            at += 1
        if here[-1].end > len(run.decoded):
            here.pop()
        if here:
            yield _run_hit(run, here)


def _run_hit(run: Base64Run, inner: list[Hit]) -> Hit:
    start, place = run.from_byte(inner[0].start)
    end, limit = run.up_to(inner[-1].end, start + TAIL_MAX)
    decoded = run.decoded[:limit]
    numbers = tuple(number for hit in inner for number in hit.numbers)
    first = inner[0]
    is_cut = end < run.end
    return Hit(
        first.kind,
        start,
        end,
        run.label(first.encoding),
        first.brand,
        numbers,
        spell=partial(_of_run, run, decoded, inner, place, is_cut),
        mask=partial(_run_mask, run, decoded, inner, place, end - start),
    )


def _of_run(
    run: Base64Run,
    decoded: bytes,
    inner: Sequence[Hit],
    place: int,
    is_cut: bool,  # noqa: FBT001 - bound by partial
    texts: Sequence[str],
) -> bytes:
    left = list(texts)
    pieces = []
    for hit in inner:
        pieces.append(hit.spelled(left[: len(hit.numbers)]))
        del left[: len(hit.numbers)]
    plain = replaced(decoded, inner, pieces, place)
    if is_cut:
        plain += b" " * (-len(plain) % 3)  # whole groups, for more follows
    return run.encoded(plain)


def _run_mask(
    run: Base64Run, decoded: bytes, inner: Sequence[Hit], place: int, length: int
) -> bytes:
    pieces = [hit.masked(same_length=True) for hit in inner]
    masked = run.encoded(replaced(decoded, inner, pieces, place))
    return masked if len(masked) == length else _STAR.encode() * length
