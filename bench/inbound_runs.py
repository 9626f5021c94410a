"""The runs of `python -m bench.inbound`, round after round, and what is measured around each."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from bench.figures import (
    MIB,
    Load,
    Machine,
    Run,
    Totals,
    elsewhere,
    read_wrk,
    spent_between,
    stages_between,
)
from bench.inbound_asked import GATEWAY, PEERS, Asked, Asking, Uploaded, all_asked
from bench.inbound_stand import CODE_PATH, FORM_PATH, PLAIN_PATH
from bench.processes import Failed, busy_seconds, generator_seconds, python, run_to_end
from bench.stand import Stand
from bench.upload import Content
from gateway.custody import utc_now

WARM_UP_SECONDS: Final = 1.0
WRK_TIMEOUT: Final = "10s"
MARGIN_SECONDS: Final = 120.0
HERE: Final = Path(__file__).parent
CODE: Final = "".join(map(str, range(7, 10)))

_SCRIPTS: Final = {
    Asking.TOKENIZE: "tokenize.lua",
    Asking.FORM: "form.lua",
    Asking.CODE: "form.lua",
    Asking.ORDER: "order.lua",
    Asking.PAGE: "report.lua",
}
_PATHS: Final = {
    Asking.TOKENIZE: "/v1/tokens",
    Asking.FORM: FORM_PATH,
    Asking.CODE: CODE_PATH,
    Asking.ORDER: PLAIN_PATH,
    Asking.PAGE: PLAIN_PATH,
}
_FORGET_PEAK: Final = "5"  # proc(5), of clear_refs


class _Sent(msgspec.Struct):
    mb_per_second: float


class InboundBench:
    """Carries out the runs on a stand."""

    def __init__(self, stand: Stand, seconds: float, step: Callable[[str], None]) -> None:
        self._stand = stand
        self._seconds = seconds
        self._step = step
        self._seed = secrets.randbelow(10_000)
        self._exp_year = utc_now().year + 3

    async def warm_up(self) -> None:
        """Open pools and fill caches, of everybody."""
        self._step("warming up")
        for asked in all_asked():
            if asked.server in self._stand.children:
                await self._wrk(asked, WARM_UP_SECONDS)

    async def one_round(self) -> dict[str, Run]:
        """Carry each run out once, those of the peers right before ours."""
        runs: dict[str, Run] = {}
        for asked in all_asked():
            if asked.server not in self._stand.children:
                continue  # a peer that is not installed here
            self._step(f"{asked.title}, {asked.how}: {asked.who}")
            runs[asked.name] = await self._measured(asked)
        return runs

    async def uploads(self, megabytes: int) -> list[Uploaded]:
        """Send one long body of each content through the gateway, and through nginx."""
        found = []
        for content in Content:
            for server in (name for name in (*PEERS, GATEWAY) if name != "proxy"):
                if server in self._stand.children:
                    self._step(f"{megabytes} MB of {content.value}: {server}")
                    found.append(await self._upload(server, content, megabytes))
        return found

    # --- one of each ----------------------------------------------------------------------

    async def _measured(self, asked: Asked) -> Run:
        is_ours = asked.server == GATEWAY
        totals_before: Totals = await self._stand.totals() if is_ours else {}
        machine_before, before, started = _machine(), self._stand.usage(), perf_counter()
        load = await self._wrk(asked, self._seconds)
        if load.errors * 100 > load.requests or not load.requests:
            raise Failed(f"{asked.name}: {load.errors} of {load.requests} requests failed")
        machine_after, after, ended = _machine(), self._stand.usage(), perf_counter()
        totals_after: Totals = await self._stand.totals() if is_ours else {}
        spent = spent_between(before, after)
        return Run(
            name=asked.name,
            title=f"{asked.title}: {asked.who}",
            how=asked.how,
            load=load,
            server=asked.server,
            spent=spent,
            stages=stages_between(totals_before, totals_after, "stage/"),
            calls=stages_between(totals_before, totals_after, "call/"),
            answered=load.requests,
            seconds=ended - started,
            generator_seconds=machine_after.generator_seconds - machine_before.generator_seconds,
            elsewhere_seconds=elsewhere(machine_before, machine_after, spent),
        )

    async def _wrk(self, asked: Asked, seconds: float) -> Load:
        """Raises Failed, WrkRefused."""
        command = [
            *("wrk", "--threads", "1", "--connections", str(asked.connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", WRK_TIMEOUT),
            *("--script", str(HERE / _SCRIPTS[asked.asking]), self._url(asked)),
        ]
        printed = await run_to_end(
            command, seconds_max=seconds + MARGIN_SECONDS, environment=self._environment(asked)
        )
        return read_wrk(printed)

    def _url(self, asked: Asked) -> str:
        port = asked.server
        if asked.server == GATEWAY:
            port = "private" if asked.asking is Asking.TOKENIZE else "inbound"
        return self._stand.url(port) + _PATHS[asked.asking]

    def _environment(self, asked: Asked) -> Mapping[str, str]:
        """For the wrk scripts; no two runs have the same cards."""
        self._seed = (self._seed + 1) % 10_000
        return {
            "PANWARD_BENCH": str(HERE),
            "PANWARD_KEY": self._stand.credentials.publishable_key,
            "PANWARD_SEED": str(self._seed),
            "PANWARD_EXP_YEAR": str(self._exp_year),
            "PANWARD_CODE": CODE if asked.asking is Asking.CODE else "",
        }

    async def _upload(self, server: str, content: Content, megabytes: int) -> Uploaded:
        """Raises Failed."""
        pid = self._stand.children[server].pid
        assert pid is not None
        port = self._stand.ports["inbound" if server == GATEWAY else server]
        words = {
            "--port": str(port),
            "--path": PLAIN_PATH,
            "--ca-file": self._stand.credentials.ca_file,
            "--content": content.value,
            "--size": str(megabytes * 1_000_000),
        }
        forget_peak(pid)
        before, _ = resident_mib(pid)
        printed = await run_to_end(
            python("bench.upload", *(word for pair in words.items() for word in pair)),
            seconds_max=megabytes / 5 + MARGIN_SECONDS,
        )
        after, peak = resident_mib(pid)
        return Uploaded(
            server=server,
            content=content.value,
            megabytes=megabytes,
            mb_per_second=msgspec.json.decode(printed, type=_Sent).mb_per_second,
            before_mib=before,
            peak_mib=peak,
            after_mib=after,
        )


def forget_peak(pid: int) -> None:
    """Let the peak of a process's resident memory begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK, "ascii")


def resident_mib(pid: int) -> tuple[float, float]:
    """Resident memory of a process: now, and at its peak."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        found[name] = value.split()
    return int(found["VmRSS"][0]) * 1024 / MIB, int(found["VmHWM"][0]) * 1024 / MIB


def _machine() -> Machine:
    return Machine(busy_seconds(), generator_seconds())
