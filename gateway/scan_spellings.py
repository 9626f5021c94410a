"""How a digit can be spelled within text, and how a text is spelled the same way. Pure.

A body is *ironed*: each escape that spells a digit or a separator becomes that character with
NULs before it (and after it, where an entity has its semicolon). The length stays, so a place in
the ironed body is the place in the body, and `bytes.replace` does it at the speed of C.

What never lives here: what makes a number a card.
"""

import json
import re
import unicodedata
from codecs import utf_8_decode
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from itertools import product
from typing import Final
from urllib.parse import quote

from vault.pan import PAN_DIGITS_MIN

DIGITS: Final = b"0123456789"
FILLER: Final = b"\0"
SCRIPTS_MAX: Final = 80  # digits of other scripts in one body: eight scripts
_UTF_16_UNIT: Final = 2
_ASCII: Final = bytes(range(128))


_COMMON_SCRIPTS: Final = {
    0xFF10: re.compile(rb"\xef\xbc[\x90-\x99]" * 4),  # a literal beginning is found far sooner
    0x660: re.compile(rb"\xd9[\xa0-\xa9]" * 4),
    0x6F0: re.compile(rb"\xdb[\xb0-\xb9]" * 4),
}
"""What is looked for in a body that is not UTF-8, such as a form with a file in it."""


def is_text(body: bytes) -> bool:
    """Whether it is UTF-8, be it that a character is cut off at either end."""
    try:
        utf_8_decode(body[:_CONTINUED].lstrip(_CONTINUATIONS) + body[_CONTINUED:], "strict", False)  # noqa: FBT003 - not final: as the codec has it
    except UnicodeDecodeError:
        return False
    return True


_CONTINUED: Final = 3
_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))


def _filled(spelled: bytes, character: bytes) -> tuple[bytes, bytes]:
    return spelled, character.rjust(len(spelled), FILLER)


def _percent_cases(text: bytes) -> Iterator[bytes]:
    """Spell the bytes as %XX in capitals and in small letters."""
    yield b"".join(b"%%%02X" % byte for byte in text)
    yield b"".join(b"%%%02x" % byte for byte in text)


# A digit that stands as itself behind these: only what is before it goes.
_DOUBLED: Final = (
    *(b"%25%33%3", b"%25EF%25BC%259", b"%25ef%25bc%259", b"%253"),
    *(b"%5Cu003", b"%5cu003", b"%5C%75%30%30%33%3", b"%5c%75%30%30%33%3"),
)
_PERCENT: Final = (b"%EF%BC%9", b"%ef%bc%9", b"%D9%A", b"%d9%a", b"%DB%B", b"%db%b", b"%3")
_BACKSLASH: Final = (
    *(b"\\\\u003", b"\\u003", b"\\u066", b"\\u06f", b"\\u06F"),
    *(b"\\uff1", b"\\uFF1", b"\\\\x3", b"\\x3"),
)
_ENTITY: Final = (b"&amp;#x3", b"&amp;#X3", b"&#x3", b"&#X3", b"&#x003", b"&#x0003")
_OTHER_DIGITS: Final = frozenset(
    chr(code) for code in range(128, 0x20000) if unicodedata.digit(chr(code), None) is not None
)
_SEPARATING: Final = (
    *(" ", "-", ".", "\t", "_", "\u00a0", "\u00ad", "\u202f", "\u2060", "\u3000", "\ufeff"),
    *map(chr, range(0x2000, 0x2016)),
    "\u2212",
)
_NAMED: Final = (
    *(b"nbsp", b"ensp", b"emsp", b"thinsp", b"hairsp", b"numsp", b"puncsp", b"shy", b"hyphen"),
    *(b"ndash", b"mdash", b"minus", b"Tab", b"period", b"zwj", b"zwnj"),
)


