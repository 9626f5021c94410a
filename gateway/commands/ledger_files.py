"""`panward ledger export|proof`: the record in files, for those who will not ask us.

What never may live here: what a file says (`vault/ledger`), and how it gets on the disk.
"""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    fail,
    run,
    show,
)
from vault.db import Database
from vault.export import Exported, ExportRefused
from vault.export import export as export_log
from vault.ids import intent_of
from vault.ledger.checkpoint import TlogProof, parse_checkpoint, parse_tlog_proof
from vault.ledger.note import NoteRefused, VerifierKey
from vault.ledger.policy import NONE, Agreement, Policy, PolicyLog, parse_policy
from vault.ledger.tree import HASH_BYTES, InvalidProof, leaf_hash, verify_inclusion
from vault.proven_log import LogBroken, index_of
from vault.published import PublishedLog

T = TypeVar("T")

NOT_COVERED: Final = "no checkpoint covers this entry yet: try again in a moment"


def _result_of(
    config: Path | None, embedded: Path | None, ask: Callable[[Database], Awaitable[T]]
) -> T:
    """Ask a deployment's database, and end the command where the log is not as it must be."""
    results: list[T] = []
    reason: str | None = None

    async def work() -> None:
        async with database_of(config, embedded) as (database, _):
            results.append(await ask(database))

    try:
        run(work())
    except (ExportRefused, LogBroken) as refusal:
        reason = str(refusal)
    if reason is not None:
        fail(reason)
    return results[0]


