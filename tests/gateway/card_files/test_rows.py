"""Blocks: whole rows, wherever the pieces of a file are cut."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.card_files.rows import Block, Blocks, RowTooLarge, head_bytes, lined, parts, unlined
from gateway.codecs import csv as csv_codec
from gateway.codecs import json_lines
from gateway.codecs.splice import BOM, Format
from gateway.errors import Malformed

HEAD = b"name,note\n"


def cut(
    body: bytes,
    format_: Format,
    *,
    piece: int = 1 << 20,
    rows_max: int = 2,
    bytes_max: int = 1 << 20,
    record_length: int | None = None,
) -> list[Block]:
    blocks = Blocks(format_, rows_max=rows_max, bytes_max=bytes_max, record_length=record_length)
    found: list[Block] = []
    for at in range(0, len(body), piece):
        found += blocks.feed(body[at : at + piece])
    return [*found, *blocks.end()]


def joined(blocks: list[Block]) -> bytes:
    heads = {each.body[: each.head_bytes] for each in blocks if each.head_bytes}
    assert len(heads) <= 1
    return b"".join(heads) + b"".join(each.body[each.head_bytes :] for each in blocks)


CSV_BODIES = {
    "plain": HEAD + b"a,1\nb,2\nc,3\n",
    "no last end": HEAD + b"a,1\nb,2\nc,3",
    "quoted end of line": HEAD + b'a,"1\n2"\nb,"x\r\n\r\ny"\nc,3\n',
    "doubled quotes": HEAD + b'a,"say ""no""\n"\nb,""""\n"",""\n',
    "quotes in the header": b'"na\nme",note\na,1\nb,2\nc,3\n',
    "crlf": b"name,note\r\na,1\r\nb,2\r\nc,3\r\n",
    "mark": BOM + HEAD + b"a,1\nb,2\nc,3\n",
}


@pytest.mark.parametrize("body", CSV_BODIES.values(), ids=CSV_BODIES)
def test_a_csv_is_cut_between_rows_wherever_its_pieces_end(body: bytes) -> None:
    whole = [(each.name, each.text) for each in csv_codec.read(body).fields]
    for piece in range(1, len(body) + 1):
        blocks = cut(body, Format.CSV, piece=piece)
        assert joined(blocks) == body
        assert [(each.first_row, each.rows) for each in blocks] == [(0, 2), (2, 1)]
        found = [
            (each.text, block.first_row)
            for block in blocks
            for each in csv_codec.read(block.body).fields
        ]
        assert [text for text, _ in found] == [text for _, text in whole]


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(st.text('a,;"\r\n é', max_size=6), min_size=2, max_size=2), max_size=8),
    piece=st.integers(1, 9),
    rows_max=st.integers(1, 4),
)
def test_cut_as_the_standard_library_reads(
    rows: list[list[str]], piece: int, rows_max: int
) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["name", "note"], *rows])
    body = written.getvalue().encode()
    blocks = cut(body, Format.CSV, piece=piece, rows_max=rows_max)
    assert joined(blocks) == body
    read: list[list[str]] = []
    for block in blocks:
        text = io.StringIO(block.body.decode(), newline="")
        read += list(csv.reader(text))[1:]
        assert block.rows <= rows_max
        assert block.first_row + block.rows == len(read)
    assert read == rows


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n\n"])
def test_json_lines_may_end_with_lines_of_nothing(line_end: bytes, tail: bytes) -> None:
    body = b"".join(json.dumps({"n": n}).encode() + line_end for n in range(5)) + tail
    for piece in range(1, len(body) + 1):
        blocks = cut(body, Format.JSON_LINES, piece=piece)
        assert joined(blocks) == body
        rows = [each for each in blocks if each.rows]
        assert [each.first_row for each in rows] == [0, 2, 4]
        assert sum(len(json_lines.read(each.body).fields) for each in rows) == 10  # keys too
        assert [each.body for each in blocks if not each.rows] == ([tail] if tail else [])


