"""What was measured, and the arithmetic on it. Pure.

A run is named by what answered and how it was asked: `tokenize.64` is 64 connections,
`out.steady` a constant rate.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

MIB: Final = 1 << 20
PERCENT: Final = 100


class WrkRefused(ValueError):
    """What wrk printed holds no figures."""


class Load(Struct, frozen=True, kw_only=True):
    """What the load generator saw."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int = 0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


class Usage(Struct, frozen=True):
    """One process (or a server with its children) at one moment."""

    cpu_seconds: float
    resident_bytes: int


class Machine(Struct, frozen=True):
    """All of the machine at one moment: CPU seconds of everybody, and of the load."""

    busy_seconds: float
    generator_seconds: float


class Spent(Struct, frozen=True):
    """What one process used up during a run."""

    cpu_seconds: float
    resident_before_mib: float
    resident_after_mib: float


class Run(Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    title: str
    how: str
    load: Load
    server: str
    """The process whose CPU time and memory the row shows."""
    spent: Mapping[str, Spent] = {}
    stages: Mapping[str, float] = {}
    """Milliseconds of a request in each of its stages, by the gateway's own clock."""
    calls: Mapping[str, float] = {}
    """Milliseconds of what many requests share."""
    batches: Mapping[str, float] = {}
    """Items of an average call, by what was called."""
    calls_made: Mapping[str, float] = {}
    """Calls that the gateway made meanwhile, by what was called."""
    answered: int = 0
    """Requests behind what was spent: more than those that were timed, if some went before."""
    seconds: float = 0.0
    """How long it took, by the clock, while that was spent."""
    generator_seconds: float = 0.0
    elsewhere_seconds: float = 0.0
    """CPU time of processes that have nothing to do with the run."""

    @property
    def cpu_ms_per_request(self) -> float:
        spent = self.spent.get(self.server)
        if spent is None or not self.answered:
            return 0.0
        return spent.cpu_seconds * 1000 / self.answered


class Figures(Struct, frozen=True):
    """All of one `make bench`: runs, and rates of what has no requests."""

    runs: Mapping[str, Run]
    rates: Mapping[str, float]


# --- arithmetic ---------------------------------------------------------------------------


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest sample that `percent` of all do not exceed (nearest rank)."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(percent / PERCENT * len(ordered)) - 1)]


def load_of(samples_ms: Sequence[float], *, seconds: float, errors: int) -> Load:
    ordered = sorted(samples_ms)
    return Load(
        requests=len(ordered),
        seconds=seconds,
        p50_ms=percentile(ordered, 50),
        p95_ms=percentile(ordered, 95),
        p99_ms=percentile(ordered, 99),
        errors=errors,
    )


def read_wrk(printed: str) -> Load:
    """Read the line of JSON that `report.lua` makes wrk print last. Raises WrkRefused."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if lines:
        try:
            return msgspec.json.decode(lines[-1], type=Load)
        except msgspec.DecodeError:
            pass
    raise WrkRefused("wrk printed no figures")


def spent_between(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, Spent]:
    """What each process used up that was there both times."""
    return {
        name: Spent(
            after[name].cpu_seconds - usage.cpu_seconds,
            usage.resident_bytes / MIB,
            after[name].resident_bytes / MIB,
        )
        for name, usage in before.items()
        if name in after
    }


def elsewhere(before: Machine, after: Machine, spent: Mapping[str, Spent]) -> float:
    """CPU seconds of others: what makes all figures of a run too low."""
    ours = sum(one.cpu_seconds for one in spent.values())
    generator = after.generator_seconds - before.generator_seconds
    return max(0.0, after.busy_seconds - before.busy_seconds - generator - ours)


# --- the gateway's own clock --------------------------------------------------------------

Totals = Mapping[str, tuple[float, float]]
"""Of each histogram series: the sum and the count."""


def mean_between(before: Totals, after: Totals, series: str) -> tuple[float, float]:
    """Return the mean of what a histogram saw between two looks, and how often it saw it."""
    sum_before, count_before = before.get(series, (0.0, 0.0))
    sum_after, count_after = after.get(series, (0.0, 0.0))
    count = count_after - count_before
    return ((sum_after - sum_before) / count if count else 0.0), count


def stages_between(before: Totals, after: Totals, prefix: str) -> dict[str, float]:
    """Mean milliseconds of the series whose name begins with `prefix`, by the rest of it."""
    found = {}
    for series in after:
        if series.startswith(prefix):
            mean, count = mean_between(before, after, series)
            if count:
                found[series.removeprefix(prefix)] = mean * 1000
    return found
