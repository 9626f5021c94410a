"""The runs of one `make bench`, one after the other, and what is measured around each."""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, TCPConnector

from bench.asked import ASKED, CALLBACKS_PER_SECOND, PATHS, TOKENIZING, Asked, Asking, Way
from bench.callback_posts import Prepared
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
from bench.open_loop import WARM_UP_REQUESTS, Plan, Steady, TunnelPlan
from bench.processes import Failed, busy_seconds, generator_seconds, python, run_to_end
from bench.sealing import published_keys, sealed_bodies
from bench.stand import CONFIG, CONNECT_NAME, Stand
from gateway.custody import utc_now
from vault.private_files import write_private

WARM_UP_SECONDS: Final = 1.0
PREPARING_CALLERS: Final = 64
SEALED_PER_SECOND: Final = 6000  # more cards than this and one is sent twice, and refused
CALLBACKS_PER_SECOND_MAX: Final = 3000  # more than these and one is posted twice
CALLBACK_CONNECTIONS: Final = 64
DELIVERIES_PER_SECOND_MIN: Final = 25
OVERLOADED: Final = 20
"""How much longer it may take to answer what came at a rate that was too high."""
TOKENS_PER_SECOND: Final = 1000  # more /out/ calls than this and tokens are used again
WRK_TIMEOUT: Final = "10s"
MARGIN_SECONDS: Final = 60.0
HERE: Final = Path(__file__).parent
CREATED: Final = 201

_SCRIPTS: Final = {
    Asking.TOKENIZE: "tokenize.lua",
    Asking.SEALED: "sealed.lua",
    Asking.PAY: "out.lua",
    Asking.OTHER: "other.lua",
    Asking.READ: "other.lua",
    Asking.CALLBACK: "callback.lua",
}


