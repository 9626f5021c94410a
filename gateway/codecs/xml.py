"""XML 1.0 with the place of every text and attribute value, so that one can be changed. Pure.

Expat is the judge of what is well-formed and of where markup starts. Nothing is expanded and
nothing fetched: a body that declares an entity, or may (a DOCTYPE with an internal subset), is
malformed, and so is a reference to an entity that XML itself does not define. A DOCTYPE that only
points elsewhere passes and is never followed (Worldpay's must be there). Only UTF-8 is read, with
or without a byte order mark, and ASCII.

A value's name is the path of local names from the root, `a.b.c`, attributes `a.b.@c`; a sibling
name that occurs more than once has an index on each, `a.b[0].c`; a name of other characters is
quoted, as in JSON. Prefixes are dropped, so that names of two namespaces count as one. Namespace
declarations, comments and processing instructions are no values: who looks for something hidden
looks between the fields too.

- An element without elements in it is one field, from tag to tag; if that is exactly one CDATA
  section, it is what stands inside, where nothing may be escaped.
- `<a/>` has no place for a value: its field is empty, a `Shape.WORD`, which nobody replaces.
- Text beside elements is a field of the same name for each run of it.
- Text that a comment or processing instruction cuts in two is refused: some readers stop there
  and some read on, so that two of them would see two values (as in CVE-2017-11427).

What is put in place of a value is digits, `/`, `-` or a token: nothing that XML would escape.
A body under an XML signature is refused, as is one with a WS-Security header, which carries it:
the signature is over the text, so no value can be changed without breaking it.
What never lives here: which values matter.
"""

import pyexpat
import re
from typing import Final

from gateway.codecs.splice import Document, Field, Format, Shape
from gateway.errors import Malformed

DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000
ATTRIBUTES_MAX: Final = 256  # of one element, namespace declarations among them
PATH_CHARACTERS_MAX: Final = 500  # every value repeats the names that it stands in

_ENCODINGS: Final = frozenset({"utf-8", "us-ascii", "ascii"})
_SEPARATOR: Final = " "  # between a namespace and a name, which has no space
_WHITE: Final = " \t\r\n"
_SLASH: Final = ord("/")
_CDATA: Final = b"<![CDATA["
_CDATA_END: Final = b"]]>"
_SIGNATURES: Final = (
    "http://www.w3.org/2000/09/xmldsig#",
    "http://schemas.xmlsoap.org/soap/security/2000-12",
)
_SECURITY_HEADERS: Final = (  # OASIS 1.0, 1.1, then the drafts that old toolkits still write
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
    "http://docs.oasis-open.org/wss/oasis-wss-wssecurity-secext-1.1.xsd",
    "http://schemas.xmlsoap.org/ws/2003/06/secext",
    "http://schemas.xmlsoap.org/ws/2002/12/secext",
    "http://schemas.xmlsoap.org/ws/2002/07/secext",
    "http://schemas.xmlsoap.org/ws/2002/04/secext",
)
_SIGNED: Final = frozenset(
    [f"{each}{_SEPARATOR}Signature" for each in _SIGNATURES]
    + [f"{each}{_SEPARATOR}Security" for each in _SECURITY_HEADERS]
)

# Over what expat has found well-formed, and possessive: no input makes them try twice.
_START_TAG: Final = re.compile(
    rb"""<([^\s/>]++)[^>"']*+(?:(?:"[^"]*+"|'[^']*+')[^>"']*+)*+>""",
)
_ATTRIBUTE: Final = re.compile(rb"""\s++([^\s=]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)')""")
_UNKNOWN_ENTITY: Final = re.compile(rb"&(?!#|(?:lt|gt|amp|apos|quot);)")
_PLAIN_NAME: Final = re.compile("@?[A-Za-z0-9_-]+")


def read(body: bytes) -> Document:
    """Return every text and every attribute value in the order of their places."""
    if b"\x00" in body:  # of UTF-16 and UTF-32, which expat would recognize; in UTF-8 no character
        raise Malformed("xml_encoding")
    scanner = _Scanner(body)
    scanner.read()
    fields = scanner.fields()
    names = (field.name for field in fields)
    return Document.of(Format.XML, fields, names, roots=(scanner.root,))


class _Element:
    """An element: its path is not known until its parent is closed, for want of the siblings."""

    __slots__ = ("children", "ordinal", "parent", "path", "run_has_text", "step")

    def __init__(self, parent: "_Element | None", step: str) -> None:
        self.parent = parent
        self.step = step
        self.path = step
        self.ordinal = 0
        self.children: dict[str, int] | None = None  # how many of each name
        self.run_has_text = False  # since the tag of the last child

    def count(self, child: "_Element") -> None:
        if self.children is None:
            self.children = {}
        child.ordinal = self.children.get(child.step, 0)
        self.children[child.step] = child.ordinal + 1

    def set_path(self) -> None:
        """Take the name that the siblings leave, below the parent's, which has its own."""
        parent = self.parent
        if parent is not None:
            assert parent.children is not None, "we are one of them"
            dot = "" if self.step.startswith("[") else "."
            index = f"[{self.ordinal}]" if parent.children[self.step] > 1 else ""
            self.path = f"{parent.path}{dot}{self.step}{index}"
        if len(self.path) > PATH_CHARACTERS_MAX:
            raise Malformed("xml_too_large")


