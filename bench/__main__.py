"""`python -m bench`: one run of everything, on this machine, and the table."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.asked import ASKED
from bench.figures import Figures, WrkRefused
from bench.processes import Failed
from bench.report import console_for, document, show
from bench.runs import Bench
from bench.stand import opened
from bench.targets import Mark, judge
from vault.errors import StartRefused

SECONDS: Final = 8.0
QUICK_SECONDS: Final = 2.0
DELIVERIES: Final = 100_000
QUICK_DELIVERIES: Final = 10_000
BUSY: Final = 0.1  # of the machine: from there on others disturb
STEPS: Final = len(ASKED) + 8  # the stand, the tokens, the Vault alone, appends, what needs no load

Step = Callable[[str], None]


def main(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Runs of 2 seconds, short queues.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=1, max=600, help="Of each run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    strict: Annotated[bool, typer.Option(help="Exit 1 when a target is missed.")] = False,
) -> None:
    """Measure everything in one run, and say which targets are met."""
    err = console_for(stderr=True)
    if shutil.which("wrk") is None:
        err.print("wrk is missing: make system-packages")
        raise typer.Exit(1)
    each = seconds or (QUICK_SECONDS if quick else SECONDS)
    queued = QUICK_DELIVERIES if quick else DELIVERIES
    try:
        with _progress() as step:
            figures, notes = uvloop.run(_measure(each, queued, step))
    except (Failed, StartRefused, WrkRefused) as error:
        err.print(f"bench: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    verdicts = judge(figures)
    if as_json:
        sys.stdout.write(msgspec.json.encode(document(figures, verdicts, notes)).decode() + "\n")
    else:
        show(console_for(), figures, verdicts, notes)
    if strict and any(verdict.mark is Mark.MISSED for verdict in verdicts):
        raise typer.Exit(1)


async def _measure(seconds: float, deliveries: int, step: Step) -> tuple[Figures, list[str]]:
    """Start a stand in a temporary folder, measure, and leave nothing behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="panward-bench-") as folder:
        step("a deployment and its peers")
        async with opened(Path(folder) / "stand") as stand:
            bench = Bench(stand, seconds, step, deliveries=deliveries)
            figures = await bench.carry_out()
    notes = _notes(seconds, figures)
    if bench.tokens_repeated:
        notes.append(f"/out/ used {bench.tokens_repeated} tokens again: there were too few.")
    return figures, notes


def _notes(seconds: float, figures: Figures) -> list[str]:
    """What a reader must know to judge the figures."""
    cores = os.cpu_count() or 1
    runs = figures.runs.values()
    others = sum(run.elsewhere_seconds for run in runs) / sum(run.seconds for run in runs)
    notes = [
        f"{cores} cores shared by load, gateway, PostgreSQL, OpenBao and processor.",
        f"{seconds:.0f} s a run; wrk has one thread.",
    ]
    if others > cores * BUSY:
        notes.append(
            f"NOT A QUIET MACHINE: processes of others took {others:.1f} cores; rates are too low,"
            " times too long, and ratios are no better than a guess."
        )
    return notes


@contextmanager
def _progress() -> Iterator[Step]:
    """A bar on a terminal, a line a step elsewhere."""
    console = console_for(stderr=True)
    if not console.is_terminal:
        yield lambda text: console.print(f"· {text}")
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=STEPS, completed=-1)

        def step(text: str) -> None:
            progress.update(bar, description=text, advance=1)

        yield step


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
