"""What a processor will report in a run: `python -m bench.callback_posts`, a line of JSON.

An endpoint with its secret, payments on record, and a file with posts: each another event, signed
before the run, so that the load is not what is measured. Half of them speak of a payment on
record, a quarter of one that was made elsewhere, and a quarter mean nothing to the gateway.
"""

import asyncio
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import asyncpg
import msgspec
import typer
import uvloop

from bench.append_replica import TENANT, TOKENS, creating, new_row, opening, settling, started
from bench.processes import Failed
from gateway.callbacks import PATH
from gateway.config import Config, load_config
from gateway.custody import utc_now
from gateway.embedded import set_callback_secret
from gateway.sandbox.stripe_callbacks import signature
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.db import Database

ROUTE: Final = "stripe"
SECRET: Final = "whsec_" + "b" * 32  # the gateway keeps it for a minute: one for all runs
CALLERS: Final = 64
APPEND_SECONDS: Final = 30.0
KINDS: Final = 4  # of posts: two of them of a payment on record

_TENANT: Final = """
INSERT INTO tenant (id, name, created_at) VALUES ($1, 'bench-callbacks', now())
ON CONFLICT DO NOTHING
"""


class Prepared(msgspec.Struct, frozen=True):
    """Where to post them."""

    path: str


async def endpoint(config: Config) -> str:
    """Add an endpoint with its secret, and return its path. Raises Failed."""
    assert config.database.owner_dsn_file is not None
    owner = await asyncpg.connect(config.secret(config.database.owner_dsn_file))
    try:
        await owner.execute(_TENANT, TENANT)
    finally:
        await owner.close()
    if await set_callback_secret(config, TENANT, ROUTE, "key.1", SECRET) is None:
        raise Failed("the secret of the callbacks cannot be set")
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        made = await CallbackEndpointTable(database).add_endpoint(
            TENANT, ROUTE, ROUTE, at=utc_now()
        )
    finally:
        await database.close()
    if made is None:
        raise Failed("the tenant of the bench has too many callback endpoints")
    return f"{PATH}{made.id}"


async def payments(dsn: str, count: int) -> Sequence[str]:
    """Put approved payments on record; return the processor's references of them."""
    references: list[str] = []
    async with started(dsn) as (ledger, boot):
        rows = [new_row() for _ in range(TOKENS)]
        await asyncio.gather(
            *(ledger.append(creating(row), seconds=APPEND_SECONDS) for row in rows)
        )
        places = iter(range(count))

        async def caller() -> None:
            for place in places:
                opened = opening(rows[place % TOKENS].id, boot)
                await ledger.append(opened, seconds=APPEND_SECONDS)
                settled = settling(opened)
                await ledger.append(settled, seconds=APPEND_SECONDS)
                reference = settled.settlements[0].processor_reference
                assert reference is not None
                references.append(reference)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return references


def posts(references: Sequence[str], count: int, at: datetime) -> Iterator[bytes]:
    """Yield signature, tab and body; no event twice."""
    for number in range(count):
        kind = number % KINDS
        payment = f"pi_{secrets.token_hex(12)}"
        if kind % 2 == 0:
            payment = references[number // 2 % len(references)]
        type_ = "customer.updated" if kind == 1 else "payment_intent.succeeded"
        document = _customer() if kind == 1 else _payment(payment, at)
        body = msgspec.json.encode(_event(type_, document, at))
        yield signature(SECRET, body, at=at).encode() + b"\t" + body + b"\n"


def _event(type_: str, document: Mapping[str, object], at: datetime) -> Mapping[str, object]:
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": "2024-06-20",
        "created": int(at.timestamp()),
        "data": {"object": document},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type_,
    }


def _payment(reference: str, at: datetime) -> Mapping[str, object]:
    """As long as Stripe's."""
    empty = dict.fromkeys(
        (
            *("application", "application_fee_amount", "canceled_at", "cancellation_reason"),
            *("customer", "description", "invoice", "last_payment_error", "next_action"),
            *("on_behalf_of", "payment_method_configuration_details", "processing", "review"),
            *("receipt_email", "setup_future_usage", "shipping", "source", "statement_descriptor"),
            *("statement_descriptor_suffix", "transfer_data", "transfer_group"),
        )
    )
    return {
        "id": reference,
        "object": "payment_intent",
        "amount": 1099,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 1099,
        "automatic_payment_methods": {"allow_redirects": "never", "enabled": True},
        "capture_method": "automatic",
        "client_secret": f"{reference}_secret_{'x' * 25}",
        "confirmation_method": "automatic",
        "created": int(at.timestamp()),
        "currency": "eur",
        "latest_charge": f"ch_{reference[3:]}",
        "livemode": False,
        "metadata": {"cart": "bench"},
        "payment_method": f"pm_{reference[3:]}",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "status": "succeeded",
        **empty,
    }


def _customer() -> Mapping[str, object]:
    return {
        "id": f"cus_{secrets.token_hex(7)}",
        "object": "customer",
        "balance": 0,
        "currency": "eur",
        "delinquent": False,
        "invoice_settings": {"custom_fields": None, "footer": None, "rendering_options": None},
        "metadata": {"tier": "bench"},
        "preferred_locales": ["de", "en"],
        "shipping": None,
    }


async def prepare(config: Config, count: int, authorizations: int, file: Path) -> Prepared:
    path = await endpoint(config)
    dsn = config.secret(config.database.runtime_dsn_file)
    references = await payments(dsn, authorizations)
    with file.open("wb") as written:
        written.writelines(posts(references, count, utc_now()))
    return Prepared(path)


def main(
    config: Annotated[Path, typer.Option()],
    count: Annotated[int, typer.Option()],
    authorizations: Annotated[int, typer.Option()],
    file: Annotated[Path, typer.Option()],
) -> None:
    """Prepare, and print where to post."""
    made = uvloop.run(prepare(load_config(config), count, authorizations, file))
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