def _digit_forms(before: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    for start, digit in product(before, range(10)):
        character = b"%d" % digit
        yield _filled(start + character, character)


def _closed_forms(before: tuple[bytes, ...], end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Spell digits behind what begins an entity and before what ends it."""
    for start, digit in product(before, range(10)):
        spelled = b"%b%d%b" % (start, digit, end)
        yield spelled, (b"%d" % digit).rjust(len(start) + 1, FILLER) + FILLER * len(end)


def _decimal_forms(start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    for digit in range(10):
        spelled = b"%b%d%b" % (start, 48 + digit, end)
        yield spelled, (b"%d" % digit).rjust(len(spelled) - len(end), FILLER) + FILLER * len(end)


def _octal_forms() -> Iterator[tuple[bytes, bytes]]:
    for digit in range(10):
        yield _filled(b"\\%03o" % (48 + digit), b"%d" % digit)


def _separator_forms() -> dict[bytes, list[tuple[bytes, bytes]]]:
    forms: dict[bytes, list[tuple[bytes, bytes]]] = {b"%25": [], b"%": [], b"\\u": [], b"&": []}
    for separator in _SEPARATING:
        raw = separator.encode()
        for once in _percent_cases(raw):
            forms[b"%"].append(_filled(once, b" "))
            forms[b"%25"].append(_filled(once.replace(b"%", b"%25"), b" "))
        code = b"%04x" % ord(separator)
        for spelled in (code, code.upper()):
            forms[b"\\u"] += [
                _filled(b"\\\\u" + spelled, b" "),
                _filled(b"\\u" + spelled, b" "),
            ]
        for number in (b"#%d;" % ord(separator), b"#x%X;" % ord(separator), b"#x" + code + b";"):
            forms[b"&"].append(_filled(b"&" + number, b" "))
        forms[b"&"].append(_filled(b"&#x%x;" % ord(separator), b" "))
    forms[b"&"] += [_filled(b"&%b;" % name, b" ") for name in _NAMED]
    forms[b"&"] += [_filled(b"&amp;%b;" % name, b" ") for name in _NAMED]
    return forms


_SEPARATORS: Final = _separator_forms()
_RAW_SEPARATORS: Final = {
    start: tuple(
        _filled(each.encode(), b" ") for each in _SEPARATING if each.encode().startswith(start)
    )
    for start in (b"\xc2", b"\xe2\x80", b"\xe2\x81", b"\xe2\x88", b"\xe3", b"\xef\xbb")
}
_Forms = tuple[tuple[bytes, tuple[tuple[bytes, tuple[tuple[bytes, bytes], ...]], ...]], ...]

# In this order: the longer first, for a shorter one may be its end.
_IN_ORDER: Final = (
    *_decimal_forms(b"%26%23", b"%3B"),
    *_decimal_forms(b"%26%23", b"%3b"),
    *_closed_forms((b"%26%23x3", b"%26%23X3"), b"%3B"),
    *_SEPARATORS[b"%25"],
    *_digit_forms(_DOUBLED),
    *_SEPARATORS[b"%"],
    *_digit_forms(_PERCENT),
    *_decimal_forms(b"\\u0026#", b";"),
    *_SEPARATORS[b"\\u"],
    *_digit_forms(_BACKSLASH),
    *_octal_forms(),
    _filled(b"\\t", b" "),
    *_decimal_forms(b"&amp;#", b";"),
    *_decimal_forms(b"&#", b";"),
    *_closed_forms(_ENTITY, b";"),
    *_SEPARATORS[b"&"],
)


def _by_beginning() -> _Forms:
    """Group the forms, so that one look for what several begin with saves looking for each."""
    groups: dict[bytes, dict[bytes, dict[bytes, bytes]]] = {b"\\\\": {}}  # before single ones
    for spelled, character in _IN_ORDER:
        if spelled.endswith(b";"):
            beginning = spelled[: 3 if spelled[1:2] == b"#" else 2]
        else:
            beginning = spelled[: -4 if spelled[-3:].lower() == b"%3b" else -1]
        groups.setdefault(beginning[:2], {}).setdefault(beginning, {})[spelled] = character
    return tuple(
        (start, tuple((begin, tuple(forms.items())) for begin, forms in each.items()))
        for start, each in groups.items()
    )


_FORMS: Final = _by_beginning()
_OTHER_DIGIT: Final = re.compile(
    rb"\\u(0(?:7[cC]|9[6-7eE]|[A-Da-d][6eE]|[eE][5dD]|[fF]2)[0-9A-Fa-f]"
    rb"|0(?:[9a-dA-D][6eE]|[9a-dA-D][7fF])[0-9A-Fa-f]|1(?:04|09|7[eE]|81)[0-9A-Fa-f])"
)


_ESCAPING: Final = (
    (b"%", (b"%",)),
    (b"\\", (b"\\u", b"\\x", b"\\0", b"\\t", b"\\\\")),
    (b"&", (b"&#", b"&amp;", b"sp;", b"&shy;", b"&hyphen;", b"dash;", b"&minus;", b"&Tab;")),
    (b"&", (b"&period;", b"&zw")),
)
_IN_SPELLINGS: Final = bytes(
    byte
    for byte in range(256)
    if byte >= 128 or byte in b"\0 -._+\t%&#;\\XABCDEFTabcdefghijlmnoprstuwxyz"  # noqa: PLR2004 - not ASCII
)
_ZEROS: Final = bytes(ord("0") if byte in DIGITS else byte for byte in range(256))
_ENOUGH: Final = b"0" * PAN_DIGITS_MIN


def has_escapes(part: bytes) -> bool:
    return any(
        first in part and any(each in part for each in escapes) for first, escapes in _ESCAPING
    )


def may_hold_escaped(part: bytes) -> bool:
    """Whether twelve digits stand near each other once all that escapes are made of is gone."""
    return has_escapes(part) and _ENOUGH in part.translate(_ZEROS, _IN_SPELLINGS)


def ironed(body: bytes) -> tuple[bytes, bool]:  # noqa: C901 - one loop within another, each behind its own quick look
    """Spell its escapes plainly, in the same length; and whether something was left out."""
    text = body
    for start, beginnings in _FORMS:
        if start[:1] in body and start in text:
            for beginning, forms in beginnings:
                if beginning in text:
                    for spelled, character in forms:
                        text = text.replace(spelled, character)
    if b"\\u" in text:
        text = _OTHER_DIGIT.sub(_of_other_script, text)
    if text.isascii():
        return text, False
    for start, forms in _RAW_SEPARATORS.items():
        if start in text:
            for spelled, character in forms:
                text = text.replace(spelled, character)
    return _digits_in_ascii(text)


def _of_other_script(found: re.Match[bytes]) -> bytes:
    digit = unicodedata.digit(chr(int(found[1], 16)), None)
    return found[0] if digit is None else (b"%d" % digit).rjust(len(found[0]), FILLER)


def has_other_digits(body: bytes) -> bool:
    """Whether there are digits of other scripts, full-width, raised or circled ones."""
    if body.isascii():
        return False
    if not is_text(body):
        return any(four.search(body) is not None for four in _COMMON_SCRIPTS.values())
    others = body.translate(None, _ASCII).decode("utf-8", "ignore")
    return not _OTHER_DIGITS.isdisjoint(others)


def _digits_in_ascii(text: bytes) -> tuple[bytes, bool]:
    if not is_text(text):  # by chance random bytes have some of any script
        for zero, four in _COMMON_SCRIPTS.items():
            if four.search(text) is not None:
                for digit in range(10):
                    text = text.replace(*_filled(chr(zero + digit).encode(), b"%d" % digit))
        return text, False
    others = _OTHER_DIGITS.intersection(text.translate(None, _ASCII).decode("utf-8", "ignore"))
    spelled = sorted((each.encode(), unicodedata.digit(each)) for each in others)
    for character, digit in spelled[:SCRIPTS_MAX]:
        text = text.replace(*_filled(character, b"%d" % digit))
    return text, len(spelled) > SCRIPTS_MAX


# --- how it was spelled ---------------------------------------------------------------------


def encoding_of(raw: bytes) -> str:
    """Name how these bytes spell a number, outermost first."""
    if raw.isdigit():
        return "plain"
    if b"\0" in raw:
        return "utf_32" if b"\0\0" in raw else "utf_16"
    names = list(_outermost_first(raw))
    if not names and not raw.isascii():
        plain = raw.decode("utf-8", "ignore")
        if not _OTHER_DIGITS.isdisjoint(plain):
            return "digits_of_others"
    if not names:
        return "plain" if raw.isdigit() else "separated"
    return "/".join(names[:2])


def _outermost_first(raw: bytes) -> Iterator[str]:
    if b"%" in raw:
        yield "percent"
    if b"%25" in raw:
        yield "percent"
    if b"\\" in raw or b"%5C" in raw or b"%5c" in raw:
        yield "json_escape"
    if b"\\\\" in raw:
        yield "json_escape"
    if b"&" in raw or b"%26%23" in raw or b"\\u0026" in raw:
        yield "html_entity"
    if b"&amp;" in raw:
        yield "html_entity"


def _wide(raw: bytes, unit: int, text: str) -> bytes:
    name = "utf-16" if unit == _UTF_16_UNIT else "utf-32"
    return text.encode(f"{name}-{'be' if raw[:1] == FILLER else 'le'}")


def spelled_as(encoding: str, raw: bytes, text: str) -> bytes:
    """Spell a text so that undoing the encoding of `raw` gives it back."""
    if encoding.startswith("utf_"):
        return _wide(raw, int(encoding[4:]) // 8, text)
    for name in reversed(encoding.split("/")):
        text = _INTO[name](text) if name in _INTO else text
    return text.encode()


def _json_text(text: str) -> str:
    return json.dumps(text)[1:-1]


_INTO: Final[dict[str, Callable[[str], str]]] = {
    "percent": partial(quote, safe="*"),
    "json_escape": _json_text,
    "html_entity": escape,
}
