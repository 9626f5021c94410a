"""Names that some readers take for a declared one, and that are not spelled as it is. Pure.

PHP reads `card.number`, ` card_number` and `card_number%00x` as `card_number`; ASP.NET and Go look
for names without regard to case; Rack 2 splits a form at `;` too and skips the blanks before a
name; PHP, Rails and ASP.NET give the fields of the query to who asks for those of the body. What
stands under such a name would be read as the declared field, and was not treated as one. What
never lives here: what is done about it.
"""

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Final

from gateway import strays
from gateway.codecs import form
from gateway.codecs.splice import Format, Shape
from gateway.inbound.areas import HEADER, QUERY, Area, Areas, selected
from gateway.inbound.plan import Target
from vault.pan import PAN_DIGITS_MIN

_READ: Final = frozenset({Format.FORM, Format.JSON, Format.JSON_LINES, Format.MULTIPART})
_MARKS: Final = re.compile(r"[\W_]+")
_WILD: Final = re.compile(r"\[\*\]|\*")
_PIECE: Final = re.compile(rb"(?:\A|[&;])([^&;=]{1,400})=([^&;]{3,400})")
_NAME_CHARACTERS_MAX: Final = 400
_NUMBER_CHARACTERS_MAX: Final = 64
_CODE_DIGITS: Final = range(3, 5)

Fits = Callable[[str | None], bool]


def may_be_number(text: str | None) -> bool:
    """Whether it has the digits of a card number; what cannot be read may have them."""
    if text is None:
        return True
    if not PAN_DIGITS_MIN <= len(text) <= _NUMBER_CHARACTERS_MAX or strays.TOKEN.fullmatch(text):
        return False
    return sum(map(str.isdigit, text)) >= PAN_DIGITS_MIN


def may_be_code(text: str | None) -> bool:
    """Whether it can be a code, and not the zeros that stand for one."""
    if text is None:
        return True
    typed = text.strip() if len(text) <= _NUMBER_CHARACTERS_MAX else ""
    return len(typed) in _CODE_DIGITS and typed.isdigit() and bool(typed.strip("0"))


def is_alike(
    areas: Areas, selector: str, known: Collection[tuple[Target, int]], fits: Fits
) -> bool:
    """Whether a value that `fits` stands under a name that could pass for the selector's.

    `known` are the places of what is declared or allowed itself. JSONPath and XPath are followed
    as they are written.
    """
    if selector.startswith(HEADER) or selector[0] in "$/":
        return False
    if selector.startswith(QUERY):
        return _in_area(areas.query, selector.removeprefix(QUERY), known, fits)
    return any(_in_area(area, selector, known, fits) for area in (areas.body, areas.query))


def _in_area(area: Area, selector: str, known: Collection[tuple[Target, int]], fits: Fits) -> bool:
    format_ = area.format
    if format_ not in _READ:
        return False
    pattern = _pattern(selected(selector, format_))
    for each in area.fields:
        if each.shape is Shape.KEY or (area.target, each.start) in known or not fits(each.text):
            continue
        if len(each.name) <= _NAME_CHARACTERS_MAX and pattern.fullmatch(_plain(each.name)):
            return True
    if format_ is Format.FORM and b";" in area.raw:
        return any(pattern.fullmatch(name) for name in _between_semicolons(area.raw, fits))
    return False


def _between_semicolons(raw: bytes, fits: Fits) -> Iterator[str]:
    for found in _PIECE.finditer(raw):
        if (found.start() and raw[found.start()] == ord(";")) and fits(form.decode(found[2])):
            name = form.decode(found[1])
            if name is not None:
                yield _plain(name)


@lru_cache(maxsize=8192)
def _pattern(selector: str) -> re.Pattern[str]:
    """Compare with the plain form of a name, in which a wildcard is any run of letters."""
    pieces, at = [], 0
    for wild in _WILD.finditer(selector):
        pieces += [re.escape(_plain(selector[at : wild.start()]))]
        pieces += ["[0-9]*+" if wild[0] == "[*]" else r"\w*"]
        at = wild.end()
    return re.compile("".join((*pieces, re.escape(_plain(selector[at:])))))


def _plain(name: str) -> str:
    """Leave the letters and digits of a name, up to a NUL."""
    return _MARKS.sub("", name.partition("\x00")[0].casefold())