class Bench:
    """Carries out the runs on a stand."""

    def __init__(
        self, stand: Stand, seconds: float, step: Callable[[str], None], *, deliveries: int
    ) -> None:
        self._stand = stand
        self._deliveries_count = deliveries
        self._seconds = seconds
        self._step = step
        self._exp_year = utc_now().year + 3
        self._seeds = _seeds()
        self._tokens_file = stand.folder / "bench.tokens"
        self._sealed_file = stand.folder / "bench.sealed"
        self._posts_file = stand.folder / "bench.posts"
        self._callback_path = ""
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
            self._step(f"{asked.title}, {asked.how}")
            if asked.server not in self._stand.children:
                continue  # a peer that is not installed here
            if asked.connections is not None:
                await self._wrk(asked, WARM_UP_SECONDS)  # opens pools, fills caches
            runs[asked.name] = await self._measured(asked)
        self._step("HashiCorp Vault alone")
        rates = await self._rates("bench.vault_alone", 2.5)
        self._step("appends alone")
        rates |= await self._rates("bench.append", 5.0)
        self._step("ledger verify, scanner, batching")
        rates |= await self._rates("bench.offline", 3.0)
        self._step("codecs")
        rates |= await self._rates("bench.codecs", 3.0)
        self._step("certificates for 1,000 hosts")
        rates |= await self._rates("bench.leaves", 3.0)
        self._step("deliveries")
        rates |= await self._deliveries()
        return Figures(runs, rates | shares(runs))

    async def _measured(self, asked: Asked) -> Run:
        totals_before: Totals = await self._stand.totals() if asked.is_ours else {}
        machine_before, before, started = machine(), self._stand.usage(), perf_counter()
        load = await self._load(asked)
        machine_after, after, ended = machine(), self._stand.usage(), perf_counter()
        totals_after: Totals = await self._stand.totals() if asked.is_ours else {}
        spent = spent_between(before, after)
        return Run(
            name=asked.name,
            title=asked.title,
            how=asked.how,
            load=load,
            server=asked.server,
            spent=spent,
            stages=stages_between(totals_before, totals_after, "stage/"),
            calls=stages_between(totals_before, totals_after, "call/"),
            batches=_batches(totals_before, totals_after),
            calls_made=_counts(totals_before, totals_after),
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
        if asked.asking is Asking.SEALED:
            await self._seal(int((seconds + 1) * SEALED_PER_SECOND))
        if asked.asking is Asking.CALLBACK:
            await self._sign(int(seconds * CALLBACKS_PER_SECOND_MAX), seconds)
        script = HERE / _SCRIPTS[asked.asking]
        command = [
            *("wrk", "--threads", "1", "--connections", str(asked.connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", WRK_TIMEOUT),
            *("--script", str(script), self._url(asked)),
        ]
        printed = await run_to_end(
            command, seconds_max=seconds + MARGIN_SECONDS, environment=self._environment(asked)
        )
        load = read_wrk(printed)
        if asked.opens_a_card:
            self._tokens_used += load.requests + int(asked.connections or 0)
        if load.errors * 100 > load.requests:
            raise Failed(f"{asked.title}: {load.errors} of {load.requests} requests failed")
        return load

    async def _steady(self, asked: Asked) -> Steady:
        """Raises Failed."""
        stand, is_callback = self._stand, asked.asking is Asking.CALLBACK
        if is_callback:
            posts = int(self._seconds * asked.per_second) + WARM_UP_REQUESTS
            await self._sign(posts, self._seconds)
        plan = Plan(
            port=stand.ports[asked.listener],
            ca_file=stand.credentials.ca_file,
            path=self._path(asked),
            key=stand.credentials.secret_key,
            tokens_file=str(self._tokens_file),
            start=0 if is_callback else self._tokens_used,
            seed=str(next(self._seeds)),
            exp_year=self._exp_year,
            per_second=asked.per_second,
            seconds=self._seconds,
            tunnel=self._tunnel(asked),
            posts_file=str(self._posts_file) if is_callback else "",
            connections=CALLBACK_CONNECTIONS if is_callback else 0,
        )
        file = stand.folder / "bench.plan"
        write_private(file, msgspec.json.encode(plan))
        printed = await run_to_end(
            python("bench.open_loop", "--plan", str(file)),
            seconds_max=self._seconds * (OVERLOADED if is_callback else 1) + MARGIN_SECONDS,
        )
        seen = msgspec.json.decode(printed, type=Steady)
        if asked.opens_a_card:
            self._tokens_used += seen.load.requests + WARM_UP_REQUESTS
        if seen.load.errors and not is_callback:  # what is not accepted there is what is asked
            raise Failed(f"{asked.title}: {seen.load.errors} requests failed at a constant rate")
        return seen

    def _tunnel(self, asked: Asked) -> TunnelPlan | None:
        if asked.way is Way.URL:
            return None
        stand, each = self._stand, asked.way is Way.NEW_TUNNEL
        if asked.is_ours:
            ca_file = str(stand.connect_ca_file)
            return TunnelPlan(stand.ports["connect"], CONNECT_NAME, 443, ca_file, for_each=each)
        processor, ca_file = stand.ports["processor"], stand.credentials.ca_file
        return TunnelPlan(stand.ports["tunnel"], "127.0.0.1", processor, ca_file, for_each=each)

    def _url(self, asked: Asked) -> str:
        return self._stand.url(asked.listener) + self._path(asked)

    def _path(self, asked: Asked) -> str:
        return self._callback_path if asked.asking is Asking.CALLBACK else asked.path

    def _environment(self, asked: Asked) -> Mapping[str, str]:
        """For the wrk scripts."""
        credentials = self._stand.credentials
        tokenizes = asked.asking in TOKENIZING
        return {
            "PANWARD_BENCH": str(HERE),
            "PANWARD_KEY": credentials.publishable_key if tokenizes else credentials.secret_key,
            "PANWARD_METHOD": "GET" if asked.asking is Asking.READ else "POST",
            "PANWARD_SEED": str(next(self._seeds)),
            "PANWARD_EXP_YEAR": str(self._exp_year),
            "PANWARD_TOKENS": str(self._tokens_file),
            "PANWARD_START": str(0 if asked.asking is Asking.CALLBACK else self._tokens_used),
            "PANWARD_POSTS": str(self._posts_file),
            "PANWARD_SEALED": str(self._sealed_file),
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
        url = stand.credentials.private_url + PATHS[Asking.TOKENIZE]
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

    async def _seal(self, count: int) -> None:
        """Seal cards as a browser does, and keep them in a file; none is good twice."""
        keys = await published_keys(self._stand.credentials)
        bodies = sealed_bodies(keys, numbers(next(self._seeds)), self._exp_year, count)
        await asyncio.to_thread(write_private, self._sealed_file, b"\n".join(bodies))

    async def _sign(self, count: int, seconds: float) -> None:
        """Sign what a processor will post, at most minutes before: Stripe signs the time, too."""
        words = {
            "--config": str(self._stand.folder / CONFIG),
            "--count": str(count),
            "--authorizations": str(int(seconds * CALLBACKS_PER_SECOND / 2)),
            "--file": str(self._posts_file),
        }
        printed = await run_to_end(
            python("bench.callback_posts", *(word for pair in words.items() for word in pair)),
            seconds_max=seconds * 5 + MARGIN_SECONDS,
        )
        self._callback_path = msgspec.json.decode(printed, type=Prepared).path

    async def _deliveries(self) -> dict[str, float]:
        """Let the gateway drain a queue, and see what that costs it. Raises Failed."""
        parts, count = self._stand.parts, self._deliveries_count
        words = {
            "--config": str(self._stand.folder / CONFIG),
            "--tls": str(parts.tls_cert_file),
            "--key": str(parts.tls_key_file),
            "--deliveries": str(count),
        }
        before = self._stand.usage()
        printed = await run_to_end(
            python("bench.deliveries", *(word for pair in words.items() for word in pair)),
            seconds_max=count / DELIVERIES_PER_SECOND_MIN + MARGIN_SECONDS * 2,
        )
        spent = spent_between(before, self._stand.usage())["gateway"].cpu_seconds
        figures = msgspec.json.decode(printed, type=dict[str, float])
        return figures | {"deliveries.cpu_ms": spent * 1000 / figures.pop("deliveries.made")}

    async def _rates(self, module: str, times: float) -> dict[str, float]:
        """Run a module of ours that measures by itself. Raises Failed."""
        words = ("--folder", str(self._stand.folder), "--seconds", f"{self._seconds:.1f}")
        printed = await run_to_end(
            python(module, *words), seconds_max=self._seconds * times + MARGIN_SECONDS
        )
        return msgspec.json.decode(printed, type=dict[str, float])


def shares(runs: Mapping[str, Run]) -> dict[str, float]:
    """How callbacks compare with what else this gateway, and a bare server, do in the same run."""
    found = {}
    for other in ("tokenize", "json"):
        rate = runs[f"{other}.64"].load.rate
        if rate:
            found[f"callback.of_{other}"] = runs["callback.64"].load.rate / rate
    return found


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


def _counts(before: Totals, after: Totals) -> dict[str, float]:
    """How often the gateway called HashiCorp Vault and PostgreSQL, by what for."""
    found = {}
    for series in after:
        if series.startswith("call/"):
            _, count = mean_between(before, after, series)
            if count:
                found[series.removeprefix("call/")] = count
    return found
