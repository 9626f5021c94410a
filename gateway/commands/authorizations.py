"""`panward authorizations list|resolve`: what became of a call that nothing else could find out.

An operator looks it up at the processor and says so. The word is put on record as such, for good;
it settles what a repeat of the request gets, so it had better be true.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from gateway.api.masked_card import rfc3339
from gateway.commands.on_record import CONSOLE, on_record
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    database_of,
    deployment_of,
    fail,
    require_one,
    run,
    show,
)
from gateway.custody import utc_now
from vault.authorization import Finding, Result, State
from vault.doubt_table import Doubt, DoubtTable, EndedSend
from vault.doubts import Doubts, Resolved
from vault.ids import authorization_id, intent_of
from vault.resolutions import STATEMENT_CHARACTERS_MAX, Evidence

FINDINGS: Final = (Finding.ANSWERED, Finding.NOT_RECEIVED, Finding.NOT_SENT)

authorizations = typer.Typer(help="Calls whose outcome is not known.", no_args_is_help=True)

OpenOption = Annotated[
    bool, typer.Option("--open", help="Those whose outcome is unknown: the only list there is.")
]
IdArgument = Annotated[str, typer.Argument(metavar="aut_…", help="An authorization's id.")]
FindingOption = Annotated[
    Finding, typer.Option("--finding", help="What became of it: not given_up.", show_choices=True)
]
ResultOption = Annotated[
    Result | None, typer.Option("--result", help="With `answered`: what the processor said.")
]
ReferenceOption = Annotated[
    str | None, typer.Option("--processor-reference", metavar="ID", help="The processor's own id.")
]
StatementOption = Annotated[
    str,
    typer.Option("--statement", metavar="TEXT", help="How you know: on record, as your word."),
]
CorrectOption = Annotated[
    bool, typer.Option("--correct", help="It has an outcome on record, which is not true.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@authorizations.command("list")
def list_open(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    open_: OpenOption = True,
    as_json: JsonOption = False,
) -> None:
    """List the calls whose outcome is not known, the oldest first; at most 1,000."""
    if not open_:
        raise typer.BadParameter("only --open calls are listed here: the API has all others")
    found: list[Doubt] = []

    async def work() -> None:
        async with database_of(config, embedded) as (database, _):
            found.extend(await DoubtTable(database).open())

    run(work())
    if as_json:
        for doubt in found:
            show(_document(doubt))
    else:
        Console().print(_table(found, utc_now()))


@authorizations.command("resolve")
def resolve(  # noqa: PLR0913 - an option each
    authorization: IdArgument,
    finding: FindingOption,
    statement: StatementOption,
    result: ResultOption = None,
    processor_reference: ReferenceOption = None,
    *,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    correct: CorrectOption = False,
    yes: YesOption = False,
) -> None:
    """Put on record what became of a call, by your word."""
    require_one(config, embedded)
    evidence = _evidence(finding, result, processor_reference, statement)
    first = intent_of(authorization)
    if first is None:
        raise typer.BadParameter("this is no authorization's id: aut_ and 26 characters")
    _be_sure(authorization, evidence, yes=yes)
    run(_resolve(config, embedded, first, evidence, correct=correct))
    typer.echo(f"{authorization}: {evidence.finding.value}, {evidence.result.value}")


def _evidence(
    finding: Finding, result: Result | None, processor_reference: str | None, statement: str
) -> Evidence:
    if finding not in FINDINGS:
        raise typer.BadParameter("--finding: answered, not_received or not_sent")
    if (finding is Finding.ANSWERED) != (result is not None):
        raise typer.BadParameter("--result: with --finding answered, and with nothing else")
    if not 0 < len(statement) <= STATEMENT_CHARACTERS_MAX or not statement.isprintable():
        raise typer.BadParameter(
            f"--statement: one line of 1 to {STATEMENT_CHARACTERS_MAX} characters"
        )
    return Evidence(
        "manual",
        finding,
        result or Result.ERROR,
        processor_reference=processor_reference,
        words=statement,
    )


def _be_sure(authorization: str, evidence: Evidence, *, yes: bool) -> None:
    """Ask; where nobody can be asked, `--yes` must have been said. Raises Abort."""
    if yes:
        return
    said = f"{evidence.finding.value}, {evidence.result.value}"
    typer.confirm(f"Put on record that {authorization} is {said}?", abort=True, err=True)


async def _resolve(
    config: Path | None, embedded: Path | None, first: str, evidence: Evidence, *, correct: bool
) -> None:
    async with deployment_of(config, embedded) as deployment, on_record(deployment) as act:
        table = DoubtTable(act.database)
        doubts = Doubts(
            ledger=act.ledger, table=table, keys=None, boot=None, now=utc_now, actor=CONSOLE
        )
        tenant = await table.tenant_of(first)
        doubt = await table.of(tenant, first) if tenant is not None else None
        ended = await table.ended(tenant, first) if tenant is not None else None
        refused = _refusal(doubt, ended, known=tenant is not None, correct=correct)
        if refused is None and tenant is not None:
            if doubt is not None:
                done = await doubts.resolve(doubt, evidence)
            else:
                done = await doubts.contradict(tenant, first, evidence)
            if done is not Resolved.DONE:
                refused = "something else was put on record just now: look at it first"
    if refused is not None:
        fail(refused)


def _refusal(
    doubt: Doubt | None, ended: EndedSend | None, *, known: bool, correct: bool
) -> str | None:
    if not known:
        return "there is no such authorization"
    if doubt is not None:
        under_way = doubt.state == State.ATTEMPTED
        return "a repeat of it is under way: wait for its outcome" if under_way else None
    if ended is None:
        return "it is under way: wait for its outcome"
    return None if correct else f"it is {ended.state}: --correct if that is not true"


def _document(doubt: Doubt) -> dict[str, object]:
    return {
        "id": authorization_id(doubt.first),
        "tenant": doubt.tenant,
        "route": doubt.route,
        "operation": doubt.operation,
        "amount": doubt.amount,
        "currency": doubt.currency,
        "merchant_reference": doubt.merchant_reference,
        "attempts_in_doubt": len(doubt.sends),
        "since": rfc3339(doubt.since),
        "looks": doubt.tries,
        "next_look_at": rfc3339(doubt.due),
        "given_up_at": rfc3339(doubt.given_up_at),
    }


def _table(found: list[Doubt], now: datetime) -> Table:
    table = Table("authorization", "tenant", "route", "amount", "reference", "for", "looks")
    for doubt in found:
        hours = (now - doubt.since).total_seconds() / 3600
        amount = f"{doubt.amount} {doubt.currency}" if doubt.amount is not None else ""
        table.add_row(
            authorization_id(doubt.first),
            doubt.tenant,
            doubt.route,
            amount,
            doubt.merchant_reference or "",
            f"{hours:.1f} h",
            str(doubt.tries),
        )
    return table
