"""A card processor that takes no time: a process of its own, `python -m bench.processor`.

It reads each request to its end, keeps the connection, and answers as Stripe does for a payment
that succeeded. It looks at nothing and remembers nothing.
"""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Final, cast

import msgspec
import typer
import uvloop

from gateway.listeners import server_context

HEAD_BYTES_MAX: Final = 16_384
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\nContent-Length: ?([0-9]{1,7})\r\n", re.IGNORECASE)


def answer() -> bytes:
    """The one answer, headers and all."""
    body = msgspec.json.encode(
        {
            "id": "pi_bench",
            "object": "payment_intent",
            "amount": 1099,
            "amount_received": 1099,
            "currency": "eur",
            "confirmation_method": "automatic",
            "capture_method": "automatic",
            "latest_charge": "ch_bench",
            "livemode": False,
            "metadata": {"order_id": "bench"},
            "payment_method": "pm_bench",
            "payment_method_types": ["card"],
            "status": "succeeded",
        }
    )
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\n"
        "Request-Id: req_bench\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Answering(asyncio.Protocol):
    """One connection: head, body, answer, and again."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while (end := received.find(_END)) >= 0:
            length = _LENGTH.search(received, 0, end + len(_END))
            whole = end + len(_END) + (int(length[1]) if length else 0)
            if len(received) < whole:
                return
            del received[:whole]
            assert self._transport is not None
            self._transport.write(self._said)
        if len(received) > HEAD_BYTES_MAX:
            assert self._transport is not None
            self._transport.abort()


async def serve(port: int, certificate: Path, private_key: Path) -> None:
    said = answer()
    server = await asyncio.get_running_loop().create_server(
        lambda: Answering(said),
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
