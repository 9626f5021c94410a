"""What one would write first: a call of Vault for each thing, and a commit for each card.

A process of its own, `python -m bench.naive`. The same listener settings, the same adapter to
HashiCorp Vault, the same kind of row and entry; nothing is shared between requests.
"""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import asyncpg
import msgspec
import typer
import uvloop
from aiohttp import web

from gateway.config import load_config, vault_access
from gateway.listeners import server_context
from vault.card import Card
from vault.db import SETTINGS
from vault.embedded.bootstrap import parts_of
from vault.errors import CustodyError
from vault.observer import Silent
from vault.records import PAN_RECORD_BYTES, context_of, fingerprint_input, record_of
from vault.tokens import new_token
from vault.transit import Transit
from vault.transit_items import EncryptItem, HmacItem

Value = TypeVar("Value")

TENANT: Final = "t_bench"
CONNECTIONS: Final = 10

_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.token (
  id text PRIMARY KEY, tenant text NOT NULL, last4 text NOT NULL, brand text NOT NULL,
  exp_month int NOT NULL, exp_year int NOT NULL, ciphertext text NOT NULL,
  fingerprint bytea NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS bench.entry (
  idx bigserial PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL);
"""
_INSERT: Final = "INSERT INTO bench.token VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_APPEND: Final = "INSERT INTO bench.entry (token, at) VALUES ($1, $2)"


class Naive:
    """The handler, with what it needs."""

    def __init__(self, transit: Transit, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._transit = transit
        self._pool = pool

    async def create(self, request: web.Request) -> web.Response:
        words = (await request.json())["card"]
        at = datetime.now(UTC)
        card = Card.parse(words["number"], words["exp_month"], words["exp_year"], None, at=at)
        assert card.expiry is not None, "the body has one"
        token = new_token("test")
        fingerprint = await self._fingerprint(card)
        ciphertext = await self._ciphertext(card, token)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                _INSERT,
                *(token, TENANT, card.pan.last4, card.brand),
                *(card.expiry.month, card.expiry.year, ciphertext, fingerprint, at),
            )
            await connection.execute(_APPEND, token, at)
        answer = {
            "id": token,
            "brand": card.brand,
            "last4": card.pan.last4,
            "exp_month": card.expiry.month,
            "exp_year": card.expiry.year,
            "created_at": at.isoformat(),
        }
        return web.Response(
            status=201, body=msgspec.json.encode(answer), content_type="application/json"
        )

    async def _fingerprint(self, card: Card) -> bytes:
        item = HmacItem(fingerprint_input(TENANT, card.pan.reveal()))
        (value,) = await self._transit.hmac("fingerprint", 1, [item])
        return _good(value)

    async def _ciphertext(self, card: Card, token: str) -> str:
        fill = secrets.token_bytes(PAN_RECORD_BYTES)
        record = record_of(card.pan.reveal(), PAN_RECORD_BYTES, fill)
        item = EncryptItem(record, context_of("pan", "test", TENANT, token))
        (made,) = await self._transit.encrypt("pan", [item])
        return _good(made).ciphertext


def _good(value: Value | CustodyError) -> Value:
    if isinstance(value, CustodyError):
        raise value
    return value


async def serve(folder: Path, port: int) -> None:
    parts = parts_of(folder)
    config = load_config(parts.folder / "panward.toml")
    transit = Transit(vault_access(config, config.vault.tokenize), observer=Silent())
    await transit.start()
    owner = await asyncpg.connect(parts.owner_dsn)
    await owner.execute(_SCHEMA)
    await owner.close()
    pool = await asyncpg.create_pool(
        parts.owner_dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=SETTINGS
    )
    app = web.Application()
    app.router.add_post("/v1/tokens", Naive(transit, pool).create)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = server_context(parts.tls_cert_file, parts.tls_key_file)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=512).start()
    await asyncio.Event().wait()


def main(folder: Annotated[Path, typer.Option()], port: Annotated[int, typer.Option()]) -> None:
    """Answer until it is ended."""
    uvloop.run(serve(folder, port))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
