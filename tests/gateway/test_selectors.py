import json as standard
import re
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.codecs import bodies
from gateway.codecs.json import below
from gateway.codecs.splice import BOM, Format, Shape
from gateway.errors import Malformed
from gateway.selectors import Finder, find, problem_of

_BOUNDARY = "multipart/form-data; boundary=b"
_MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="card[number]"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="j"\r\nContent-Type: application/json\r\n\r\n'
    b'{"a":{"b":2},"c":[{"d":3},{"d":4}],"e f":5,"n m":[6]}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"\r\n'
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nx[y]=7\r\n"
    b'--b\r\nContent-Disposition: form-data; name="k:l"\r\n\r\n8\r\n--b--'
)
_FORM = b"card[number]=1&card%5Bcvc%5D=2&metadata[a]=3&metadata[b]=4&metadata[b][c]=5&amount=6"
_JSON = (
    b'{"card":{"number":1,"holder":{"name":2}},"list":[{"n":3},{"n":4,"m":[5,6]}],'
    b'"a b":7,"x.y":{"z":8},"@type":9,"visa":{"number":10},"q\\"":11,"p_q":12,"list2":{"n":13}}'
)
_XML = (
    b'<order xmlns:s="urn:s" id="1"><s:card type="2" s:mode="3"><number>4</number></s:card>'
    b"<line><sku>5</sku></line><line><sku>6</sku><sku>7</sku></line>"
    b"<creditCard>8</creditCard><credit-card>9</credit-card><a.b>10</a.b><empty/></order>"
)
_LINES = b'{"a":{"n":1}}\n{"a":{"n":2}}\n[3]'
_CSV = b"pan,Card number\n1,2\n3,4\n"
_GRAPHQL = (
    b'{"query":"mutation { tokenize(input: {card: {number: \\"1\\"}}, list: [\\"2\\", \\"3\\"])'
    b' { id } other(input: {card: {number: \\"4\\"}}) { id(first: \\"9\\") } }",'
    b'"variables":{"input":{"creditCard":{"number":"5"}}}}'
)


def _found(
    selector: str, format_: Format, body: bytes, *, fold: bool = False
) -> list[tuple[str | None, tuple[str, ...]]]:
    document = bodies.read_as(format_, _BOUNDARY, body)
    matches = find(selector, document, body, fold=fold)
    return [(each.field.text, each.captured) for each in matches]


