"""The runs of one `make bench`, one after the other, and what is measured around each."""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, TCPConnector

from bench.card_numbers import numbers, tokenize_body
from bench.figures import (
    Figures,
    Load,
    Machine,
    Run,
    Totals,
    elsewhere,
    mean_between,
    read_wrk,
    spent_between,
    stages_between,
)
from bench.open_loop import WARM_UP_REQUESTS, Plan, Steady
from bench.processes import Failed, busy_seconds, generator_seconds, python, run_to_end
from bench.stand import Stand
from gateway.custody import utc_now
from vault.embedded.layout import write_private

WARM_UP_SECONDS: Final = 1.0
PREPARING_CALLERS: Final = 64
TOKENS_PER_SECOND: Final = 1000  # more /out/ calls than this and tokens are used again
STEADY_PER_SECOND: Final = 100.0
WRK_TIMEOUT: Final = "10s"
MARGIN_SECONDS: Final = 60.0
HERE: Final = Path(__file__).parent
CREATED: Final = 201

TOKENS_PATH: Final = "/v1/tokens"
INTENTS_PATH: Final = "/v1/payment_intents"


@dataclass(frozen=True, slots=True)
class Asked:
    """One run: who is asked, by how many connections (None: at the constant rate)."""

    name: str
    title: str
    server: str
    connections: int | None


ASKED: Final = (
    *(Asked(f"json.{n}", "bare aiohttp JSON handler", "json", n) for n in (1, 64)),
    *(Asked(f"naive.{n}", "one call, one commit a card", "naive", n) for n in (1, 64)),
    *(Asked(f"tokenize.{n}", "panward tokenize", "gateway", n) for n in (1, 64)),
    *(Asked(f"proxy.{n or 'steady'}", "bare aiohttp proxy", "proxy", n) for n in (1, 64, None)),
    *(Asked(f"out.{n or 'steady'}", "panward /out/", "gateway", n) for n in (1, 64, None)),
)


