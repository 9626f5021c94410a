"""The peer of the CONNECT listener that does nothing of ours: `python -m bench.bare_tunnel`.

It answers `CONNECT` with 200 and then carries bytes both ways, without a look at them: TLS is
between the client and the processor. It dials one port, whatever was asked for.
"""

import asyncio
from typing import Annotated, Final, cast

import typer
import uvloop

ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
HEAD_BYTES_MAX: Final = 16_384
_END: Final = b"\r\n\r\n"


class End(asyncio.Protocol):
    """One end of a tunnel; what comes in goes out at the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Near(End):
    """The end at the client, with the head in front."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._head = bytearray()
        self._dialing: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._dialing is not None:
            super().data_received(data)
            return
        self._head += data
        if self._head.endswith(_END):
            self._dialing = asyncio.get_running_loop().create_task(self._dial())
        elif len(self._head) > HEAD_BYTES_MAX:
            assert self.transport is not None
            self.transport.abort()

    async def _dial(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(End, "127.0.0.1", self._upstream_port)
        except OSError:
            self.transport.abort()
            return
        self.other, far.other = far, self
        self.transport.write(ESTABLISHED)


async def serve(port: int, upstream_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Near(upstream_port), "127.0.0.1", port, backlog=512
    )
    await server.serve_forever()


def main(
    port: Annotated[int, typer.Option()], upstream_port: Annotated[int, typer.Option()]
) -> None:
    """Carry bytes until it is ended."""
    uvloop.run(serve(port, upstream_port))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
