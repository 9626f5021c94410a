"""The table, for people and for machines."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import Figures, Run
from bench.targets import Mark, Verdict, cores_of, missed_runs, where_time_goes
from gateway.codecs.splice import Format

PLAIN_WIDTH: Final = 160
WHOLE: Final = 100  # from here on without decimals
_STYLES: Final[Mapping[Mark, str]] = {Mark.MET: "green", Mark.MISSED: "red", Mark.OPEN: "dim"}

_RATES: Final = (
    ("vault.encrypt", "Vault alone: encrypt, one stream of 128", "/s"),
    ("vault.hmac", "Vault alone: hmac, one stream of 128", "/s"),
    ("vault.decrypt", "Vault alone: decrypt, one stream of 128", "/s"),
    ("vault.card", "Vault alone: encrypt and hmac at once, a tokenization's crypto", " cards/s"),
    ("fdatasync", "the disk's own fdatasync", "/s"),
    ("commit.1", "PostgreSQL alone: a row and a commit, one at a time", "/s"),
    ("commit.64", "    at 64 callers", "/s"),
    ("append.statement.1", "appends: single entries, 1 caller", " entries/s"),
    ("append.statement.8", "    8 callers", " entries/s"),
    ("append.statement.64", "    64 callers", " entries/s"),
    ("append.statement.64.x2", "    64 callers, 2 replicas", " entries/s"),
    ("append.statement.64.x4", "    64 callers, 4 replicas", " entries/s"),
    ("append.pair.1", "appends: intents and outcomes, 1 caller", " entries/s"),
    ("append.pair.1.p50", "    both, p50", " ms"),
    ("append.pair.1.p99", "    both, p99", " ms"),
    ("append.pair.8", "    8 callers", " entries/s"),
    ("append.pair.64", "    64 callers", " entries/s"),
    ("append.pair.64.p50", "    both, p50", " ms"),
    ("append.pair.64.p99", "    both, p99", " ms"),
    ("append.pair.64.x2", "    64 callers, 2 replicas", " entries/s"),
    ("verify", "ledger verify, with the database", " entries/s"),
    ("verify.memory", "ledger verify, the checks alone", " entries/s"),
    ("verify.entries", "    entries in the log", ""),
    ("scan", "scanner: a reply with no card in it, as the way out asks", " MB/s"),
    ("scan.sought", "    is the number that was sent in there", " MB/s"),
    ("scan.any", "    how many numbers look like cards", " MB/s"),
    ("callback.of_tokenize", "callbacks accepted, of cards tokenized, 64 connections each", " x"),
    ("callback.of_json", "    of the bare aiohttp handler's answers", " x"),
    ("deliveries.drained", "deliveries of a long queue, beside dead endpoints", "/s"),
    ("deliveries.drained.alone", "    without the dead", "/s"),
    (
        "deliveries.slower",
        "    time that an endpoint takes beside the dead, of without: median",
        " x",
    ),
    ("deliveries.slowest", "        of the worst", " x"),
    ("deliveries.cpu_ms", "    the gateway's CPU of one", " ms"),
    ("batching.us.1", "natural batching, 1 caller", " µs an item"),
    ("batching.us.64", "natural batching, 64 callers", " µs an item"),
    ("leaf.ms", "certificate for a new host of a tunnel, of 1,000", " ms"),
    ("leaf.cpu_ms", "    our CPU of that", " ms"),
    ("leaf.cached_us", "    the same again", " µs"),
    ("leaf.kib", "    memory that one holds", " KiB"),
)

_SIZES: Final = (("1k", "1 KB"), ("1m", "1 MB"))
_REFERENCES: Final = {
    Format.FORM: "urllib.parse",
    Format.JSON: "msgspec",
    Format.JSON_LINES: "msgspec",
    Format.XML: "lxml",
    Format.MULTIPART: "email",
    Format.GRAPHQL: "msgspec, graphql-core",
    Format.CSV: "csv",
}


def console_for(*, stderr: bool = False) -> Console:
    """A console that does not cut a table off where nobody looks at a terminal."""
    console = Console(stderr=stderr, highlight=False)
    return (
        console
        if console.is_terminal
        else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    )


def show(
    console: Console, figures: Figures, verdicts: Sequence[Verdict], notes: Sequence[str]
) -> None:
    console.print(_runs(console, figures))
    console.print()
    console.print(_rates(console, figures))
    console.print()
    console.print(_codecs(console, figures))
    console.print()
    console.print(_verdicts(console, verdicts))
    for name in missed_runs(verdicts):
        run = figures.runs[name]
        console.print(f"\nWhere the time goes: {run.title}, {run.how}")
        for line in where_time_goes(run):
            console.print(f"  {line}", soft_wrap=True)
    console.print()
    for note in notes:
        console.print(note)


def document(
    figures: Figures, verdicts: Sequence[Verdict], notes: Sequence[str]
) -> dict[str, object]:
    """Everything, for machines."""
    return {
        "runs": {
            name: {
                "run": run,
                "requests_per_second": run.load.rate,
                "cpu_ms_per_request": run.cpu_ms_per_request,
                "cores": cores_of(run),
            }
            for name, run in figures.runs.items()
        },
        "rates": figures.rates,
        "targets": verdicts,
        "notes": notes,
    }


def _table(console: Console, title: str) -> Table:
    plain = not console.is_terminal
    return Table(
        title=title,
        title_justify="left",
        title_style="" if plain else "bold",
        box=None if plain else box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="" if plain else "bold",
    )


def _runs(console: Console, figures: Figures) -> Table:
    table = _table(console, "Requests over TLS, each server in its own process")
    table.add_column("what")
    table.add_column("load")
    for name in (
        "requests/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU ms/request",
        "MiB before",
        "after",
        "errors",
    ):
        table.add_column(name, justify="right")
    last = ""
    for run in figures.runs.values():
        table.add_row(*_row(run, "" if run.title == last else run.title))
        last = run.title
    return table


def _row(run: Run, title: str) -> tuple[str, ...]:
    load, spent = run.load, run.spent.get(run.server)
    memory = (
        (f"{spent.resident_before_mib:.0f}", f"{spent.resident_after_mib:.0f}")
        if spent
        else ("", "")
    )
    return (
        title,
        run.how,
        f"{load.rate:,.0f}",
        f"{load.p50_ms:.1f}",
        f"{load.p95_ms:.1f}",
        f"{load.p99_ms:.1f}",
        f"{run.cpu_ms_per_request:.2f}",
        *memory,
        str(load.errors),
    )


def _rates(console: Console, figures: Figures) -> Table:
    table = _table(console, "Without requests")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, words, unit in _RATES:
        if name in figures.rates:
            value = figures.rates[name]
            table.add_row(words, f"{value:,.{_decimals(value)}f}{unit}")
    return table


def _decimals(value: float) -> int:
    if value >= WHOLE:
        return 0
    return 1 if value >= 1 else 2


def _codecs(console: Console, figures: Figures) -> Table:
    table = _table(console, "Codecs: read a body, find one field, put a number in its place")
    table.add_column("format")
    for _, words in _SIZES:
        table.add_column(f"{words}, MB/s", justify="right")
        table.add_column("times", justify="right")
    table.add_column("as long as to read it with")
    for format_, reference in _REFERENCES.items():
        names = [f"splice.{format_}.{size}" for size, _ in _SIZES]
        if all(name in figures.rates for name in names):
            cells = (
                cell
                for name in names
                for cell in (f"{figures.rates[name]:.1f}", f"{figures.rates[f'{name}.times']:.1f}")
            )
            table.add_row(format_.value, *cells, reference)
    return table


def _verdicts(console: Console, verdicts: Sequence[Verdict]) -> Table:
    table = _table(console, "Numbers to reach")
    table.add_column("what", no_wrap=True)
    for name in ("target", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("")
    for verdict in verdicts:
        style = _STYLES[verdict.mark]
        mark = f"[{style}]{verdict.mark}[/]"
        table.add_row(verdict.what, verdict.target, verdict.measured, mark, verdict.why)
    return table