class Bench:
    """Carries out the runs on a stand."""

    def __init__(self, stand: Stand, seconds: float, step: Callable[[str], None]) -> None:
        self._stand = stand
        self._seconds = seconds
        self._step = step
        self._exp_year = utc_now().year + 3
        self._seeds = _seeds()
        self._tokens_file = stand.folder / "bench.tokens"
        self._tokens_made = 0
        self._tokens_used = 0

    @property
    def tokens_repeated(self) -> int:
        """How many /out/ calls had a token that an earlier one had."""
        return max(0, self._tokens_used - self._tokens_made)

    async def carry_out(self) -> Figures:
        self._step("tokens for /out/")
        await self._prepare_tokens(int(self._seconds * TOKENS_PER_SECOND))
        runs: dict[str, Run] = {}
        for asked in ASKED:
            how = self._how(asked)
            self._step(f"{asked.title}, {how}")
            if asked.connections is not None:
                await self._wrk(asked, WARM_UP_SECONDS)  # opens pools, fills caches
            runs[asked.name] = await self._measured(asked, how)
        self._step("HashiCorp Vault alone")
        rates = await self._rates("bench.vault_alone", 2.5)
        self._step("ledger verify, scanner, batching")
        rates |= await self._rates("bench.offline", 3.0)
        return Figures(runs, rates)

    def _how(self, asked: Asked) -> str:
        if asked.connections is None:
            return f"{STEADY_PER_SECOND:.0f} requests/s"
        return f"{asked.connections} connection{'s' if asked.connections > 1 else ''}"

    async def _measured(self, asked: Asked, how: str) -> Run:
        ours = asked.server == "gateway"
        totals_before: Totals = await self._stand.totals() if ours else {}
        machine_before, before, started = machine(), self._stand.usage(), perf_counter()
        load = await self._load(asked)
        machine_after, after, ended = machine(), self._stand.usage(), perf_counter()
        totals_after: Totals = await self._stand.totals() if ours else {}
        spent = spent_between(before, after)
        return Run(
            name=asked.name,
            title=asked.title,
            how=how,
            load=load,
            server=asked.server,
            spent=spent,
            stages=stages_between(totals_before, totals_after, "stage/"),
            calls=stages_between(totals_before, totals_after, "call/"),
            batches=_batches(totals_before, totals_after),
            answered=load.requests + (WARM_UP_REQUESTS if asked.connections is None else 0),
            seconds=ended - started,
            generator_seconds=machine_after.generator_seconds - machine_before.generator_seconds,
            elsewhere_seconds=elsewhere(machine_before, machine_after, spent),
        )

    async def _load(self, asked: Asked) -> Load:
        if asked.connections is None:
            return (await self._steady(asked)).load
        return await self._wrk(asked, self._seconds)

    # --- load -----------------------------------------------------------------------------

    async def _wrk(self, asked: Asked, seconds: float) -> Load:
        """Raises Failed, WrkRefused."""
        outgoing = asked.server == "proxy" or asked.name.startswith("out.")
        script = HERE / ("out.lua" if outgoing else "tokenize.lua")
        command = [
            *("wrk", "--threads", "1", "--connections", str(asked.connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", WRK_TIMEOUT),
            *("--script", str(script), self._url(asked)),
        ]
        printed = await run_to_end(
            command, seconds_max=seconds + MARGIN_SECONDS, environment=self._environment(asked)
        )
        load = read_wrk(printed)
        if outgoing and asked.server == "gateway":
            self._tokens_used += load.requests + int(asked.connections or 0)
        if load.errors * 100 > load.requests:
            raise Failed(f"{asked.title}: {load.errors} of {load.requests} requests failed")
        return load

    async def _steady(self, asked: Asked) -> Steady:
        """Raises Failed."""
        stand = self._stand
        plan = Plan(
            port=stand.parts.ports["private" if asked.server == "gateway" else asked.server],
            ca_file=stand.credentials.ca_file,
            path=self._path(asked),
            key=stand.credentials.secret_key,
            tokens_file=str(self._tokens_file),
            start=self._tokens_used,
            seed=str(next(self._seeds)),
            exp_year=self._exp_year,
            per_second=STEADY_PER_SECOND,
            seconds=self._seconds,
        )
        file = stand.folder / "bench.plan"
        write_private(file, msgspec.json.encode(plan))
        printed = await run_to_end(
            python("bench.open_loop", "--plan", str(file)),
            seconds_max=self._seconds + MARGIN_SECONDS,
        )
        seen = msgspec.json.decode(printed, type=Steady)
        if asked.server == "gateway":
            self._tokens_used += seen.load.requests + WARM_UP_REQUESTS
        if seen.load.errors:
            raise Failed(f"{asked.title}: {seen.load.errors} requests failed at a constant rate")
        return seen

    def _url(self, asked: Asked) -> str:
        server = asked.server
        if server == "gateway":
            server = "private"
        return self._stand.url(server) + self._path(asked)

    def _path(self, asked: Asked) -> str:
        if asked.name.startswith("out."):
            return f"/out/stripe{INTENTS_PATH}"
        return INTENTS_PATH if asked.server == "proxy" else TOKENS_PATH

    def _environment(self, asked: Asked) -> Mapping[str, str]:
        """For the wrk scripts."""
        credentials = self._stand.credentials
        tokenizes = self._path(asked) == TOKENS_PATH
        return {
            "PANWARD_BENCH": str(HERE),
            "PANWARD_KEY": credentials.publishable_key if tokenizes else credentials.secret_key,
            "PANWARD_SEED": str(next(self._seeds)),
            "PANWARD_EXP_YEAR": str(self._exp_year),
            "PANWARD_TOKENS": str(self._tokens_file),
            "PANWARD_START": str(self._tokens_used),
        }

    # --- before, and beside ---------------------------------------------------------------

    async def _prepare_tokens(self, count: int) -> None:
        """Make tokens through the API, and keep them in a file."""
        stand = self._stand
        made: list[str] = []
        bodies = numbers(next(self._seeds))
        headers = {
            "Authorization": f"Bearer {stand.credentials.publishable_key}",
            "Content-Type": "application/json",
        }
        url = stand.credentials.private_url + TOKENS_PATH
        context = ssl.create_default_context(cafile=stand.credentials.ca_file)
        connector = TCPConnector(limit=PREPARING_CALLERS, ssl=context)
        async with ClientSession(connector=connector, headers=headers) as session:

            async def caller() -> None:
                while len(made) < count:
                    body = tokenize_body(next(bodies), self._exp_year)
                    async with session.post(url, data=body) as response:
                        answer = await response.read()
                        if response.status != CREATED:
                            raise Failed(f"a token was refused with status {response.status}")
                    made.append(msgspec.json.decode(answer, type=_Made).id)

            await _all_of(caller() for _ in range(PREPARING_CALLERS))
        self._tokens_made = len(made)
        write_private(self._tokens_file, "\n".join(made).encode())

    async def _rates(self, module: str, times: float) -> dict[str, float]:
        """Run a module of ours that measures by itself. Raises Failed."""
        words = ("--folder", str(self._stand.folder), "--seconds", f"{self._seconds:.1f}")
        printed = await run_to_end(
            python(module, *words), seconds_max=self._seconds * times + MARGIN_SECONDS
        )
        return msgspec.json.decode(printed, type=dict[str, float])


def machine() -> Machine:
    return Machine(busy_seconds(), generator_seconds())


async def _all_of(work: Iterable[Coroutine[object, object, None]]) -> None:
    """Do all of it at once; raises Failed for the first that fails."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except* (Failed, ClientError) as errors:
        first = errors.exceptions[0]
    else:
        return
    raise Failed(f"tokens cannot be made: {first}")


class _Made(msgspec.Struct):
    """What we need of a masked card."""

    id: str


def _seeds() -> Iterator[int]:
    """Yield seeds of card numbers that no other run of this stand has."""
    seed = secrets.randbelow(10_000)
    while True:
        seed = (seed + 1) % 10_000
        yield seed


def _batches(before: Totals, after: Totals) -> dict[str, float]:
    found = {}
    for series in after:
        if series.startswith("items/"):
            mean, count = mean_between(before, after, series)
            if count:
                found[series.removeprefix("items/")] = mean
    return found
