"""How fast a queue of deliveries drains: `python -m bench.deliveries`, a line of JSON.

The worker is a running gateway, whose own configuration this reads. The endpoints are here: most
answer at once, over TLS; the dead ones have no server, never finish the handshake, or never
answer. The same queue is drained without the dead ones first: what they cost is the difference
for each of the others.
"""

import asyncio
import secrets
import ssl
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Final

import asyncpg
import msgspec
import typer
import uvloop

from bench.open_loop import HEAD_END, content_length
from bench.processes import Failed
from gateway.config import Config, load_config, vault_access
from vault.ids import CROCKFORD
from vault.observer import Silent
from vault.secret_shelves import changed
from vault.transit import Transit

TENANT: Final = "t_benchhooks"
SECRETS: Final = {"standard.1": "whsec_" + "A" * 32}
BODY: Final = b'{"id":"evt_bench","data":{"padding":"' + b"x" * 700 + b'"}}'
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSED_PORT: Final = 1
WARM_UP: Final = 10  # of each endpoint
SLOWEST_PER_SECOND: Final = 50  # from there on it is no figure
TOLD_SECONDS: Final = 60.0
"""How long what other runs have put on record may take to be told: it would be measured too."""

_CLEAR: Final = (
    "DELETE FROM delivery WHERE tenant = $1",
    "DELETE FROM event WHERE tenant = $1",
    "UPDATE webhook_endpoint SET state = 'removed' WHERE tenant = $1",
)
_TENANT: Final = """
INSERT INTO tenant (id, name, created_at) VALUES ($1, 'bench-webhooks', now())
ON CONFLICT DO NOTHING
"""
_ENDPOINT: Final = """
INSERT INTO webhook_endpoint (id, tenant, url, form, signature, state, concurrency, since_idx,
  created_at, updated_at) VALUES ($2, $1, $3, 'events', 'own', 'active', 4, 0, now(), now())
"""
_EVENTS: Final = """
INSERT INTO event (id, tenant, type, body, idx, created_at)
SELECT gen_random_uuid(), $1, 'token.created', $3, n, now() FROM generate_series(1, $2::int) AS n
"""
_DELIVERIES: Final = """
INSERT INTO delivery (id, endpoint, tenant, event, subject, idx, state, due, created_at)
SELECT gen_random_uuid(), ($2::text[])[1 + idx % cardinality($2::text[])], $1, id, id, idx,
  'waiting', now(), now() FROM event WHERE tenant = $1
"""
_UNTOLD: Final = "SELECT size - next_idx FROM head, told"
Connection = asyncpg.Connection


class Endpoints:
    """Merchants' servers that answer, and when each had the last of what it was to get."""

    def __init__(self) -> None:
        self.got: dict[str, int] = {}
        self.last_at: dict[str, float] = {}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(HEAD_END)
                await reader.readexactly(content_length(head))
                name = head.split(b" ", 2)[1].decode("ascii").rpartition("/")[2]
                self.got[name] = self.got.get(name, 0) + 1
                self.last_at[name] = perf_counter()
                writer.write(OK)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    def begin(self) -> None:
        self.got.clear()
        self.last_at.clear()


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, and say nothing."""
    try:
        while await reader.read(65_536):
            pass
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def served(
    endpoints: Endpoints, certificate: Path, private_key: Path
) -> AsyncIterator[tuple[int, tuple[int, int, int]]]:
    """Serve; yields the port that answers, and those of three ways to be dead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)
    async with AsyncExitStack() as stack:

        async def port(handler: object, tls: ssl.SSLContext | None) -> int:
            server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]  # one of ours
            stack.callback(server.close)
            return int(server.sockets[0].getsockname()[1])

        live = await port(endpoints.answer, context)
        yield live, (CLOSED_PORT, await port(_never, context), await port(_never, None))


