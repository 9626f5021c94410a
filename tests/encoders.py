"""How tests hide a card number: the encoders that the scanner declares to see through.

`ENCODERS` spell the digits of a number, `DECODERS` undo the spelling as its reader would. All of
it is written apart from what it tests.
"""

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable
from typing import Final

from tests.cards import luhn_completed

Encoder = Callable[[str], bytes]
Decoder = Callable[[bytes], str]


def in_fours(number: str, separator: str) -> str:
    if len(number) == 15:
        return separator.join((number[:4], number[4:10], number[10:]))
    return separator.join(number[at : at + 4] for at in range(0, len(number), 4))


def _each(spelling: Callable[[str], str], *, every: int = 1) -> Encoder:
    return lambda number: "".join(
        spelling(digit) if at % every == 0 else digit for at, digit in enumerate(number)
    ).encode()


def _fours(separator: str) -> Encoder:
    return lambda number: in_fours(number, separator).encode()


def _script(zero: int) -> Encoder:
    return _each(lambda digit: chr(zero + int(digit)))


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _base64(before: str, after: str = "") -> Encoder:
    return lambda number: base64.b64encode(f"{before}{number}{after}".encode())


def _full_width(number: str) -> str:
    return number.translate({48 + digit: 0xFF10 + digit for digit in range(10)})


PLAIN: Final[dict[str, Encoder]] = {
    "plain": str.encode,
    "JSON text": lambda number: json.dumps({"n": number}).encode(),
    "JSON number": lambda number: json.dumps({"n": int(number)}).encode(),
    "a field of CSV": lambda number: f"7,{number},12/30\r\n".encode(),
    "between letters": lambda number: f"no{number}x".encode(),
    "spaces": _fours(" "),
    "double spaces": _fours("  "),
    "hyphens": _fours("-"),
    "dots": _fours("."),
    "underscores": _fours("_"),
    "plus signs": _fours("+"),
    "tabs": _fours("\t"),
    "no-break spaces": _fours("\u00a0"),
    "thin spaces": _fours("\u2009"),
    "narrow no-break spaces": _fours("\u202f"),
    "en dashes": _fours("\u2013"),
    "zero-width spaces": _fours("\u200b"),
    "soft hyphens": _fours("\u00ad"),
    "a space after each digit": lambda number: " ".join(number).encode(),
    "a hyphen after each digit": lambda number: "-".join(number).encode(),
    "before an expiry": lambda number: f"{in_fours(number, ' ')} 12/30".encode(),
    "full width": lambda number: _full_width(number).encode(),
    "Arabic digits": _script(0x660),
    "Persian digits": _script(0x6F0),
    "Devanagari digits": _script(0x966),
    "Bengali digits": _script(0x9E6),
    "Thai digits": _script(0xE50),
    "mathematical digits": _script(0x1D7CE),
}

