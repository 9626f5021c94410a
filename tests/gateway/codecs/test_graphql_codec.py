import json as standard

import pytest

from gateway.codecs import graphql
from gateway.codecs.splice import BOM, Shape
from gateway.errors import Malformed


def _body(query: object, **others: object) -> bytes:
    return standard.dumps({"query": query} | others).encode()


def _literals(body: bytes) -> list[tuple[str, str | None, Shape, bytes]]:
    return [
        (each.name, each.text, each.shape, body[each.start : each.end])
        for each in graphql.read(body).fields
        if each.name.startswith("query:")
    ]


def _refused(body: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        graphql.read(body)
    return caught.value.reason or ""


# --- values -------------------------------------------------------------------------------

TOKENIZE = "mutation T($input: I!) { tokenizeCreditCard(input: $input) { paymentMethod { id } } }"


def test_the_values_are_those_of_the_json() -> None:
    variables = {"input": {"creditCard": {"number": "number", "expirationMonth": "12"}}}
    body = BOM + _body(TOKENIZE, variables=variables)
    document = graphql.read(body)
    assert document.roots == ("tokenizeCreditCard",)
    values = {each.name: each for each in document.fields if each.shape is not Shape.KEY}
    assert {name: each.text for name, each in values.items()} == {
        "query": TOKENIZE,
        "variables.input.creditCard.number": "number",
        "variables.input.creditCard.expirationMonth": "12",
    }
    place = values["variables.input.creditCard.number"]
    assert body[place.start : place.end] == b"number"


def test_literals_are_named_by_what_they_are_given_to() -> None:
    body = _body(
        """
        mutation ($v: I = {k: "1"} @d(x: "2")) @d(x: "3") {
          one: charge(input: {card: {number: "4", list: ["5", {m: "6"}]}, at: $v}) @d(x: "7") {
            refunds(first: "8") { id @d(x: "9") ... @d(x: "10") { a(b: "11") } ...part @d(x: "12") }
          }
        }
        fragment part on T @d(x: "13") { a(b: "14") { c(d: "15") } }
        """
    )
    assert [(name, text) for name, text, *_ in _literals(body)] == [
        ("query:$v.k", "1"),
        ("query:$v@d.x", "2"),
        ("query:@d.x", "3"),
        ("query:charge.input.card.number", "4"),
        ("query:charge.input.card.list[0]", "5"),
        ("query:charge.input.card.list[1].m", "6"),
        ("query:charge@d.x", "7"),
        ("query:charge/refunds.first", "8"),
        ("query:charge/refunds/id@d.x", "9"),
        ("query:charge/refunds/...@d.x", "10"),
        ("query:charge/refunds/.../a.b", "11"),
        ("query:charge/refunds/...part@d.x", "12"),
        ("query:...part@d.x", "13"),
        ("query:...part/a.b", "14"),
        ("query:...part/a/c.d", "15"),
    ]


def test_literals_have_their_shape_and_stand_within_their_quotes() -> None:
    body = _body('{ a(b: "x", c: -1.5e3, d: 2, e: true, f: null, g: E, h: "", i: """y""", j: $k) }')
    assert [(text, shape, raw) for _, text, shape, raw in _literals(body)] == [
        ("x", Shape.TEXT, b"x"),
        ("-1.5e3", Shape.NUMBER, b"-1.5e3"),
        ("2", Shape.NUMBER, b"2"),
        ("true", Shape.WORD, b"true"),
        ("null", Shape.WORD, b"null"),
        ("E", Shape.WORD, b"E"),
        ("", Shape.TEXT, b""),
        ("y", Shape.TEXT, b"y"),
    ]


@pytest.mark.guards("T-12")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb"\u0034\\u0032", "42"),
        (rb"\\\"\\\\\\n", '"\\\n'),
        (rb"\ud83d\ude00x\u00e9", "\U0001f600xé"),
        (rb"\\ud83d\\ude00x\\u{1f600}", "\U0001f600x\U0001f600"),
        ("\U0001f600é".encode(), "\U0001f600é"),
        (b"#, {", "#, {"),
    ],
)
def test_escapes_of_both_languages_are_undone_in_the_text_and_kept_in_the_body(
    raw: bytes, text: str
) -> None:
    for before in (b"", b'# \\u00e9 \xc3\xa9 \\ud83d\\ude00 \\" \\n\\t', "\ufeff,".encode()):
        body = b'{"query":"' + before + b'{a(b:\\"' + raw + b'\\",c:\\"z\\")}"}'
        assert [(found, place) for _, found, _, place in _literals(body)] == [
            (text, raw),
            ("z", b"z"),
        ]


