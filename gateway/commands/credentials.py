"""`panward credentials`: processor keys, which live in HashiCorp Vault and nowhere else."""

import sys
from typing import Annotated

import typer

from gateway.commands.options import (
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
from gateway.config import Config
from gateway.embedded import list_credentials, set_credential
from gateway.lanes import KEY_NAME
from vault.db import Database
from vault.tenant_table import TenantTable

SECRET_CHARACTERS_MAX = 4096

credentials = typer.Typer(help="Processor keys in HashiCorp Vault.", no_args_is_help=True)


@credentials.command("set")
def set_(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")],
    route: Annotated[str, typer.Argument(metavar="ROUTE")],
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Set a tenant's processor key for a route; it is read from standard input."""
    require_one(config, embedded)
    if sys.stdin.isatty():
        secret = typer.prompt("processor key", hide_input=True)
    else:
        secret = sys.stdin.read(SECRET_CHARACTERS_MAX)
    secret = secret.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise typer.BadParameter("the processor key must be one line of printable ASCII")

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            identity = await _tenant_id(found, tenant)
            if route not in {one.name for one in found.routes}:
                fail(f"there is no route {route}")
            version = await set_credential(found, identity, route, {KEY_NAME: secret})
            if version is None:
                fail("somebody else set it at the same time: try again")
            console.print(f"set: version {version}, in force within a minute")

    run(work())


@credentials.command("list")
def list_(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """List which tenants have a processor key for which routes; never the keys."""
    require_one(config, embedded)

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            for tenant, route, version in await list_credentials(found):
                if as_json:
                    show({"tenant": tenant, "route": route, "version": version})
                else:
                    typer.echo(f"{tenant}  {route}  version {version}")

    run(work())


async def _tenant_id(config: Config, name: str) -> str:
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        found = await TenantTable(database).named(name)
    finally:
        await database.close()
    if found is None:
        fail(f"there is no tenant {name}")
    return found.id