# --- plain paths --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("card[number]", [("1", ())]),
        ("card[cvc]", [("2", ())]),
        ("card[*]", [("1", ("number",)), ("2", ("cvc",))]),
        ("*[number]", [("1", ("card",))]),
        ("metadata[*]", [("3", ("a",)), ("4", ("b",))]),
        ("metadata[*][*]", [("5", ("b", "c"))]),
        ("am*", [("6", ("ount",))]),
        ("*", [("6", ("amount",))]),
        ("card", []),
        ("card[Number]", []),
        ("card.number", []),
        ("$.amount", []),
        ("/amount", []),
        ("[card]", []),
    ],
)
def test_in_forms_brackets_are_ordinary_characters(
    selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert _found(selector, Format.FORM, _FORM) == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("card.number", [("1", ())]),
        ("card.holder.name", [("2", ())]),
        ("card", []),
        ("card.*", [("1", ("number",))]),
        ("*.number", [("1", ("card",)), ("10", ("visa",))]),
        ("*.*.name", [("2", ("card", "holder"))]),
        ("list[0].n", [("3", ())]),
        ("list[*].n", [("3", ("0",)), ("4", ("1",))]),
        ("list[*].m[*]", [("5", ("1", "0")), ("6", ("1", "1"))]),
        ("list[1].m[1]", [("6", ())]),
        ("list.n", []),
        ("list*.n", []),
        ("list.*.n", []),
        ('["a b"]', [("7", ())]),
        ('["x.y"].z', [("8", ())]),
        ("x.y.z", []),
        ('["@type"]', [("9", ())]),
        (
            "*",
            [("7", ('["a b"]',)), ("9", ('["@type"]',)), ("11", (r'["q\""]',)), ("12", ("p_q",))],
        ),
        ("*.z", [("8", ('["x.y"]',))]),
        ('["card"]["number"]', [("1", ())]),
        (r'["q\""]', [("11", ())]),
        ("p_q", [("12", ())]),
        ("pQ", []),
        ("card..number", []),
        (".card", []),
        ("card.@number", []),
        ("@type", []),
        ("list[01].n", []),
        ("/card/number", []),
    ],
)
def test_in_json_a_path_has_steps(selector: str, found: list[tuple[str, tuple[str, ...]]]) -> None:
    assert _found(selector, Format.JSON, _JSON) == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("order.@id", [("1", ())]),
        ("order.card.number", [("4", ())]),
        ("order.card.@type", [("2", ())]),
        ("order.card.@mode", [("3", ())]),
        ("order.*.number", [("4", ("card",))]),
        ("order.card[0].number", [("4", ())]),
        ("order.card[*].number", [("4", ("0",))]),
        ("order.card[1].number", []),
        ("order.line.sku", [("5", ()), ("6", ()), ("7", ())]),
        ("order.line[0].sku", [("5", ())]),
        ("order.line[1].sku", [("6", ()), ("7", ())]),
        ("order.line[1].sku[1]", [("7", ())]),
        ("order.line[*].sku", [("5", ("0",)), ("6", ("1",)), ("7", ("1",))]),
        ("order.line[*].sku[*]", [("5", ("0", "0")), ("6", ("1", "0")), ("7", ("1", "1"))]),
        ("order.*.sku", [("5", ("line",)), ("6", ("line",)), ("7", ("line",))]),
        ("order.*[0].*", [("4", ("card", "number")), ("5", ("line", "sku"))]),
        ("order.creditCard", [("8", ()), ("9", ())]),
        ("order.CREDIT_CARD", [("8", ()), ("9", ())]),
        ('order["a.b"]', [("10", ())]),
        ('order["empty"]', [("", ())]),
        ("order.*.@type", [("2", ("card",))]),
        ("order.card.*", [("4", ("number",))]),
        ("order.line", []),
        ("order", []),
        ("card.number", []),
        ("order.@id.x", []),
        ("order@id", []),
        ("$.order", []),
    ],
)
def test_in_xml_a_step_without_an_index_is_any_sibling(
    selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert _found(selector, Format.XML, _XML) == found


def test_a_name_wildcard_is_no_attribute() -> None:
    body = b'<a x.y="1" z="2"><b>3</b><c.d>4</c.d></a>'
    assert _found("a.*", Format.XML, body) == [("3", ("b",)), ("4", ('["c.d"]',))]
    assert _found('a["@x.y"]', Format.XML, body) == [("1", ())]


@pytest.mark.parametrize(
    ("format_", "body", "selector", "found"),
    [
        (Format.JSON_LINES, _LINES, "[1].a.n", [("2", ())]),
        (Format.JSON_LINES, _LINES, "[*].a.n", [("1", ("0",)), ("2", ("1",))]),
        (Format.JSON_LINES, _LINES, "[*][*]", [("3", ("2", "0"))]),
        (Format.CSV, _CSV, "pan[*]", [("1", ("0",)), ("3", ("1",))]),
        (Format.CSV, _CSV, "pan[1]", [("3", ())]),
        (Format.CSV, _CSV, '["Card number"][*]', [("2", ("0",)), ("4", ("1",))]),
        (Format.CSV, _CSV, '["pan"][*]', [("1", ("0",)), ("3", ("1",))]),
        (Format.CSV, b"pan,n,pan\n1,2,3\n", "pan[*]", [("1", ("0",)), ("3", ("0",))]),
        (Format.CSV, b"pan\n", "pan[*]", []),
        (Format.CSV, _CSV, "pan", []),
        (Format.MULTIPART, _MULTIPART, "card[number]", [("1", ())]),
        (Format.MULTIPART, _MULTIPART, "card[*]", [("1", ("number",))]),
        (Format.MULTIPART, _MULTIPART, "j:a.b", [("2", ())]),
        (Format.MULTIPART, _MULTIPART, "j:c[*].d", [("3", ("0",)), ("4", ("1",))]),
        (Format.MULTIPART, _MULTIPART, "*:c[1].d", [("4", ("j",))]),
        (Format.MULTIPART, _MULTIPART, 'j:["e f"]', [("5", ())]),
        (Format.MULTIPART, _MULTIPART, 'j:["n m"][*]', [("6", ("0",))]),
        (Format.MULTIPART, _MULTIPART, "f:x[y]", [("7", ())]),
        (Format.MULTIPART, _MULTIPART, '["k:l"]', [("8", ())]),
        (Format.MULTIPART, _MULTIPART, "k:l", []),
        (Format.MULTIPART, _MULTIPART, "j", []),
        (Format.MULTIPART, _MULTIPART, "a.b", []),
        (Format.MULTIPART, _MULTIPART, "j:a", []),
        (Format.MULTIPART, _MULTIPART, "*", []),
        (Format.GRAPHQL, _GRAPHQL, "variables.input.creditCard.number", [("5", ())]),
        (Format.GRAPHQL, _GRAPHQL, "query:tokenize.input.card.number", [("1", ())]),
        (
            Format.GRAPHQL,
            _GRAPHQL,
            "query:*.input.card.number",
            [("1", ("tokenize",)), ("4", ("other",))],
        ),
        (Format.GRAPHQL, _GRAPHQL, "query:tokenize.list[*]", [("2", ("0",)), ("3", ("1",))]),
        (Format.GRAPHQL, _GRAPHQL, "query:other/id.first", [("9", ())]),
        (Format.GRAPHQL, _GRAPHQL, "*.input.card.number", []),
        (Format.GRAPHQL, _GRAPHQL, "tokenize.input.card.number", []),
        (Format.GRAPHQL, _GRAPHQL, "query:tokenize.input..number", []),
    ],
)
def test_other_formats(
    format_: Format, body: bytes, selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert _found(selector, format_, body) == found


@pytest.mark.parametrize("selector", ["credit_card.number", "creditCard.number", "Credit-Card.*"])
def test_folded_names_are_compared_without_their_spelling(selector: str) -> None:
    body = b'{"creditCard":{"number":1},"credit_card":{"number":2},"creditcard":{"other":3}}'
    texts = [text for text, _ in _found(selector, Format.JSON, body, fold=True)]
    assert texts[:2] == ["1", "2"]
    assert len(_found(selector, Format.JSON, body, fold=False)) <= 1


def test_folding_takes_no_letter_of_another_script_for_one_of_ours() -> None:
    assert _found("Kind", Format.FORM, "\u212aind=1&kind=2".encode(), fold=True) == [("2", ())]
    assert _found("exp_month", Format.FORM, b"expMonth=1", fold=True) == [("1", ())]
    assert _found("m[exp_*]", Format.FORM, b"m[expMonth]=1", fold=True) == [("1", ("month",))]


@pytest.mark.parametrize(
    ("selector", "body"),
    [
        ("a.b", b'{"a":{"b":1},"a":{"b":2}}'),
        ("a.*", b'{"a":{"b":1,"b":2}}'),
        ("*.b", b'{"a":{"b":1,"\\u0062":2}}'),
    ],
)
def test_a_field_given_twice_is_found_twice(selector: str, body: bytes) -> None:
    assert [text for text, _ in _found(selector, Format.JSON, body)] == ["1", "2"]


def test_a_key_is_never_found() -> None:
    assert _found("a", Format.JSON, b'{"a":{}}') == []
    assert _found("$.a", Format.JSON, b'{"a":{}}') == []


# --- JSONPath -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("$.card.number", [("1", ())]),
        ("$['card']['number']", [("1", ())]),
        ("$.list[*].n", [("3", ("0",)), ("4", ("1",))]),
        ("$.list[-1].m[0]", [("5", ("1", "0"))]),
        ("$..number", [("1", ()), ("10", ())]),
        ("$.list[?@.m].n", [("4", ("1",))]),
        ("$.list[?@.n == 3].n", [("3", ("0",))]),
        ("$['x.y'].z", [("8", ())]),
        ("$['a b','p_q']", [("7", ()), ("12", ())]),
        ("$.list[0,0].n", [("3", ("0",))]),
        ("$.card", []),
        ("$.none", []),
        ("$", []),
    ],
)
def test_json_path_finds_by_its_locations(
    selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert _found(selector, Format.JSON, _JSON) == found
    assert _found(selector, Format.JSON, BOM + _JSON, fold=True) == found


@pytest.mark.parametrize(
    ("format_", "body", "selector", "found"),
    [
        (Format.JSON_LINES, _LINES, "$[*].a.n", [("1", ("0",)), ("2", ("1",))]),
        (Format.JSON_LINES, BOM + _LINES, "$[2][0]", [("3", ("2", "0"))]),
        (Format.GRAPHQL, _GRAPHQL, "$..creditCard.number", [("5", ())]),
        (Format.GRAPHQL, _GRAPHQL, "$..card.number", []),
        (Format.JSON, b'"[1]"', "$", [("[1]", ())]),
        (Format.JSON, b'"[1]"', "$[0]", []),
        (Format.JSON, b'"["', "$[0]", []),
        (Format.JSON, b'{"a":"[1]"}', "$.a[0]", []),
        (Format.JSON, b"7", "$", [("7", ())]),
        (Format.JSON, b'{"creditCard":1,"credit_card":2}', "$.creditCard", [("1", ())]),
    ],
)
def test_json_path_in_other_bodies(
    format_: Format, body: bytes, selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert _found(selector, format_, body) == found
    assert _found(selector, format_, body, fold=True) == found


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":{"n":1},"a":{"n":2}}',
        b'{"a":{"n":1},"a":{"m":2}}',
        b'{"a":{"n":1},"b":{"kind":"x","kind":"y"}}',
    ],
)
def test_json_path_refuses_a_body_of_which_it_sees_less_than_others_could(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        _found("$.a.n", Format.JSON, body)
    assert caught.value.reason == "duplicate_key"


@pytest.mark.guards("T-11")
@pytest.mark.parametrize("body", [b'{"a":"\\ud800"}', b'{"a":"\xff"}'])
def test_json_path_refuses_what_cannot_be_decoded(body: bytes) -> None:
    assert _found("a", Format.JSON, body) == [(None, ())]
    with pytest.raises(Malformed) as caught:
        _found("$.a", Format.JSON, body)
    assert caught.value.reason == "json"
    assert caught.value.__context__ is None


# --- XPath --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("/order/card/number", [("4", ())]),
        ("//number", [("4", ())]),
        ("//number/text()", [("4", ())]),
        ("/order/@id", [("1", ())]),
        ("//@type", [("2", ())]),
        ("//card/@mode", [("3", ())]),
        ("/order/line/sku", [("5", ("0",)), ("6", ("1", "0")), ("7", ("1", "1"))]),
        ("/order/line[2]/sku[1]", [("6", ("1", "0"))]),
        ("//line[sku=5]/sku", [("5", ("0",))]),
        ("//*[@type='2']/number", [("4", ())]),
        ("/order/creditCard", [("8", ())]),
        ("/order/a.b", [("10", ())]),
        ("/order/s:card", []),
        ("/order/line", []),
        ("/order/none", []),
        ("//number | //@id | //number", [("1", ()), ("4", ())]),
    ],
)
def test_x_path_finds_elements_and_attributes_by_their_local_names(
    selector: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    if selector == "/order/s:card":
        assert problem_of(selector) is not None
    assert _found(selector, Format.XML, _XML) == found
    assert _found(selector, Format.JSON, _JSON) == []


def test_a_text_beside_elements_is_found_by_the_element_it_stands_in() -> None:
    body = b"<a><b>1<c x.y='2'/>3</b></a>"
    assert _found("//b/text()", Format.XML, body) == [("1", ()), ("3", ())]
    assert _found("//c/following-sibling::text()", Format.XML, body) == [("1", ()), ("3", ())]
    assert _found("//@*", Format.XML, body) == [("2", ())]


def test_comments_instructions_and_namespaces_are_nothing() -> None:
    body = b"<?x y?><a><!-- 1 --><b>2</b><?p 3?></a>"
    assert _found("//namespace::*", Format.XML, b"<a xmlns:s='urn:s'>1</a>") == []
    assert _found("//comment() | //processing-instruction() | //b", Format.XML, body) == [("2", ())]


def test_x_path_that_fails_over_a_body_refuses_it() -> None:
    selector = "//b[count(@x) = $undefined]"  # nothing of it is evaluated where there is no `b`
    assert _found("//b", Format.XML, b"<a><b>1</b></a>") == [("1", ())]
    with pytest.raises(Malformed) as caught:
        _found(selector, Format.XML, b"<a><b>1</b></a>")
    assert caught.value.reason == "xml"
    assert caught.value.__context__ is None


def test_x_path_reads_no_more_than_the_codec() -> None:
    deep = b"<a>" * 60 + b"1" + b"</a>" * 60
    assert _found("//a[not(a)]", Format.XML, deep) == [("1", ())]
    external = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/none.dtd"><a>1</a>'
    assert _found("/a", Format.XML, external) == [("1", ())]
    document = bodies.read_as(Format.XML, "", b"<a>1</a>")
    with pytest.raises(Malformed) as caught:  # another body than the document's: never by us
        find("/a", document, b"<a>", fold=False)
    assert caught.value.reason == "xml"
    entities = b'<!DOCTYPE a [<!ENTITY e "1">]><a>&e;</a>'
    assert find("/a/text()", document, entities, fold=False) == ()


# --- what is wrong with a selector --------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "format_"),
    [
        ("card[number]", None),
        ("card[number]", Format.FORM),
        ("metadata[*]", Format.FORM),
        ("a.b[0].c", Format.JSON),
        ("a.b[*].*", Format.JSON),
        ('["a b"].c["d.e"][0]', Format.JSON),
        ("[0].a", Format.JSON_LINES),
        ("a.@b", Format.XML),
        ("a.@b", None),
        ('["Card number"][*]', Format.CSV),
        ("part:a.b", Format.MULTIPART),
        ("part", Format.MULTIPART),
        ('["a:b"]:c', Format.MULTIPART),
        ("query:tokenize.input", Format.GRAPHQL),
        ("query:$input.card", Format.GRAPHQL),
        ("$.a", None),
        ("$.a[?@.b == 'x'].c", Format.JSON),
        ("$[*].a", Format.JSON_LINES),
        ("$.a", Format.GRAPHQL),
        ("/a/b", None),
        ("//a[@b='c']/@d", Format.XML),
    ],
)
def test_nothing_is_wrong_with(selector: str, format_: Format | None) -> None:
    assert problem_of(selector, format_) is None


