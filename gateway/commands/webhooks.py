"""`panward webhooks`: where a merchant hears of things, and what is on its way there.

What merchants do by the API, for an operator's hand. Secrets are shown once, when they are made.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import typer

from gateway.addresses import AddressAllow
from gateway.api.narrowing import uuid_of
from gateway.api.webhooks import delivery_document, document, secret_document
from gateway.commands.credentials import tenant_id
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    database_of,
    fail,
    run,
    show,
)
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from gateway.errors import BadField
from gateway.webhook_endpoints import (
    CONCURRENCY,
    CONCURRENCY_MAX,
    Wanted,
    WebhookEndpoints,
    schemes_by_route,
)
from vault.db import Database
from vault.keys import RevealKeys
from vault.observer import Silent
from vault.tenant_table import TenantTable
from vault.transit import Transit
from vault.webhook_table import DeliveryFilter, WebhookTable

PAGE: Final = 100
BY_OPERATOR: Final = "operator"
"""Why an endpoint is disabled that was disabled here."""

webhooks = typer.Typer(help="What merchants are told.", no_args_is_help=True)
endpoints = typer.Typer(help="Where they are told it.", no_args_is_help=True)
webhooks.add_typer(endpoints, name="endpoints")

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")]
EndpointArgument = Annotated[str, typer.Argument(metavar="ID", help="we_…")]
StateOption = Annotated[Literal["waiting", "delivered", "dead"] | None, typer.Option("--state")]

T = TypeVar("T")
Work = Callable[[WebhookTable, str], Awaitable[None]]


# --- endpoints ------------------------------------------------------------------------------


@endpoints.command("add")
def add(  # noqa: PLR0913 - an option a parameter
    tenant: TenantArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://…")],
    *,
    form: Annotated[
        Literal["callbacks", "events"],
        typer.Option(help="The processor's own callbacks of a route, or panward's events."),
    ] = "events",
    route: Annotated[str | None, typer.Option(help="Whose callbacks.")] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only these; `charge.*` too; repeatable."),
    ] = None,
    signature: Annotated[
        Literal["original", "own"] | None, typer.Option(help="How callbacks are signed.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=CONCURRENCY_MAX)] = CONCURRENCY,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add an endpoint. Its secrets are shown this once."""
    wanted = Wanted(url, form, route, tuple(type_ or ()), signature, concurrency)

    async def work() -> None:
        async with _story(config, embedded, tenant) as (story, identity):
            endpoint, made = await _refusing(story.open(identity, wanted))
        secrets = [secret_document(one) for one in made]
        if as_json:
            show({**document(endpoint), "secrets": secrets})
            return
        typer.echo(endpoint.id)
        for secret in secrets:
            typer.echo(f"{secret['scheme']}  {secret['key_id']}  {secret['secret']}")

    run(work())