class _Scanner:
    """One pass over one body, driven by expat."""

    def __init__(self, body: bytes) -> None:
        self.root = ""
        self._body = body
        self._elements: list[_Element] = []
        self._open: list[_Element] = []
        self._values: list[tuple[_Element, str, str, int, int, Shape]] = []
        self._steps: dict[str, str] = {}  # of a path, by the name with its namespace
        self._pieces: list[str] = []  # of the text since the last markup
        self._text_at = 0  # where the last markup ended
        self._is_empty_tag = False
        self._parser = pyexpat.ParserCreate("utf-8", namespace_separator=_SEPARATOR)

    def read(self) -> None:
        parser = self._parser
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._entity
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = self._instruction
        code = 0
        try:
            parser.Parse(self._body, True)  # noqa: FBT003 - positional only: this is all of it
        except pyexpat.ExpatError as error:
            code = error.code
        finally:
            del self._parser  # its handlers hold us: without this the body outlives its call
        if code == pyexpat.errors.codes[pyexpat.errors.XML_ERROR_UNDEFINED_ENTITY]:
            raise Malformed("xml_entity")
        if code:
            raise Malformed("xml")

    def fields(self) -> list[Field]:
        for element in self._elements:
            element.set_path()
        return [
            Field(element.path + suffix, text, start, end, shape)
            for element, suffix, text, start, end, shape in self._values
        ]

    # --- before the root ------------------------------------------------------------------

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0":  # 1.1 has other ends of lines, and expat does not know it
            raise Malformed("xml")
        if encoding is None:
            return
        encoding = encoding.lower()
        if encoding not in _ENCODINGS or (encoding != "utf-8" and not self._body.isascii()):
            raise Malformed("xml_encoding")

    def _doctype(self, _name: str, _system: str | None, _public: str | None, subset: int) -> None:
        if subset:
            raise Malformed("xml_entity")

    def _entity(self, *_: object) -> None:
        raise Malformed("xml_entity")

    # --- markup ---------------------------------------------------------------------------

    def _start(self, name: str, attributes: list[str]) -> None:
        at = self._parser.CurrentByteIndex
        element = _Element(None, self._steps.get(name) or self._step(name))
        if self._open:
            self._text(at)
            element.parent = parent = self._open[-1]
            parent.count(element)
            parent.run_has_text = False
        if len(self._open) == DEPTH_MAX or len(self._elements) + len(self._values) > VALUES_MAX:
            raise Malformed("xml_too_large")
        self._elements.append(element)
        self._open.append(element)
        tag = _START_TAG.match(self._body, at)
        assert tag is not None, "expat found a start tag here"
        named, end = tag.end(1), tag.end()
        self._text_at = end
        self._is_empty_tag = self._body[end - 2] == _SLASH
        if end - named > len(" />"):
            self._attributes(element, attributes, named, end)

    def _step(self, name: str) -> str:
        if name in _SIGNED:
            raise Malformed("xml_signed")
        local = name[name.rfind(_SEPARATOR) + 1 :]
        self.root = self.root or local
        step = self._steps[name] = _step(local)
        return step

    def _attributes(self, element: _Element, read: list[str], at: int, tag_end: int) -> None:
        """Give each value that expat has read the place where it stands."""
        body = self._body
        if _UNKNOWN_ENTITY.search(body, at, tag_end):  # under a DOCTYPE expat leaves them out
            raise Malformed("xml_entity")
        values = iter(read[1::2])
        count = 0
        while found := _ATTRIBUTE.match(body, at, tag_end):
            at = found.end()
            count += 1
            if count > ATTRIBUTES_MAX:
                raise Malformed("xml_too_large")
            prefix, _, local = found[1].rpartition(b":")
            if b"xmlns" in {prefix, found[1]}:
                continue
            start, end = found.span(found.lastindex or 0)
            step = _step(f"@{local.decode()}")
            suffix = step if step.startswith("[") else f".{step}"
            self._values.append((element, suffix, next(values), start, end, Shape.ATTRIBUTE))

    def _end(self, _name: str) -> None:
        element = self._open[-1]
        if self._is_empty_tag:
            self._is_empty_tag = False
            place = self._text_at - len("/>")
            self._values.append((element, "", "", place, place, Shape.WORD))
        else:
            at = self._parser.CurrentByteIndex
            self._text(at, is_leaf=element.children is None)
            self._text_at = self._body.index(b">", at) + 1
        self._open.pop()

    def _comment(self, _data: str) -> None:
        if self._open:
            at = self._parser.CurrentByteIndex
            self._text(at)
            self._text_at = self._body.index(b"-->", at + len("<!--")) + len("-->")

    def _instruction(self, _target: str, _data: str) -> None:
        if self._open:
            at = self._parser.CurrentByteIndex
            self._text(at)
            self._text_at = self._body.index(b"?>", at) + len("?>")

    # --- text -----------------------------------------------------------------------------

    def _text(self, end: int, *, is_leaf: bool = False) -> None:
        """Take what stands between two pieces of markup; at the end of a leaf, nothing too."""
        element = self._open[-1]
        text = ""
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
        if text.strip(_WHITE):
            if element.run_has_text:
                raise Malformed("xml_split")
            element.run_has_text = True
        elif not is_leaf or element.run_has_text:
            return
        start = self._text_at
        if self._body.startswith(_CDATA, start):
            inside = start + len(_CDATA)
            if self._body.find(_CDATA_END, inside, end) == end - len(_CDATA_END):
                start, end = inside, end - len(_CDATA_END)
        self._values.append((element, "", text, start, end, Shape.TEXT))


def _step(local: str) -> str:
    return local if _PLAIN_NAME.fullmatch(local) else f'["{local}"]'
