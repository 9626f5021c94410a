"""What a command's options ask for, as the route that treats a file. Pure.

A column is named as it stands in the header, `Card number`, or as any selector, `pan[*]`; in
JSON Lines a path within a line, `card.number`. What never lives here: the options themselves.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

import msgspec

from gateway.codecs.fixed_width import problem_of as problem_of_columns
from gateway.codecs.json import below
from gateway.codecs.splice import Document, Field, Format
from gateway.inbound.filtering import problems_of
from gateway.inbound.rules import Filter, InboundConfig
from gateway.selectors import find

NAME: Final = "import"
NO_TENANT: Final = "t_none"  # of a file that is masked

_PLACES_MAX: Final = 65_535
_COLUMN: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})=([0-9]{1,5})-([0-9]{1,5})")
_ROWS: Final = "[*]"


class FileFormat(StrEnum):
    """How a file is written, as the option says it."""

    CSV = "csv"
    JSONL = "jsonl"
    FIXED = "fixed"
    RAW = "raw"


class TokenFormat(StrEnum):
    """What a token looks like."""

    OPAQUE = "opaque"
    PAN_LIKE = "pan_like"


class Undeclared(StrEnum):
    """What a card number gets that stands in no column that was named."""

    REPORT = "report"
    MASK = "mask"
    TOKENIZE = "tokenize"
    REFUSE = "refuse"


FORMATS: Final = {
    FileFormat.CSV: Format.CSV,
    FileFormat.JSONL: Format.JSON_LINES,
    FileFormat.FIXED: Format.FIXED_WIDTH,
}
_SUFFIXES: Final = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
}


class AskedWrong(ValueError):
    """The options do not go together; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that say what is done with which column."""

    number: str | None = None
    exp_month: str | None = None
    exp_year: str | None = None
    expiry: str | None = None
    cvc: str | None = None
    remove: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    token_format: TokenFormat = TokenFormat.OPAQUE
    undeclared: Undeclared = Undeclared.REPORT
    reuse: bool = False
    masks: bool = False
    """Nothing becomes a token."""


def format_of(name: str) -> FileFormat | None:
    """Guess from a file's name how it is written."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def route_of(asked: Asked, format_: Format, *, tenant: str = NO_TENANT) -> InboundConfig:
    """Make the route. Raises AskedWrong."""
    tied = (asked.exp_month, asked.exp_year, asked.expiry, asked.cvc)
    if asked.number is None and any(each is not None for each in tied):
        raise AskedWrong("a date or a code belongs to a number: --number SELECTOR")
    route = InboundConfig(
        name=NAME,
        tenant=tenant,
        hosts=("import.invalid",),
        upstream="https://import.invalid",
        filters=tuple(_filters(asked, format_)),
        undeclared="mask" if asked.masks else asked.undeclared.value,
        allow=tuple(selector(each, format_) for each in asked.allow),
        fixed_width=_columns(asked.columns),
        reuse=asked.reuse,
    )
    if (format_ is Format.FIXED_WIDTH) != bool(route.fixed_width):
        raise AskedWrong("--column name=from-to goes with a file of fixed width, which needs it")
    for problem in (problem_of_columns(route.fixed_width), *problems_of(route)):
        if problem is not None:
            raise AskedWrong(problem)
    if route.fixed_width:
        names = [below("", name) for name in route.fixed_width]
        absent = absent_of(route, format_, names)
        if absent is not None:
            raise AskedWrong(f"{absent} is no column: --column {absent}=from-to says where it is")
    return route


def absent_of(route: InboundConfig, format_: Format, columns: Sequence[str]) -> str | None:
    """Give a column that is named and is not there: what was meant by it would go on as it is."""
    fields = [Field(f"{column}[0]", "", 0, 0) for column in columns]
    row = Document.of(format_, fields, columns, columns=tuple(columns))
    for each in route.filters:
        for named in (each.selector, *each.beside()):
            if not find(named, row, b"", fold=False):
                return named.removesuffix(_ROWS)
    return None


def options_digest(route: InboundConfig, *more: object) -> str:
    """Digest all that changes what is written; none of it is card data."""
    said = msgspec.json.encode([route, *more], order="deterministic")
    return hashlib.sha256(said).hexdigest()


def selector(asked: str, format_: Format) -> str:
    """Make a selector of what names a column, if it is not one."""
    if format_ is Format.JSON_LINES:
        is_whole = asked.startswith(("$", "["))
        return asked if is_whole else f"{_ROWS}.{asked}"
    return asked if asked.endswith(_ROWS) else below("", asked) + _ROWS


def _filters(asked: Asked, format_: Format) -> list[Filter]:
    def named(each: str | None) -> str | None:
        return None if each is None else selector(each, format_)

    filters = [Filter(selector(each, format_), "remove") for each in asked.remove]
    if asked.number is None:
        return filters
    number = selector(asked.number, format_)
    if asked.masks:
        return [Filter(number, "mask"), *filters]
    return [
        Filter(
            number,
            exp_month=named(asked.exp_month),
            exp_year=named(asked.exp_year),
            expiry=named(asked.expiry),
            cvc=named(asked.cvc),
            format=asked.token_format.value,
        ),
        *filters,
    ]


def _columns(asked: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    columns: dict[str, tuple[int, int]] = {}
    for each in asked:
        found = _COLUMN.fullmatch(each)
        if found is None or int(found[3]) > _PLACES_MAX:
            raise AskedWrong("a column is name=from-to, in bytes from 0, `to` not among them")
        if found[1] in columns:
            raise AskedWrong(f"the column {found[1]} is given twice")
        columns[found[1]] = int(found[2]), int(found[3])
    return columns
