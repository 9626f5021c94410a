"""One long upload that is on no disk: `python -m bench.upload`, a line of JSON.

A block of a mebibyte is made once and sent again and again, over one TLS connection.
"""

import http.client
import secrets
import ssl
import sys
from collections.abc import Iterator
from enum import StrEnum
from time import perf_counter
from typing import Annotated, Final

import msgspec
import typer

BLOCK_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 1 << 18
TIMEOUT_SECONDS: Final = 120.0
OK: Final = 200
_PROSE: Final = (
    "2026-11-23T19:30:00Z INFO order o-1001 of 10.99 EUR was paid in 312 ms by shopper@shop.example"
    ", row 12, seats 7 and 8; trace 3f0c1a52-9d1e-4c7b-8e65-b1a7f2c90d44\n"
)


class Content(StrEnum):
    """What is sent, by its type."""

    BINARY = "application/octet-stream"
    TEXT = "text/plain"


def block_of(content: Content) -> bytes:
    if content is Content.BINARY:
        return secrets.token_bytes(BLOCK_BYTES)
    return (_PROSE.encode() * (BLOCK_BYTES // len(_PROSE) + 1))[:BLOCK_BYTES]


def pieces(content: Content, size: int) -> Iterator[bytes]:
    """Yield so many bytes."""
    block = block_of(content)
    left = size
    while left:
        for start in range(0, min(left, BLOCK_BYTES), PIECE_BYTES):
            piece = block[start : start + min(left, PIECE_BYTES)]
            left -= len(piece)
            yield piece


def upload(port: int, path: str, ca_file: str, content: Content, size: int) -> float:
    """Return megabytes a second, until the answer is here."""
    context = ssl.create_default_context(cafile=ca_file)
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=context, timeout=TIMEOUT_SECONDS
    )
    headers = {"Content-Type": content.value, "Content-Length": str(size)}
    started = perf_counter()
    connection.request("POST", path, pieces(content, size), headers)
    answer = connection.getresponse()
    answer.read()
    elapsed = perf_counter() - started
    connection.close()
    assert answer.status == OK, f"an upload was refused with status {answer.status}"
    return size / elapsed / 1e6


def main(
    port: Annotated[int, typer.Option()],
    path: Annotated[str, typer.Option()],
    ca_file: Annotated[str, typer.Option()],
    content: Annotated[Content, typer.Option()],
    size: Annotated[int, typer.Option()],
) -> None:
    """Send it, and print how fast that was."""
    rate = upload(port, path, ca_file, content, size)
    sys.stdout.write(msgspec.json.encode({"mb_per_second": rate}).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
