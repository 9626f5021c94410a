"""Which values are a card's verification code, by what they are called. Pure.

A code must not be kept once a payment is authorized (PCI DSS 3.3.1), and nothing but its name tells
it from any other three or four digits. So all names that lead to a value are asked: `cvv2Value`,
`card[cvc]`, `cvc.value`, `<card cvc="…"/>`; and a text may name one as well, `cvc=123` within a
note. What came of checking a code is none: `cvc_check`, `cvvResult`, `cvc.status`.

What never lives here: what is written instead, and card numbers.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.codecs.splice import Field, Shape

_STEP: Final = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|([^.\[\]]+)')  # of all formats' paths
_WORD: Final = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ABBREVIATED: Final = "cvc|cvv|cvn|cvd|cvx|csc|cv(?=2|code|number|value)"
_WHAT: Final = "code|number|value|digits|num|no|data|text|input|field"
_STRONG: Final = re.compile(
    rf"(?:{_ABBREVIATED})[0-9]?(?:{_WHAT})*s?[0-9]?|cards?(?:code|security)(?:{_WHAT})*[0-9]?"
)
_OF_A_CARD: Final = re.compile(
    r"(?:security|verification)(?:code|number|value|digits)(?:value|number)?s?[0-9]?"
)
"""By itself or after `card`: an e-mail address has a verification code, too."""
_WEAK: Final = re.compile(rf"(?:card)?(?:cid|cav)[0-9]?(?:{_WHAT})?|.*cardverification")
"""May be something else: then of what stands right there, and not of all that is below it."""

_PARTED: Final = frozenset({"verificationvalue", "verificationnumber", "securitycode"})
"""Names of which each half stands by itself: `security.code`."""

_OTHER: Final = frozenset(
    (
        *("check", "checks", "checked", "result", "results", "response", "status", "match"),
        *("matched", "indicator", "reason", "length", "min", "max", "size", "month", "year"),
        *("exp", "expiry", "expiration", "attempts", "tries", "count", "amount", "version"),
        *("id", "last", "last4", "date", "time", "at", "created", "error", "message", "type"),
    )
)
"""Words of names that are about a code, or beside one, and hold none."""

_TEXT: Final = re.compile(r"\d(?:[\s.-]?\d){2,3}")
_PIECE: Final = re.compile(r"\d{1,4}")  # of a code that is given digit by digit
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}(?:\.0+)?")  # it has lost its zeros in front
_INDEX_AT_END: Final = re.compile(r"\[[0-9]*\]\Z")

_IN_TEXT: Final = re.compile(
    r"""(?ix)
    (?: (?<![a-z0-9]) | (?<=card) )
    (?: (?:cvc|cvv|cvn|cvd|cvx|csc)2? | cv2 | (?:card|security)[ _-]?code )
    (?: [ _-]?(?:code|number|value) )?
    [\\"'\])>]{0,6} \s{0,4} (?: [:=#-] | %3[ad] | \bis\b )? \s{0,4} [\\"'\[(]{0,6}
    (?P<code>[0-9]{3,4}) (?! [0-9a-z] | [.,/-][0-9] )
    """
)

_NEVER_A_CODE: Final = rb"(?!2?(?:code)?(?:check|result|response|status|match|indicator))"
_MAY_BE_NAMED: Final = re.compile(
    rb"(?i)(?:cvc|cvv|cvn|cvd|cvx|csc|cv2|cv(?=code|number|value))" + _NEVER_A_CODE + rb"|card"
    rb"(?:[^a-z0-9]*(?:code|security)" + _NEVER_A_CODE + rb"|cid|cav|verification)"
    rb"|(?:security|verification)[^a-z0-9]*(?:code|number|value|digits)" + _NEVER_A_CODE + rb"|"
    rb"(?<![a-z0-9])(?:cid|cav)(?![a-z])"
)
_DROPPED: Final = b"-_ "


def may_be_there(body: bytes) -> bool:
    """Whether anything in a body, none of it escaped, is called like a code; most say no."""
    return _MAY_BE_NAMED.search(body.translate(None, _DROPPED)) is not None


def codes_among(fields: Iterable[Field]) -> Iterator[Field]:
    """Yield those that are a code by their name and by what stands there."""
    for each in fields:
        text = (each.text or "").strip()
        if text and each.shape not in {Shape.KEY, Shape.WORD} and _may_be_code(each, text):
            yield each


def is_code(name: str, text: str) -> bool:
    """Whether a text that goes by this name is a code."""
    return _is_text_code(_TEXT, text.strip()) and _names_code(name)


def zeros(field: Field) -> bytes:
    """Write what can stand in the place of a code."""
    return b"0" if field.shape is Shape.NUMBER else b"0" * len((field.text or "").strip())


def codes_in(text: str) -> list[tuple[int, int]]:
    """Give the places of codes that a text itself names."""
    places = (found.span("code") for found in _IN_TEXT.finditer(text))
    return [(start, end) for start, end in places if text[start:end].strip("0")]


def _may_be_code(field: Field, text: str) -> bool:
    if field.shape is Shape.NUMBER:
        return _NUMBER.fullmatch(text) is not None and _names_code(field.name)
    form = _PIECE if _INDEX_AT_END.search(field.name) else _TEXT
    return _is_text_code(form, text) and _names_code(field.name)


def _is_text_code(form: re.Pattern[str], text: str) -> bool:
    return form.fullmatch(text) is not None and any(
        int(character) for character in text if character.isdecimal()
    )


def _names_code(path: str) -> bool:
    """Whether the last name is a code's, or one above it is and none since says otherwise."""
    below = ""
    steps = [quoted or plain for quoted, plain in _STEP.findall(path) if not plain.isdecimal()]
    for depth, step in enumerate(reversed(steps)):
        words = [each.lower() for each in _WORD.findall(step)]
        if _OTHER.intersection(words):
            return False
        if _is_named(words, _STRONG) or (depth == 0 and _is_named(words, _WEAK)):
            return True
        if depth == 1 and "".join((*words, below)) in _PARTED:
            return True
        below = "".join(words)
    return False


def _is_named(words: list[str], form: re.Pattern[str]) -> bool:
    """Whether a name ends in such a one: it begins with a word, or follows `card` within one."""
    if form is _WEAK:
        return form.fullmatch("".join(words)) is not None
    for at, word in enumerate(words):
        rest = "".join(words[at:])
        card = word.rfind("card")
        of_a_card = rest[card + 4 :] if card >= 0 else rest
        if form.fullmatch(rest) or (card >= 0 and form.fullmatch(rest[card:])):
            return True
        if card >= 0 and form.fullmatch(of_a_card):
            return True
        if (card >= 0 or at == 0) and _OF_A_CARD.fullmatch(of_a_card):
            return True
    return False