@pytest.mark.parametrize(
    ("selector", "format_"),
    [
        ("", None),
        ("a" * 301, None),
        ("a\n", None),
        ("a[", None),
        ("a]", None),
        ("a[b[c]]", None),
        ("a*b*", Format.FORM),
        ("m[**]", Format.FORM),
        ("a*b*c", None),
        ("a*b*", Format.MULTIPART),
        ("part:", Format.MULTIPART),
        (":a", Format.MULTIPART),
        ("part:a[", Format.MULTIPART),
        ("a..b", Format.JSON),
        ("a.", Format.JSON),
        (".a", Format.JSON),
        ("a b", Format.JSON),
        ("a[b]", Format.JSON),
        ("a[-1]", Format.JSON),
        ("a[01]", Format.JSON),
        ("a[]", Format.JSON),
        ("a.@b", Format.JSON),
        ("a*", Format.JSON),
        ("@a", Format.XML),
        ("a.@b.c", Format.XML),
        ("a.@b[0]", Format.XML),
        ("a[0]b", Format.XML),
        ('a["b', Format.JSON),
        ("query:a b", Format.GRAPHQL),
        ("$.a", Format.FORM),
        ("$.a", Format.XML),
        ("$.a", Format.MULTIPART),
        ("$.", None),
        ("$ .a ", None),
        ("$.a[?match(@.b, 'x')]", None),
        ("$.a[?search(@.b, 'x')]", None),
        ("$.a | $.b", None),
        ("$.a & $.b", None),
        ("$.a.~", None),
        ("$.a[?@.b =~ /x/]", None),
        ("/a", Format.JSON),
        ("/a[", None),
        ("/a = 1", None),
        ("/a/string()", None),
        ("/x:a", None),
        ("/a/unknown()", None),
    ],
)
def test_something_is_wrong_with(selector: str, format_: Format | None) -> None:
    assert problem_of(selector, format_) is not None


