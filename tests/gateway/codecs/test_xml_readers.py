"""The XML codec beside lxml, a reader of another library: what the one reads, so does the other."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gateway.codecs import xml
from gateway.codecs.splice import BOM, Field, Replacement, Shape, splice
from gateway.errors import Malformed

# --- bodies -------------------------------------------------------------------------------

_SPACE = st.sampled_from([" ", "\n ", "\t", "\r\n"])
_MAYBE_SPACE = st.just("") | _SPACE
_NAMES = st.sampled_from(["a", "b", "n-1", "p:a", "q:a", "r:b", "é"])
_ATTRIBUTE_NAMES = st.sampled_from(["m", "n-1", "p:m", "q:m", "r:m", "xml:lang", "xmlns:z"])
_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="&<>\"'\r")
_PIECES = (
    st.text(st.sampled_from("0123456789-/pwt_]é") | _CHARACTERS.filter(str.isprintable), max_size=6)
    | st.sampled_from(["&#95;", "&#x5f;", "&#13;", "&lt;", "&gt;", "&amp;", "&apos;", "&quot;"])
    | _SPACE
)
_QUOTED = st.lists(_PIECES | st.sampled_from([">", "/>", "=", "m='1'"]), max_size=3).map("".join)
_CDATA = st.text(st.sampled_from("12<>&]' \r\n"), max_size=6).filter(lambda each: "]]>" not in each)
_TEXT = st.lists(_PIECES | _CDATA.map("<![CDATA[{}]]>".format), max_size=3).map("".join)
_BREAK = st.sampled_from(["<!-- x -->", "<!---->", "<!-- <a m='1'> -->", "<?x y?>", "<?x?>"])


@st.composite
def _tags(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a start tag without its end, and the end tag of it."""
    name = draw(_NAMES)
    tag = f"<{name}"
    for attribute in draw(st.lists(_ATTRIBUTE_NAMES, max_size=3, unique=True)):
        equals = f"{draw(_MAYBE_SPACE)}={draw(_MAYBE_SPACE)}"
        value = "u:1" if attribute == "xmlns:z" else draw(_QUOTED)
        quoted = f'"{value}"' if draw(st.booleans()) or "'" in value else f"'{value}'"
        tag += f"{draw(_SPACE)}{attribute}{equals}{quoted}"
    return tag + draw(_MAYBE_SPACE), f"</{name}{draw(_MAYBE_SPACE)}>"


@st.composite
def _elements(draw: st.DrawFn, content: st.SearchStrategy[str]) -> str:
    start, end = draw(_tags())
    if draw(st.integers(0, 4)) == 0:
        return f"{start}/>"
    return f"{start}>{''.join(draw(st.lists(content, max_size=4)))}{end}"


_CONTENT = st.recursive(_TEXT, lambda inner: _elements(inner | _BREAK) | inner, max_leaves=12)
_PROLOGS = st.sampled_from(
    [
        "",
        "<?xml version='1.0' encoding='UTF-8'?>\n",
        "<!-- 1 --><!DOCTYPE x SYSTEM 'x.dtd'>\n",
        '<?xml version="1.0"?><!DOCTYPE x PUBLIC "-//X//EN" "http://127.0.0.1:9/[">',
    ]
)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    namespaces = "xmlns:p='u:p' xmlns:q='u:q' xmlns:r='u:p'"
    inside = "".join(draw(st.lists(_CONTENT | _BREAK, max_size=4)))
    body = f"{draw(_PROLOGS)}<x {namespaces}>{inside}</x>{draw(_MAYBE_SPACE)}"
    return draw(st.sampled_from([b"", BOM])) + body.encode()


# --- the other reader ---------------------------------------------------------------------

_Pairs = Iterator[tuple[str, str]]


class _CutError(Exception):
    """Text that a comment cuts in two."""


def _as_lxml_reads(body: bytes) -> list[tuple[str, str]]:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    root = etree.fromstring(body, parser)
    return list(_pairs(root, _local(root.tag)))


def _local(name: object) -> str:
    local = etree.QName(str(name)).localname
    return local if local != "é" else '["é"]'


def _is_element(node: etree._Element) -> bool:
    return not isinstance(node, etree._Comment | etree._ProcessingInstruction)


def _pairs(element: etree._Element, path: str) -> _Pairs:
    for name, value in element.attrib.items():
        yield f"{path}.@{_local(name)}", str(value)
    children = [child for child in element if _is_element(child)]
    counts = Counter(_local(child.tag) for child in children)
    seen: Counter[str] = Counter()
    run = [element.text or ""]
    for child in element:
        if _is_element(child):
            yield from _of_run(path, run)
            name = _local(child.tag)
            step = f"[{seen[name]}]" if counts[name] > 1 else ""
            seen[name] += 1
            yield from _pairs(child, f"{path}{'' if name.startswith('[') else '.'}{name}{step}")
            run = []
        run.append(child.tail or "")
    yield from _of_run(path, run, is_leaf=not children)


