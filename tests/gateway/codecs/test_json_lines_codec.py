import json as standard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import json, json_lines
from gateway.codecs.splice import BOM, Format, Replacement, Shape, splice
from gateway.errors import Malformed
from tests.cards import VISA

TOKEN = b"pwt_test_0123456789abcdefghjkmnpqrs00"


def _values(body: bytes) -> list[tuple[str, str | None, bytes]]:
    return [
        (each.name, each.text, body[each.start : each.end])
        for each in json_lines.read(body).fields
        if each.shape is not Shape.KEY
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_value_is_named_by_its_line(end: bytes) -> None:
    body = b'{"a": {"b": "x"}}\r\n [2, {"c": 3}] \n"y"' + end
    assert _values(body) == [
        ("[0].a.b", "x", b"x"),
        ("[1][0]", "2", b"2"),
        ("[1][1].c", "3", b"3"),
        ("[2]", "y", b"y"),
    ]
    assert json_lines.read(body).format is Format.JSON_LINES


def test_a_byte_order_mark_is_kept() -> None:
    assert _values(BOM + b'{"a":1}') == [("[0].a", "1", b"1")]


@pytest.mark.guards("T-11")
def test_a_key_given_twice_is_reported_for_its_line_only() -> None:
    document = json_lines.read(b'{"a":1}\n{"a":1,"\\u0061":2}\n{"a":1}')
    assert document.repeats("[1].a")
    assert not document.repeats("[0].a")


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"1\n\n",
        b"1\n\n2",
        b"\n1",
        b"1\n \n2",
        b"1 2",
        b"1\r2",
        b'{"a":\n1}',
        b'{"a":1',
        b'{"a":1]',
        b"[1}",
        b"[}",
        b"{]",
        b"[1,\n2]",
        b'1\n"a\nb"',
        b"1\n" + BOM + b"2",
    ],
)
def test_what_is_not_one_json_text_a_line_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        json_lines.read(body)
    assert caught.value.reason == "json"


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body",
    [
        b"{}\n" * (json_lines.LINES_MAX + 1),
        b"[1,2]\n" * (json.VALUES_MAX // 2 + 2),
        b"1\n" + b"[" * 100_000,
    ],
    ids=["lines", "values", "depth"],
)
def test_lines_values_and_depth_are_limited(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        json_lines.read(body)
    assert caught.value.reason == "json_too_large"


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
)
_LINES = st.lists(
    st.dictionaries(st.text("ab.", max_size=2), _SCALARS | st.lists(_SCALARS)), min_size=1
)


@given(_LINES, st.sampled_from(["\n", "\r\n"]), st.integers(0, 1))
def test_each_line_reads_as_the_json_codec_reads_it(
    lines: list[object], line_end: str, ends: int
) -> None:
    texts = [standard.dumps(each) for each in lines]
    body = (line_end.join(texts) + line_end * ends).encode()
    alone = [
        (f"[{number}]" + ("" if each.name.startswith("[") else ".") + each.name, each.text)
        for number, text in enumerate(texts)
        for each in json.read(text.encode()).fields
    ]
    document = json_lines.read(body)
    assert [(each.name, each.text) for each in document.fields] == alone
    same = [
        Replacement(each.start, each.end, body[each.start : each.end]) for each in document.fields
    ]
    assert splice(body, same) == body


@given(st.binary(max_size=40) | st.text('{}[]",:\\19aE.\r\n', max_size=40).map(str.encode))
def test_any_bytes_are_read_in_order_or_refused_as_the_standard_library_does(body: bytes) -> None:
    try:
        fields = json_lines.read(body).fields
    except Malformed:
        return
    at = 0
    for each in fields:
        assert at <= each.start <= each.end <= len(body)
        at = each.end
    for line in body.removeprefix(BOM).decode("utf-8", "replace").removesuffix("\n").split("\n"):
        standard.loads(line)


def test_a_token_becomes_a_number_and_back() -> None:
    body = b'{"pan": "%b", "n": 1}\r\n{"pan":"%b"}\n' % (TOKEN, TOKEN)
    filled = bytes(splice(body, _replaced(body, TOKEN, VISA.encode())))
    assert [text for _, text, _ in _values(filled)] == [VISA, "1", VISA]
    assert splice(filled, _replaced(filled, VISA.encode(), TOKEN)) == body


def _replaced(body: bytes, old: bytes, new: bytes) -> list[Replacement]:
    fields = json_lines.read(body).fields
    return [
        Replacement(each.start, each.end, new)
        for each in fields
        if body[each.start : each.end] == old
    ]