@pytest.mark.parametrize(
    "selector", ["$.", "$.a[?match(@, 'x')]", "//[", "string(/a)", "a[", "a..b"]
)
def test_a_selector_that_is_none_finds_nothing(selector: str) -> None:
    assert _found(selector, Format.JSON, b'{"a":{"b":1}}') == []
    assert _found(selector, Format.XML, b"<a><b>1</b></a>") == []
    assert _found(selector, Format.MULTIPART, _MULTIPART) == []


# --- properties ---------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b", "a b", "a.b", "b[0]", '"', "\\", "é", "", "@c"])
_TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


def _leaves(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*at, index))
    else:
        yield at


def _named(location: tuple[str | int, ...]) -> str:
    name = ""
    for step in location:
        name = f"{name}[{step}]" if isinstance(step, int) else below(name, step)
    return name


@given(_TREES, st.data())
def test_a_plain_path_finds_what_walking_the_document_does(
    tree: object, data: st.DataObject
) -> None:
    """And a JSONPath that means the same finds the same."""
    locations = list(_leaves(tree))
    assume(locations and locations != [()])
    chosen = data.draw(st.sampled_from(locations))
    wild = data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
    plain, json_path = "", "$"
    for step, is_any in zip(chosen, wild, strict=True):
        if isinstance(step, int):
            plain += "[*]" if is_any else f"[{step}]"
            json_path += "[0:]" if is_any else f"[{step}]"
        else:
            plain = (f"{plain}.*" if plain else "*") if is_any else below(plain, step)
            json_path += "[*]" if is_any else f"[{standard.dumps(step)}]"
    fitting = [
        each
        for each in locations
        if len(each) == len(chosen)
        and all(
            type(one) is type(other) and (is_any or one == other)
            for one, other, is_any in zip(each, chosen, wild, strict=True)
        )
    ]
    body = standard.dumps(tree).encode()
    document = bodies.read_as(Format.JSON, "", body)
    finder = Finder(document, body, fold=False)
    found = finder.find(plain)
    assert problem_of(plain, Format.JSON) is None
    assert [each.field.name for each in found] == [_named(each) for each in fitting]
    assert [len(each.captured) for each in found] == [sum(wild)] * len(fitting)
    by_json_path = finder.find(json_path)
    if "[*]" not in json_path:  # there it is any item, too
        assert [each.field for each in by_json_path] == [each.field for each in found]
    assert {each.field.start for each in found} <= {each.field.start for each in by_json_path}


