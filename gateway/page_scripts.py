"""Every script that stands in a page: what a browser may run of the bytes that it received. Pure.

What lives here: reading HTML for that one question. What never may: a tree. libxml2 reads HTML in
words as browsers do, but builds another tree, and what stands behind `</html>` is in none; so the
words are read one after another, and where browsers would read two ways, both count.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin

from lxml import etree

_Text = str | bytes  # as lxml's types have it; with an encoding given it is str

TEXT_MAX: Final = 200

_CONTROL: Final = re.compile(r"[^\x20-\x7e]")
_SCRIPT_URL: Final = re.compile(
    r"[\x00-\x20]*j\s*a\s*v\s*a\s*s\s*c\s*r\s*i\s*p\s*t\s*:", re.IGNORECASE
)
_NOSCRIPT: Final = re.compile(rb"<noscript\b.*?</noscript", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[A-Za-z!/?]")
_DATA: Final = frozenset({"application/json", "application/ld+json"})
_FOREIGN: Final = frozenset({"svg", "math"})
_TEXT_ONLY: Final = frozenset(
    {"iframe", "noembed", "noframes", "style", "textarea", "title", "xmp"}
)
"""What is text in these is markup once they stand within SVG or MathML (HTML, 13.2.6.5)."""


@dataclass(frozen=True, slots=True)
class Element:
    """A start tag, and the text up to the next tag."""

    name: str
    attributes: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class ScriptTag:
    """A script of a page: an element, a handler in an attribute, or a `javascript:` address."""

    url: str | None
    text: str = field(default="", repr=False)
    integrity: str = ""
    crossorigin: str | None = None

    @property
    def shown(self) -> str:
        return printable(self.url or f"inline: {self.text.strip()}")


def printable(text: str) -> str:
    """Make text from outside fit for a terminal and a mail."""
    plain = _CONTROL.sub("?", text[: TEXT_MAX + 1])
    return plain if len(plain) <= TEXT_MAX else f"{plain[:TEXT_MAX]}..."


def scripts_of(url: str, body: bytes) -> list[ScriptTag]:
    """Return every script that stands in the page; what scripts add later is not in it.

    What stands in `noscript` is text where scripts run, and markup where they do not: it may end
    the element in one reading and not in the other, so the page is read both ways.
    """
    found = _found(url, elements_of(body))
    without = _NOSCRIPT.sub(b"<noscript></noscript", body)
    also = _found(url, elements_of(without)) if without != body else []
    return found + [tag for tag in also if tag not in found]


def _found(url: str, elements: list[Element]) -> list[ScriptTag]:
    base = _base(elements, url)
    found: list[ScriptTag] = []
    foreign = False
    for element in elements:
        foreign = foreign or element.name in _FOREIGN
        found += _scripts(element, base)
        if foreign and element.name in _TEXT_ONLY and _TAG.search(element.text):
            found.append(ScriptTag(None, element.text))
    return found


def elements_of(body: bytes) -> list[Element]:
    """Read the tags of a page in their order."""
    reader = _Reader()
    parser = etree.HTMLParser(target=reader, encoding="utf-8", no_network=True, huge_tree=False)
    try:
        parser.feed(body)
        parser.close()
    except (etree.XMLSyntaxError, ValueError):  # it is over here for libxml2; not for a browser
        reader.start("script", {})
        reader.data("what follows cannot be read")
    return reader.elements


class _Reader:
    """Is told the words of a page."""

    def __init__(self) -> None:
        self._open: list[tuple[str, Mapping[str, str], list[str]]] = []
        self._is_open = False

    @property
    def elements(self) -> list[Element]:
        return [Element(name, attributes, "".join(text)) for name, attributes, text in self._open]

    def start(self, tag: _Text, attrib: Mapping[_Text, _Text]) -> None:
        lower = {str(name).lower(): str(value or "") for name, value in attrib.items()}
        self._open.append((str(tag).lower().rpartition(":")[2], lower, []))
        self._is_open = True

    def end(self, tag: _Text) -> None:  # noqa: ARG002 - whichever it is
        self._is_open = False

    def data(self, data: _Text) -> None:
        if self._is_open:
            self._open[-1][2].append(str(data))

    def comment(self, text: _Text) -> None:
        """Run nothing: no browser does."""

    def close(self) -> None:
        """Keep what was read."""


def _scripts(element: Element, base: str) -> Iterator[ScriptTag]:
    attributes = element.attributes
    if element.name == "script" and attributes.get("type", "").strip().lower() not in _DATA:
        address = attributes.get("src", attributes.get("href"))
        yield ScriptTag(
            None if address is None else _joined(base, address),
            element.text,
            attributes.get("integrity", ""),
            attributes.get("crossorigin"),
        )
    for name, value in attributes.items():
        if name.startswith("on") or name == "srcdoc" or _SCRIPT_URL.match(value):
            yield ScriptTag(None, f"{name}={value}")


def _base(elements: list[Element], url: str) -> str:
    for element in elements:
        if element.name == "base" and "href" in element.attributes:
            return _joined(url, element.attributes["href"])
    return url


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address.strip())
    except ValueError:  # such as https://[x
        return address
