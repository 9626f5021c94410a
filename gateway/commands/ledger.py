"""`panward ledger`: check the record, without having to trust who keeps it."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.commands.options import (
    EX_FAILED,
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    deployment_of,
    require_one,
    run,
    show,
)
from gateway.config import Config
from vault.db import Database
from vault.embedded.layout import Layout
from vault.errors import StartRefused
from vault.ledger.audit_join import AuditJoin
from vault.ledger.check import LogCheck, Report
from vault.ledger.entry import EntryRefused, decode
from vault.ledger.reading import read_entries, read_head

ledger = typer.Typer(help="The record of every authorization.", no_args_is_help=True)

AuditOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--vault-audit",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="HashiCorp Vault's audit log: every decrypt must have an earlier intent. Repeatable.",
    ),
]
DsnOption = Annotated[
    Path | None,
    typer.Option("--dsn-file", metavar="FILE", help="Check a copy at the address in this file."),
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `ledger verify` found; `join` is None when no audit log was given."""

    report: Report
    join: AuditJoin | None

    @property
    def is_good(self) -> bool:
        joined = self.join is None or self.join.unmatched_total == 0
        return joined and self.report.violations_total == 0


@ledger.command("verify")
def verify(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    vault_audit: AuditOption = None,
    dsn_file: DsnOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Recompute every leaf and the root, and check every rule that an auditor would."""
    verdicts: list[Verdict] = []

    async def work() -> None:
        if dsn_file is not None:
            dsn = _dsn(dsn_file)
            verdicts.append(await check_log(dsn, vault_audit or []))
            return
        require_one(config, embedded)
        async with deployment_of(config, embedded) as found:
            audits = vault_audit or _own_audit(found)
            dsn = found.secret(found.database.runtime_dsn_file)
            verdicts.append(await check_log(dsn, audits))

    run(work())
    _tell(verdicts[0], as_json=as_json)
    if not verdicts[0].is_good:
        raise typer.Exit(EX_FAILED)


async def check_log(dsn: str, audits: Sequence[Path]) -> Verdict:
    """Read the log at an address, and what HashiCorp Vault wrote about it.

    Raises StoreUnavailable.
    """
    # What the audit log says now is looked up in the log as it is afterwards: an intent comes
    # before its decrypts, so none of these can lack one that is still to come.
    sizes = [audit.stat().st_size for audit in audits]
    database = await Database.open(dsn)
    join = AuditJoin() if audits else None
    check = LogCheck()
    try:
        head = await read_head(database)
        with _progress() as progress:
            task = progress.add_task("entries", total=head.size) if progress else None
            async for page in read_entries(database, below=head.size):
                for entry in page:
                    check.feed(entry.index, entry.body, entry.leaf, entry.type, entry.intent)
                    if join is not None:
                        _join(join, entry.body)
                if progress is not None and task is not None:
                    progress.advance(task, len(page))
    finally:
        await database.close()
    report = check.finish(head.size, head.root)
    if join is not None:
        for audit, size in zip(audits, sizes, strict=True):
            with audit.open("rb") as lines:
                join.add_lines(_until(lines, size))
    return Verdict(report, join)


def _until(lines: BinaryIO, size: int) -> Iterator[bytes]:
    """The whole lines of a file's first `size` bytes; the last may still be written."""
    for line in lines:
        size -= len(line)
        if size < 0 or not line.endswith(b"\n"):
            return
        yield line


def _join(join: AuditJoin, body: bytes) -> None:
    try:
        join.add_entry(decode(body))
    except EntryRefused:
        return  # the check says so


def _own_audit(config: Config) -> list[Path]:
    """An embedded deployment's audit log is at hand."""
    if config.embedded is None:
        return []
    path = Layout(config.embedded.resolve()).audit_log
    return [path] if path.is_file() else []


def _dsn(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        pass
    raise StartRefused(f"{file} cannot be read")


def _progress() -> "Progress | nullcontext[None]":
    """A bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        return nullcontext()
    return Progress(
        TextColumn("checking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _tell(verdict: Verdict, *, as_json: bool) -> None:
    report, join = verdict.report, verdict.join
    if as_json:
        show(document(verdict))
        return
    typer.echo(f"{report.size} entries, root {report.root.hex()}")
    for violation in report.violations:
        where = "the log" if violation.index is None else f"entry {violation.index}"
        typer.echo(f"{where}: {violation.message} ({violation.rule.value})")
    if join is not None:
        typer.echo(f"{join.decrypts} decrypts in the audit log, {join.unmatched_total} unmatched")
        if join.torn:
            typer.echo(f"{join.torn} records were cut off when the server of the keys died")
        for unmatched in join.unmatched:
            typer.echo(f"audit line {unmatched.line}: {unmatched.message} (V6)")
    else:
        typer.echo("no audit log of HashiCorp Vault was given: decrypts are not checked")
    for open_intent in report.open_intents:
        typer.echo(f"entry {open_intent.index}: still {open_intent.state.value}")
    typer.echo("good" if verdict.is_good else "NOT good")


def document(verdict: Verdict) -> dict[str, object]:
    """The verdict for machines."""
    report, join = verdict.report, verdict.join
    return {
        "good": verdict.is_good,
        "size": report.size,
        "root": report.root.hex(),
        "violations": [
            {"index": one.index, "rule": one.rule.value, "message": one.message}
            for one in report.violations
        ],
        "violations_total": report.violations_total,
        "open_intents": [
            {"intent": one.intent, "state": one.state.value, "index": one.index}
            for one in report.open_intents
        ],
        "decrypts": None if join is None else join.decrypts,
        "torn": None if join is None else join.torn,
        "unmatched": None
        if join is None
        else [{"line": one.line, "message": one.message} for one in join.unmatched],
    }
