"""The numbers to reach, and whether they are reached. Pure.

A target whose figure this run does not have is `not measured`, with the reason; it is never
left out, and never called met.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec import Struct

from bench.asked import CALLBACKS_PER_SECOND
from bench.figures import Figures, Run

MEMORY_REQUESTS: Final = 1_000_000
ENOUGH: Final = 0.99
"""Of a constant rate: the last answers come after the last requests."""
CORES_WORTH_TELLING: Final = 0.05
ELSEWHERE: Final = "processes of others"
OWN_CALLS: Final = ("vault ", "ledger append")
"""Of what the gateway counts: one a minute for a secret, and what its duties do, is none."""


class Mark(StrEnum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    OPEN = "not measured"


class Verdict(Struct, frozen=True):
    """One target beside what was measured.

    `why` says why it is not measured; `run` names the run whose time tells why it is missed.
    """

    what: str
    target: str
    measured: str
    mark: Mark
    why: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold. `figure` gives the number, or None when the run did not make it."""

    what: str
    figure: Callable[[Figures], float | None]
    bound: float
    unit: str
    at_least: bool
    run: str = ""
    """The run whose time is told of when the target is missed."""
    left_out: str = "this run left it out"
    """Why there may be no figure."""

    def judge(self, figures: Figures) -> Verdict:
        sign = "≥" if self.at_least else "≤"
        target = f"{sign} {_number(self.bound)}{self.unit}"
        value = self.figure(figures)
        if value is None:
            return Verdict(self.what, target, "", Mark.OPEN, self.left_out)
        met = value >= self.bound if self.at_least else value <= self.bound
        mark = Mark.MET if met else Mark.MISSED
        return Verdict(self.what, target, f"{_number(value)}{self.unit}", mark, run=self.run)


def judge(figures: Figures) -> list[Verdict]:
    """All targets, in the order of the design."""
    return [
        *(target.judge(figures) for target in TARGETS),
        memory(figures),
        *(Verdict(what, target, "", Mark.OPEN, why) for what, target, why in NOT_HERE),
    ]


# --- figures ------------------------------------------------------------------------------


