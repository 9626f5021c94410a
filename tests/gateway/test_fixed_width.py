"""Fixed width: columns are found where they stand, and a row keeps its length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs import fixed_width
from gateway.codecs.splice import BOM, Format, Replacement, splice
from gateway.errors import Malformed
from gateway.selectors import find, problem_of
from tests.cards import AMEX, VISA

COLUMNS = {"name": (0, 8), "pan": (8, 27)}
ROWS = f"Ada     {VISA}   \nGrace      {AMEX} \n".encode()


def test_values_are_named_by_column_and_row() -> None:
    document = fixed_width.read(ROWS, COLUMNS)
    assert document.format is Format.FIXED_WIDTH
    assert [(each.name, each.text) for each in document.fields] == [
        ("name[0]", "Ada"),
        ("pan[0]", VISA),
        ("name[1]", "Grace"),
        ("pan[1]", AMEX),
    ]
    for each in document.fields:
        start, end = COLUMNS[each.name[:-3]]
        assert each.end - each.start == end - start


def test_a_selector_finds_its_column() -> None:
    document = fixed_width.read(ROWS, COLUMNS)
    found = find("pan[*]", document, ROWS, fold=False)
    assert [(each.field.text, each.captured) for each in found] == [(VISA, ("0",)), (AMEX, ("1",))]
    assert problem_of("pan[*]", Format.FIXED_WIDTH) is None
    assert problem_of("$.pan", Format.FIXED_WIDTH) is not None


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("last", [True, False])
def test_rows_end_as_lines_do(line_end: bytes, mark: bytes, *, last: bool) -> None:
    lines = ROWS.splitlines()
    body = mark + line_end.join(lines) + (line_end if last else b"")
    texts = [each.text for each in fixed_width.read(body, COLUMNS).fields]
    assert texts == ["Ada", VISA, "Grace", AMEX]


def test_a_row_may_end_early() -> None:
    body = f"Ada\n\nGrace   {AMEX}\n".encode()
    found = fixed_width.read(body, COLUMNS).fields
    assert [(each.name, each.text) for each in found] == [
        ("name[0]", "Ada"),
        ("name[2]", "Grace"),
        ("pan[2]", AMEX),
    ]


@pytest.mark.guards("T-11")
@pytest.mark.parametrize(
    "body", [b"a\nb\r\n", b"a\rb\n", b"a\x00\n", "ab\n".encode("utf-16")], ids=repr
)
def test_what_readers_could_take_differently_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        fixed_width.read(body, COLUMNS)


def test_too_many_values_are_refused() -> None:
    columns = {f"c{n}": (n, n + 1) for n in range(100)}
    row = b"x" * 100 + b"\n"
    fixed_width.read(row * 1000, columns)
    with pytest.raises(Malformed):
        fixed_width.read(row * 1001, columns)


def test_what_is_no_utf_8_has_no_text() -> None:
    (name, _) = fixed_width.read("Zo\xeb     4".encode("latin-1"), COLUMNS).fields
    assert name.text is None


def test_a_value_stands_on_the_side_of_the_one_before() -> None:
    assert fixed_width.fitted(b"77", b"1234  ") == b"77    "
    assert fixed_width.fitted(b"77", b"  1234") == b"    77"
    assert fixed_width.fitted(b"77", b"      ") == b"77    "
    assert fixed_width.fitted(b"77", b"12") == b"77"
    with pytest.raises(Malformed):
        fixed_width.fitted(b"123", b"12")


@pytest.mark.parametrize(
    ("columns", "is_good"),
    [
        ({"a": (0, 1), "b": (1, 2)}, True),
        ({"b": (5, 7), "a": (0, 5)}, True),
        ({"a": (3, 3)}, False),
        ({"a": (3, 1)}, False),
        ({"a": (0, 4), "b": (3, 6)}, False),
    ],
)
def test_columns_do_not_overlap(columns: dict[str, tuple[int, int]], *, is_good: bool) -> None:
    assert (fixed_width.problem_of(columns) is None) is is_good


@given(
    rows=st.lists(st.tuples(st.text("abc ", max_size=8), st.text("0123 ", max_size=19))),
    put=st.binary(max_size=19).filter(lambda each: not {*each} & {*b"\r\n\x00"}),
)
def test_rows_keep_their_lengths(rows: list[tuple[str, str]], put: bytes) -> None:
    body = "".join(f"{name:<8}{pan:>19}\n" for name, pan in rows).encode()
    fields = [each for each in fixed_width.read(body, COLUMNS).fields if "pan" in each.name]
    made = splice(
        body,
        [
            Replacement(each.start, each.end, fixed_width.fitted(put, body[each.start : each.end]))
            for each in fields
        ],
    )
    assert list(map(len, made.split(b"\n"))) == list(map(len, body.split(b"\n")))
    assert len(fields) == len(rows)