PERCENT: Final[dict[str, Encoder]] = {
    "percent": _each(_percent),
    "percent, mixed": _each(_percent, every=3),
    "percent, spaces": lambda number: urllib.parse.quote(in_fours(number, " ")).encode(),
    "percent, hyphens": lambda number: in_fours(number, "%2D").encode(),
    "percent, no-break spaces": lambda n: urllib.parse.quote(in_fours(n, "\u00a0")).encode(),
    "percent, full width": lambda number: urllib.parse.quote(_full_width(number)).encode(),
    "percent, small letters": lambda n: urllib.parse.quote(_full_width(n)).lower().encode(),
    "form": lambda number: urllib.parse.urlencode({"n": in_fours(number, " ")}).encode(),
    "percent after a letter": lambda number: f"{urllib.parse.quote('№')}{number}".encode(),
}
PERCENT_TWICE: Final[dict[str, Encoder]] = {
    "percent twice": _each(lambda digit: f"%253{digit}"),
    "percent twice, all": _each(lambda digit: _percent(_percent(digit))),
    "percent twice, spaces": lambda n: urllib.parse.quote(
        urllib.parse.quote(in_fours(n, " "))
    ).encode(),
}
JSON: Final[dict[str, Encoder]] = {
    "JSON escapes": _each(lambda digit: f"\\u003{digit}"),
    "JSON escapes, mixed": _each(lambda digit: f"\\u003{digit}", every=3),
    "JSON escapes, separators": _fours("\\u00a0"),
    "JSON escapes, thin spaces": _fours("\\u2009"),
    "JSON escapes, full width": lambda number: json.dumps(_full_width(number))[1:-1].encode(),
    "JSON escapes, Devanagari": lambda n: json.dumps(_script(0x966)(n).decode())[1:-1].encode(),
}
JSON_TWICE: Final[dict[str, Encoder]] = {
    "JSON in JSON": _each(lambda digit: f"\\\\u003{digit}"),
}
JSON_IN_FORM: Final[dict[str, Encoder]] = {
    "JSON escapes in a form": _each(lambda digit: f"%5Cu003{digit}"),
}
HTML: Final[dict[str, Encoder]] = {
    "entities": _each(lambda digit: f"&#{ord(digit)};"),
    "entities in hex": _each(lambda digit: f"&#x{ord(digit):X};"),
    "entities, mixed": _each(lambda digit: f"&#{ord(digit)};", every=3),
    "entities, separators": _fours("&nbsp;"),
    "entities, numbered separators": _fours("&#8201;"),
}
HTML_TWICE: Final[dict[str, Encoder]] = {
    "entities of entities": _each(lambda digit: f"&amp;#{ord(digit)};"),
}
HTML_IN_FORM: Final[dict[str, Encoder]] = {
    "entities in a form": _each(lambda digit: urllib.parse.quote(f"&#{ord(digit)};")),
}
BASE64: Final[dict[str, Encoder]] = {
    "base64": _base64(""),
    "base64, second alignment": _base64("n"),
    "base64, third alignment": _base64("n="),
    "base64 of JSON": _base64('{"number":"', '","exp":"12/30"}'),
    "base64url": lambda n: base64.urlsafe_b64encode(f"??{n}>>~~".encode()),
    "base64url, no padding": lambda n: base64.urlsafe_b64encode(f"?>{n}>".encode()).rstrip(b"="),
    "base64 of spaces": lambda number: base64.b64encode(in_fours(number, " ").encode()),
    "base64 of a long text": _base64("n" * 400, "m" * 9000),
}
BASE64_OF_PERCENT: Final[dict[str, Encoder]] = {
    "base64 of percent": lambda number: base64.b64encode(_percent(number).encode()),
}
BASE64_IN_PERCENT: Final[dict[str, Encoder]] = {
    "percent of base64": lambda n: urllib.parse.quote(
        base64.b64encode(f"?>{n}~~?>~".encode()), safe=""
    ).encode(),
}
BASE64_TWICE: Final[dict[str, Encoder]] = {
    "base64 of base64": lambda number: base64.b64encode(
        base64.b64encode(f'{{"n":"{number}"}}'.encode())
    ),
}
BASE64_WRAPPED: Final[dict[str, Encoder]] = {
    "base64, wrapped": lambda number: base64.encodebytes(b"?" * 50 + number.encode() + b"?" * 60),
}
HEX: Final[dict[str, Encoder]] = {
    "hex": lambda number: number.encode().hex().encode(),
    "hex in capitals": lambda number: f"n:{number}!".encode().hex().upper().encode(),
    "hex of spaces": lambda number: in_fours(number, " ").encode().hex().encode(),
}
HEX_SPACED: Final[dict[str, Encoder]] = {
    "hex in pairs": lambda number: f"<{number}>".encode().hex(" ").encode(),
}
UTF_16_LE: Final[dict[str, Encoder]] = {
    "UTF-16": lambda number: f'{{"n":"{number}"}}'.encode("utf-16-le"),
    "UTF-16, spaces": lambda number: in_fours(number, " ").encode("utf-16-le"),
}
UTF_16_BE: Final[dict[str, Encoder]] = {
    "UTF-16, big end first": lambda number: f"n {number}.".encode("utf-16-be"),
}
UTF_32: Final[dict[str, Encoder]] = {"UTF-32": lambda n: f"n {n};".encode("utf-32-le")}
EBCDIC: Final[dict[str, Encoder]] = {"EBCDIC": lambda n: f"n {n}.".encode("cp037")}
BCD: Final[dict[str, Encoder]] = {  # no text can stand in their place
    "packed": lambda n: b"\xff\xfe" + bytes.fromhex(n + "f" * (len(n) % 2)) + b"\xff",
    "packed, counted": lambda n: (
        b"\xf2" * 2000 + bytes.fromhex(f"{len(n)}{'0' * (len(n) % 2)}{n}") + b"\x00" * 9
    ),
}
EMV: Final[dict[str, Encoder]] = {
    "chip": lambda n: b"\x9f\x02\x01\x01" + _tag("5a", n + "f" * (len(n) % 2)) + b"\x9f\x1a\x00",
    "chip, in hex": lambda n: _tag("5a", n + "f" * (len(n) % 2)).hex().upper().encode(),
    "chip, track 2": lambda n: _tag("57", _even(f"{n}d3012101{'0' * (32 - len(n) - 10)}")),
    "chip, 9F6B": lambda n: _tag("9f6b", _even(f"{n}d3012101000")),
}
TRACKS: Final[dict[str, Encoder]] = {
    "track 1": lambda number: f"%B{number}^DOE/JOHN MR^3012101123400001230000?".encode(),
    "track 1, no sentinels": lambda number: f"B{number}^DOE/JOHN^30121011234".encode(),
    "track 2": lambda number: f";{number}=30121010000012345678?".encode(),
    "track 2, no sentinels": lambda number: f"{number}=30121011234".encode(),
    "track 2, equivalent": lambda number: f"{number}D30121011234F".encode(),
    "track 2 in a form": lambda n: urllib.parse.quote(f";{n}=3012101000001234?").encode(),
}


