"""From bytes to whole rows, so many at a time, whatever the size of the file. Pure.

Only where rows end is known here: at a line feed that is not within the quotes of a CSV value,
or after so many bytes. Blocks put together are the file, once a CSV's header, which stands in
front of each, is left out of all but the first. Lines of nothing are rows to the codecs, which
refuse them, save at the file's end: there they are a block without rows, to be passed on.
What never lives here: what is in a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from gateway.codecs.splice import Format
from gateway.errors import Malformed

ROWS_MAX: Final = 512
BYTES_MAX: Final = 1 << 20

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_LOOKED_AT: Final = 1024
_NOTHING: Final = (b"\n", b"\r\n")
_FILE_ENDS: Final = (*_NOTHING, b"\x1a", b"\n\x1a", b"\r\n\x1a")


class RowTooLarge(Malformed):
    """A row has more bytes than a block may have: a quote that is not closed, perhaps."""

    def __init__(self, row: int) -> None:
        """`row` counts from 0, below the header."""
        super().__init__("row_too_large")
        self.row = row


@dataclass(frozen=True, slots=True, repr=False)
class Block:
    """Whole rows. Without rows and header: lines of nothing, to be passed on as they are."""

    body: bytes
    head_bytes: int  # of the CSV header in front of them
    first_row: int
    rows: int


class Blocks:
    """Cuts one file."""

    def __init__(
        self,
        format_: Format,
        *,
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
        record_length: int | None = None,
        first_row: int = 0,
        head: bytes | None = None,
    ) -> None:
        """`record_length`: of rows without ends of line; in blocks they have them, as `lined`.

        `head`: the header of a CSV of which only what follows is fed.
        """
        self._is_csv = format_ is Format.CSV
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._record_length = record_length
        self._first_row = first_row
        self._head = head
        self._head_is_out = head is not None
        self._is_first = True
        self._buffer = bytearray()  # begins where the next block does
        self._searched = 0
        self._in_quotes = False
        self._rows = 0
        self._body_end = 0  # of these rows
        self._row_end = 0  # of the lines of nothing after them
        self._blanks = 0

    def feed(self, data: bytes) -> Iterator[Block]:
        """Take the file's next bytes. Raises Malformed; RowTooLarge."""
        self._buffer += data
        if self._is_first and data:
            self._is_first = False
            if self._buffer.startswith(_UTF_16) or b"\x00" in data[:_LOOKED_AT]:
                raise Malformed("utf_16")
        while (end := self._next_end()) is not None:
            yield from self._row(end)
        if len(self._buffer) - self._body_end > self._bytes_max:
            raise RowTooLarge(self._first_row + self._rows)

    def end(self) -> Iterator[Block]:
        """Give what is left: the last line may have no end. Raises Malformed; RowTooLarge."""
        rest = bytes(self._buffer[self._row_end :])
        if self._record_length is not None:
            if rest and rest not in _FILE_ENDS:
                raise Malformed("fixed_width_cut_off")
        elif rest:
            yield from self._row(len(self._buffer))
        if self._rows or (self._head is not None and not self._head_is_out):
            yield self._block()
        if self._buffer:
            yield Block(bytes(self._buffer), 0, self._first_row, 0)

    def _next_end(self) -> int | None:
        """Find the end of the next row, if it is here."""
        if self._record_length is not None:
            end = self._row_end + self._record_length
            return end if end <= len(self._buffer) else None
        while True:
            line_feed = self._buffer.find(b"\n", self._searched)
            end = len(self._buffer) if line_feed < 0 else line_feed + 1
            if self._is_csv and self._buffer.count(b'"', self._searched, end) % 2:
                self._in_quotes = not self._in_quotes
            self._searched = end
            if line_feed < 0:
                return None
            if not self._in_quotes:
                return end

    def _row(self, end: int) -> Iterator[Block]:
        row_bytes = end - self._row_end
        if row_bytes > self._bytes_max:
            raise RowTooLarge(self._first_row + self._rows + self._blanks)
        if self._is_csv and self._head is None:
            self._head = bytes(self._buffer[:end])
            self._drop(end)
            return
        line = bytes(self._buffer[self._row_end : end])
        is_blank = self._record_length is None and line in _NOTHING
        if is_blank:
            self._row_end = end
            self._blanks += 1
            return
        added = self._blanks + 1
        if self._rows and (self._rows + added > self._rows_max or end > self._bytes_max):
            before = self._body_end
            yield self._block()
            end -= before
        self._rows += added
        self._blanks = 0
        self._body_end = self._row_end = end

    def _block(self) -> Block:
        head = self._head or b""
        rows = bytes(self._buffer[: self._body_end])
        if self._record_length is not None:
            rows = lined(rows, self._record_length)
        block = Block(head + rows, len(head), self._first_row, self._rows)
        self._head_is_out = True
        self._first_row += self._rows
        self._rows = 0
        self._drop(self._body_end)
        return block

    def _drop(self, bytes_: int) -> None:
        del self._buffer[:bytes_]
        self._searched = max(0, self._searched - bytes_)
        self._row_end = max(0, self._row_end - bytes_)
        self._body_end = 0


def head_bytes(body: bytes) -> int:
    """How many bytes of a CSV are its header: of one that was rewritten, say."""
    blocks = Blocks(Format.CSV, rows_max=1, bytes_max=len(body))
    return next((each.head_bytes for each in chain(blocks.feed(body), blocks.end())), 0)


def parts(block: Block, format_: Format) -> tuple[Block, ...]:
    """Cut a block in two; what has only one row stays as it is."""
    if block.rows <= 1:
        return (block,)
    blocks = Blocks(
        format_,
        rows_max=(block.rows + 1) // 2,
        bytes_max=len(block.body),
        first_row=block.first_row,
    )
    return (*blocks.feed(block.body), *blocks.end())


def lined(records: bytes, length: int) -> bytes:
    """Put an end of line after each record. Raises Malformed when there is one within."""
    if b"\n" in records or b"\r" in records:
        raise Malformed("fixed_width_line_end")
    cut = (records[at : at + length] + b"\n" for at in range(0, len(records), length))
    return b"".join(cut)


def unlined(lines: bytes, length: int) -> bytes:
    """Undo `lined`. Raises Malformed when a record is longer or shorter than it was."""
    records = lines.split(b"\n")
    if any(len(record) != length for record in records[:-1]) or records[-1]:
        raise Malformed("fixed_width_row_length")
    return b"".join(records)
