"""`panward ledger rebuild`: the rows that repeat the record, made again from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.commands.options import (
    EX_FAILED,
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    run,
    show,
)
from vault.rebuild import Findings, TableFindings, check_rows, rebuild_rows
from vault.rebuild import Progress as OnProgress

CheckOption = Annotated[
    bool, typer.Option("--check", help="Say what differs and change nothing; exit 1 if any does.")
]


def rebuild(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare what is shown of authorizations with the record, and repair what differs.

    A running gateway goes on meanwhile. Nothing is changed unless the record itself is sound.
    """
    findings: list[Findings] = []

    async def work() -> None:
        async with database_of(config, embedded) as (database, _):
            with _progress() as on_progress:
                compare = check_rows if check else rebuild_rows
                findings.append(await compare(database, on_progress=on_progress))

    run(work())
    if as_json:
        show(document(findings[0]))
    else:
        _tell(findings[0], only_checked=check)
    if not is_good(findings[0], only_checked=check):
        raise typer.Exit(EX_FAILED)


def is_good(found: Findings, *, only_checked: bool) -> bool:
    """Whether every row is as the record has it, now."""
    if not found.is_sound or found.false_details:
        return False
    return not (only_checked and found.rows_that_differ)


def document(found: Findings) -> dict[str, object]:
    """The findings for machines."""
    return {
        "sound": found.is_sound,
        "size": found.size,
        "sends": _of_table(found.sends),
        "authorizations": _of_table(found.requests),
        "written": found.written,
        "deleted": found.deleted,
        "erased_details": found.erased_details,
        "false_details": found.false_details,
        "problems": [{"index": one.index, "message": one.message} for one in found.problems],
        "problems_total": found.problems_total,
    }


def _of_table(findings: TableFindings) -> dict[str, object]:
    return {
        "missing": findings.missing,
        "altered": findings.altered,
        "surplus": findings.surplus,
        "columns": sorted(findings.columns),
        "first": findings.first,
    }


def _tell(found: Findings, *, only_checked: bool) -> None:
    typer.echo(f"{found.size} entries")
    for problem in found.problems:
        where = "the log" if problem.index is None else f"entry {problem.index}"
        typer.echo(f"{where}: {problem.message}")
    if not found.is_sound:
        typer.echo("the record is not sound, so nothing was made from it: panward ledger verify")
        return
    for name, findings in (("sends", found.sends), ("authorizations", found.requests)):
        if findings.total:
            columns = f" ({', '.join(sorted(findings.columns))})" if findings.columns else ""
            typer.echo(
                f"{name}: {findings.altered} altered{columns}, {findings.missing} missing,"
                f" {findings.surplus} that no entry speaks of"
            )
            typer.echo(f"  {', '.join(findings.first)}{' …' if _has_more(findings) else ''}")
    if found.false_details:
        typer.echo(f"{found.false_details} details are not what their entries commit to")
    if not found.rows_that_differ:
        typer.echo("every row is as the record has it")
    elif not only_checked:
        typer.echo(f"{found.written} rows written, {found.deleted} deleted")


def _has_more(findings: TableFindings) -> bool:
    return findings.total > len(findings.first)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("comparing"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("entries")

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield on_progress
