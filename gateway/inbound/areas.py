"""The parts of a message that hold values: its query, its headers, its body; and a field of one.

What never may live here: what is done with a field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from gateway import strays
from gateway.codecs import fixed_width, form, multipart
from gateway.codecs.bodies import format_of, read_as
from gateway.codecs.multipart import media_type
from gateway.codecs.splice import Document, Field, Format, Shape, Unprinted
from gateway.errors import BodyUnreadable, Malformed
from gateway.inbound.plan import Headers, Target, bytes_of
from gateway.inbound.rules import InboundConfig
from gateway.plain_paths import Plan, folded, plan_of
from gateway.selectors import Finder

HEADER: Final = "header:"
QUERY: Final = "url:"
PATH: Final = "path:"
"""In `allow` alone: the path itself."""

PART_MARK: Final = "part"
"""Of a part that is read by its type: it has more than its fields."""

BODY: Final = Target("body")
ROWS: Final = frozenset({Format.CSV, Format.JSON_LINES, Format.FIXED_WIDTH})
PLAIN_TEXT: Final = "text/plain"

_ONE_COLUMN: Final = frozenset({Format.CSV, Format.FIXED_WIDTH})
_ROW_FIRST: Final = re.compile(r"\[([0-9]+)\]\.?(.*)", re.DOTALL)
_BELOW: Final[Mapping[Format, str]] = {
    Format.JSON: ".[",
    Format.JSON_LINES: ".[",
    Format.FORM: "[",
    Format.MULTIPART: "[:",
    Format.XML: ".[",
}
"""What a name goes on with that stands in another: of a value that is none, but an array."""
_NO_ATTRIBUTE: Final = r'(?!\.@|\["@)'  # of an element it is none of the value


@dataclass(frozen=True, slots=True, repr=False)
class Area:
    """One part of a message and its fields, if it can be read in a format."""

    target: Target
    raw: bytes
    document: Document | None = None
    finder: Finder | None = None
    content_type: str = ""
    first_row: int = 0

    @property
    def format(self) -> Format | None:
        return None if self.document is None else self.document.format

    @property
    def fields(self) -> tuple[Field, ...]:
        return () if self.document is None else self.document.fields

    @property
    def name(self) -> str:
        """Body, query or `header:x`: fit to be shown."""
        if self.target.part != "header":
            return self.target.part
        shown = strays.shown(self.header, "")
        return f"{HEADER}{shown}" if shown else "header"

    @property
    def header(self) -> str:
        """The name of a header, in lower case."""
        return self.fields[0].name.removeprefix(HEADER)

    def place(self, found: Field | None) -> str:
        """Name a field if its name can be no more than a name, and its row."""
        if found is None or self.target.part != "body":
            return self.name
        if self.format not in ROWS:
            return strays.shown(found.name, self.name)
        return self._row_place(found.name)

    def _row_place(self, name: str) -> str:
        if self.format is Format.JSON_LINES:
            found = _ROW_FIRST.fullmatch(name)
            assert found is not None, "every line has its number"
            inside = strays.shown(found[2], "")
            return f"[{self.first_row + int(found[1])}]" + (inside and f".{inside}")
        column, row = _column_and_row(name)
        return f"{strays.shown(column, self.name)}[{self.first_row + row}]"

    def row_of(self, found: Field) -> int:
        """Give the number of the row that a field stands in."""
        if self.format is not Format.JSON_LINES:
            return self.first_row + _column_and_row(found.name)[1]
        row = _ROW_FIRST.fullmatch(found.name)
        assert row is not None, "every line has its number"
        return self.first_row + int(row[1])


class Spot(Unprinted, frozen=True):
    """A field that a selector led to."""

    area: Area
    field: Field
    captured: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[Target, int]:
        return self.area.target, self.field.start

    @property
    def is_empty(self) -> bool:
        text = self.field.text
        is_null = self.field.shape is Shape.WORD and text in {"null", ""}
        return is_null or (text is not None and not text.strip(" \t\r\n"))


@dataclass(slots=True, repr=False)
class Areas:
    """All of one message's."""

    body: Area
    query: Area
    headers: tuple[Area, ...]
    _found: dict[str, tuple[Spot, ...]] = field(default_factory=dict)

    def find(self, selector: str) -> tuple[Spot, ...]:
        """Give every field that a selector leads to, in their order. Raises BodyUnreadable."""
        known = self._found.get(selector)
        if known is None:
            known = self._found[selector] = tuple(self._find(selector))
        return known

    def below(self, selector: str, *, whole: bool = False) -> Iterator[Spot]:
        """Yield what stands in an array or an object where the selector means a value.

        A lax reader may take such a value for that of the field. `whole`: names in it as well,
        and that a part was read by its type. Raises BodyUnreadable.
        """
        document = self.body.document
        if _elsewhere(selector) or document is None or document.format not in _BELOW:
            return
        if selector.startswith("$"):
            yield from self._in_body(f"{selector}..*")
        elif selector.startswith("/"):
            yield from self._in_body(f"{selector}//*")
        else:
            for spot in self._below_plain(selector, document):
                if whole or not (spot.field.shape is Shape.KEY or _is_mark(spot.field)):
                    yield spot

    def unread(self, selector: str) -> Iterator[Spot]:
        """Yield the parts that a selector means to look into, and that were not read."""
        if _elsewhere(selector) or self.body.format is not Format.MULTIPART:
            return
        part, colon, _ = selector.partition(":")
        if colon and selector[0] not in "$/[":
            for spot in self.find(part):
                if spot.field.start < spot.field.end:
                    yield spot

    def _below_plain(self, selector: str, document: Document) -> Iterator[Spot]:
        plan = plan_of(selected(selector, document.format), document.format, fold=is_xml(document))
        if plan is None:
            return
        found = {spot.field.start for spot in self.find(selector)}
        for each in _inside(plan, document):
            if each.shape is Shape.KEY or each.start not in found:
                yield Spot(self.body, each)

    def _find(self, selector: str) -> Iterable[Spot]:
        if selector.startswith(HEADER):
            name = selector.removeprefix(HEADER).lower()
            at = f"{HEADER}{name}"
            named = (area for area in self.headers if area.fields[0].name == at)
            return (Spot(area, area.fields[0]) for area in named)
        if selector.startswith(QUERY):
            return _matches(self.query, selector.removeprefix(QUERY))
        return self._in_body(selector)

    def _in_body(self, selector: str) -> Iterable[Spot]:
        format_ = self.body.format
        return () if format_ is None else _matches(self.body, selected(selector, format_))


