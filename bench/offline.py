"""What needs no load: `python -m bench.offline`, a line of JSON.

`verify` is what `panward ledger verify` does to a long log, database, processes and signatures
included; `verify.memory` the checks alone, in one process, on the deployment's own. `scan` asks
of a reply what the way out asks of it.
"""

import asyncio
import base64
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from nacl.bindings import crypto_box_seal_open
from nacl.public import PrivateKey

from bench.card_numbers import numbers
from bench.long_log import drop_long_log, schema_dsn, write_long_log
from bench.sealing import PublishedKey, PublishedKeys, sealed_bodies
from gateway.commands.ledger import check_log
from gateway.custody import utc_now
from gateway.echoes import Sought, contains_any, count_card_like
from gateway.embedded import TRIAL_ORIGINS
from gateway.sealed import Sender, Unsealing
from vault.batching import Batching
from vault.db import Database
from vault.edge_keys import kid_of
from vault.embedded.bootstrap import parts_of
from vault.ids import new_uuid7
from vault.ledger.check import LogCheck
from vault.ledger.examination import examine
from vault.ledger.pages import PAGE_ENTRIES, Page
from vault.ledger.reading import read_head, read_pages

BODY_BYTES: Final = 64 * 1024
BATCHING_CALLERS: Final = 64
MEGABYTE: Final = 1_000_000
ENTRIES_A_SECOND_OF_RUN: Final = 62_500  # half a million where runs have the usual length
SCHEMA: Final = "bench_log"
TENANT: Final = "t_bench"


def body_without_card() -> bytes:
    """JSON as processors send it: ids, times, amounts, prose; nothing that looks like a card."""
    one = {
        "id": "ch_AbCdEfGhIjKlMnOpQrStUvWx",
        "object": "charge",
        "amount": 1099,
        "created": 1_700_000_000,
        "currency": "eur",
        "description": "Two tickets, row 12, seats 7 and 8",
        "payment_method_details": {"card": {"brand": "visa", "last4": "0000", "exp_year": 2030}},
        "receipt_url": "https://pay.example/receipts/CAcaFwoVYWNjdF8xTTJKVGt",
        "status": "succeeded",
        "trace": "3f0c1a52-9d1e-4c7b-8e65-b1a7f2c90d44",
    }
    text = msgspec.json.encode(one)
    return b"[" + b",".join([text] * (BODY_BYTES // len(text))) + b"]"


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls / elapsed


def scanning(seconds: float) -> dict[str, float]:
    """Megabytes a second: both questions, as the way out asks them of a reply, and each alone."""
    body = body_without_card()
    sought = [Sought(next(numbers(1)))]
    assert count_card_like(body) == 0
    assert not contains_any(body, sought)

    def both() -> None:
        contains_any(body, sought)
        count_card_like(body)

    per_call = len(body) / MEGABYTE
    return {
        "scan": calls_per_second(both, seconds) * per_call,
        "scan.sought": calls_per_second(lambda: contains_any(body, sought), seconds) * per_call,
        "scan.any": calls_per_second(lambda: count_card_like(body), seconds) * per_call,
    }


async def batching(seconds: float) -> dict[str, float]:
    """Microseconds that natural batching costs an item, with a call that does nothing."""

    async def nothing(items: Sequence[int]) -> Sequence[int]:
        return items

    lane: Batching[int, int] = Batching(nothing)
    found = {}
    for callers in (1, BATCHING_CALLERS):
        end = time.perf_counter() + seconds
        counts = await asyncio.gather(*(_submitting(lane, end) for _ in range(callers)))
        found[f"batching.us.{callers}"] = seconds / sum(counts) * 1e6
    await lane.close()
    return found


async def _submitting(lane: Batching[int, int], end: float) -> int:
    items = 0
    while time.perf_counter() < end:
        items += await lane.submit(1)
    return items


async def unsealing(seconds: float) -> dict[str, float]:
    """Microseconds of one core for a sealed card: the box, its padding, JSON and every check."""
    private = PrivateKey.generate()
    public_key, private_key = bytes(private.public_key), bytes(private)

    class Ring:
        """One key."""

        async def open(self, _kid: str, sealed: bytes) -> bytes:
            return crypto_box_seal_open(sealed, public_key, private_key)

    async def origins() -> frozenset[str]:
        return frozenset(TRIAL_ORIGINS)

    key = PublishedKey(kid_of(new_uuid7(utc_now())), base64.b64encode(public_key).decode())
    body = next(sealed_bodies(PublishedKeys(TENANT, [key]), numbers(2), utc_now().year + 3, 1))
    box = msgspec.json.decode(body, type=dict[str, str])
    gate = Unsealing(Ring(), now=utc_now)
    sender = Sender(TENANT, origins, None)
    calls, started, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        await gate.card(box["sealed"], box["kid"], sender)
        calls += 1
    return {"unseal_us": (time.process_time() - started) / calls * 1e6}


async def verifying(folder: Path, entries: int) -> dict[str, float]:
    """Entries a second, of a log as long as asked, and of the deployment's own without reading."""
    parts = parts_of(folder)
    await write_long_log(parts.owner_dsn, SCHEMA, entries)
    try:
        started = time.perf_counter()
        report = (await check_log(schema_dsn(parts.runtime_dsn, SCHEMA), [])).report
        elapsed = time.perf_counter() - started
    finally:
        await drop_long_log(parts.owner_dsn, SCHEMA)
    assert (report.size, report.violations_total) == (entries, 0), "the long log is not good"
    return {
        "verify": entries / elapsed,
        "verify.memory": await verifying_in_memory(parts.runtime_dsn),
        "verify.entries": float(entries),
    }


async def verifying_in_memory(dsn: str) -> float:
    """Entries a second over the deployment's own log, which must be good."""
    database = await Database.open(dsn)
    pages: list[Page] = []
    try:
        head = await read_head(database)
        for first in range(0, head.size, PAGE_ENTRIES):
            pages += await read_pages(database, first, min(first + PAGE_ENTRIES, head.size))
    finally:
        await database.close()
    check = LogCheck()
    started = time.perf_counter()
    for page in pages:
        check.absorb(examine(page))
    report = check.finish(head.size, head.root)
    elapsed = time.perf_counter() - started
    assert report.violations_total == 0, "the log of the bench is not good"
    return head.size / elapsed


async def measure(folder: Path, seconds: float) -> dict[str, float]:
    return {
        **await verifying(folder, round(seconds * ENTRIES_A_SECOND_OF_RUN)),
        **scanning(seconds / 3),
        **await batching(seconds / 3),
        **await unsealing(seconds / 3),
    }


def main(
    folder: Annotated[Path, typer.Option()], seconds: Annotated[float, typer.Option()]
) -> None:
    """Measure, and print rates."""
    sys.stdout.write(msgspec.json.encode(uvloop.run(measure(folder, seconds))).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