@endpoints.command("list")
def list_endpoints(
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only his.")] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List endpoints; never their secrets."""

    async def work() -> None:
        async with database_of(config, embedded) as (database, found):
            if tenant is None:
                whose = [one.id for one in await TenantTable(database).list()]
            else:
                whose = [await tenant_id(found, tenant)]
            for identity in whose:
                for endpoint in await WebhookTable(database).list(identity):
                    row = {"tenant": identity, **document(endpoint)}
                    _tell(row, ("id", "tenant", "form", "route", "state", "url"), as_json=as_json)

    run(work())


@endpoints.command("disable")
def disable(
    tenant: TenantArgument,
    endpoint: EndpointArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Deliver nothing there; what comes meanwhile waits, for thirty days at most."""

    async def work(table: WebhookTable, identity: str) -> None:
        if not await table.disable(identity, endpoint, BY_OPERATOR, utc_now()):
            fail(f"there is no endpoint {endpoint} that is active")
        typer.echo(f"{endpoint} disabled")

    _with_table(config, embedded, tenant, work)


@endpoints.command("enable")
def enable(
    tenant: TenantArgument,
    endpoint: EndpointArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Deliver again, at once: one that was disabled, or is paused because it failed."""

    async def work(table: WebhookTable, identity: str) -> None:
        if not await table.enable(identity, endpoint, utc_now()):
            fail(f"there is no endpoint {endpoint}")
        typer.echo(f"{endpoint} enabled")

    _with_table(config, embedded, tenant, work)


@endpoints.command("remove")
def remove(
    tenant: TenantArgument,
    endpoint: EndpointArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """End an endpoint: what waits for it is dead, and its secrets are taken away."""

    async def work() -> None:
        async with _story(config, embedded, tenant) as (story, identity):
            if not await story.remove(identity, endpoint):
                fail(f"there is no endpoint {endpoint}")
        typer.echo(f"{endpoint} removed")

    run(work())


# --- deliveries -----------------------------------------------------------------------------


@webhooks.command("deliveries")
def deliveries(
    tenant: TenantArgument,
    state: StateOption = None,
    endpoint: Annotated[str | None, typer.Option(metavar="ID", help="Only to this one.")] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List what is and was on its way, newest first."""
    narrowed = DeliveryFilter(endpoint=endpoint, state=state)

    async def work(table: WebhookTable, identity: str) -> None:
        async for row in _all(table, identity, narrowed):
            shown = ("id", "endpoint", "state", "tries", "last_status", "last_error", "created_at")
            _tell(row, shown, as_json=as_json)

    _with_table(config, embedded, tenant, work)


@webhooks.command("replay")
def replay(
    tenant: TenantArgument,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="dlv_…")] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="ID", help="With --dead: of this one.")
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="All that an endpoint never took.")] = False,
) -> None:
    """Let deliveries that have ended begin anew: these, or all dead ones of an endpoint."""
    if bool(ids) == dead or dead is (endpoint is None):
        raise typer.BadParameter("give either ids, or --dead with --endpoint ID")
    given = [_delivery(one) for one in ids or ()]

    async def work(table: WebhookTable, identity: str) -> None:
        wanted = given
        if endpoint is not None:
            if await table.get(identity, endpoint) is None:
                fail(f"there is no endpoint {endpoint}")
            narrowed = DeliveryFilter(endpoint=endpoint, state="dead")
            # All of them first: what begins anew is no longer in the list.
            wanted = [_delivery(str(row["id"])) async for row in _all(table, identity, narrowed)]
        again = [await _replayed(table, identity, one) for one in wanted]
        typer.echo(f"{sum(again)} of {len(again)} begin anew")
        if ids and not all(again):
            fail("the others are not there, wait already, or their endpoint was removed")

    _with_table(config, embedded, tenant, work)


def _delivery(public: str) -> str:
    found = uuid_of("dlv", public)
    if found is None:
        raise typer.BadParameter("an id of a delivery is dlv_ and 26 characters")
    return found


async def _replayed(table: WebhookTable, tenant: str, delivery: str) -> bool:
    found = await table.delivery(tenant, delivery)
    if found is None or await table.get(tenant, found.endpoint) is None:
        return False
    return await table.replay(tenant, delivery, utc_now())


async def _all(
    table: WebhookTable, tenant: str, narrowed: DeliveryFilter
) -> AsyncIterator[Mapping[str, object]]:
    after: tuple[datetime, str] | None = None
    while rows := await table.deliveries(tenant, narrowed, limit=PAGE, after=after):
        for row in rows:
            yield delivery_document(row)
        after = rows[-1].created_at, rows[-1].id


# --- what they share ------------------------------------------------------------------------


def _tell(row: Mapping[str, object], names: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        show(row)
    else:
        typer.echo("  ".join(str("-" if row[name] is None else row[name]) for name in names))


async def _refusing(work: Awaitable[T]) -> T:
    try:
        return await work
    except BadField as refusal:
        reason = f"{refusal.field}: {refusal.reason}"
    return fail(reason)


@asynccontextmanager
async def _story(
    config: Path | None, embedded: Path | None, tenant: str
) -> AsyncIterator[tuple[WebhookEndpoints, str]]:
    """The same story that the API tells, under the login that may write webhook secrets."""
    async with database_of(config, embedded) as (database, found):
        identity = await tenant_id(found, tenant)
        async with _keys(found) as keys:
            yield _endpoints(found, database, keys), identity


@asynccontextmanager
async def _keys(config: Config) -> AsyncIterator[RevealKeys]:
    transit = Transit(vault_access(config, config.vault.reveal), observer=Silent())
    keys = RevealKeys(transit, config.env, digest_version=1, observer=Silent())  # nothing is hashed
    try:
        await transit.start()
        yield keys
    finally:
        await keys.close()
        await transit.close()


def _endpoints(config: Config, database: Database, keys: RevealKeys) -> WebhookEndpoints:
    return WebhookEndpoints(
        WebhookTable(database),
        keys,
        routes=schemes_by_route(config.routes),
        allow=AddressAllow.parse(config.deliveries.address_allow),
        now=utc_now,
    )


def _with_table(config: Path | None, embedded: Path | None, tenant: str, work: Work) -> None:
    async def connected() -> None:
        async with database_of(config, embedded) as (database, found):
            await work(WebhookTable(database), await tenant_id(found, tenant))

    run(connected())
