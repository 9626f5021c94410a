"""What the same HashiCorp Vault does alone: `python -m bench.vault_alone`, a line of JSON.

One stream for each operation, one call of 128 items in flight. `card` is what one tokenization
needs, one encrypt and one hmac: both streams at once, for as many cards, until both have ended.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop

from gateway.config import Config, load_config, vault_access
from gateway.config_file import LoginConfig
from vault.errors import CustodyError
from vault.observer import Silent
from vault.records import PAN_RECORD_BYTES, context_of, fingerprint_input
from vault.transit import Transit
from vault.transit_items import DecryptItem, Encrypted, EncryptItem, HmacItem

ITEMS: Final = 128
TENANT: Final = "t_bench"
CONTEXT: Final = context_of("pan", "test", TENANT, "bench")

Stream = Callable[[], Awaitable[object]]


class Streams:
    """The three operations, a full batch at a time, other content each time."""

    def __init__(self, tokenize: Transit, reveal: Transit) -> None:
        self._tokenize = tokenize
        self._reveal = reveal
        self._numbers = count()
        self._sealed: list[Encrypted] = []

    async def encrypt(self) -> None:
        items = [EncryptItem(secrets.token_bytes(PAN_RECORD_BYTES), CONTEXT) for _ in range(ITEMS)]
        made = await self._tokenize.encrypt("pan", items)
        self._sealed = [one for one in made if isinstance(one, Encrypted)]
        assert len(self._sealed) == ITEMS, "a call failed"

    async def hmac(self) -> None:
        texts = [str(next(self._numbers)) for _ in range(ITEMS)]
        items = [HmacItem(fingerprint_input(TENANT, text)) for text in texts]
        _all_good(await self._tokenize.hmac("fingerprint", 1, items))

    async def decrypt(self) -> None:
        items = [
            DecryptItem(one.ciphertext, CONTEXT, f"bench/{next(self._numbers)}")
            for one in self._sealed
        ]
        _all_good(await self._reveal.decrypt("pan", items))


def _all_good(outcomes: Sequence[bytes | CustodyError]) -> None:
    assert not any(isinstance(one, CustodyError) for one in outcomes), "a call failed"


async def items_per_second(call: Stream, seconds: float) -> float:
    await call()
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        await call()
        calls += 1
    return calls * ITEMS / elapsed


async def cards_per_second(streams: Sequence[Stream], calls: int) -> float:
    """Run the streams at once, so many calls each."""

    async def repeat(call: Stream) -> None:
        for _ in range(calls):
            await call()

    started = time.perf_counter()
    await asyncio.gather(*map(repeat, streams))
    return calls * ITEMS / (time.perf_counter() - started)


async def measure(folder: Path, seconds: float) -> dict[str, float]:
    config = load_config(folder / "panward.toml")
    tokenize = await _transit(config, config.vault.tokenize)
    reveal = await _transit(config, config.vault.reveal)
    streams = Streams(tokenize, reveal)
    try:
        found = {
            "vault.encrypt": await items_per_second(streams.encrypt, seconds / 2),
            "vault.hmac": await items_per_second(streams.hmac, seconds / 2),
            "vault.decrypt": await items_per_second(streams.decrypt, seconds / 2),
        }
        calls = max(1, int(found["vault.encrypt"] * seconds / 2 / ITEMS))
        found["vault.card"] = await cards_per_second((streams.encrypt, streams.hmac), calls)
    finally:
        await tokenize.close()
        await reveal.close()
    return found


async def _transit(config: Config, login: LoginConfig) -> Transit:
    transit = Transit(vault_access(config, login), observer=Silent())
    await transit.start()
    return transit


def main(
    folder: Annotated[Path, typer.Option()], seconds: Annotated[float, typer.Option()]
) -> None:
    """Measure, and print rates."""
    sys.stdout.write(msgspec.json.encode(uvloop.run(measure(folder, seconds))).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
