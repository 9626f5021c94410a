"""`panward import|redact`: files of cards into files of tokens, or of stars.

Both put a file through what an inbound route does with one. An import ends whole or goes on where
it was; redact needs no deployment, and reads anything. What never may live here: how rows are cut,
and what is done with one.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import typer
from rich.console import Console

from gateway.card_files.asked import (
    FORMATS,
    Asked,
    AskedWrong,
    FileFormat,
    TokenFormat,
    Undeclared,
    format_of,
    route_of,
)
from gateway.card_files.journal import ImportRefused
from gateway.card_files.masking import mask_raw, mask_rows
from gateway.card_files.output import Output, OutputRefused
from gateway.card_files.planning import Manner, RowRefused
from gateway.card_files.report import Report
from gateway.card_files.rows import BYTES_MAX, RowTooLarge
from gateway.card_files.run import (
    JOURNAL,
    PART,
    PIECE_BYTES,
    Job,
    beside,
    carry_out,
    finish,
    is_unfinished,
)
from gateway.commands.card_report import Tell, document, progress, show_report
from gateway.commands.card_store import card_store
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    fail,
    require_one,
    run,
    show,
    spare_the_collector,
)
from gateway.config import Config
from gateway.custody import utc_now
from gateway.errors import Malformed
from gateway.hardening import harden
from vault.errors import CustodyError
from vault.private_files import write_private
from vault.tenant_table import TenantTable

STANDARD: Final = "-"
_SENTENCES: Final = {
    "utf_16": "the file is UTF-16: write it anew as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    "fixed_width_cut_off": "the last record is shorter than the others",
    "fixed_width_line_end": "there are ends of line within records: leave --record-length out?",
    "too_narrow": "the column is too narrow for a token: --token-format pan_like",
    "too_many_cards": "it holds more numbers in one place than are looked at",
    "fixed_width_row_length": "a row would not keep its length: --token-format pan_like",
    "card_in_header": "its first row holds a card number: the file has no header with names",
}


class Refused(StrEnum):
    """What is done with a row that is refused."""

    STOP = "stop"
    KEEP_OUT = "keep-out"


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)]
OutOption = Annotated[Path, typer.Option("--out", metavar="OUT", help="A new file.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Its name or id.")]
DateOption = Annotated[str | None, typer.Option(metavar="COLUMN")]
ExpiryOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Month and year in one: MM/YY, YYYY-MM…")
]
CvcOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Kept for fifteen minutes; zeros in OUT.")
]
TokenFormatOption = Annotated[TokenFormat, typer.Option(help="pan_like has a number's length.")]
UndeclaredOption = Annotated[
    Undeclared, typer.Option(help="What card numbers in other columns get.")
]
RefusedOption = Annotated[
    Refused, typer.Option(help="What a row gets that is refused: it is the end, or left out.")
]
ReuseOption = Annotated[bool, typer.Option("--reuse", help="A known card gets its token.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where it was stopped.")]
FormatOption = Annotated[
    FileFormat | None, typer.Option("--format", help="By default what the name says.")
]
NumberOption = Annotated[
    str | None,
    typer.Option("--number", metavar="COLUMN", help="Of card numbers: a column, or a selector."),
]
RemoveOption = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="COLUMN", help="Emptied in every row; repeatable."),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="COLUMN", help="Of long numbers that are no cards."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=FROM-TO",
        help="Of a file of fixed width, in bytes from 0, TO not among them; repeatable.",
    ),
]
RecordLengthOption = Annotated[
    int | None,
    typer.Option("--record-length", min=1, max=65_535, help="Of records without ends of line."),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="What was found where, as JSON.")
]


# --- import -------------------------------------------------------------------------------


def import_(  # noqa: PLR0913, PLR0917 - an option a parameter
    file: FileArgument,
    out: OutOption,
    tenant: TenantOption,
    number: NumberOption = None,
    exp_month: DateOption = None,
    exp_year: DateOption = None,
    expiry: ExpiryOption = None,
    cvc: CvcOption = None,
    remove: RemoveOption = None,
    allow: AllowOption = None,
    column: ColumnOption = None,
    format_: FormatOption = None,
    record_length: RecordLengthOption = None,
    token_format: TokenFormatOption = TokenFormat.OPAQUE,
    undeclared: UndeclaredOption = Undeclared.REPORT,
    refused: RefusedOption = Refused.STOP,
    report: ReportOption = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    reuse: ReuseOption = False,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Store the cards of a file, and write the file anew with tokens in their place.

    OUT appears whole or not at all. What a crash stopped goes on with --resume: each row is in
    OUT once, and its cards are stored once, save those of at most 2048 rows that were under way.
    """
    require_one(config, embedded)
    _check_apart(file, out, report)
    asked = Asked(
        number=number,
        exp_month=exp_month,
        exp_year=exp_year,
        expiry=expiry,
        cvc=cvc,
        remove=tuple(remove or ()),
        allow=tuple(allow or ()),
        columns=tuple(column or ()),
        token_format=token_format,
        undeclared=undeclared,
        reuse=reuse,
    )
    manner = _manner(asked, format_ or format_of(file.name), record_length)
    manner = replace(manner, keep_out=refused is Refused.KEEP_OUT)
    job = Job(file, out, manner, resume=resume)
    reports: list[Report] = []

    async def work() -> None:
        async with database_of(config, embedded) as (database, found):
            known = await TenantTable(database).named(tenant)
            if known is None:
                fail(f"there is no tenant {tenant}: panward tenants list shows them")
            reports.append(await _imported(job, found, known.id))

    with _refusals("what is done is kept: --resume goes on"):
        run(work())
        _tell(reports[0], report, as_json=as_json, to=Console())
        finish(job)