@st.composite
def _elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(st.sampled_from(["a", "b", "s:a", "c.d"]))
    attribute = draw(st.sampled_from(["", ' x="1"', ' s:y="2"']))
    if depth == 3 or draw(st.booleans()):
        return f"<{name}{attribute}>{draw(st.integers(0, 9))}</{name}>"
    inner = "".join(draw(st.lists(_elements(depth + 1), min_size=1, max_size=3)))
    return f"<{name}{attribute}>{inner}</{name}>"


@given(_elements(), st.data())
def test_a_plain_path_and_its_x_path_find_the_same(inner: str, data: st.DataObject) -> None:
    body = f'<r xmlns:s="urn:s">{inner}{inner}</r>'.encode()
    document = bodies.read_as(Format.XML, "", body)
    chosen = data.draw(st.sampled_from(document.fields)).name
    plain, x_path = "", ""
    for dot, quoted, name, index in re.findall(
        r'(\.?)(?:\["(.*?)"\]|(@?\w+))(?:\[(\d+)\])?', chosen
    ):
        kind = data.draw(st.sampled_from(["name", "index", "any"]))
        if kind == "any" and not name.startswith("@"):
            plain += "." * bool(plain) + "*"
            x_path += "/*"
        else:
            plain += f'["{quoted}"]' if quoted else dot + name
            x_path += f"/{quoted or name}"
            if kind == "index" and plain != "r" and "@" not in name:
                plain += f"[{index or 0}]"
                x_path += f"[{int(index or 0) + 1}]"
    assert problem_of(plain, Format.XML) is None
    found = find(plain, document, body, fold=False)
    assert found
    assert [each.field for each in found] == [
        each.field for each in find(x_path, document, body, fold=True)
    ]


@given(
    st.text('$/.*[]"@:ab0 \\?', max_size=12),
    st.sampled_from(
        [
            (Format.FORM, _FORM),
            (Format.JSON, _JSON),
            (Format.XML, _XML),
            (Format.JSON_LINES, _LINES),
            (Format.CSV, _CSV),
            (Format.MULTIPART, _MULTIPART),
            (Format.GRAPHQL, _GRAPHQL),
        ]
    ),
    st.booleans(),
)
def test_any_selector_finds_values_of_the_document_or_nothing(
    selector: str, sample: tuple[Format, bytes], fold: object
) -> None:
    format_, body = sample
    document = bodies.read_as(format_, _BOUNDARY, body)
    found = find(selector, document, body, fold=bool(fold))
    assert all(each.field in document.fields for each in found)
    assert all(each.field.shape is not Shape.KEY for each in found)
    if problem_of(selector, format_) is not None:
        assert not found


def test_a_match_prints_nothing_of_what_it_found() -> None:
    document = bodies.read_as(Format.FORM, "", b"a=secret")
    assert "secret" not in repr(find("a", document, b"a=secret", fold=False))
