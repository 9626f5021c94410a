"""The short way through a CSV that quotes nothing reads what the full reader reads."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.codecs import csv
from gateway.codecs.splice import Field
from gateway.errors import Malformed

PIECES = ("a", "b1", "", ",", ";", "\t", "\n", "\n", "\r\n", "\r", " ", '"', '""', "\x00", "\x0b")
MORE = ("\x1c", "\x85", "\u2028", "\u00e9", "\ufeff", "\\", "[0]", ".")

bodies = st.lists(st.sampled_from(PIECES + MORE), max_size=24).map("".join).map(str.encode)
plain_rows = st.lists(
    st.lists(st.sampled_from(("", "a", "4 2", "\u00e9", "\x85")), min_size=2, max_size=2).map(
        ",".join
    ),
    max_size=8,
)
tables = st.builds(
    lambda rows, end: ("\n".join(["x,y", *rows]) + end).encode(),
    plain_rows,
    st.sampled_from(("", "\n")),
)


def read(body: bytes) -> tuple[tuple[Field, ...], tuple[str, ...], frozenset[str]] | str:
    try:
        made = csv.read(body)
    except Malformed:
        return "refused"
    return made.fields, made.columns, made.repeated


def without(_body: bytes) -> Iterator[list[tuple[int, int]]] | None:
    return None


@given(bodies | tables | st.binary(max_size=40))
@example(b"")
@example(b"\n")
@example(b"a\n\n")
@example(b"a,b\n1,2\n\n")
@example(b"a,\n,")
@example(b"\xef\xbb\xbfa,b\n1,2")
@example(b"a\n\xff\n")
def test_both_give_the_same_or_both_refuse(body: bytes) -> None:
    short = read(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "_plain_rows", without)
        assert read(body) == short
