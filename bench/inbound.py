"""What standing in front of a merchant's endpoint costs: `python -m bench.inbound`.

All in one run on loopback with TLS on both sides, as ratios to a bare aiohttp reverse proxy and to
nginx, both passing on to the same endpoint. Each round has every run once; what is shown is the
median, of a ratio the median of the rounds' own ratios.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import Run, WrkRefused
from bench.inbound_asked import (
    GATEWAY,
    PEERS,
    Asked,
    Asking,
    Rounds,
    Uploaded,
    all_asked,
    cpu_ratio,
    largest_growth,
    middle,
    middle_upload,
    rate_ratio,
)
from bench.inbound_runs import InboundBench
from bench.inbound_stand import opened
from bench.processes import Failed
from bench.report import console_for
from bench.targets import where_time_goes
from bench.upload import Content
from vault.errors import StartRefused

SECONDS: Final = 5.0
QUICK_SECONDS: Final = 2.0
ROUNDS: Final = 5
QUICK_ROUNDS: Final = 3
UPLOAD_MEGABYTES: Final = 1000
QUICK_UPLOAD_MEGABYTES: Final = 200
GROWTH_MIB_MAX: Final = 20.0


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="3 rounds of 2 s, 200 MB.")] = False,
    seconds: Annotated[float | None, typer.Option(min=1, max=600, help="Of each run.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=99, help="How often each.")] = None,
    megabytes: Annotated[int | None, typer.Option(min=1, help="Of an upload.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure inbound routes beside a bare proxy and nginx."""
    err = console_for(stderr=True)
    if shutil.which("wrk") is None:
        err.print("wrk is missing: make system-packages")
        raise typer.Exit(1)
    each = seconds or (QUICK_SECONDS if quick else SECONDS)
    times = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    size = megabytes or (QUICK_UPLOAD_MEGABYTES if quick else UPLOAD_MEGABYTES)
    try:
        seen, uploads = uvloop.run(
            _measure(each, times, size, lambda text: err.print(f"· {text}", markup=False))
        )
    except (Failed, StartRefused, WrkRefused) as error:
        err.print(f"bench: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    command = f"python -m bench.inbound --seconds {each:g} --rounds {times} --megabytes {size}"
    if as_json:
        sys.stdout.write(msgspec.json.encode(document(command, seen, uploads)).decode() + "\n")
    else:
        show(console_for(), command, seen, uploads)


async def _measure(
    seconds: float, times: int, megabytes: int, step: Callable[[str], None]
) -> tuple[Rounds, list[Uploaded]]:
    """Start a stand in a temporary folder, measure, and leave nothing behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="panward-bench-") as folder:
        step("a deployment and its peers")
        async with opened(Path(folder) / "stand") as stand:
            bench = InboundBench(stand, seconds, step)
            await bench.warm_up()
            seen: list[dict[str, Run]] = []
            uploads: list[Uploaded] = []
            for number in range(times):
                step(f"round {number + 1} of {times}")
                seen.append(await bench.one_round())
                uploads += await bench.uploads(megabytes)
    return seen, uploads


# --- the report ---------------------------------------------------------------------------


def show(console: Console, command: str, rounds: Rounds, uploads: Sequence[Uploaded]) -> None:
    """Print the tables, and where the time of the form goes."""
    console.print(_runs(console, rounds))
    console.print()
    console.print(_uploads(console, uploads))
    console.print()
    for asking, connections in ((Asking.FORM, 1), (Asking.FORM, 64), (Asking.ORDER, 64)):
        name = Asked(GATEWAY, asking, connections).name
        run = middle(rounds, name)
        console.print(f"Where the time goes: {run.title}, {run.how}", markup=False)
        for line in where_time_goes(run):
            console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print()
    for note in notes(command, rounds):
        console.print(note, markup=False, soft_wrap=True)


def notes(command: str, rounds: Rounds) -> list[str]:
    """What a reader must know to judge the figures."""
    runs = [run for each in rounds for run in each.values()]
    others = sum(run.elsewhere_seconds for run in runs) / sum(run.seconds for run in runs)
    return [
        f"{command}: medians of {len(rounds)} rounds; ratios are medians of the rounds' own.",
        f"{os.cpu_count() or 1} cores shared by everybody; processes of others took {others:.1f}.",
    ]


def _runs(console: Console, rounds: Rounds) -> Table:
    table = _table(console, "Requests through an inbound route, TLS on both sides")
    for name in ("what", "load", "who"):
        table.add_column(name)
    for name in ("requests/s", "p50 ms", "p99 ms", "CPU ms", "panward's rate", "panward's CPU"):
        table.add_column(name, justify="right")
    last = ("", "")
    for asked in all_asked():
        if asked.name not in rounds[0]:
            continue
        run, here = middle(rounds, asked.name), (asked.title, asked.how)
        table.add_row(
            asked.title if asked.title != last[0] else "",
            asked.how if here != last else "",
            asked.who,
            f"{run.load.rate:,.0f}",
            f"{run.load.p50_ms:.1f}",
            f"{run.load.p99_ms:.1f}",
            f"{run.cpu_ms_per_request:.2f}",
            *(_times(value) for value in _ratios(rounds, asked)),
        )
        last = here
    return table


def _ratios(rounds: Rounds, asked: Asked) -> tuple[float | None, float | None]:
    """What the gateway's rate and CPU time are of this peer's; of `/v1/tokens` the form's."""
    ours = Asked(GATEWAY, asked.asking, asked.connections).name
    if asked.asking is Asking.TOKENIZE:
        ours = Asked(GATEWAY, Asking.FORM, asked.connections).name
    elif asked.server == GATEWAY:
        return None, None
    return rate_ratio(rounds, ours, asked.name), cpu_ratio(rounds, ours, asked.name)


def _uploads(console: Console, uploads: Sequence[Uploaded]) -> Table:
    table = _table(console, "Uploads as a stream, scanned")
    for name in ("what", "who"):
        table.add_column(name)
    for name in ("MB/s", "MiB before", "peak", "after", "growth"):
        table.add_column(name, justify="right")
    for content in Content:
        for server in (*PEERS, GATEWAY):
            found = middle_upload(uploads, server, content.value)
            if found is not None:
                memory = (found.before_mib, found.peak_mib, found.after_mib, found.growth_mib)
                table.add_row(
                    f"{found.megabytes:,} MB {content.value}",
                    PEERS.get(server, "panward"),
                    f"{found.mb_per_second:,.0f}",
                    *(f"{value:.1f}" for value in memory),
                )
    growth = largest_growth(uploads, GATEWAY)
    if growth is not None:
        mark = "met" if growth <= GROWTH_MIB_MAX else "missed"
        words = f"panward's largest growth, of {GROWTH_MIB_MAX:.0f} MiB: {mark}"
        table.add_row(words, "", "", "", "", "", f"{growth:.1f}")
    return table


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x"


def _table(console: Console, title: str) -> Table:
    plain = not console.is_terminal
    return Table(
        title=title, title_justify="left", box=None if plain else box.SIMPLE_HEAD, pad_edge=False
    )


def document(command: str, rounds: Rounds, uploads: Sequence[Uploaded]) -> dict[str, object]:
    """Everything, for machines."""
    return {
        "command": command,
        "runs": {name: middle(rounds, name) for name in rounds[0]},
        "rates": {name: [each[name].load.rate for each in rounds] for name in rounds[0]},
        "ratios": {
            asked.name: dict(zip(("rate", "cpu"), _ratios(rounds, asked), strict=True))
            for asked in all_asked()
            if asked.name in rounds[0]
            and (asked.server != GATEWAY or asked.asking is Asking.TOKENIZE)
        },
        "uploads": uploads,
        "growth_mib": largest_growth(uploads, GATEWAY),
        "notes": notes(command, rounds),
    }


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
