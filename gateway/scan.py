"""Finds card numbers in bytes, however they are spelled. Pure.

First a pass that costs next to nothing, and is all there is for a body without twelve digits near
each other. What is left is ironed (`scan_spellings`), cut into rows (`scan_rows`) and judged by
prefix, length and check digit. Runs of base64 are decoded and scanned the same way, two deep.
Work is counted: a body made to be slow is given up as `exhausted`.

What never lives here: what is done about a find. Nothing returned or raised prints a digit.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from gateway.scan_containers import TAIL_MAX, Base64Run, HexRow, base64_runs, hex_rows
from gateway.scan_hits import Found, Hit, Kind, replaced
from gateway.scan_packed import ebcdic_numbers, packed_numbers
from gateway.scan_rows import (
    Stretch,
    Work,
    brand_of_card,
    cards_in,
    in_exponents,
    near_digits,
    rows_of,
)
from gateway.scan_spellings import encoding_of, has_other_digits, ironed, is_text, spelled_as
from gateway.tracks import ChipField, chip_fields, track_around
from vault.pan import Pan

__all__ = ["HITS_MAX", "Found", "Hit", "Kind", "find_cards"]

HITS_MAX: Final = 10_000
DEPTH: Final = 2
STEPS_LEAST: Final = 4_000
BYTES_PER_STEP: Final = 12
_HIT_STEPS: Final = 12
_CHIP_STEPS: Final = 4
_STAR: Final = "*"
_NUMBER_BEFORE: Final = re.compile(rb"(?:[:,\[][ \t\r\n]{0,64}|\A[ \t\r\n]{0,64})\Z")
_NUMBER_AFTER: Final = re.compile(rb"(?:\.0{1,8})?(?=[ \t\r\n]{0,64}(?:[,\]}]|\Z))")
_LOOK_BACK: Final = 65


def find_cards(body: bytes, *, windows: bool = False, binary: bool = False) -> Found:
    """Find the card numbers, tracks and chip data in there.

    With `windows`, also what passes for a card within longer runs of digits: most runs have one.
    With `binary`, plain digits alone: an image or an archive holds everything else by chance.
    """
    work = Work(STEPS_LEAST + len(body) // BYTES_PER_STEP)
    hits = list(_scan(body, work, DEPTH, windows=windows, binary=binary))
    chosen = _apart(hits)
    exhausted = work.exhausted or len(chosen) > HITS_MAX
    return Found(tuple(chosen[:HITS_MAX]), exhausted=exhausted)


def _scan(body: bytes, work: Work, depth: int, *, windows: bool, binary: bool) -> Iterator[Hit]:
    parts = near_digits(body)
    if not parts and not binary and has_other_digits(body):
        parts = [(0, len(body))]
    if parts:
        yield from _in_text(body, parts, work, windows=windows, binary=binary)
    if binary:
        return
    yield from _in_chips(body, work, is_hex=False)
    for start, end in parts:
        for hit in _in_chips(body[start:end], work, is_hex=True):
            yield hit.moved(start)
    yield from _in_hex(body, work)
    if depth == DEPTH and not body.isascii() and not is_text(body):
        yield from _in_packed(body, work)
    if depth:
        yield from _in_base64(body, work, depth)


def _apart(hits: list[Hit]) -> list[Hit]:
    """Leave out what overlaps: of two, the one that is no guess, then the one that is more."""
    chosen: list[Hit] = []
    for guesses in (False, True):
        of_kind = [hit for hit in hits if (hit.kind is Kind.WINDOW) is guesses]
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


def _in_text(
    body: bytes, parts: list[tuple[int, int]], work: Work, *, windows: bool, binary: bool
) -> Iterator[Hit]:
    text = body if binary else _ironed(body, parts, work)
    for row in rows_of(text, work):
        for stretch in _of_row(body, text, row, work, windows=windows):
            hit = _text_hit(body, text, stretch)
            if hit is not None and work.spend(_HIT_STEPS):
                yield hit
    for stretch in in_exponents(body, work):
        yield _made(body, stretch, (Kind.PAN, stretch.start, stretch.end), "exponent")


def _ironed(body: bytes, parts: list[tuple[int, int]], work: Work) -> bytes:
    pieces, at = [], 0
    for start, end in parts:
        piece, left_out = ironed(body[start:end])
        work.exhausted |= left_out
        pieces += [body[at:start], piece]
        at = end
    return b"".join((*pieces, body[at:]))


def _of_row(
    body: bytes, text: bytes, row: tuple[int, int, bytes], work: Work, *, windows: bool
) -> Iterator[Stretch]:
    """Read a row; where it begins within an escape, also without that one's digits."""
    stretches = list(cards_in(text, row, work, windows=windows))
    start, end, outline = row
    cut = None if stretches else _escape_at(body, start)
    if cut is not None:
        stretches = list(cards_in(text, (cut, end, outline), work, windows=windows))
    yield from stretches


