"""Selectors: how a preset names fields of a body, and how they are found. Pure.

1. A plain path is written like the names that codecs give. In forms `[` and `]` are ordinary
   characters and `*` is any run of other ones, once in each run: `card[number]`, `metadata[*]`.
   Elsewhere it has steps: `a.b[0].c`, `a["b c"]`, `a.@b` for an attribute; `*` is one whole name
   and `[*]` any index. In front of it may stand, at multipart bodies, the name of the part
   (`file:pan[*]`), and `query:` for the literals of a GraphQL document. XML gives an index only
   to siblings that share a name; there a step without one is any of them, so that a field given
   twice is found twice, and `[0]` and `[*]` are also an element that has no index.
2. `$…` is JSONPath (RFC 9535) over JSON, where the lines of JSON Lines are the items of one array.
   `match` and `search` are left out: a pattern, which may even come from the body, can take for
   ever. A body with a key given twice is refused: the library sees one of them, and a processor
   might see the other.
3. `/…` is XPath 1.0 over XML, on local names: namespaces are taken off before it is evaluated.
   It has to select elements or attributes. What it costs is for the preset's author to mind.

What never lives here: what is done with a field, and which selectors there are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Final

import msgspec
from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError
from lxml import etree

from gateway.codecs.json import below
from gateway.codecs.splice import BOM, Document, Field, Format, Shape, Unprinted
from gateway.errors import Malformed
from gateway.plain_paths import INDEX, LITERALS, Plan, folded, plan_of, without_indices

SELECTOR_CHARACTERS_MAX: Final = 300

_EACH_ROW: Final = "[*]"
_JSON: Final = frozenset({Format.JSON, Format.JSON_LINES, Format.GRAPHQL})


class Match(Unprinted, frozen=True):
    """A field that a selector found, and what its wildcards stand for, or its indices."""

    field: Field
    captured: tuple[str, ...]


def find(selector: str, document: Document, body: bytes, *, fold: bool) -> tuple[Match, ...]:
    """Find with one selector; who has several makes a `Finder`. Raises Malformed."""
    return Finder(document, body, fold=fold).find(selector)


def problem_of(selector: str, format_: Format | None = None) -> str | None:
    """Say what is wrong with a selector, for bodies of a format or for any at all."""
    if not selector or len(selector) > SELECTOR_CHARACTERS_MAX:
        return f"a selector has 1 to {SELECTOR_CHARACTERS_MAX} characters"
    formats = set(Format) if format_ is None else {format_}
    if selector.startswith("$"):
        fits = bool(formats & _JSON) and _json_path(selector) is not None
        return None if fits else "this is no JSONPath (RFC 9535) for a JSON body"
    if selector.startswith("/"):
        fits = Format.XML in formats and _x_path(selector) is not None
        return None if fits else "this is no XPath of elements or attributes of an XML body"
    if not any(plan_of(selector, each, fold=False) for each in formats):
        return 'this is no path of names, [index] and *; other names are quoted, ["a b"]'
    return None


class Finder:
    """Finds the fields of one document; what one search needed is kept for the next."""

    def __init__(self, document: Document, body: bytes, *, fold: bool) -> None:
        """`fold` takes `creditCard`, `credit-card` and `credit_card` for one name."""
        self._document = document
        self._body = body
        self._fold = fold or document.format is Format.XML

    def find(self, selector: str) -> tuple[Match, ...]:
        """Return the values that a selector names, in the order of the body. Raises Malformed."""
        if selector.startswith("$"):
            return self._by_json_path(selector) if self._document.format in _JSON else ()
        if selector.startswith("/"):
            return self._by_x_path(selector) if self._document.format is Format.XML else ()
        column = selector.removesuffix(_EACH_ROW)
        if column != selector and self._is_alone(column):
            return self._in_column(column)
        plan = plan_of(selector, self._document.format, fold=self._fold)
        if plan is None:
            return ()
        if plan.exact is not None:
            return tuple(Match(field, ()) for field in self._by_name.get(plan.exact, ()))
        return _in_order(self._planned(plan))

    # --- tables ---------------------------------------------------------------------------

    def _is_alone(self, column: str) -> bool:
        """Whether it is the name of one column of a table, as it stands there."""
        return (
            self._document.columns.count(column) == 1
            and not self._fold
            and INDEX.search(column) is None
        )

    def _in_column(self, column: str) -> tuple[Match, ...]:
        """Give what a plain path to all rows would find: files have thousands."""
        columns = self._document.columns
        values = self._document.fields[columns.index(column) :: len(columns)]
        return tuple(Match(field, (str(row),)) for row, field in enumerate(values))

    # --- plain paths ----------------------------------------------------------------------

    def _planned(self, plan: Plan) -> Iterator[Match]:
        names = self._by_name if plan.key is None else self._by_key.get(plan.key, ())
        for name in names:
            found = plan.pattern.fullmatch(name)
            if found is not None:
                captured = found.groups("0")
                yield from (Match(field, captured) for field in self._by_name[name])

    @cached_property
    def _by_name(self) -> Mapping[str, list[Field]]:
        by_name: dict[str, list[Field]] = {}
        for field in self._document.fields:
            if field.shape is not Shape.KEY:
                name = self._folded(field.name)
                by_name.setdefault(name, []).append(field)
        return by_name

    @cached_property
    def _by_key(self) -> Mapping[str, list[str]]:
        """The names by what they are without indices."""
        by_key: dict[str, list[str]] = {}
        for name in self._by_name:
            by_key.setdefault(without_indices(name), []).append(name)
        return by_key

    # --- JSONPath and XPath: where they lead, in our names --------------------------------

    def _by_json_path(self, selector: str) -> tuple[Match, ...]:
        path = _json_path(selector)
        if path is None:
            return ()
        if any(not name.startswith(LITERALS) for name in self._document.repeated):
            raise Malformed("duplicate_key")
        document = self._decoded
        if not isinstance(document, list | dict):  # the library would decode a text once more
            return self._named([] if path.segments else [("", ())])
        return self._named(_json_name(found.parts) for found in path.finditer(document))

    @cached_property
    def _decoded(self) -> object:
        body = self._body.removeprefix(BOM)
        try:
            if self._document.format is Format.JSON_LINES:
                return _DECODER.decode_lines(body)
            return _DECODER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        raise Malformed("json")  # a text or a number that the codec lets pass

    def _by_x_path(self, selector: str) -> tuple[Match, ...]:
        path = _x_path(selector)
        if path is None:
            return ()
        root, names = self._tree
        try:
            found = path(root)
        except etree.XPathError:
            found = None
        if not isinstance(found, list):
            raise Malformed("xml")
        located = (_xml_name(each, names) for each in found)
        return self._named((name, tuple(INDEX.findall(name))) for name in located if name)

    @cached_property
    def _tree(self) -> tuple[etree._Element, Mapping[etree._Element, str]]:
        """The body's root element and our names of all elements, namespaces taken off."""
        parser = etree.XMLParser(
            attribute_defaults=False,
            dtd_validation=False,
            load_dtd=False,
            no_network=True,
            resolve_entities=False,
            huge_tree=False,
        )
        try:
            root = etree.fromstring(self._body, parser)
        except etree.XMLSyntaxError:
            root = None
        if root is None:
            raise Malformed("xml")
        return root, _xml_names(root)

    def _named(self, located: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[Match, ...]:
        """Return the values of these names: all that have one of them."""
        return _in_order(
            Match(field, captured)
            for name, captured in dict(located).items()
            for field in self._by_name.get(self._folded(name), ())
            if field.name == name
        )

    def _folded(self, name: str) -> str:
        return folded(name) if self._fold else name


def _in_order(matches: Iterable[Match]) -> tuple[Match, ...]:
    return tuple(sorted(matches, key=lambda match: match.field.start))


# --- JSONPath and XPath -------------------------------------------------------------------


class _JsonPathEnvironment(JSONPathEnvironment):
    """RFC 9535 alone, without its two functions that run a pattern."""

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        for name in ("match", "search"):
            del self.function_extensions[name]


_JSON_PATHS: Final = _JsonPathEnvironment(strict=True)
_DECODER: Final = msgspec.json.Decoder()
_SMALLEST: Final = etree.fromstring("<a/>")


@lru_cache(maxsize=8192)
def _json_path(selector: str) -> JSONPath | None:
    try:
        path = _JSON_PATHS.compile(selector)
    except JSONPathError:
        return None
    return path if isinstance(path, JSONPath) else None


def _json_name(parts: Iterable[int | str]) -> tuple[str, tuple[str, ...]]:
    name = ""
    captured = []
    for part in parts:
        if isinstance(part, int):
            name = f"{name}[{part}]"
            captured.append(str(part))
        else:
            name = below(name, part)
    return name, tuple(captured)


@lru_cache(maxsize=8192)
def _x_path(selector: str) -> etree.XPath | None:
    try:
        path = etree.XPath(selector, regexp=False)
        selects = isinstance(path(_SMALLEST), list)
    except etree.XPathError:
        return None
    return path if selects else None


def _xml_names(root: etree._Element) -> Mapping[etree._Element, str]:
    """Take the namespaces off, and name every element as the XML codec does."""
    elements = list(root.iter("*"))
    for element in elements:
        element.tag = etree.QName(element).localname
        for name, value in element.items():
            local = etree.QName(name).localname
            if local != name:
                del element.attrib[name]
                element.set(local, value)
    names = {root: below("", root.tag)}
    for element in elements:  # a parent comes before its children
        counts = Counter(child.tag for child in element.iterchildren("*"))
        indices: Counter[str] = Counter()
        for child in element.iterchildren("*"):
            name = below(names[element], child.tag)
            names[child] = f"{name}[{indices[child.tag]}]" if counts[child.tag] > 1 else name
            indices[child.tag] += 1
    return names


def _xml_name(found: object, names: Mapping[etree._Element, str]) -> str | None:
    """Name an element or an attribute; a text is named by the element it stands in."""
    if etree.iselement(found):
        return names.get(found)
    if not isinstance(found, etree._ElementUnicodeResult):  # noqa: SLF001 - lxml has no other name
        return None
    parent = found.getparent()
    if found.is_attribute and parent is not None:
        name = str(found.attrname)
        is_plain = not below("", name).startswith("[")
        return names[parent] + (f".@{name}" if is_plain else f'["@{name}"]')
    holder = parent if found.is_text or parent is None else parent.getparent()
    return None if holder is None else names.get(holder)
