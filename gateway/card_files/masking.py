"""Masking of a file or a stream without any deployment: nothing is stored, nothing is asked.

Rows go through the same filters as an import's; anything else through the scanner, whatever it
is. What never lives here: where the bytes come from and go to.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway.card_files.planning import Manner, Planner
from gateway.card_files.report import Tally, counted
from gateway.card_files.rows import Block, Blocks
from gateway.errors import Malformed
from gateway.inbound.filtering import plan_raw
from gateway.scan_stream import Piece, ScanStream

PLACE: Final = "file"
SCANNED_BYTES: Final = 1 << 12
"""At a time: of many numbers in one place the scanner takes only so many."""

Write = Callable[[bytes], object]


def mask_rows(manner: Manner, pieces: Iterable[bytes], write: Write) -> Tally:
    """Mask what the filters name, and what the scanner finds. Raises RowRefused, Malformed."""
    tally = Tally()
    planner = Planner(manner)
    for block in _cut(Blocks(manner.format, record_length=manner.record_length), pieces):
        planned = planner.planned(block)
        write(planner.written(planned, ()))
        tally.add(rows=planned.rows, tokens=0, counted=planned.counted, refused=planned.refused)
    return tally


def mask_raw(pieces: Iterable[bytes], write: Write) -> Tally:
    """Mask what the scanner finds in any bytes. Raises Malformed when it gave up looking."""
    tally = Tally()
    for piece in _scanned(pieces):
        if piece.exhausted:
            raise Malformed("too_many_cards")
        if not piece.hits:
            write(piece.raw)
            continue
        plan = plan_raw("mask", piece.raw, piece.hits, PLACE)
        write(plan.apply(()).body)
        tally.add(rows=0, tokens=0, counted=counted(plan.findings, None), refused=())
    return tally


def _cut(blocks: Blocks, pieces: Iterable[bytes]) -> Iterator[Block]:
    for data in pieces:
        yield from blocks.feed(data)
    yield from blocks.end()


def _scanned(pieces: Iterable[bytes]) -> Iterator[Piece]:
    stream = ScanStream()
    for data in pieces:
        for at in range(0, len(data), SCANNED_BYTES):
            yield from stream.feed(data[at : at + SCANNED_BYTES])
    yield from stream.end()