_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}")


def _escape_at(body: bytes, place: int) -> int | None:
    """Give the end of an escape that has a place in it (`%D0` before digits: 0 is not theirs)."""
    for found in _ESCAPE.finditer(body, max(0, place - 5), place + 5):
        if found.start() < place < found.end():
            return found.end()
    return None


def _text_hit(body: bytes, text: bytes, stretch: Stretch) -> Hit | None:
    start, end = _widened(body, text, stretch)
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
    if encoding in {"plain", "exponent"} and kind is Kind.PAN:
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


# --- chips, packed numbers, hex --------------------------------------------------------------


def _in_chips(body: bytes, work: Work, *, is_hex: bool) -> Iterator[Hit]:
    for each in chip_fields(body, is_hex=is_hex):
        if not work.spend(_CHIP_STEPS):
            return
        brand = brand_of_card(each.digits)
        if brand is not None:
            yield _chip_hit(each, brand, "hex" if is_hex else "bcd")


def _chip_hit(each: ChipField, brand: str, name: str) -> Hit:
    numbers = (Pan.parse(each.digits),)
    spell = partial(_of_chip, each)
    return Hit(Kind.EMV, each.start, each.end, name, brand, numbers, spell=spell, mask=each.masked)


def _of_chip(field: ChipField, texts: Sequence[str]) -> bytes:
    return field.spelled(texts[0])


def _in_hex(body: bytes, work: Work) -> Iterator[Hit]:
    for row in hex_rows(body, work):
        brand = brand_of_card(row.digits)
        if brand is not None:
            numbers = (Pan.parse(row.digits),)
            stars = partial(row.starred, row.digits[-4:])
            spell = partial(_of_hex, row)
            yield Hit(Kind.PAN, row.start, row.end, "hex", brand, numbers, spell=spell, mask=stars)


def _of_hex(row: HexRow, texts: Sequence[str]) -> bytes:
    return row.encoded(texts[0])


def _in_packed(body: bytes, work: Work) -> Iterator[Hit]:
    for name, numbers in (("bcd", packed_numbers(body)), ("ebcdic", ebcdic_numbers(body))):
        for each in numbers:
            if not work.spend():
                return
            brand = brand_of_card(each.digits)
            if brand is not None:
                codec = "cp037" if name == "ebcdic" else "ascii"
                yield Hit(
                    Kind.PAN,
                    each.start,
                    each.end,
                    name,
                    brand,
                    (Pan.parse(each.digits),),
                    spell=partial(_in_codec, codec),
                    mask=partial(_packed_mask, name, each.end - each.start, each.digits[-4:]),
                )


def _in_codec(codec: str, texts: Sequence[str]) -> bytes:
    return texts[0].encode(codec, "replace")


def _packed_mask(name: str, length: int, kept: str) -> bytes:
    if name == "ebcdic":
        return kept.rjust(length, _STAR).encode("cp037")
    return bytes.fromhex(kept.rjust(2 * length, "0"))


# --- base64 ---------------------------------------------------------------------------------


def _in_base64(body: bytes, work: Work, depth: int) -> Iterator[Hit]:
    last_end = 0
    for run in base64_runs(body, work, may_be_nested=depth > 1):
        if run.start < last_end:
            continue  # read in another phase
        inner = _apart(list(_scan(run.decoded, work, depth - 1, windows=False, binary=False)))
        if inner:
            yield _run_hit(run, inner)
            last_end = run.end


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
