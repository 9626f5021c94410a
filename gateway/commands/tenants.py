"""`panward tenants`: merchants and their API keys. A key's text is shown once, when it is made.

So is an alias, which is the same key in the form that a processor's SDK insists on. Where the SDK
computes with its secret, that secret goes to HashiCorp Vault, below the tenant's processor keys.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
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
from gateway.embedded import set_credential
from gateway.origins import OriginRefused, parse_origin
from vault.api_keys import (
    AliasForm,
    KeyKind,
    NewAlias,
    certificate_alias,
    new_alias,
    new_api_key,
    parse_scopes,
    signing_secret_name,
)
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable
from vault.tokens import Env, new_id

TENANT_CHARACTERS = 16

tenants = typer.Typer(help="Merchants and their API keys.", no_args_is_help=True)
keys = typer.Typer(help="API keys of a tenant.", no_args_is_help=True)
tenants.add_typer(keys, name="keys")

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="tokenize, read, bin, fingerprint, update, delete, ledger, webhooks, route:<name>;"
        " repeatable.",
    ),
]


OriginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        metavar="ORIGIN",
        help="Whose pages may use it: https://shop.example, or app:<name>; repeatable.",
    ),
]


@tenants.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="[a-z0-9_.-], 1 to 64")],
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Add a tenant."""

    async def work(table: TenantTable, _config: Config) -> None:
        tenant = Tenant(new_id("t", TENANT_CHARACTERS), name, utc_now())
        if not await table.add(tenant):
            fail(f"there is a tenant {name} already")
        if as_json:
            show({"id": tenant.id, "name": tenant.name})
        else:
            typer.echo(f"{tenant.id}  {tenant.name}")

    _with_table(config, embedded, work)


