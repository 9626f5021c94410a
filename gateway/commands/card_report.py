"""How far a file is, and what was found in it, for people and for machines.

Never a digit of a card. What never may live here: what is counted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gateway.card_files.report import Report
from gateway.card_files.run import UNUSED_MAX
from gateway.commands.options import console
from gateway.scan import Kind

LINES_SHOWN: Final = 100
_TENTHS: Final = 10

Tell = Callable[[int, int], None]


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """A bar on a terminal, a line a tenth elsewhere."""
    if not console.is_terminal:
        told = 0

        def say(done: int, of: int) -> None:
            nonlocal told
            tenths = done * _TENTHS // of if of else _TENTHS
            if tenths > told:
                told = tenths
                console.print(f"{what}: {tenths * 100 // _TENTHS} %")

        yield say
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def move(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield move


def document(report: Report) -> dict[str, object]:
    """The report for machines."""
    return {
        "rows": report.rows,
        "tokens": report.tokens,
        "refused": report.refused,
        "refused_rows": [msgspec.structs.asdict(each) for each in report.refused_rows],
        "found": [
            {**msgspec.structs.asdict(each.found), "count": each.count} for each in report.found
        ],
        "resumed": report.resumed,
    }


def show_report(report: Report, to: Console) -> None:
    """The report for people."""
    if report.found:
        table = Table("column", "what", "written", "brand", "done", "count")
        for each in report.found[:LINES_SHOWN]:
            found = each.found
            words = (found.column, found.kind, found.encoding, found.brand, found.action)
            table.add_row(*map(Text, (*words, str(each.count))))
        to.print(table)
    to.print(f"{report.rows} rows, {report.tokens} tokens, {report.refused} rows refused")
    if report.resumed:
        to.print(
            f"each time it was stopped, up to {UNUSED_MAX} tokens may have been made that are in no"
            " file: the ledger has them"
        )
    for row in report.refused_rows[:LINES_SHOWN]:
        to.print(f"row {row.row} is left out: {row.column} {row.reason}", markup=False)
    left = sum(
        each.count
        for each in report.found
        if each.found.action == "report" and each.found.kind != Kind.WINDOW.value
    )
    if left:
        to.print(f"{left} card numbers are still in the output: --undeclared says what they get")