def test_a_line_of_nothing_between_rows_is_left_to_the_codec() -> None:
    (block, _) = cut(b"1\n\n2\n3\n", Format.JSON_LINES, rows_max=3)
    assert (block.body, block.rows) == (b"1\n\n2\n", 3)
    with pytest.raises(Malformed):
        json_lines.read(block.body)


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"\x1a", b"\r\n\x1a"])
def test_records_without_ends_of_line(tail: bytes) -> None:
    body = b"aaaabbbbccccddddeeee" + tail
    for piece in range(1, len(body) + 1):
        blocks = cut(body, Format.FIXED_WIDTH, piece=piece, record_length=4)
        rows = [each for each in blocks if each.rows]
        assert [each.body for each in rows] == [b"aaaa\nbbbb\n", b"cccc\ndddd\n", b"eeee\n"]
        assert b"".join(unlined(each.body, 4) for each in rows) + tail == body
    with pytest.raises(Malformed):
        cut(body + b"ff", Format.FIXED_WIDTH, record_length=4)


def test_records_keep_their_lengths() -> None:
    assert unlined(lined(b"aabb", 2), 2) == b"aabb"
    for records in (b"a\nbb", b"a\rbb"):
        with pytest.raises(Malformed):
            lined(records, 2)
    for lines in (b"aa\nb\n", b"aaa\nbb\n", b"aa\nbb", b"aa\n\n"):
        with pytest.raises(Malformed):
            unlined(lines, 2)


def test_no_block_is_larger_than_it_may_be() -> None:
    row = b"x" * 299 + b"\n"
    blocks = cut(row * 50, Format.FIXED_WIDTH, piece=7, rows_max=512, bytes_max=1000)
    assert {len(each.body) for each in blocks} == {900, 600}
    assert joined(blocks) == row * 50


@pytest.mark.parametrize("piece", [1, 64, 1 << 20])
def test_a_row_that_is_too_large_is_named(piece: int) -> None:
    for body in (HEAD + b"a,1\nb,2\n" + b"x" * 200, HEAD + b'a,1\nb,2\n"' + b"c,3\n" * 50):
        with pytest.raises(RowTooLarge) as caught:
            cut(body, Format.CSV, piece=piece, rows_max=512, bytes_max=100)
        assert caught.value.row == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_by_its_name(encoding: str) -> None:
    for format_ in (Format.CSV, Format.JSON_LINES, Format.FIXED_WIDTH):
        with pytest.raises(Malformed) as caught:
            cut("name,note\n".encode(encoding), format_)
        assert caught.value.reason == "utf_16"


@pytest.mark.parametrize("body", [b"", HEAD, HEAD[:-1]])
def test_a_file_without_rows(body: bytes) -> None:
    blocks = cut(body, Format.CSV)
    assert [(each.body, each.head_bytes, each.rows) for each in blocks] == (
        [(body, len(body), 0)] if body else []
    )


def test_a_block_is_halved_until_it_is_one_row() -> None:
    (block,) = cut(HEAD + b'a,"\n"\nb,2\nc,3\nd,4\ne,5', Format.CSV, rows_max=9)

    def ones(of: Block) -> list[Block]:
        smaller = parts(of, Format.CSV)
        return [of] if len(smaller) == 1 else [one for each in smaller for one in ones(each)]

    found = ones(block)
    assert [(each.first_row, each.rows) for each in found] == [(n, 1) for n in range(5)]
    assert joined(found) == block.body


def test_a_header_is_as_long_as_its_line() -> None:
    assert head_bytes(b'"a\nb",c\nd,e\nf,g') == 8
    assert head_bytes(b"a,b") == 3
    assert head_bytes(b"") == 0


def test_a_block_prints_nothing() -> None:
    (block,) = cut(HEAD + b"a,1\n", Format.CSV)
    assert "a,1" not in repr(block)
