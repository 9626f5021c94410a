"""Certificates for the hosts of CONNECT tunnels: `python -m bench.leaves`, a line of JSON.

What the first tunnel to a host waits for (a key pair, a signature in HashiCorp Vault, a TLS
context), what every later one does, and what all of them hold of memory. In a process of its own,
with the gateway's login and its code.
"""

import asyncio
import gc
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop

from bench.processes import usage_of
from gateway.config import load_config, vault_access
from gateway.leaf_certificates import SIGNINGS_AT_ONCE, LeafCertificates
from vault.authority import Authority
from vault.observer import Silent
from vault.transit import Transit

HOSTS: Final = 1_000
KIB: Final = 1024


def now() -> datetime:
    return datetime.now(UTC)


async def made(leaves: LeafCertificates, names: list[str]) -> float:
    """Seconds that it takes to make these, as many at once as HashiCorp Vault is asked for."""
    waiting = iter(names)

    async def caller() -> None:
        for name in waiting:
            await leaves.context_for(name)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(SIGNINGS_AT_ONCE)))
    return time.perf_counter() - started


async def found_again(leaves: LeafCertificates, names: list[str]) -> float:
    started = time.perf_counter()
    for name in names:
        await leaves.context_for(name)
    return time.perf_counter() - started


async def measure(folder: Path) -> dict[str, float]:
    config = load_config(folder / "panward.toml")
    transit = Transit(vault_access(config, config.vault.reveal), observer=Silent())
    await transit.start()
    try:
        leaves = LeafCertificates(Authority(transit.ask), now=now, monotonic=time.monotonic)
        await leaves.start()
        await made(leaves, ["first.bench.example"])
        gc.collect()
        before = usage_of(os.getpid())
        names = [f"host-{number}.bench.example" for number in range(HOSTS)]
        seconds = await made(leaves, names)
        gc.collect()
        after = usage_of(os.getpid())
        again = min([await found_again(leaves, names) for _ in range(5)])
    finally:
        await transit.close()
    return {
        "leaf.ms": seconds / HOSTS * 1000,
        "leaf.cpu_ms": (after.cpu_seconds - before.cpu_seconds) / HOSTS * 1000,
        "leaf.cached_us": again / HOSTS * 1e6,
        "leaf.kib": (after.resident_bytes - before.resident_bytes) / HOSTS / KIB,
    }


def main(
    folder: Annotated[Path, typer.Option()],
    seconds: Annotated[float | None, typer.Option()] = None,
) -> None:
    """Measure, and print figures."""
    del seconds  # it is a number of hosts
    sys.stdout.write(msgspec.json.encode(uvloop.run(measure(folder))).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