def _tag(tag: str, value: str) -> bytes:
    return bytes.fromhex(f"{tag}{len(value) // 2:02x}{value}")


def _even(value: str) -> str:
    return value + "f" * (len(value) % 2)


def _unquoted(raw: bytes) -> str:
    return urllib.parse.unquote_plus(raw.decode())


def _json(text: str) -> str:
    """Undo the escapes of a text that JSON has in quotes."""
    return re.sub(
        r"\\u([0-9a-fA-F]{4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], text
    )


def _unbased(raw: bytes) -> bytes:
    text = raw.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4))


DECODERS: Final[list[tuple[dict[str, Encoder], Decoder]]] = [
    (PLAIN, bytes.decode),
    (PERCENT, _unquoted),
    (PERCENT_TWICE, lambda raw: urllib.parse.unquote_plus(_unquoted(raw))),
    (JSON, lambda raw: _json(raw.decode())),
    (JSON_TWICE, lambda raw: _json(_json(raw.decode()))),
    (JSON_IN_FORM, lambda raw: _json(_unquoted(raw))),
    (HTML, lambda raw: html.unescape(raw.decode())),
    (HTML_TWICE, lambda raw: html.unescape(html.unescape(raw.decode()))),
    (HTML_IN_FORM, lambda raw: html.unescape(_unquoted(raw))),
    (BASE64, lambda raw: _unbased(raw).decode()),
    (BASE64_OF_PERCENT, lambda raw: _unquoted(_unbased(raw))),
    (BASE64_IN_PERCENT, lambda raw: _unbased(urllib.parse.unquote_to_bytes(raw)).decode()),
    (BASE64_TWICE, lambda raw: _unbased(_unbased(raw)).decode()),
    (BASE64_WRAPPED, lambda raw: base64.b64decode(raw).decode()),
    (HEX, lambda raw: bytes.fromhex(raw.decode()).decode()),
    (HEX_SPACED, lambda raw: bytes.fromhex(raw.decode()).decode()),
    (UTF_16_LE, lambda raw: raw.decode("utf-16-le")),
    (UTF_16_BE, lambda raw: raw.decode("utf-16-be")),
    (UTF_32, lambda raw: raw.decode("utf-32-le")),
    (EBCDIC, lambda raw: raw.decode("cp037")),
]
"""What can be undone, and how."""

DECODABLE: Final = {name: decode for encoders, decode in DECODERS for name in encoders}
ENCODERS: Final[dict[str, Encoder]] = {
    name: encode
    for encoders in (*(each for each, _ in DECODERS), BCD, EMV, TRACKS)
    for name, encode in encoders.items()
}

_BEGINNINGS: Final = (
    *("4", "51", "53", "55", "2221", "2500", "2720"),
    *("6011", "644", "3528", "3589", "62", "2200", "6759", "5066991", "606282", "5019", "81"),
)


def made_numbers(count: int) -> list[str]:
    """Make numbers of all brands and lengths, the same ones each time."""
    made = []
    for at in range(count):
        kind = at % (len(_BEGINNINGS) + 4)
        if kind < len(_BEGINNINGS):
            start, length = _BEGINNINGS[kind], 16
        else:
            start, length = (("34", 15), ("37", 15), ("36", 14), ("620550", 19))[
                kind - len(_BEGINNINGS)
            ]
        middle = str((at + 7) * 7_919_104_729_311_757)[: length - 1 - len(start)]
        made.append(luhn_completed(start + middle.ljust(length - 1 - len(start), "7")))
    return made