@pytest.mark.guards("T-12")
def test_block_strings_are_one_value_whatever_their_indentation() -> None:
    query = 'mutation { a(b: """\n    first\n      \\""" second\n  """) }'
    body = _body(query)
    assert [(text, raw) for _, text, _, raw in _literals(body)] == [
        ('first\n  """ second', rb"\n    first\n      \\\"\"\" second\n  ")
    ]


@pytest.mark.guards("T-12")
def test_all_of_the_query_belongs_to_a_field() -> None:
    body = b'{"query":"{a(b:\\"1\\",c:\\"2\\"){d}}# \\u0070wt"}'
    pieces = [
        (each.text, body[each.start : each.end])
        for each in graphql.read(body).fields
        if each.shape is Shape.TEXT
    ]
    assert pieces == [
        ('{a(b:"', b'{a(b:\\"'),
        ("1", b"1"),
        ('",c:"', b'\\",c:\\"'),
        ("2", b"2"),
        ('"){d}}# pwt', b'\\"){d}}# \\u0070wt'),
    ]


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ('mutation { a(b: {n: "1", n: "2"}) }', "query:a.b.n"),
        ('mutation { a(b: {n: "1", n: $v}) }', "query:a.b.n"),
        ('mutation { a(b: "1", b: {n: "2"}) }', "query:a.b.n"),
        ('mutation { x: a(b: {n: "1"}) y: a(b: {n: "2"}) }', "query:a.b.n"),
        ('mutation($v: I = "1", $v: I = "2") { a }', "query:$v"),
    ],
)
def test_what_is_given_twice_is_reported(query: str, name: str) -> None:
    assert graphql.read(_body(query)).repeats(name)
    assert not graphql.read(_body(query)).repeats("query")


@pytest.mark.guards("T-11")
def test_what_the_json_gives_twice_is_reported() -> None:
    document = graphql.read(b'{"query":"{a}","variables":{"n":"1"},"variables":{"n":"2"}}')
    assert document.repeats("variables.n")


# --- what is run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "roots"),
    [
        ("mutation { a }", ("a",)),
        ("mutation { a: b c(d: 1) { e } a: b }", ("b", "c", "b")),
        ("mutation M { a { ...F } } fragment F on T { b }", ("a",)),
        ("query { a }", ()),
        ("{ a b }", ()),
        ("query { ...F } fragment F on T { b }", ()),
        ("subscription { a }", ()),
    ],
)
def test_roots_are_the_fields_of_the_mutation_without_their_aliases(
    query: str, roots: tuple[str, ...]
) -> None:
    assert graphql.read(_body(query)).roots == roots
    assert graphql.read(_body(query, operationName=None)).roots == roots
    assert graphql.read(_body(query, operationName="")).roots == roots


def test_the_operation_to_be_run_is_the_one_that_is_named() -> None:
    query = 'mutation A { a(n: "1") } mutation B { b(n: "2") } query C { c }'
    for name, roots in {"A": ("a",), "B": ("b",), "C": ()}.items():
        assert graphql.read(_body(query, operationName=name)).roots == roots
    literals = _literals(_body(query, operationName="B"))
    assert [name for name, *_ in literals] == ["query:(A)a.n", "query:b.n"]


