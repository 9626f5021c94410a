import csv as standard
import io
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import csv
from gateway.codecs.splice import BOM, Format, Replacement, splice
from gateway.errors import Malformed
from tests.cards import VISA

TOKEN = b"pwt_test_0123456789abcdefghjkmnpqrs00"


def _read(body: bytes) -> list[tuple[str, str | None, bytes]]:
    return [(each.name, each.text, body[each.start : each.end]) for each in csv.read(body).fields]


def _reason(body: bytes) -> str | None:
    with pytest.raises(Malformed) as caught:
        csv.read(body)
    return caught.value.reason


@given(st.sampled_from(",;\t"), st.text("ab,;\t\r\n 1\u00e9\0", max_size=40))
def test_a_file_without_quotes_is_read_as_one_with_quotes_is(separator: str, rest: str) -> None:
    """It takes a shorter way, which sees and refuses the same."""

    def seen(name: str) -> object:
        try:
            return _read(f"{name}{separator}{rest}".encode())
        except Malformed as error:
            return error.reason

    assert seen("x") == seen('"x"')


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_value_is_named_by_its_column_and_its_row(end: bytes) -> None:
    body = b"pan,amount\nx,1\ny," + end
    assert _read(body) == [
        ("pan[0]", "x", b"x"),
        ("amount[0]", "1", b"1"),
        ("pan[1]", "y", b"y"),
        ("amount[1]", "", b""),
    ]
    assert csv.read(body).format is Format.CSV


def test_a_quoted_value_stands_within_its_quotes() -> None:
    body = b'a,b\r\n"x, ""y""\n","z"\r\n"",\r\n'
    assert _read(body) == [
        ("a[0]", 'x, "y"\n', b'x, ""y""\n'),
        ("b[0]", "z", b"z"),
        ("a[1]", "", b""),
        ("b[1]", "", b""),
    ]


@pytest.mark.parametrize("separator", [b",", b";", b"\t"])
def test_the_header_row_shows_what_separates(separator: bytes) -> None:
    body = b'a%b"b, c;"\nx%by\n' % (separator, separator)
    assert [text for _, text, _ in _read(body)] == ["x", "y"]


def test_a_single_column_has_nothing_that_separates() -> None:
    assert _read(b"pan\nx;y\n") == [("pan[0]", "x;y", b"x;y")]


def test_a_column_of_other_characters_is_quoted() -> None:
    names = [name for name, *_ in _read('Card number,a.b,c[0],,"d""e",é\n1,2,3,4,5,6'.encode())]
    assert names == [
        '["Card number"][0]',
        '["a.b"][0]',
        '["c[0]"][0]',
        '[""][0]',
        r'["d\"e"][0]',
        '["é"][0]',
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert _read(BOM + b"a\nx") == [("a[0]", "x", b"x")]


def test_a_column_named_twice_is_reported() -> None:
    document = csv.read(b'pan,n,"pan"\n1,2,3')
    assert document.repeats("pan[0]")
    assert not document.repeats("n[0]")


def test_a_value_that_is_no_text_has_a_place_and_no_text() -> None:
    assert _read(b"a,b\n\xff,1") == [("a[0]", None, b"\xff"), ("b[0]", "1", b"1")]


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "csv_empty_line"),
        (b"\n", "csv_empty_line"),
        (b"a\n\nx", "csv_empty_line"),
        (b"a,b\n\n1,2", "csv_empty_line"),
        (b"a\nx\n\n", "csv_empty_line"),
        (b"a,b\n1", "csv_row_length"),
        (b"a,b\n1,2,3", "csv_row_length"),
        (b"a\n1,2", "csv_row_length"),
        (b"a,b;c\n1,2", "csv_separator"),
        (b"a\tb,c\n1,2", "csv_separator"),
        (b"a\rb", "csv"),
        (b"a\n1\r2", "csv"),
        (b'a\nx"y"', "csv"),
        (b'a\n"x"y', "csv"),
        (b'a\n "x"', "csv"),
        (b'a\n"x', "csv"),
        (b'"a', "csv"),
        (b"a\nx\x00", "csv"),
        (b"a,b\n1,2\r\n", "csv_line_end"),
        (b"a,b\r\n1,2\n3,4", "csv_line_end"),
        (b"\xff\n1", "csv_column"),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(body: bytes, reason: str) -> None:
    assert _reason(body) == reason


@pytest.mark.guards("T-10")
def test_columns_and_values_are_limited() -> None:
    assert _reason(b"," * csv.COLUMNS_MAX + b"\n") == "csv_too_large"
    assert _reason(b"a,b\n" + b"1,2\n" * (csv.VALUES_MAX // 2 + 1)) == "csv_too_large"
    assert len(csv.read(b"a,b\n" + b"1,2\n" * (csv.VALUES_MAX // 2)).fields) == csv.VALUES_MAX


_CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
_NAMES = st.text("abc_", min_size=1, max_size=4)
_TABLES = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(_NAMES, min_size=width, max_size=width),
        st.lists(st.lists(_CELLS, min_size=width, max_size=width), max_size=5),
    )
)


@given(
    _TABLES,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([standard.QUOTE_ALL, standard.QUOTE_MINIMAL]),
)
def test_it_reads_what_the_standard_library_writes(
    table: tuple[list[str], list[list[str]]], separator: str, line_end: str, quoting: int
) -> None:
    columns, rows = table
    if len(columns) == 1:
        separator = ","  # what one column without any says
    written = io.StringIO()
    how: dict[str, Any] = {"delimiter": separator, "lineterminator": line_end, "quoting": quoting}
    standard.writer(written, **how).writerows([columns, *rows])
    body = written.getvalue().encode()
    assert _read_texts(body) == [
        (f"{column}[{number}]", text)
        for number, row in enumerate(rows)
        for column, text in zip(columns, row, strict=True)
    ]


def _read_texts(body: bytes) -> list[tuple[str, str | None]]:
    return [(name, text) for name, text, _ in _read(body)]


@given(st.binary(max_size=40) | st.text('ab,;"\t\r\n ', max_size=40).map(str.encode))
def test_any_bytes_are_read_in_order_or_refused(body: bytes) -> None:
    try:
        fields = csv.read(body).fields
    except Malformed:
        return
    at = 0
    for each in fields:
        assert at <= each.start <= each.end <= len(body)
        at = each.end
    same = [Replacement(each.start, each.end, body[each.start : each.end]) for each in fields]
    assert splice(body, same) == body


@given(st.text('ab,;"\t\r\n ', max_size=40))
def test_what_it_reads_the_standard_library_reads_alike(text: str) -> None:
    try:
        fields = csv.read(text.encode()).fields
    except Malformed:
        return
    readings = []
    for separator in ",;\t":
        with suppress(standard.Error):
            lines = standard.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            readings.append([cell for row in list(lines)[1:] for cell in row])
    assert [each.text for each in fields] in readings


def test_a_token_becomes_a_number_and_back() -> None:
    body = b'pan;note\r\n%b;"a ""b"""\r\n"%b";\r\n' % (TOKEN, TOKEN)
    filled = bytes(splice(body, _replaced(body, TOKEN, VISA.encode())))
    assert [text for _, text, _ in _read(filled)] == [VISA, 'a "b"', VISA, ""]
    assert splice(filled, _replaced(filled, VISA.encode(), TOKEN)) == body


def _replaced(body: bytes, old: bytes, new: bytes) -> list[Replacement]:
    return [
        Replacement(each.start, each.end, new)
        for each in csv.read(body).fields
        if body[each.start : each.end] == old
    ]