class Drain:
    """One queue after the other, in the database of a gateway that runs."""

    def __init__(self, owner: "Connection[asyncpg.Record]", transit: Transit) -> None:
        self._owner = owner
        self._transit = transit

    async def ready(self) -> None:
        """Wait until what is on record is told. Raises Failed."""
        end = perf_counter() + TOLD_SECONDS
        while await self._owner.fetchval(_UNTOLD) > 0:
            if perf_counter() > end:
                raise Failed("what is on record is not told: no figure for deliveries")
            await asyncio.sleep(0.2)

    async def run(
        self, endpoints: Endpoints, urls: Sequence[str], live: int, deliveries: int
    ) -> Mapping[str, float]:
        """Return how long each of the first `live` took, by its name. Raises Failed."""
        endpoints.begin()
        made = {_new_id(): url for url in urls}
        for one in made:
            await changed(self._transit, f"webhook/{TENANT}/{one}", dict(SECRETS))
        try:
            await self._fill(made, deliveries)
            began = perf_counter()
            await _until_all(endpoints, live, deliveries // len(urls))
        finally:
            await self.clear()
        return {name: at - began for name, at in endpoints.last_at.items()}

    async def _fill(self, made: Mapping[str, str], deliveries: int) -> None:
        owner = self._owner
        async with owner.transaction():
            await owner.execute(_TENANT, TENANT)
            for one, url in made.items():
                await owner.execute(_ENDPOINT, TENANT, one, url)
            await owner.execute(_EVENTS, TENANT, deliveries, BODY)
            await owner.execute(_DELIVERIES, TENANT, list(made))
            await owner.execute("ANALYZE delivery, event, webhook_endpoint")

    async def clear(self) -> None:
        for statement in _CLEAR:
            await self._owner.execute(statement, TENANT)


async def _until_all(endpoints: Endpoints, live: int, each: int) -> None:
    end = perf_counter() + live * each / SLOWEST_PER_SECOND + TOLD_SECONDS
    while sum(min(got, each) for got in endpoints.got.values()) < live * each:
        if perf_counter() > end:
            raise Failed(f"{sum(endpoints.got.values())} of {live * each} deliveries arrived")
        await asyncio.sleep(0.02)


def _new_id() -> str:
    return "we_" + "".join(secrets.choice(CROCKFORD) for _ in range(26))


async def measure(
    config: Config, tls: tuple[Path, Path], counts: tuple[int, int, int]
) -> Mapping[str, float]:
    """Drain without the dead, and with them."""
    live, dead, deliveries = counts
    each = deliveries // (live + dead)
    assert config.database.owner_dsn_file is not None
    async with AsyncExitStack() as stack:
        owner = await asyncpg.connect(config.secret(config.database.owner_dsn_file))
        stack.push_async_callback(owner.close)
        transit = Transit(vault_access(config, config.vault.reveal), observer=Silent())
        await transit.start()
        stack.push_async_callback(transit.close)
        endpoints = Endpoints()
        port, dead_ports = await stack.enter_async_context(served(endpoints, *tls))
        names = [f"https://127.0.0.1:{port}/{number}" for number in range(live)]
        gone = [f"https://127.0.0.1:{dead_ports[n % len(dead_ports)]}/dead" for n in range(dead)]
        drain = Drain(owner, transit)
        run = partial(drain.run, endpoints, live=live)
        await drain.ready()
        await run(urls=names, deliveries=live * WARM_UP)  # opens connections, fills caches
        without = await run(urls=names, deliveries=live * each)
        beside = await run(urls=[*names, *gone], deliveries=(live + dead) * each)
    return figures(without, beside, live * each)


def figures(
    without: Mapping[str, float], beside: Mapping[str, float], healthy: int
) -> Mapping[str, float]:
    """Rates of the healthy ones, and how much longer the dead made it for each of them."""
    slower = [beside[name] / without[name] for name in without]
    return {
        "deliveries.drained": healthy / max(beside.values()),
        "deliveries.drained.alone": healthy / max(without.values()),
        "deliveries.slower": median(slower),
        "deliveries.slowest": max(slower),
        "deliveries.made": healthy * 2 + WARM_UP * len(without),
    }


def main(
    *,
    config: Annotated[Path, typer.Option(help="Of a gateway that runs.")],
    tls: Annotated[Path, typer.Option(help="The certificate that it trusts.")],
    key: Annotated[Path, typer.Option()],
    deliveries: int = 100_000,
    live: int = 45,
    dead: int = 5,
) -> None:
    """Measure, and print rates."""
    counts = live, dead, deliveries
    found = uvloop.run(measure(load_config(config), (tls, key), counts))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