def rate(run: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.runs[run].load.rate if run in figures.runs else None


def scalar(name: str, per: float = 1.0) -> Callable[[Figures], float | None]:
    return lambda figures: figures.rates[name] / per if name in figures.rates else None


def ratio(
    of: Callable[[Figures], float | None], to: Callable[[Figures], float | None]
) -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        above, below = of(figures), to(figures)
        return above / below if above is not None and below else None

    return figure


def median(run: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.runs[run].load.p50_ms if run in figures.runs else None


def accepted(run: str) -> Callable[[Figures], float | None]:
    """How many a second were answered as they should be."""

    def figure(figures: Figures) -> float | None:
        if run not in figures.runs:
            return None
        load = figures.runs[run].load
        return (load.requests - load.errors) / load.seconds if load.seconds else 0.0

    return figure


def ninety_ninth(run: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.runs[run].load.p99_ms if run in figures.runs else None


def added(percentile: str, run: str, to: str) -> Callable[[Figures], float | None]:
    """How much longer one run took than another at a percentile."""

    def figure(figures: Figures) -> float | None:
        if run not in figures.runs or to not in figures.runs:
            return None
        longer, shorter = figures.runs[run].load, figures.runs[to].load
        if percentile == "p50":
            return longer.p50_ms - shorter.p50_ms
        return longer.p99_ms - shorter.p99_ms

    return figure


def own_calls(run: str) -> Callable[[Figures], float | None]:
    """How many calls to HashiCorp Vault and appends to the ledger a request cost."""

    def figure(figures: Figures) -> float | None:
        seen = figures.runs.get(run)
        if seen is None or not seen.answered:
            return None
        made = (count for name, count in seen.calls_made.items() if name.startswith(OWN_CALLS))
        return sum(made) / seen.answered

    return figure


_TOKENIZE: Final = "tokenize, 64 connections"
_OUT: Final = "/out/ with one token"
_CONNECT: Final = "CONNECT with one token"
_OTHER: Final = "/out/, other, no token"
_CALLBACKS: Final = f"callbacks, {CALLBACKS_PER_SECOND:,.0f}/s"

TARGETS: Final[Sequence[Target]] = (
    Target(
        f"{_TOKENIZE}: of the Vault alone, same crypto",
        ratio(rate("tokenize.64"), scalar("vault.card")),
        *(0.35, " x", True, "tokenize.64"),
    ),
    Target(
        f"{_TOKENIZE}: of the bare aiohttp handler",
        ratio(rate("tokenize.64"), rate("json.64")),
        *(0.10, " x", True, "tokenize.64"),
    ),
    Target(
        f"{_TOKENIZE}: of one Vault call and one commit a card",
        ratio(rate("tokenize.64"), rate("naive.64")),
        *(8.0, " x", True, "tokenize.64"),
    ),
    Target(
        f"{_TOKENIZE}: p50", median("tokenize.64"), 20.0, " ms", at_least=False, run="tokenize.64"
    ),
    Target(
        "tokenize, 1 connection: p50",
        median("tokenize.1"),
        4.0,
        " ms",
        at_least=False,
        run="tokenize.1",
    ),
    Target(
        "sealed cards, 64 connections: of cards in the clear",
        ratio(rate("sealed.64"), rate("tokenize.64")),
        *(0.90, " x", True, "sealed.64"),
    ),
    Target(
        "opening a sealed card, one core",
        scalar("unseal_us"),
        *(80.0, " us", False, "sealed.64"),
    ),
    Target(
        f"{_OUT}, 100 requests/s: added to the bare proxy at p50",
        added("p50", "out.steady", "proxy.steady"),
        *(7.0, " ms", False, "out.steady"),
    ),
    Target(
        f"{_OUT}, 100 requests/s: added to the bare proxy at p99",
        added("p99", "out.steady", "proxy.steady"),
        *(25.0, " ms", False, "out.steady"),
    ),
    Target(
        f"{_OUT}, 64 connections: of the bare proxy",
        ratio(rate("out.64"), rate("proxy.64")),
        *(0.35, " x", True, "out.64"),
    ),
    Target(
        f"{_OUT}, 64 connections: of a mitmproxy addon",
        ratio(rate("out.64"), rate("mitmproxy.64")),
        *(1.0, " x", True, "out.64"),
        left_out="not measured here: `make bench-peers` installs mitmproxy",
    ),
    Target(
        f"{_CONNECT}, 100 requests/s: added to a bare tunnel at p50",
        added("p50", "connect.steady", "tunnel.steady"),
        *(7.0, " ms", False, "connect.steady"),
    ),
    Target(
        f"{_CONNECT}, 100 requests/s: added to a bare tunnel at p99",
        added("p99", "connect.steady", "tunnel.steady"),
        *(25.0, " ms", False, "connect.steady"),
    ),
    Target(
        f"{_OTHER}, POST, 1 connection: p50 of the bare proxy's",
        ratio(median("other.1"), median("proxy.other.1")),
        *(1.5, " x", False, "other.1"),
    ),
    Target(
        f"{_OTHER}, POST, 64 connections: the bare proxy's rate",
        ratio(rate("proxy.other.64"), rate("other.64")),
        *(1.5, " x", False, "other.64"),
    ),
    Target(
        f"{_OTHER}, GET, 64 connections: the bare proxy's rate",
        ratio(rate("proxy.read.64"), rate("read.64")),
        *(1.5, " x", False, "read.64"),
    ),
    Target(
        f"{_OTHER}: Vault calls and commits a request",
        own_calls("other.64"),
        *(0.01, "", False, "other.64"),
    ),
    Target("scanning a body with no card in it", scalar("scan"), 200.0, " MB/s", at_least=True),
    Target(
        "appends of single entries at 64 callers",
        scalar("append.statement.64", 1000),
        *(5.0, " k entries/s", True),
    ),
    Target(
        "    of a commit for each entry, one at a time",
        ratio(scalar("append.statement.64"), scalar("commit.1")),
        *(3.0, " x", True),
    ),
    Target(
        "an authorization's two appends, p50",
        scalar("append.pair.1.p50"),
        *(4.0, " ms", False),
    ),
    Target(
        f"{_CALLBACKS}: accepted durably",
        accepted("callback.steady"),
        *(CALLBACKS_PER_SECOND * ENOUGH, "/s", True, "callback.steady"),
    ),
    Target(
        f"{_CALLBACKS}: p99",
        ninety_ninth("callback.steady"),
        *(50.0, " ms", False, "callback.steady"),
    ),
    Target(
        "deliveries, 50 endpoints of which 5 are dead: drained",
        scalar("deliveries.drained"),
        *(500.0, "/s", True),
    ),
    Target(
        "    time of the worst healthy one, of without the dead",
        scalar("deliveries.slowest"),
        *(1.25, " x", False),
    ),
    Target("ledger verify", scalar("verify", 1000), 300.0, "k entries/s", at_least=True),
)

NOT_HERE: Final[Sequence[tuple[str, str, str]]] = (
    ("import of cards from CSV: of the Vault alone", "≥ 0.5 x", "there is no import yet"),
    ("rewrap after key rotation: of the Vault alone", "≥ 0.8 x", "there is no rewrap yet"),
)


def memory(figures: Figures) -> Verdict:
    """The target asks for a million requests; a short run can only show that it is missed."""
    runs = [run for run in figures.runs.values() if run.server == "gateway"]
    if not runs:
        return Verdict("memory of a worker", "≤ 120 MiB", "", Mark.OPEN, "this run left it out")
    requests = sum(run.load.requests for run in runs)
    after = max(run.spent["gateway"].resident_after_mib for run in runs)
    within = after <= 120.0  # noqa: PLR2004 - the bound is in the words beside it
    mark = Mark.MISSED if not within else Mark.OPEN if requests < MEMORY_REQUESTS else Mark.MET
    why = "" if mark is Mark.MET else f"this is after {requests:,} requests"
    return Verdict(
        "memory of a worker after 1 M requests", "≤ 120 MiB", f"{after:.0f} MiB", mark, why
    )


# --- where the time goes ------------------------------------------------------------------


def where_time_goes(run: Run) -> list[str]:
    """Which process was busy, what a request waited for, and how well calls were shared."""
    lines = []
    busy = cores_of(run)
    if busy:
        each = {
            name: value / run.load.rate * 1000 for name, value in busy.items() if name != ELSEWHERE
        }
        lines.append(f"cores busy: {_listed(busy, '.2f')}")
        lines.append(f"CPU ms of a request: {_listed(each, '.2f')}")
    if run.stages:
        lines.append(f"mean ms of a request: {_listed(run.stages, '.2f')}")
    if run.calls:
        lines.append(f"mean ms of a call, which many requests share: {_listed(run.calls, '.2f')}")
    if run.batches:
        lines.append(f"items of a call: {_listed(run.batches, '.1f')}")
    return lines


def missed_runs(verdicts: Sequence[Verdict]) -> list[str]:
    """The runs to tell of, each once."""
    missed = (one.run for one in verdicts if one.mark is Mark.MISSED and one.run)
    return list(dict.fromkeys(missed))


def cores_of(run: Run) -> dict[str, float]:
    """How many cores each process kept busy."""
    if not run.seconds or not run.answered:
        return {}
    cores = {name: spent.cpu_seconds / run.seconds for name, spent in run.spent.items()}
    cores["load"] = run.generator_seconds / run.seconds
    cores[ELSEWHERE] = run.elsewhere_seconds / run.seconds
    return {name: value for name, value in cores.items() if value >= CORES_WORTH_TELLING}


def _listed(values: Mapping[str, float], form: str) -> str:
    ordered = sorted(values.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:{form}}" for name, value in ordered)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
