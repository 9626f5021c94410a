import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs.splice import BOM
from gateway.reading import OfJson, OfXml, is_xml, read_reply


def _values(document: object, path: str, *, fold: bool = False) -> list[object]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(read_reply(body, fold=fold).values(path))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("a", [{"b": [1, 2], "c": {"b": "x"}}]),
        ("a.b[0]", [1]),
        ("a.b[*]", [1, 2]),
        ("a.b[9]", []),
        ("a.b.c", []),
        ("a.*", [[1, 2], {"b": "x"}]),
        ("*.c.b", ["x"]),
        ("n", []),
        ("t", [True]),
        ("l[*].s", ["one", "two"]),
        ("missing.path", []),
    ],
)
def test_a_path_is_followed_to_any_number_of_values(path: str, values: list[object]) -> None:
    document = {
        "a": {"b": [1, 2], "c": {"b": "x"}},
        "n": None,
        "t": True,
        "l": [{"s": "one"}, {"s": None}, {"s": "two"}],
    }
    assert _values(document, path) == values


def test_spellings_of_a_name_are_one_where_the_processor_has_it_so() -> None:
    document = {"apiErrorResponse": {"transaction": {"processor-response-code": "2000"}}}
    path = "api_error_response.transaction.processor_response_code"
    assert _values(document, path, fold=True) == ["2000"]
    assert _values(document, path) == []


@pytest.mark.parametrize("bom", [b"", BOM])
def test_xml_is_known_by_how_it_begins_and_all_of_it_is_text(bom: bytes) -> None:
    body = bom + b'\n <a xmlns="urn:x"><b-c d="1">x</b-c><e>1</e><e>2</e><f/></a>'
    assert is_xml(body)
    reading = read_reply(body, fold=False)
    assert isinstance(reading, OfXml)
    assert [
        list(reading.values(path)) for path in ("a.b_c", "a.b_c.@d", "a.e", "a.e[1]", "*.e")
    ] == [
        ["x"],
        ["1"],
        ["1", "2"],
        ["2"],
        ["1", "2"],
    ]
    assert list(reading.values("a.x")) == []


@pytest.mark.parametrize("bom", [b"", BOM])
def test_json_may_have_a_byte_order_mark(bom: bytes) -> None:
    assert _values(bom + b'{"a": 1}', "a") == [1]


@pytest.mark.parametrize(
    "body",
    [b"", b"text", b"<a>", b"<a/><b/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"{", b"\xff"],
)
def test_what_cannot_be_read_has_nothing_anywhere(body: bytes) -> None:
    for path in ("a", "*", "a.b", "a[*]"):
        assert _values(body, path) == []


def test_depth_is_no_error() -> None:
    assert _values(b"[" * 100_000, "a") == []
    assert _values(b"<a>" * 1000, "a") == []


@given(st.binary(max_size=60), st.sampled_from(["a", "*", "a.*.b", "a[0]", "[*]", "a.@b"]))
def test_any_bytes_are_a_reading(body: bytes, path: str) -> None:
    reading = read_reply(body, fold=True)
    assert isinstance(reading, OfJson | OfXml)
    assert None not in list(reading.values(path))