def _of_run(path: str, run: list[str], *, is_leaf: bool = False) -> _Pairs:
    texts = [piece for piece in run if piece.strip(" \t\r\n")]
    if len(texts) > 1:
        raise _CutError
    if texts or is_leaf:
        yield path, (texts or run[-1:])[0]


def _texts(body: bytes) -> list[tuple[str, str | None]]:
    return [(each.name, each.text) for each in xml.read(body).fields]


# --- what must hold -----------------------------------------------------------------------


@pytest.mark.guards("T-12", "T-18")
@given(_bodies())
def test_it_reads_what_lxml_reads(body: bytes) -> None:
    try:
        expected = _as_lxml_reads(body)
    except etree.XMLSyntaxError:  # an attribute given twice under two prefixes of one namespace
        expected = None
    except _CutError:
        with pytest.raises(Malformed) as caught:
            xml.read(body)
        assert caught.value.reason == "xml_split"
        return
    if expected is None:
        with pytest.raises(Malformed):
            xml.read(body)
        return
    assert _texts(body) == expected


def _read_or_none(body: bytes) -> tuple[Field, ...] | None:
    try:
        return xml.read(body).fields
    except Malformed:
        return None


@given(_bodies(), st.data())
def test_a_value_put_in_place_is_read_there_and_nothing_else_changes(
    body: bytes, data: st.DataObject
) -> None:
    fields = _read_or_none(body) or ()
    chosen = [at for at, each in enumerate(fields) if each.shape is not Shape.WORD]
    if not chosen:
        return
    at = data.draw(st.sampled_from(chosen))
    field = fields[at]
    value = data.draw(st.sampled_from(["0123456789012345", "12/2030", "pwt_test_00", "7"]))
    spliced = bytes(splice(body, [Replacement(field.start, field.end, value.encode())]))
    expected = [(each.name, each.text) for each in fields]
    expected[at] = (field.name, value)
    assert _texts(spliced) == expected
    assert _as_lxml_reads(spliced) == expected
    end = field.start + len(value)
    raw = body[field.start : field.end]
    assert splice(spliced, [Replacement(field.start, end, raw)]) == body


@given(_bodies())
def test_values_put_back_change_nothing(body: bytes) -> None:
    fields = _read_or_none(body) or ()
    same = [Replacement(each.start, each.end, body[each.start : each.end]) for each in fields]
    assert splice(body, same) == body


@given(_bodies())
def test_what_is_no_field_is_markup_or_space(body: bytes) -> None:
    fields = _read_or_none(body)
    if fields is None:
        return
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    emptied = splice(body, [Replacement(each.start, each.end, b"") for each in fields])
    for element in etree.fromstring(bytes(emptied), parser).iter():
        if _is_element(element):
            assert not (element.text or "").strip(" \t\r\n")
            assert not any(map(str, element.attrib.values()))
        assert not (element.tail or "").strip(" \t\r\n")


# --- any bytes ----------------------------------------------------------------------------

_WORDS = """
    < > /> </ a <a> </a> <a/> b='1' c="2" ' " = 1 & &amp; &#49; &n; <![CDATA[ ]]> <!-- --> <? ?>
    <?xml version='1.0' encoding='utf-8' <!DOCTYPE SYSTEM 'x' [ ]> <!ENTITY n '4'> xmlns:p='u' p: é
"""
_MARKUP = st.sampled_from(re.findall(r"\S+", _WORDS)) | st.sampled_from(
    [" ", "\r\n", "\ufeff", "\0"]
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    body = draw(_bodies())
    start = draw(st.integers(0, len(body)))
    length = draw(st.integers(0, 4))
    return body[:start] + draw(st.binary(max_size=2)) + body[start + length :]


@pytest.mark.guards("T-18")
@given(st.binary(max_size=40) | st.lists(_MARKUP, max_size=14).map("".join).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    _check_places(body)


@pytest.mark.guards("T-18")
@given(_damaged())
def test_damaged_bodies_are_read_or_refused(body: bytes) -> None:
    _check_places(body)


def _check_places(body: bytes) -> None:
    fields = _read_or_none(body)
    if fields is None:
        return
    done = 0
    for field in fields:
        assert done <= field.start <= field.end <= len(body)
        done = field.end
    try:
        expected = _as_lxml_reads(body)
    except etree.XMLSyntaxError:  # it wants namespaces to be URIs
        return
    assert [each.text for each in fields] == [text for _, text in expected]
