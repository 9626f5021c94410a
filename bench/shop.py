"""A merchant's own endpoint that takes no time: a process of its own, `python -m bench.shop`.

It reads each request to its end, keeps nothing of it, keeps the connection, and has two answers:
a page to a GET, a line of JSON to all else.
"""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Final, cast

import typer
import uvloop

from gateway.listeners import server_context

HEAD_BYTES_MAX: Final = 16_384
PAGE_BYTES: Final = 100_000
_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\nContent-Length: ?([0-9]{1,12})\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\nTransfer-Encoding: ?chunked\r\n", re.IGNORECASE)


def page() -> bytes:
    """HTML as shops send it: prose, prices, links and ids, and no card number."""
    one = (
        '<li class="item"><a href="/item/{n}?ref=list-{n}">Two tickets, row {n}, seats 7 and 8</a>'
        '<span class="price" data-cents="{cents}">€ {euros}.90</span>'
        "<time>2026-11-23T19:30:00Z</time></li>\n"
    )
    head, tail = "<!doctype html><title>Tickets</title><ul>\n", "</ul>\n"
    items = "".join(one.format(n=n, cents=1090 + n, euros=10 + n % 90) for n in range(1000))
    body = (head + items).encode()[: PAGE_BYTES - len(tail)]
    return body.decode(errors="ignore").encode() + tail.encode()


def answers() -> dict[bool, bytes]:
    """Both answers, headers and all: the page, and what is said to everything else."""
    return {
        True: _answer("text/html; charset=utf-8", page()),
        False: _answer("application/json", b'{"order":"o-1001","status":"received"}'),
    }


def _answer(content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Set-Cookie: visit=abc; Path=/\r\nCache-Control: no-cache\r\n\r\n"
    )
    return head.encode() + body


class Serving(asyncio.Protocol):
    """One connection: head, body, answer, and again."""

    def __init__(self, said: dict[bool, bytes]) -> None:
        self._said = said
        self._received = bytearray()
        self._left: int | None = 0
        """Of the body; None: until the last chunk."""
        self._is_get = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        if self._left is not None and self._left > len(data):
            self._left -= len(data)  # of a long body nothing is copied
            return
        self._received += data
        while self._is_whole():
            assert self._transport is not None
            self._transport.write(self._said[self._is_get])

    def _is_whole(self) -> bool:
        """Whether one request more has ended; what has come of it is forgotten."""
        if self._left == 0 and not self._read_head():
            return False
        received = self._received
        if self._left is None:
            ended = received.endswith(_LAST_CHUNK)  # nobody sends ahead here
            del received[: -len(_LAST_CHUNK) if not ended else None]
            self._left = 0 if ended else None
            return ended
        taken = min(self._left, len(received))
        del received[:taken]
        self._left -= taken
        return self._left == 0

    def _read_head(self) -> bool:
        received = self._received
        end = received.find(_END)
        if end < 0:
            if len(received) > HEAD_BYTES_MAX:
                assert self._transport is not None
                self._transport.abort()
            return False
        head = bytes(received[: end + len(_END)])
        del received[: len(head)]
        self._is_get = head.startswith(b"GET ")
        length = _LENGTH.search(head)
        self._left = None if _CHUNKED.search(head) else int(length[1]) if length else 0
        return True


async def serve(port: int, certificate: Path, private_key: Path) -> None:
    said = answers()
    server = await asyncio.get_running_loop().create_server(
        lambda: Serving(said),
        "127.0.0.1",
        port,
        ssl=server_context(certificate, private_key),
        backlog=512,
    )
    await server.serve_forever()


def main(
    port: Annotated[int, typer.Option()],
    cert: Annotated[Path, typer.Option()],
    key: Annotated[Path, typer.Option()],
) -> None:
    """Answer until it is ended."""
    uvloop.run(serve(port, cert, key))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