def body_area(
    route: InboundConfig, format_: Format | None, content_type: str, raw: bytes, first_row: int = 0
) -> Area:
    """Read a body in a format, or take it as bytes. Raises BodyUnreadable."""
    if format_ is None or not raw:
        return Area(BODY, raw, content_type=content_type)
    reason = None
    try:
        if format_ is Format.FIXED_WIDTH:
            document = fixed_width.read(raw, route.fixed_width)
        elif format_ is Format.MULTIPART:
            document = multipart.read(content_type, raw, _read_part)
        else:
            document = read_as(format_, content_type, raw)
    except Malformed as error:
        reason = error.reason
    else:
        finder = Finder(document, raw, fold=False)
        return Area(BODY, raw, document, finder, content_type, first_row)
    raise BodyUnreadable(reason or "body")


def _read_part(content_type: str, content: bytes) -> Document | None:
    """Read a part as its type says, with a mark in front: most servers take it as one text.

    What stands where nothing has a place (a CSV's header, a key, a comment) is in that text too.
    """
    format_ = format_of(content_type)
    if format_ is None or format_ is Format.MULTIPART:
        return None
    document = read_as(format_, content_type, content)
    if not content.strip():
        return document
    mark = Field("", PART_MARK, 0, 0, Shape.WORD)
    return replace(document, fields=(mark, *document.fields))


def _is_mark(field: Field) -> bool:
    return field.start == field.end and field.text == PART_MARK


def query_area(query: str, *, is_declared: bool) -> Area:
    """Read a query; one that cannot be is bytes, unless a field of it is declared.

    Raises BodyUnreadable.
    """
    raw = bytes_of(query)
    target = Target("query")
    reason = None
    try:
        document = form.read(raw)
    except Malformed as error:
        reason = error.reason
    else:
        return Area(target, raw, document, Finder(document, raw, fold=False))
    if is_declared:
        raise BodyUnreadable(reason or "query")
    return Area(target, raw)


def header_areas(headers: Headers) -> tuple[Area, ...]:
    areas = []
    for index, (name, value) in enumerate(headers):
        raw = bytes_of(value)
        text = value if raw.isascii() else None
        one = Field(f"{HEADER}{name.lower()}", text, 0, len(raw))
        document = Document(Format.FORM, (one,), repeated=frozenset())
        areas.append(Area(Target("header", index), raw, document))
    return tuple(areas)


def format_read(route: InboundConfig, content_type: str) -> Format | None:
    """Tell in which format a body would be read: plain text where columns are declared."""
    format_ = format_of(content_type)
    if format_ is None and route.fixed_width and type_of(content_type) == PLAIN_TEXT:
        found = media_type(content_type)
        charset = found.parameters.get("charset", "utf-8") if found else ""
        return Format.FIXED_WIDTH if charset.lower() in {"utf-8", "us-ascii"} else None
    return format_


@lru_cache(maxsize=256)
def type_of(content_type: str) -> str:
    """Give the type without its parameters; nothing for one that is doubtful."""
    found = media_type(content_type)
    return "" if found is None else found.name


def selected(selector: str, format_: Format) -> str:
    """Give the selector for rows: `pan` is the column in all of them."""
    if selector[0] in "$/":
        return selector
    if format_ in _ONE_COLUMN and (not selector.endswith("]") or selector.endswith('"]')):
        return f"{selector}[*]"
    if format_ is Format.JSON_LINES and not re.match(r"\[(?:[0-9]|\*)", selector):
        return f"[*]{selector}" if selector.startswith("[") else f"[*].{selector}"
    return selector


def _column_and_row(name: str) -> tuple[str, int]:
    column, _, row = name.removesuffix("]").rpartition("[")
    return column, int(row)


def is_xml(document: Document) -> bool:
    return document.format is Format.XML


def _matches(area: Area, selector: str) -> tuple[Spot, ...]:
    if area.finder is None:
        return ()
    reason = None
    try:
        found = area.finder.find(selector)
    except Malformed as error:
        reason = error.reason
    else:
        return tuple(Spot(area, match.field, match.captured) for match in found)
    raise BodyUnreadable(reason or "selector")


def _elsewhere(selector: str) -> bool:
    return selector.startswith((HEADER, QUERY))


def _inside(plan: Plan, document: Document) -> Iterator[Field]:
    """Yield what is named below the names that a plain path means."""
    marks = _BELOW[document.format]
    if plan.exact is not None:
        starts = tuple(f"{plan.exact}{mark}" for mark in marks)
        yield from (each for each in document.fields if each.name.startswith(starts))
        return
    no_attribute = _NO_ATTRIBUTE if is_xml(document) else ""
    inside = re.compile(f"(?:{plan.pattern.pattern}){no_attribute}[{re.escape(marks)}]")
    as_compared = folded if is_xml(document) else str
    yield from (each for each in document.fields if inside.match(as_compared(each.name)))
