"""What the subcommands share: options, exit codes, and how a command reaches its deployment."""

import gc
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Never

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from gateway.config import Config, load_config
from gateway.custody import utc_now
from gateway.embedded import LISTENERS, embedded_deployment
from gateway.hardening import harden
from vault.db import Database
from vault.embedded.bootstrap import StartOptions
from vault.embedded.hold import InUse
from vault.errors import StartRefused

EX_FAILED: Final = 1
EX_CONFIG: Final = 78

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="F", help="panward.toml of the deployment.")
]
EmbeddedOption = Annotated[
    Path | None,
    typer.Option("--embedded", metavar="DIR", help='Folder of an embedded (env = "test") one.'),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

console = Console(stderr=True, highlight=False)


def fail(message: str, code: int = EX_FAILED) -> Never:
    """Say why, on standard error, and end with an exit code."""
    console.print(f"[bold red]panward:[/] {escape(message)}", soft_wrap=True)
    sys.exit(code)


def run(work: Coroutine[object, object, None]) -> None:
    """Run a command's work on uvloop, in a process that keeps no cores."""
    harden()
    uvloop.run(work)


def spare_the_collector() -> None:
    """Leave what was built at the start alone: looking at it again took a tenth of the time.

    Cycles that come later are still collected, less often: at 700 new objects, as it is by
    itself, half of the time that a file's rows take went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def require_one(config: Path | None, embedded: Path | None) -> None:
    """Raises BadParameter unless exactly one of the two is given."""
    if (config is None) == (embedded is None):
        raise typer.BadParameter("give either --config F or --embedded DIR")


def show(document: object) -> None:
    """Print one line of JSON on standard output."""
    typer.echo(msgspec.json.encode(document).decode())


@asynccontextmanager
async def database_of(
    config: Path | None, embedded: Path | None
) -> AsyncIterator[tuple[Database, Config]]:
    """Give a deployment's database, open, and its configuration.

    Raises BadParameter unless exactly one of the two is given; StartRefused; StoreUnavailable.
    """
    require_one(config, embedded)
    async with deployment_of(config, embedded) as found:
        database = await Database.open(found.secret(found.database.runtime_dsn_file))
        try:
            yield database, found
        finally:
            await database.close()


@asynccontextmanager
async def deployment_of(config: Path | None, embedded: Path | None) -> AsyncIterator[Config]:
    """The configuration of a deployment whose database and key service answer.

    An embedded one that is not running is started for the time of the command. Raises
    StartRefused.
    """
    if config is not None:
        yield load_config(config)
        return
    assert embedded is not None
    file = embedded / "panward.toml"
    if not file.is_file():
        raise StartRefused(f"{embedded} holds no deployment: panward up --embedded makes one")
    deployment = embedded_deployment(
        embedded, at=utc_now(), options=StartOptions(listeners=LISTENERS)
    )
    async with AsyncExitStack() as stack:
        started = None
        with suppress(InUse):  # it is running: its children answer us too
            started = await stack.enter_async_context(deployment)
        yield load_config(file) if started is None else started.config