async def _imported(job: Job, config: Config, tenant: str) -> Report:
    route = msgspec.structs.replace(job.manner.route, tenant=tenant)
    manner = replace(job.manner, route=route, live=config.env == "live")
    async with card_store(config, tenant, reuse=route.reuse) as store:
        spare_the_collector()
        with progress("importing") as tell:
            return await carry_out(replace(job, manner=manner), store, tell)


# --- redact -------------------------------------------------------------------------------


def redact(  # noqa: PLR0913, PLR0917 - an option a parameter
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- reads standard input.")],
    out: Annotated[Path, typer.Option("--out", metavar="OUT", help="A new file; - writes on.")],
    number: NumberOption = None,
    remove: RemoveOption = None,
    allow: AllowOption = None,
    column: ColumnOption = None,
    format_: FormatOption = None,
    record_length: RecordLengthOption = None,
    report: ReportOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a file anew with all card numbers masked: rows, text or any bytes.

    Needs no deployment, and stores nothing. Of what is not CSV, JSON Lines or of fixed width,
    every byte is looked at and none has a meaning.
    """
    if as_json and str(out) == STANDARD:
        raise typer.BadParameter("standard output has the file: --report FILE")
    _check_apart(file, out, report)
    kind = format_ or format_of(file.name) or FileFormat.RAW
    asked = Asked(
        number=number,
        remove=tuple(remove or ()),
        allow=tuple(allow or ()),
        columns=tuple(column or ()),
        masks=True,
    )
    if kind is FileFormat.RAW and asked != Asked(masks=True):
        raise typer.BadParameter("columns need --format csv, jsonl or fixed")
    manner = None if kind is FileFormat.RAW else _manner(asked, kind, record_length)
    harden()
    spare_the_collector()
    with _refusals("nothing was kept"):
        made = _redacted(file, out, manner)
        _tell(made, report, as_json=as_json, to=console if str(out) == STANDARD else Console())


def _redacted(file: Path, out: Path, manner: Manner | None) -> Report:
    with ExitStack() as stack:
        source = sys.stdin.buffer
        size = 0
        if str(file) != STANDARD:
            source = stack.enter_context(file.open("rb"))
            size = file.stat().st_size
        to_file = None
        write = sys.stdout.buffer.write
        if str(out) != STANDARD:
            if is_unfinished(out):
                raise OutputRefused(f"{out} is of an import that did not end")
            to_file = stack.enter_context(Output(out))
            write = to_file.write
        tell = stack.enter_context(progress("masking")) if size else None
        pieces = _pieces(source, size, tell)
        tally = mask_raw(pieces, write) if manner is None else mask_rows(manner, pieces, write)
        if to_file is None:
            sys.stdout.buffer.flush()
        else:
            to_file.keep()
    return tally.report()


def _pieces(source: BinaryIO, size: int, tell: Tell | None) -> Iterator[bytes]:
    done = 0
    while piece := source.read(PIECE_BYTES):
        yield piece
        done += len(piece)
        if tell is not None:
            tell(done, size)


# --- both ---------------------------------------------------------------------------------


def _check_apart(file: Path, out: Path, report: Path | None) -> None:
    """Raises BadParameter where one file would be written over another of the same call."""
    ours = [] if str(out) == STANDARD else [out, *(beside(out, each) for each in (PART, JOURNAL))]
    if str(file) != STANDARD and any(_is_one(file, each) for each in ours[1:]):
        raise typer.BadParameter(f"{file} would be written over: give OUT another name")
    if report is not None and any(_is_one(report, each) for each in (file, *ours)):
        raise typer.BadParameter("--report needs a file of its own")


def _is_one(path: Path, other: Path) -> bool:
    there = path.exists() and other.exists()
    return path.samefile(other) if there else path.resolve() == other.resolve()


def _manner(asked: Asked, kind: FileFormat | None, record_length: int | None) -> Manner:
    if kind is None or kind is FileFormat.RAW:
        raise typer.BadParameter("say how it is written: --format csv, jsonl or fixed")
    if record_length is not None and kind is not FileFormat.FIXED:
        raise typer.BadParameter("--record-length goes with --format fixed")
    try:
        route = route_of(asked, FORMATS[kind])
    except AskedWrong as error:
        problem = str(error)
    else:
        return Manner(
            route,
            FORMATS[kind],
            utc_now,
            record_length=record_length,
            wants_columns=True,
            masks_header=asked.masks,
        )
    raise typer.BadParameter(problem)


def _tell(made: Report, file: Path | None, *, as_json: bool, to: Console) -> None:
    if file is not None:
        write_private(file, msgspec.json.encode(document(made)) + b"\n")
    if as_json:
        show(document(made))
    else:
        show_report(made, to)


@contextmanager
def _refusals(then: str) -> Iterator[None]:
    """End the command with a sentence for whatever is refused, or fails."""
    try:
        yield
    except (ImportRefused, OutputRefused) as refusal:
        reason = str(refusal)
    except RowRefused as refusal:
        reason = f"{_SENTENCES.get(refusal.row.reason, str(refusal))}; {then}"
    except RowTooLarge as error:
        reason = f"row {error.row + 1} has more than {BYTES_MAX} bytes: an open quote? {then}"
    except Malformed as error:
        unread = f"it cannot be read: {error.reason}"
        reason = f"{_SENTENCES.get(error.reason or '', unread)}; {then}"
    except OSError as error:
        reason = f"{error.filename or 'a file'}: {error.strerror}; {then}"
    except CustodyError as error:
        reason = f"{error}; {then}"
    else:
        return
    fail(reason)