# --- export -------------------------------------------------------------------------------


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", file_okay=False, help="Made if it is not there.")
    ],
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the log as static files (C2SP tlog-tiles), or add what is new to an earlier export."""

    async def ask(database: Database) -> Exported:
        with _progress() as bar:
            task = bar.add_task("files") if bar is not None else None

            def tell(done: int, of: int) -> None:
                if bar is not None and task is not None:
                    bar.update(task, completed=done, total=of)

            return await export_log(PublishedLog(database), folder, progress=tell)

    exported = _result_of(config, embedded, ask)
    if as_json:
        show(
            {
                "size": exported.size,
                "root": exported.root.hex(),
                "files_written": exported.files_written,
            }
        )
        return
    typer.echo(f"{exported.size} entries, root {exported.root.hex()}")
    typer.echo(f"{exported.files_written} files written")


def _progress() -> "Progress | nullcontext[None]":
    """A bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        return nullcontext()
    columns = (TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


# --- proof --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """What a proof is checked against, by someone who has nothing else of ours."""

    policy: Policy
    leaf: bytes | None  # None: that of the proof's own extra, if it has one


def proof(  # noqa: PLR0913, PLR0917 - an option a parameter
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="Id of an event, aut_… id, or index.")
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Instead of standard output.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", exists=True, help="Check this .tlog-proof."),
    ] = None,
    vkey: Annotated[
        list[str] | None,
        typer.Option("--vkey", metavar="V", help="The log's key (name+id+key). Repeatable."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", exists=True, help="C2SP tlog-policy file."),
    ] = None,
    entry: Annotated[
        Path | None,
        typer.Option("--entry", metavar="FILE", help="The entry's bytes: written, or checked."),
    ] = None,
    leaf: Annotated[
        str | None,
        typer.Option("--leaf", metavar="HEX", help="The leaf hash that an answer came with."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Prove to others that an event is in the log, or check such a proof, without a deployment."""
    if (event is None) == (check is None):
        raise typer.BadParameter("give either EVENT or --check FILE")
    if check is not None:
        if config is not None or embedded is not None or out is not None:
            raise typer.BadParameter("--check needs no deployment, and writes nothing")
        _check(check, _Given(_policy(vkey, policy), _leaf(entry, leaf)), as_json=as_json)
        return
    if vkey is not None or policy is not None or leaf is not None or as_json:
        raise typer.BadParameter("--vkey, --policy, --leaf and --json go with --check")
    assert event is not None
    wanted = event
    made, body = _result_of(config, embedded, lambda database: _made(database, wanted))
    if entry is not None:
        _write(entry, body)
    if out is not None:
        _write(out, made.raw)
    else:
        typer.echo(made.raw, nl=False)


async def _made(database: Database, event: str) -> tuple[TlogProof, bytes]:
    """Make a proof for the newest checkpoint, and check it as its reader will."""
    log = PublishedLog(database)
    index = await _index(database, event)
    note = await log.checkpoint()
    checkpoint = parse_checkpoint(note.text) if note is not None else None
    if note is None or checkpoint is None or index >= checkpoint.size:
        fail(NOT_COVERED)
    hashes = await log.inclusion(index, checkpoint.size)
    ((body, _),) = [pair async for page in log.bundles(index, index + 1) for pair in page]
    if not _is_in(leaf_hash(body), TlogProof(index, hashes, note)):
        raise LogBroken(f"entry {index} is not under the root of the newest checkpoint")
    return TlogProof(index, hashes, note), body


async def _index(database: Database, event: str) -> int:
    if event.isascii() and event.isdecimal():
        return int(event)
    try:
        uuid = str(UUID(intent_of(event) or event))
    except ValueError:
        uuid = ""
    if not uuid:
        raise typer.BadParameter("EVENT is the id of an event, an aut_… id, or an index")
    index = await index_of(database, uuid)
    if index is None:
        fail("there is no such event")
    return index


# --- check --------------------------------------------------------------------------------


def _check(file: Path, given: _Given, *, as_json: bool) -> None:
    try:
        found = parse_tlog_proof(file.read_bytes())
        agreement = given.policy.check(found.note)
    except NoteRefused as refusal:
        reason = str(refusal)
    except OSError:
        reason = "it cannot be read"
    else:
        leaf = given.leaf
        if leaf is None:
            if found.extra is None:
                raise typer.BadParameter("say what was proven: --entry FILE or --leaf HEX")
            leaf = leaf_hash(found.extra)
        if _is_in(leaf, found):
            _tell(found.index, leaf, agreement, as_json=as_json)
            return
        reason = "it does not lead from this entry to the root"
    fail(f"{file}: {reason}")


def _is_in(leaf: bytes, found: TlogProof) -> bool:
    checkpoint = parse_checkpoint(found.note.text)
    try:
        verify_inclusion(
            found.hashes, index=found.index, size=checkpoint.size, leaf=leaf, root=checkpoint.root
        )
    except InvalidProof:
        return False
    return True


def _tell(index: int, leaf: bytes, agreement: Agreement, *, as_json: bool) -> None:
    checkpoint = agreement.checkpoint
    if as_json:
        show(
            {
                "good": True,
                "index": index,
                "leaf": leaf.hex(),
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "witnesses": dict(agreement.witnesses),
            }
        )
        return
    typer.echo(f"entry {index} is in {checkpoint.origin} of {checkpoint.size} entries")
    for name, at in agreement.witnesses.items():
        said = f" on {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""
        typer.echo(f"seen by {name}{said}")
    typer.echo("good")


def _policy(vkeys: list[str] | None, file: Path | None) -> Policy:
    """Read whose word counts: of the log's keys alone, or as a policy has it."""
    if (vkeys is None) == (file is None):
        raise typer.BadParameter("give either --vkey V or --policy FILE")
    try:
        if file is not None:
            return parse_policy(file.read_text("utf-8"))
        logs = tuple(PolicyLog(VerifierKey.parse(text), None) for text in vkeys or ())
        return Policy(logs, {}, {}, NONE)
    except (NoteRefused, UnicodeError, OSError) as refusal:
        reason = str(refusal) if isinstance(refusal, NoteRefused) else "it cannot be read"
    raise typer.BadParameter(f"{'--policy' if file is not None else '--vkey'}: {reason}")


def _leaf(entry: Path | None, leaf: str | None) -> bytes | None:
    if entry is not None and leaf is not None:
        raise typer.BadParameter("give either --entry FILE or --leaf HEX")
    try:
        if entry is not None:
            return leaf_hash(entry.read_bytes())
        hashed = bytes.fromhex(leaf) if leaf is not None else None
    except (OSError, ValueError):
        hashed = b""
    if hashed is not None and len(hashed) != HASH_BYTES:
        raise typer.BadParameter("--entry cannot be read, or --leaf is not 64 hex digits")
    return hashed


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        reason = error.strerror
    else:
        return
    fail(f"{path}: {reason}")