@tenants.command("list")
def list_tenants(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """List all tenants with their keys; never the keys' text."""

    async def work(table: TenantTable, _config: Config) -> None:
        shown = Table("tenant", "name", "key", "kind", "scopes", "state")
        for tenant in await table.list():
            rows = await table.keys(tenant.id)
            if as_json:
                keys_of = [_key_document(row) for row in rows]
                show({"id": tenant.id, "name": tenant.name, "keys": keys_of})
                continue
            for row in rows:
                state = "revoked" if row.revoked_at else "in force"
                scopes = " ".join(sorted(row.scopes))
                shown.add_row(tenant.id, tenant.name, row.id, row.kind, scopes, state)
            if not rows:
                shown.add_row(tenant.id, tenant.name, "none", "", "", "")
        if not as_json:
            Console().print(shown)

    _with_table(config, embedded, work)


@keys.command("add")
def add_key(  # noqa: PLR0913 - an option a parameter
    tenant: TenantArgument,
    scope: ScopeOption = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    publishable: Annotated[bool, typer.Option(help="For a page: can only create tokens.")] = False,
    origin: OriginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key. Its text is shown this once, and not kept."""
    kind: KeyKind = "publishable_key" if publishable else "secret_key"
    try:
        scopes = parse_scopes(scope or [], kind=kind)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not publishable and not scopes:
        raise typer.BadParameter("a secret key needs at least one --scope")
    if origin and not publishable:
        raise typer.BadParameter("--origin is for a --publishable key: pages have no other")

    async def work(table: TenantTable, deployment: Config) -> None:
        found = await table.named(tenant)
        if found is None:
            fail(f"there is no tenant {tenant}")
        made = new_api_key(kind, deployment.env)
        pages = _origins(origin or [], deployment.env)
        row = ApiKeyRow(made.id, found.id, kind, made.digest, scopes, utc_now(), None, None, pages)
        await table.add_key(row)
        await _warn_of_shared(table, pages, found.id)
        if as_json:
            show({"key": made.text, **_key_document(row)})
        else:
            typer.echo(made.text)

    _with_table(config, embedded, work)


@keys.command("origins")
def change_origins(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="k_…, of a publishable key")],
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="ORIGIN", help="Repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="ORIGIN", help="Repeatable.")
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show or change whose pages may use a publishable key; in force within five seconds."""

    async def work(table: TenantTable, deployment: Config) -> None:
        row = await table.key(key)
        if row is None or row.kind != "publishable_key" or row.revoked_at is not None:
            fail(f"there is no publishable key {key} in force")
        wanted = row.origins | _origins(add or [], deployment.env)
        for origin in remove or []:
            if origin not in wanted:
                fail(f"{origin} is not on the list of {key}")
            wanted -= {origin}
        if wanted != row.origins and not await table.set_origins(key, wanted):
            fail(f"{key} was revoked just now")
        await _warn_of_shared(table, wanted - row.origins, row.tenant)
        if as_json:
            show({"id": key, "origins": sorted(wanted)})
        else:
            typer.echo("\n".join(sorted(wanted)) or "none: no page may use this key")

    _with_table(config, embedded, work)


async def _warn_of_shared(table: TenantTable, origins: frozenset[str], tenant: str) -> None:
    """A page of two tenants is one where a script can put the one's fields for the other's."""
    for origin in sorted(await table.also_listing(origins, tenant)):
        typer.echo(f"warning: {origin} is on the list of another tenant's key too", err=True)


def _origins(written: list[str], env: Env) -> frozenset[str]:
    """Read origins, or say which is none."""
    found = set()
    for text in written:
        try:
            found.add(parse_origin(text, env=env))
        except OriginRefused as refused:
            raise typer.BadParameter(f"{text}: {refused}") from None
    return frozenset(found)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="k_…, as `tenants list` shows it")],
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Revoke an API key: refused everywhere within five seconds."""

    async def work(table: TenantTable, _config: Config) -> None:
        if not await table.revoke_key(key, at=utc_now()):
            fail(f"there is no key {key} in force")
        typer.echo(f"{key} revoked")

    _with_table(config, embedded, work)


@tenants.command("key-alias")
def add_alias(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="k_…, of a secret key")],
    form: Annotated[AliasForm, typer.Option(help="Whose form the alias is to have.")],
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="The client's certificate, for client_certificate."),
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Give a secret key another form, for an SDK that insists on it. It is shown this once.

    It may do what the key may, and ends with it. Of `signing_key`, the secret also goes to
    HashiCorp Vault, since panward computes with it.
    """
    if (certificate is None) == (form == "client_certificate"):
        raise typer.BadParameter("--certificate goes with --form client_certificate")
    given = None if certificate is None else certificate_alias(_certificate(certificate))

    async def work(table: TenantTable, deployment: Config) -> None:
        row = await table.key(key)
        if row is None or row.kind != "secret_key" or row.revoked_at is not None:
            fail(f"there is no secret key {key} in force")
        alias = given or new_alias(form, deployment.env, row.id)
        if form == "signing_key":
            await _keep_secret(deployment, row.tenant, alias)
        if not await table.add_alias(alias, row.id, at=utc_now()):
            fail("this alias is another key's, or the key was revoked just now")
        if as_json:
            show({"key": row.id, "form": form, **alias.parts})
        else:
            for name, text in alias.parts.items():
                typer.echo(text if len(alias.parts) == 1 else f"{name}  {text}")

    _with_table(config, embedded, work)


async def _keep_secret(deployment: Config, tenant: str, alias: NewAlias) -> None:
    """Put an issued secret where the way out can read it; nobody knows its key id before that."""
    name, secret = signing_secret_name(alias.parts["key_id"]), alias.parts["secret"]
    if await set_credential(deployment, tenant, name, {"secret": secret}) is None:
        fail("the secret could not be stored: try again")


def _certificate(path: Path) -> bytes:
    """Read the first certificate of a PEM file, as DER."""
    try:
        loaded = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        loaded = None
    if loaded is None:
        raise typer.BadParameter("there is no readable PEM certificate in that file")
    if loaded.not_valid_after_utc <= utc_now():
        raise typer.BadParameter("that certificate has expired")
    return loaded.public_bytes(Encoding.DER)


def _key_document(row: ApiKeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "scopes": sorted(row.scopes),
        "origins": sorted(row.origins),
        "created_at": rfc3339(row.created_at),
        "revoked_at": rfc3339(row.revoked_at),
    }


def _with_table(
    config: Path | None,
    embedded: Path | None,
    work: Callable[[TenantTable, Config], Awaitable[None]],
) -> None:
    async def connected() -> None:
        async with database_of(config, embedded) as (database, found):
            await work(TenantTable(database), found)

    run(connected())
