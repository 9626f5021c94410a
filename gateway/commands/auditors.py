"""`panward auditors`: who may read the whole log on the ops listener.

A key's text is shown once, when it is made. It reads the published log of all tenants, which is
ids, times and commitments, and does nothing else.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.api.masked_card import rfc3339
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    database_of,
    fail,
    run,
    show,
)
from gateway.config import Config
from gateway.custody import utc_now
from vault.api_keys import new_api_key
from vault.auditor_table import AuditorKeyRow, AuditorTable

_NAME = re.compile("[a-z0-9_.-]{1,64}")

auditors = typer.Typer(help="Who may read the whole log.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="[a-z0-9_.-], 1 to 64")]
ExpiresOption = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"],
        metavar="TIME",
        help="When the key ends, in UTC: 2030-12-31 or 2030-12-31T12:00:00Z.",
    ),
]


@auditors.command("add")
def add(
    name: NameArgument,
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make an auditor's key. Its text is shown this once, and not kept."""
    if not _NAME.fullmatch(name):
        raise typer.BadParameter("a name has 1 to 64 of a-z, 0-9, `_`, `.` and `-`")
    ends = None if expires is None else expires.replace(tzinfo=UTC)
    if ends is not None and ends <= utc_now():
        raise typer.BadParameter("--expires is in the past")

    async def work(table: AuditorTable, deployment: Config) -> None:
        made = new_api_key("auditor_key", deployment.env)
        row = AuditorKeyRow(made.id, name, made.digest, utc_now(), ends, None)
        if not await table.add(row):
            fail(f"there is an auditor {name} already, or was one")
        if as_json:
            show({"key": made.text, **_document(row)})
        else:
            typer.echo(made.text)

    _with_table(config, embedded, work)


@auditors.command("list")
def list_auditors(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """List all auditors; never their keys' text."""

    async def work(table: AuditorTable, _config: Config) -> None:
        shown = Table("auditor", "key", "made", "expires", "state")
        for row in await table.list():
            if as_json:
                show(_document(row))
            made, ends = rfc3339(row.created_at), rfc3339(row.expires_at) or "never"
            shown.add_row(row.name, row.id, made, ends, _state(row))
        if not as_json:
            Console().print(shown)

    _with_table(config, embedded, work)


@auditors.command("revoke")
def revoke(
    name: NameArgument, config: ConfigOption = None, embedded: EmbeddedOption = None
) -> None:
    """Revoke an auditor's key: refused everywhere within five seconds."""

    async def work(table: AuditorTable, _config: Config) -> None:
        if not await table.revoke(name, at=utc_now()):
            fail(f"there is no auditor {name} whose key is not revoked")
        typer.echo(f"{name} revoked")

    _with_table(config, embedded, work)


def _state(row: AuditorKeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "in force" if row.is_in_force(utc_now()) else "expired"


def _document(row: AuditorKeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339(row.expires_at),
        "revoked_at": rfc3339(row.revoked_at),
    }


def _with_table(
    config: Path | None,
    embedded: Path | None,
    work: Callable[[AuditorTable, Config], Awaitable[None]],
) -> None:
    async def connected() -> None:
        async with database_of(config, embedded) as (database, found):
            await work(AuditorTable(database), found)

    run(connected())
