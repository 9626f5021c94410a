"""Appends to the ledger, alone: `python -m bench.append --folder F`, a line of JSON.

Beside the disk's own fdatasync, and a commit for each entry on the same server; all in one run,
so that they can be compared. Each replica is a process of its own (`bench.append_replica`).
"""

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Final

import asyncpg
import msgspec
import typer
import uvloop

from bench.append_replica import Appended, AppendPlan, Kind
from bench.figures import load_of, percentile
from bench.processes import ROOT, Failed, python
from vault.db import SETTINGS, migrate
from vault.embedded.bootstrap import parts_of
from vault.embedded.layout import RUNTIME

ENTRY_BYTES: Final = 600  # of an intent, more or less
BLOCK_BYTES: Final = 4096
CALLERS: Final = (1, 8, 64)
REPLICAS: Final = (1, 2, 4)
COMMIT_CONNECTIONS: Final = 10
START_SECONDS: Final = 30.0

_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.bare (
  idx bigserial PRIMARY KEY, id uuid NOT NULL UNIQUE, body bytea NOT NULL)
"""
_BARE: Final = "INSERT INTO bench.bare (id, body) VALUES (gen_random_uuid(), $1)"


def syncing(folder: Path, seconds: float) -> dict[str, float]:
    """What the disk takes for a block that is to stay."""
    path = folder / "bench.sync"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    samples: list[float] = []
    try:
        end = perf_counter() + seconds
        while (started := perf_counter()) < end:
            os.write(handle, secrets.token_bytes(BLOCK_BYTES))
            os.fdatasync(handle)
            samples.append((perf_counter() - started) * 1000)
    finally:
        os.close(handle)
        path.unlink()
    return _figures("fdatasync", samples, 1, seconds)


async def committing(owner_dsn: str, seconds: float) -> dict[str, float]:
    """A row, a commit: with one connection, and with as many as a pool of ours has."""
    pool = await asyncpg.create_pool(
        owner_dsn,
        min_size=COMMIT_CONNECTIONS,
        max_size=COMMIT_CONNECTIONS,
        server_settings=SETTINGS,
    )
    try:
        await pool.execute(_SCHEMA)
        body = secrets.token_bytes(ENTRY_BYTES)
        async with pool.acquire() as connection:
            samples = await _repeated(lambda: connection.execute(_BARE, body), 1, seconds)
        figures = _figures("commit.1", samples, 1, seconds)
        samples = await _repeated(lambda: pool.execute(_BARE, body), CALLERS[-1], seconds)
        return figures | _figures(f"commit.{CALLERS[-1]}", samples, 1, seconds)
    finally:
        await pool.execute("TRUNCATE bench.bare")
        await pool.close()


async def _repeated(
    call: Callable[[], Awaitable[object]], callers: int, seconds: float
) -> list[float]:
    samples: list[float] = []
    end = perf_counter() + seconds

    async def caller() -> None:
        while (started := perf_counter()) < end:
            await call()
            samples.append((perf_counter() - started) * 1000)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return samples


async def appending(
    dsn: str, kind: Kind, *, replicas: int, callers: int, seconds: float
) -> dict[str, float]:
    """So many callers, shared out among so many processes. Raises Failed."""
    each = AppendPlan(dsn=dsn, kind=kind, callers=max(1, callers // replicas), seconds=seconds)
    processes = [await _replica() for _ in range(replicas)]
    try:
        async with asyncio.timeout(seconds + START_SECONDS):
            for process in processes:
                await _told(process, msgspec.json.encode(each), b"ready\n")
            outcomes = [
                msgspec.json.decode(printed, type=Appended)
                for printed in await asyncio.gather(*map(_told, processes))
            ]
    except (TimeoutError, msgspec.DecodeError):
        raise Failed("a replica of the bench did not come to its end") from None
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
    samples = [sample for one in outcomes for sample in one.samples_ms]
    name = f"append.{kind}.{callers}" + (f".x{replicas}" if replicas > 1 else "")
    return _figures(name, samples, 2 if kind is Kind.PAIR else 1, seconds)


async def _replica() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", *python("bench.append_replica")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
        cwd=ROOT,
    )


async def _told(
    process: asyncio.subprocess.Process, words: bytes = b"go", expected: bytes | None = None
) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(words + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line or (expected is not None and line != expected):
        raise Failed("a replica of the bench has failed")
    return line


def _figures(
    name: str, samples_ms: Sequence[float], entries: int, seconds: float
) -> dict[str, float]:
    """Entries a second, and how long one append (or one pair of them) took."""
    load = load_of(samples_ms, seconds=seconds, errors=0)
    return {
        name: load.rate * entries,
        f"{name}.p50": load.p50_ms,
        f"{name}.p95": load.p95_ms,
        f"{name}.p99": load.p99_ms,
        f"{name}.max": percentile(sorted(samples_ms), 100),
    }


async def measure(folder: Path, seconds: float) -> Mapping[str, float]:
    """All of it, on the server of a deployment; its own log gets longer."""
    parts = parts_of(folder)
    await migrate(parts.owner_dsn, runtime_role=RUNTIME)
    figures = syncing(folder, seconds) | await committing(parts.owner_dsn, seconds)
    dsn = parts.runtime_dsn
    for kind in Kind:
        for replicas in REPLICAS:
            for callers in CALLERS:
                if callers >= replicas:
                    figures |= await appending(
                        dsn, kind, replicas=replicas, callers=callers, seconds=seconds
                    )
    return figures


def main(
    folder: Annotated[Path, typer.Option()], seconds: Annotated[float, typer.Option()]
) -> None:
    """Measure, and print rates and milliseconds."""
    figures = uvloop.run(measure(folder, seconds / 8))
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
