"""How fast a queue of deliveries drains: `python -m bench.deliveries --folder F`, a line of JSON.

One worker, real TLS, and a receiver that shares the worker's process, so that the figure is below
what a gateway alone can do. Some of the endpoints are dead; what is measured is the healthy ones'.
"""

import asyncio
import secrets
import ssl
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Annotated, Final

import asyncpg
import msgspec
import trustme
import typer
import uvloop

from gateway.addresses import AddressAllow
from gateway.deliveries import Deliveries, Ended, WebhookUrl
from gateway.exchange import Failure, Phase
from gateway.upstream import Upstream, UpstreamRoute
from vault.db import Database, migrate
from vault.delivery_queue import DeliveryQueue
from vault.embedded.bootstrap import parts_of
from vault.embedded.layout import RUNTIME
from vault.ids import CROCKFORD

NAME: Final = "shop.test"
TENANT: Final = "t_bench"
LOOPBACK: Final = AddressAllow.parse(["127.0.0.1/32"])
SECRETS: Final = {"standard.1": "whsec_" + "A" * 32}
BODY: Final = b'{"id":"evt_bench","data":{"padding":"' + b"x" * 700 + b'"}}'
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

_CLEAR: Final = """
DELETE FROM delivery WHERE tenant = 't_bench'; DELETE FROM event WHERE tenant = 't_bench';
DELETE FROM webhook_endpoint WHERE tenant = 't_bench';
INSERT INTO tenant (id, name, created_at) VALUES ('t_bench', 'bench-webhooks', now())
  ON CONFLICT DO NOTHING;
"""
_ENDPOINT: Final = """
INSERT INTO webhook_endpoint (id, tenant, url, form, signature, state, concurrency, since_idx,
  created_at, updated_at) VALUES ($1, 't_bench', $2, 'events', 'own', 'active', 8, 0, now(), now())
"""
_EVENTS: Final = """
INSERT INTO event (id, tenant, type, body, idx, created_at)
SELECT gen_random_uuid(), 't_bench', 'token.created', $2, n, now()
FROM generate_series(1, $1::int) AS n
"""
_DELIVERIES: Final = """
INSERT INTO delivery (id, endpoint, tenant, event, subject, idx, state, due, created_at)
SELECT gen_random_uuid(), ($1::text[])[1 + idx % cardinality($1::text[])], 't_bench', id, id, idx,
  'waiting', now(), now() FROM event WHERE tenant = 't_bench'
"""


class Counting:
    """The keys, and whoever watches."""

    delivered = 0

    async def webhook_secrets(self, _tenant: str, _endpoint: str) -> Mapping[str, str] | None:
        return SECRETS

    def delivery_tried(self, _form: str, outcome: Ended, _seconds: float) -> None:
        self.delivered += outcome == "delivered"

    def upstream_phase_ended(self, route: str, phase: Phase, seconds: float) -> None: ...

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None: ...


async def fill(owner_dsn: str, live: int, dead: int, deliveries: int, port: int) -> int:
    """Queue so many deliveries; return how many of them are to endpoints that answer."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        await connection.execute(_CLEAR)
        ids = ["we_" + "".join(secrets.choice(CROCKFORD) for _ in range(26)) for _ in range(live)]
        gone = ["we_" + "".join(secrets.choice(CROCKFORD) for _ in range(26)) for _ in range(dead)]
        for one in (*ids, *gone):
            url = f"https://{NAME}:{port if one in ids else 1}/hook"
            await connection.execute(_ENDPOINT, one, url)
        await connection.execute(_EVENTS, deliveries, BODY)
        await connection.execute(_DELIVERIES, [*ids, *gone])
        await connection.execute("ANALYZE delivery, event, webhook_endpoint")
        found = await connection.fetchval(
            "SELECT count(*) FROM delivery WHERE endpoint = ANY($1)", ids
        )
        return int(found)
    finally:
        await connection.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            writer.write(OK)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def _lookup(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


async def drain(owner_dsn: str, dsn: str, counts: tuple[int, int, int]) -> Mapping[str, float]:
    """Drain the queue of the healthy, and tell how fast that went."""
    live, dead, deliveries = counts
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=context)
    counting = Counting()
    database = await Database.open(dsn)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ca_file = Path(folder) / "ca.pem"
            authority.cert_pem.write_to_path(str(ca_file))
            port = server.sockets[0].getsockname()[1]
            healthy = await fill(owner_dsn, live, dead, deliveries, port)

            def client(url: WebhookUrl) -> Upstream:
                route = UpstreamRoute(
                    name="webhook",
                    host=url.host,
                    port=url.port,
                    timeout_seconds=15.0,
                    address_allow=LOOPBACK,
                    ca_file=ca_file,
                )
                return Upstream(route, counting, lookup=_lookup)

            async with Deliveries(
                DeliveryQueue(database),
                counting,
                client=client,
                now=lambda: datetime.now(UTC),
                monotonic=perf_counter,
                chance=lambda: 0.5,
                metrics=counting,
            ) as worker:
                began = perf_counter()
                while counting.delivered < healthy:
                    await worker.turn()
                seconds = perf_counter() - began
    finally:
        server.close()
        await database.close()
    return {"deliveries.drained": healthy / seconds, "deliveries.seconds": seconds}


def main(
    *,
    folder: Annotated[Path, typer.Option(help="Of an embedded deployment.")],
    deliveries: int = 100_000,
    live: int = 45,
    dead: int = 5,
) -> None:
    async def measured() -> Mapping[str, float]:
        parts = parts_of(folder)
        await migrate(parts.owner_dsn, runtime_role=RUNTIME)
        return await drain(parts.owner_dsn, parts.runtime_dsn, (live, dead, deliveries))

    sys.stdout.write(msgspec.json.encode(uvloop.run(measured())).decode() + "\n")


if __name__ == "__main__":
    typer.run(main)
