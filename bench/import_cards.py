"""An import beside what the same HashiCorp Vault does alone: `python -m bench.import_cards`.

A CSV of new cards, number and date, goes through `panward import`'s own code into a deployment;
then, for as many cards, the same encrypt and hmac items go to the key service and nowhere else.
Both in this process, one after the other, on the same machine.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop

from bench.card_numbers import numbers
from bench.vault_alone import ITEMS, Streams, _transit, cards_per_second, items_per_second
from gateway.card_files.asked import Asked, route_of
from gateway.card_files.planning import Manner
from gateway.card_files.run import Job, carry_out, finish
from gateway.codecs.splice import Format
from gateway.commands.card_store import card_store
from gateway.commands.options import spare_the_collector
from gateway.config import Config, load_config
from gateway.custody import utc_now
from vault.db import Database
from vault.tenant_table import Tenant, TenantTable

TENANT: Final = "t_importbench"
SEED: Final = 4242
ASKED: Final = Asked(number="pan", expiry="exp")
HEAD: Final = "order,pan,exp,amount\n"


def rows(cards: int) -> str:
    """Make so many rows, a card of its own in each."""
    made = islice(numbers(SEED), cards)
    return HEAD + "".join(f"o-{n},{pan},12/40,10.00\n" for n, pan in enumerate(made))


async def imported_per_second(config: Config, folder: Path, cards: int) -> float:
    source = folder / "cards.csv"
    source.write_text(rows(cards))
    manner = Manner(route_of(ASKED, Format.CSV, tenant=TENANT), Format.CSV, utc_now)
    job = Job(source, folder / "tokens.csv", manner)
    async with card_store(config, TENANT, reuse=False) as store:
        spare_the_collector()
        started = time.perf_counter()
        report = await carry_out(job, store, lambda _done, _of: None)
        elapsed = time.perf_counter() - started
    finish(job)
    assert report.tokens == cards, "a card was not stored"
    return cards / elapsed


async def measure(folder: Path, seconds: float) -> dict[str, float]:
    config = load_config(folder / "panward.toml")
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        await TenantTable(database).add(Tenant(TENANT, TENANT, utc_now()))
    finally:
        await database.close()
    tokenize = await _transit(config, config.vault.tokenize)
    reveal = await _transit(config, config.vault.reveal)
    streams = Streams(tokenize, reveal)
    try:
        rate = await items_per_second(streams.encrypt, seconds / 4)
        calls = max(4, int(rate * seconds / 4 / ITEMS))
        alone = await cards_per_second((streams.encrypt, streams.hmac), calls)
    finally:
        await tokenize.close()
        await reveal.close()
    with tempfile.TemporaryDirectory(prefix="panward-bench-import-") as made:
        imported = await imported_per_second(config, Path(made), calls * ITEMS)
    return {"import.cards": imported, "import.vault_alone": alone, "import.ratio": imported / alone}


def main(
    folder: Annotated[Path, typer.Option()], seconds: Annotated[float, typer.Option()]
) -> None:
    """Measure, and print rates."""
    sys.stdout.write(msgspec.json.encode(uvloop.run(measure(folder, seconds))).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
