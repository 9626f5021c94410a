"""What `panward ledger verify` says of a log: for people a line each, for machines one object.

What never may live here: how it was found out, and a byte of an entry.
"""

import typer

from gateway.commands.verifying import Verdict
from vault.ledger.rules import Violation


def tell(verdict: Verdict) -> None:
    """Print it, what is wrong first."""
    report = verdict.report
    for violation in report.violations:
        typer.echo(_sentence(violation))
    for warning in report.warnings:
        typer.echo(f"note: {_sentence(warning)}")
    for open_intent in report.open_intents:
        typer.echo(f"entry {open_intent.index}: still {open_intent.state.value}")
    typer.echo(f"{report.size} entries, root {report.root.hex()}")
    _tell_of_heads(verdict)
    _tell_of_details(verdict)
    _tell_of_decrypts(verdict)
    typer.echo("good" if verdict.is_good else "NOT good")


def _sentence(found: Violation) -> str:
    where = "the log" if found.index is None else f"entry {found.index}"
    return f"{where}: {found.message} ({found.rule.value})"


def _tell_of_heads(verdict: Verdict) -> None:
    report = verdict.report
    unsigned = report.size - report.signed_size
    typer.echo(f"{report.checkpoints} signed checkpoints, {unsigned} entries not signed yet")
    if not report.is_pinned:
        typer.echo("no --vkey or --policy was given: the key is the log's own word, on trust")


def _tell_of_details(verdict: Verdict) -> None:
    report = verdict.report
    if report.details_kept or report.details_missing:
        typer.echo(
            f"{report.details_kept} details as committed to,"
            f" {report.details_missing} gone without a record of it"
        )


def _tell_of_decrypts(verdict: Verdict) -> None:
    join = verdict.join
    if join is None:
        typer.echo("no audit log of HashiCorp Vault was given: decrypts are not checked")
        return
    typer.echo(f"{join.decrypts} decrypts in the audit log, {join.unmatched_total} unmatched")
    typer.echo(f"{join.not_opened()} intents whose cards were never opened: they were never sent")
    if join.torn:
        typer.echo(f"{join.torn} records were cut off when the server of the keys died")
    for unmatched in join.unmatched:
        typer.echo(f"audit line {unmatched.line}: {unmatched.message} (V6)")


def document(verdict: Verdict) -> dict[str, object]:
    """The verdict for machines."""
    report, join = verdict.report, verdict.join
    return {
        "good": verdict.is_good,
        "size": report.size,
        "root": report.root.hex(),
        "violations": [_told(one) for one in report.violations],
        "violations_total": report.violations_total,
        "warnings": [_told(one) for one in report.warnings],
        "warnings_total": report.warnings_total,
        "open_intents": [
            {"intent": one.intent, "state": one.state.value, "index": one.index}
            for one in report.open_intents
        ],
        "checkpoints": report.checkpoints,
        "signed_size": report.signed_size,
        "key_pinned": report.is_pinned,
        "details_kept": report.details_kept,
        "details_missing": report.details_missing,
        "decrypts": None if join is None else join.decrypts,
        "not_opened": None if join is None else join.not_opened(),
        "torn": None if join is None else join.torn,
        "unmatched": None
        if join is None
        else [{"line": one.line, "message": one.message} for one in join.unmatched],
    }


def _told(found: Violation) -> dict[str, object]:
    return {"index": found.index, "rule": found.rule.value, "message": found.message}
