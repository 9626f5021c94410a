"""What was found where in a file, counted. Pure.

A column's name, a kind, a spelling, a brand and a number of finds: never a digit of a card, and of
a row that was refused its number and our word for why. What never lives here: how it is shown.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from gateway.codecs.splice import Format
from gateway.inbound.filtering import Finding

LINES_MAX: Final = 1000
"""Of the table: keys of JSON Lines may be another in each row."""
REFUSED_MAX: Final = 10_000
OTHERS: Final = "(others)"

_INDEX: Final = re.compile(r"\[[0-9]+\]")


class Found(Struct, frozen=True):
    """One line of the table."""

    column: str
    kind: str
    encoding: str
    brand: str
    action: str
    declared: bool


class Counted(Struct, frozen=True):
    """A line, and how often."""

    found: Found
    count: int


class Refused(Struct, frozen=True):
    """A row that was left out; `row` counts from 1, below the header."""

    row: int
    column: str
    reason: str


class Report(Struct, frozen=True, kw_only=True):
    """What became of a file."""

    rows: int
    tokens: int
    found: tuple[Counted, ...]
    refused: int
    refused_rows: tuple[Refused, ...]
    resumed: bool = False


class Tally:
    """Counts what is found as it is found."""

    def __init__(self) -> None:
        self.rows = 0
        self.tokens = 0
        self.refused = 0
        self._refused_rows: list[Refused] = []
        self._counts: Counter[Found] = Counter()

    def add(
        self, *, rows: int, tokens: int, counted: Iterable[Counted], refused: Iterable[Refused]
    ) -> None:
        self.rows += rows
        self.tokens += tokens
        for each in counted:
            known = each.found in self._counts or len(self._counts) < LINES_MAX
            self._counts[each.found if known else _without_column(each.found)] += each.count
        for row in refused:
            self.refused += 1
            if len(self._refused_rows) < REFUSED_MAX:
                self._refused_rows.append(row)

    def report(self, *, resumed: bool = False) -> Report:
        lines = sorted(self._counts.items(), key=lambda each: (each[0].column, -each[1]))
        return Report(
            rows=self.rows,
            tokens=self.tokens,
            found=tuple(Counted(found, count) for found, count in lines),
            refused=self.refused,
            refused_rows=tuple(self._refused_rows),
            resumed=resumed,
        )


def counted(findings: Iterable[Finding], format_: Format | None) -> tuple[Counted, ...]:
    """Put the finds of a block together, by their columns."""
    counts = Counter(
        Found(
            column=column_of(each.place, format_),
            kind=each.kind.value,
            encoding=each.encoding,
            brand=each.brand,
            action=each.action,
            declared=each.declared,
        )
        for each in findings
    )
    return tuple(Counted(found, count) for found, count in counts.items())


def column_of(place: str, format_: Format | None) -> str:
    """Take the row out of a place: `pan[12]` is `pan`, `[12].card.pan` is `[*].card.pan`."""
    if format_ in {Format.CSV, Format.FIXED_WIDTH}:
        return _INDEX.sub("", place)
    return _INDEX.sub("[*]", place)


def _without_column(found: Found) -> Found:
    return Found(OTHERS, found.kind, found.encoding, found.brand, found.action, found.declared)