@pytest.mark.parametrize(
    "body",
    [
        _body("mutation A { a } mutation B { b }"),
        _body("mutation A { a } mutation B { b }", operationName=""),
        _body("mutation A { a } mutation B { b }", operationName="C"),
        _body("mutation A { a }", operationName="B"),
        _body("mutation A { a }", operationName="a"),
        _body("mutation { a }", operationName="A"),
        _body("mutation A { a } mutation A { b }", operationName="A"),
        _body("mutation A { a } mutation { b }", operationName="A"),
        _body("fragment F on T { a }"),
        _body("mutation A { a }", operationName=1),
        _body("mutation true { a }", operationName=True),
        b'{"query":"mutation A{a}","operationName":"\\ud800"}',
        b'{"query":"mutation A{a}mutation B{b}","operationName":"A","operationName":"B"}',
    ],
)
def test_it_is_refused_where_another_reader_could_run_another_operation(body: bytes) -> None:
    assert _refused(body) == "graphql"


@pytest.mark.parametrize("root", ["...F", "... { a }", "... on M { a }", "a ...F"])
def test_fragments_at_the_root_of_a_mutation_are_refused(root: str) -> None:
    body = _body(f"mutation {{ {root} }} fragment F on M {{ charge }}")
    assert _refused(body) == "graphql_fragment"


@pytest.mark.parametrize("body", [b"[]", b' [{"query":"{a}"}]', BOM + b'\n[{"query":"{a}"}]'])
def test_batches_are_refused(body: bytes) -> None:
    assert _refused(body) == "graphql_batch"


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'"{a}"',
        b'{"variables":{"query":"{a}"}}',
        b'{"query":{"query":"{a}"}}',
        b'{"query":"{a}","query":"{b}"}',
        b'{"query":"{a}","\\u0071uery":"{b}"}',
        b'{"query":"{a(b:\\"\\ud800\\")}"}',
        b'{"query":"{a(b:\\"\xff\\")}"}',
        _body(None),
        _body(1),
        _body(["{a}"]),
        _body(""),
        _body("{"),
        _body("{a}}"),
        _body("{a(b:'1')}"),
        _body('{a(b:"1)}'),
        _body('{a(b:"\n")}'),
        _body("{a\0}"),
        _body("type A { a: Int }"),
        _body('"""text""" type A { a: Int }'),
        _body('extend schema @a(b: "c")'),
        _body('{a} type A { a(b: String = "1"): Int }'),
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    assert _refused(body) == "graphql"


def test_what_is_no_json_is_refused() -> None:
    assert _refused(b'{"query":"{a}"') == "json"


# --- limits -------------------------------------------------------------------------------


@pytest.mark.guards("T-11")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "query",
    [
        "{a" * (graphql.DEPTH_MAX + 1) + "}" * (graphql.DEPTH_MAX + 1),
        "{... " * graphql.DEPTH_MAX + "{a}" + "}" * graphql.DEPTH_MAX,
        "{a(b:" + "[" * graphql.DEPTH_MAX + "1" + "]" * graphql.DEPTH_MAX + ")}",
        "{a(b:" + "{c:" * graphql.DEPTH_MAX + "1" + "}" * graphql.DEPTH_MAX + ")}",
        "{a}" + " " * graphql.QUERY_CHARACTERS_MAX,
        "{a" * 50_000,
    ],
    ids=range(6),
)
def test_size_and_depth_are_limited(query: str) -> None:
    assert _refused(_body(query)) == "graphql_too_large"


@pytest.mark.guards("T-11")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "query",
    ["{a" * 1_900, "{a(b:" + "[" * 3_000, "{a(b:" + "{c:" * 1_000, "{" + "a " * 4_000 + "}"],
    ids=range(4),
)
def test_the_parser_is_bounded(query: str) -> None:
    assert _refused(_body(query)) == "graphql"


def test_what_is_within_the_limits_is_read() -> None:
    depth = graphql.DEPTH_MAX
    deepest = "{a" * (depth - 1) + "{a(b:" + "[" * (depth - 1) + '"1"' + "]" * (depth - 1) + ")"
    assert len(_literals(_body(deepest + "}" * depth))) == 1
    assert graphql.read(_body("{" + "a " * (graphql.TOKENS_MAX - 2) + "}")).roots == ()
