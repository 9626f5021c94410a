"""`panward ledger status|unseal|rotate-key`: how the record stands, and a word on it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.commands.on_record import CONSOLE, OnRecord, on_record
from gateway.commands.options import (
    EX_FAILED,
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    deployment_of,
    fail,
    require_one,
    run,
    show,
)
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from vault.db import Connection, Database
from vault.errors import StartRefused
from vault.ids import new_uuid7
from vault.ledger.entry import KeyRotated
from vault.ledger.note import NoteRefused, parse_note, verifier_key
from vault.ledger.unit import Line, Statement
from vault.observer import Silent
from vault.seals import lift
from vault.signed_history import KEY, HistoryBroken, history, relearned
from vault.signer_memory import MemoryOutrun, Remembered, SignerMemory
from vault.transit import Transit, VaultAccess

STATEMENT_CHARACTERS_MAX: Final = 2_000

StatementOption = Annotated[
    str,
    typer.Option(
        "--statement",
        metavar="TEXT",
        help="What was found out and done, in your words. It is put on record, erasable.",
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A signed head kept elsewhere (a witness, an export), where what was signed is lost.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Status:
    """How the ledger of a deployment stands."""

    size: int
    signed_size: int
    signed_at: datetime | None
    seals: dict[str, datetime]
    cosigned: dict[str, datetime]
    file: Remembered | None
    kv: Remembered | None
    broken: str | None
    """What contradicts what was signed, in a sentence; None: nothing does."""

    @property
    def is_good(self) -> bool:
        return not self.seals and self.broken is None


def status(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """Say whether the ledger is signed in time, or sealed and why; exit 1 if it is sealed."""
    require_one(config, embedded)
    found: list[Status] = []

    async def work() -> None:
        async with deployment_of(config, embedded) as deployment:
            found.append(await status_of(deployment))

    run(work())
    if as_json:
        show(document(found[0]))
    else:
        _tell(found[0])
    if not found[0].is_good:
        raise typer.Exit(EX_FAILED)


def unseal(
    statement: StatementOption,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    checkpoint: CheckpointOption = None,
    *,
    yes: YesOption = False,
) -> None:
    """Let cards be disclosed again: what sealed the ledger is put right, and you say so.

    Where the file and HashiCorp Vault have lost what was signed, give a checkpoint that somebody
    else has kept.
    """
    require_one(config, embedded)
    note = checkpoint.read_bytes() if checkpoint is not None else None
    if not 0 < len(statement) <= STATEMENT_CHARACTERS_MAX:
        raise typer.BadParameter(f"--statement: 1 to {STATEMENT_CHARACTERS_MAX} characters")

    async def work() -> None:
        async with deployment_of(config, embedded) as deployment:
            before = await status_of(deployment)
            if before.broken is not None and checkpoint is None:
                fail(f"{before.broken}: put the right database back first")
            if not before.seals and checkpoint is None:
                fail("nothing is sealed")
            if not yes:
                typer.confirm(f"End the seal ({', '.join(before.seals) or 'none'})?", abort=True)
            async with on_record(deployment, checked=note is None) as act:
                if note is not None:
                    await _relearn(act, note)
                lifted = await lift(
                    act.database,
                    act.ledger,
                    CONSOLE,
                    statement=statement,
                    now=utc_now,
                    also=("rollback",) if checkpoint is not None else (),
                )
            console.print(f"no longer sealed: {', '.join(lifted)}")

    run(work())


def rotate_key(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, yes: YesOption = False
) -> None:
    """Make a new version of the key that signs, and announce it in the log.

    The version before it signs too for ledger.key_overlap_days, so that auditors who know only
    the old one can follow.
    """
    require_one(config, embedded)

    async def work() -> None:
        async with deployment_of(config, embedded) as deployment:
            if not yes:
                typer.confirm("Make a new signing key?", abort=True)
            async with on_record(deployment) as act:
                await _rotate(act)

    run(work())


async def _relearn(act: OnRecord, raw: bytes) -> None:
    memory = SignerMemory(act.config.state_folder, act.reveal, origin=act.config.ledger.origin)
    try:
        note = parse_note(raw)
        await relearned(act.database, memory, note, act.reveal, origin=act.config.ledger.origin)
    except (NoteRefused, HistoryBroken) as error:
        problem = str(error)
    except MemoryOutrun:
        problem = "another publisher has just written: try again"
    else:
        return
    fail(f"the checkpoint: {problem}")


async def _rotate(act: OnRecord) -> None:
    """Rotate, then announce. What was rotated and not announced is announced by the next try."""
    breaking = Transit(_break_glass(act.config), observer=Silent())
    try:
        await breaking.start()
        announced = await act.database.read(_announced)
        versions = await act.reveal.public_keys(KEY)
        if max(versions) == announced:
            await breaking.rotate_key(KEY)
            versions = await act.reveal.public_keys(KEY)
    finally:
        await breaking.close()
    if max(versions) <= announced:  # a node that lags answered
        fail("the new version is not to be seen yet: give this command again, within a minute")
    newest = max(versions)
    vkey = verifier_key(act.config.ledger.origin, versions[newest])
    entry = KeyRotated(
        id=str(new_uuid7(utc_now())),
        actor=CONSOLE,
        key=KEY,
        from_version=announced,
        to_version=newest,
        vkey=vkey,
    )
    await act.ledger.append(Statement([Line(entry)]))
    typer.echo(vkey)


async def _announced(connection: Connection) -> int:
    """The newest version that the log names; the first is 1."""
    version = await connection.fetchval(
        "SELECT max((convert_from(body, 'UTF8')::jsonb->>'to')::int) FROM entry"
        " WHERE type = 'key.rotated' AND convert_from(body, 'UTF8')::jsonb->>'key' = $1",
        KEY,
    )
    return int(version) if version is not None else 1


def _break_glass(config: Config) -> VaultAccess:
    login = config.vault.break_glass
    if login is None:
        raise StartRefused("vault.break_glass: this command needs that login in the configuration")
    return vault_access(config, login)


# --- how it stands ------------------------------------------------------------------------


async def status_of(config: Config) -> Status:
    """Look at the database, the file and HashiCorp Vault.

    Raises any KeysError; StoreUnavailable.
    """
    reveal = Transit(vault_access(config, config.vault.reveal), observer=Silent())
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    memory = SignerMemory(config.state_folder, reveal, origin=config.ledger.origin)
    try:
        await reveal.start()
        broken = None
        try:
            await history(database, memory, reveal, origin=config.ledger.origin)
        except HistoryBroken as error:
            broken = f"{error} ({error.cause})"
        except StartRefused as refused:
            broken = str(refused)
        recalled = await memory.recall() if broken is None else None
        size, signed, seals, cosigned = await database.read(_facts)
        return Status(
            size=size,
            signed_size=signed[0] if signed else 0,
            signed_at=signed[1] if signed else None,
            seals=seals,
            cosigned=cosigned,
            file=recalled.file if recalled else None,
            kv=recalled.kv if recalled else None,
            broken=broken,
        )
    finally:
        await reveal.close()
        await database.close()


async def _facts(
    connection: Connection,
) -> tuple[int, tuple[int, datetime] | None, dict[str, datetime], dict[str, datetime]]:
    size = await connection.fetchval("SELECT size FROM head WHERE one = 1")
    signed = await connection.fetchrow("SELECT size, at FROM publication WHERE one = 1")
    seals = await connection.fetch("SELECT cause, at FROM seal ORDER BY at")
    cosigned = await connection.fetch(
        "SELECT witness, max(at) AS at FROM cosignature GROUP BY witness ORDER BY witness"
    )
    return (
        size,
        (signed["size"], signed["at"]) if signed is not None else None,
        {row["cause"]: row["at"] for row in seals},
        {row["witness"]: row["at"] for row in cosigned},
    )


def document(found: Status) -> dict[str, object]:
    """The status for machines; times RFC 3339."""
    return {
        "good": found.is_good,
        "size": found.size,
        "signed_size": found.signed_size,
        "signed_at": found.signed_at,
        "sealed": [{"cause": cause, "at": at} for cause, at in found.seals.items()],
        "cosigned": [{"witness": name, "at": at} for name, at in found.cosigned.items()],
        "remembered": {
            "file": found.file.size if found.file else None,
            "vault": found.kv.size if found.kv else None,
        },
        "keys": [key.vkey for key in (found.kv.keys if found.kv else ())],
        "contradiction": found.broken,
    }


def _tell(found: Status) -> None:
    lines = [("entries", f"{found.size}"), ("signed", _signed(found))]
    for place, head in (("file", found.file), ("HashiCorp Vault", found.kv)):
        lines.append((f"remembered in {place}", f"{head.size}" if head else "nothing"))
    if found.kv is not None:
        lines += [(f"key {key.version}", key.vkey) for key in found.kv.keys]
    lines += [(f"witness {name}", _time(at)) for name, at in found.cosigned.items()]
    lines += [
        ("SEALED", f"{cause}, since {_time(at)}: no card is disclosed")
        for cause, at in found.seals.items()
    ]
    if found.broken is not None:
        lines.append(("BROKEN", found.broken))
    for name, value in lines:
        typer.echo(f"{name:<30} {value}")


def _signed(found: Status) -> str:
    if found.signed_at is None:
        return "not yet"
    return f"{found.signed_size} entries, {_time(found.signed_at)}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
