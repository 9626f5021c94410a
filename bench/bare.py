"""The peers that do nothing of ours, on the same TLS settings: `python -m bench.bare json|proxy`.

`json` reads a JSON body and answers with one of the size of ours. `proxy` sends what it gets to
the processor and gives back what that says: TLS in, TLS out, kept connections, no more.
"""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from aiohttp import ClientSession, TCPConnector, web

from gateway.listeners import server_context
from gateway.upstream_tls import tls_context

CONNECTIONS_MAX: Final = 128
_HOP: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})

MASKED: Final = {
    "id": "pwt_test_" + "0" * 28,
    "brand": "visa",
    "last4": "0000",
    "exp_month": 12,
    "exp_year": 2030,
    "created_at": "2026-01-01T00:00:00.000Z",
    "expires_at": "2026-01-02T00:00:00.000Z",
    "single_use": False,
    "customer_reference": None,
}


class Peer(StrEnum):
    """Which of the two."""

    JSON = "json"
    PROXY = "proxy"


async def _json(request: web.Request) -> web.Response:
    await request.json()
    return web.json_response(MASKED, status=201)


class Proxy:
    """Sends each request on, once."""

    def __init__(self, session: ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream

    async def handle(self, request: web.Request) -> web.Response:
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP}
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as reply:
            body = await reply.read()
            kept = {n: v for n, v in reply.headers.items() if n.lower() not in _HOP}
            return web.Response(status=reply.status, body=body, headers=kept)


async def serve(peer: Peer, port: int, folder: Path, upstream_port: int) -> None:
    app = web.Application()
    if peer is Peer.JSON:
        app.router.add_post("/v1/tokens", _json)
    else:
        context = tls_context(ca_file=folder / "ca.pem", crl_file=None, client_certificate=None)
        session = ClientSession(connector=TCPConnector(limit=CONNECTIONS_MAX, ssl=context))
        proxy = Proxy(session, f"https://127.0.0.1:{upstream_port}")
        app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = server_context(folder / "server.pem", folder / "server.key")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=512).start()
    await asyncio.Event().wait()


def main(
    peer: Peer,
    port: Annotated[int, typer.Option()],
    tls: Annotated[Path, typer.Option(help="Folder of ca.pem, server.pem, server.key.")],
    upstream_port: Annotated[int, typer.Option()] = 0,
) -> None:
    """Answer until it is ended."""
    uvloop.run(serve(peer, port, tls, upstream_port))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
