"""`panward callbacks`: where processors post, and the secrets that prove what they post.

An endpoint's URL is shown whole: it is what one types into the processor's dashboard. Secrets go
in by standard input and are never shown again; the login of this command cannot read them.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.api.masked_card import rfc3339
from gateway.commands.callback_trial import send_test
from gateway.commands.credentials import tenant_id
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    deployment_of,
    fail,
    require_one,
    run,
    show,
)
from gateway.commands.secret_input import is_secret_line, secret_line
from gateway.config import Config, Route
from gateway.custody import utc_now
from gateway.embedded import (
    callback_secret_names,
    remove_callback_secret,
    set_callback_secret,
)
from gateway.reporting import callback_url
from gateway.signatures import SCHEMES
from vault.callback_endpoint_table import CallbackEndpoint, CallbackEndpointTable

OVERLAP_HOURS: Final = 72  # the longest that processors go on trying the old URL, most of them
OVERLAP_HOURS_MAX: Final = 30 * 24
SECRET_NAME: Final = re.compile(r"key\.[!-~]{1,128}|webhook_id|authorization")
NAMES: Final = "key.<id>, webhook_id or authorization"

callbacks = typer.Typer(help="What processors report later.", no_args_is_help=True)
endpoints = typer.Typer(help="The URLs that processors post to.", no_args_is_help=True)
stored = typer.Typer(help="What proves that it is the processor.", no_args_is_help=True)
callbacks.add_typer(endpoints, name="endpoints")
callbacks.add_typer(stored, name="secrets")
callbacks.command("send-test")(send_test)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")]
RouteArgument = Annotated[str, typer.Argument(metavar="ROUTE")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=f"{NAMES}.")]
EndpointArgument = Annotated[str, typer.Argument(metavar="ID", help="cbe_…")]


# --- endpoints ------------------------------------------------------------------------------


@endpoints.command("add")
def add(
    tenant: TenantArgument,
    route: RouteArgument,
    scheme: Annotated[
        str | None, typer.Option(help="How it signs, where the processor has several ways.")
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a URL for a tenant's callbacks of a route, to be registered at the processor."""

    async def work(table: CallbackEndpointTable, found: Config) -> None:
        identity = await tenant_id(found, tenant)
        made = await table.add_endpoint(
            identity, route, _scheme(_route(found, route), scheme), at=utc_now()
        )
        if made is None:
            fail(f"{tenant} has as many endpoints as a tenant may have: end some")
        _tell(made, found, as_json=as_json)

    _with_table(config, embedded, work)


@endpoints.command("list")
def list_endpoints(
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only his.")] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the URLs; those that ended too."""

    async def work(table: CallbackEndpointTable, found: Config) -> None:
        whose = None if tenant is None else await tenant_id(found, tenant)
        for endpoint in await table.endpoints(whose):
            document = _document(endpoint, found)
            if as_json:
                show(document)
            else:
                typer.echo("  ".join(str(document[name]) for name in _SHOWN))

    _with_table(config, embedded, work)


@endpoints.command("rotate")
def rotate(
    endpoint_id: EndpointArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=OVERLAP_HOURS_MAX, help="How long the old one goes on.")
    ] = OVERLAP_HOURS,
    as_json: JsonOption = False,
) -> None:
    """Make a new URL in place of one that somebody may have seen; register it in time."""

    async def work(table: CallbackEndpointTable, found: Config) -> None:
        overlap = timedelta(hours=overlap_hours)
        made = await table.rotate_endpoint(endpoint_id, overlap, at=utc_now())
        if made is None:
            fail(f"there is no endpoint {endpoint_id} that could be rotated")
        _tell(made, found, as_json=as_json)
        console.print(f"{endpoint_id} goes on for {overlap_hours} h")

    _with_table(config, embedded, work)


@endpoints.command("end")
def end(
    endpoint_id: EndpointArgument, config: ConfigOption = None, embedded: EmbeddedOption = None
) -> None:
    """End a URL at once: what is posted there is refused."""

    async def work(table: CallbackEndpointTable, _found: Config) -> None:
        if not await table.end_endpoint(endpoint_id, at=utc_now()):
            fail(f"there is no endpoint {endpoint_id} in force")
        typer.echo(f"{endpoint_id} ended")

    _with_table(config, embedded, work)


# --- secrets --------------------------------------------------------------------------------


@stored.command("set")
def set_(
    tenant: TenantArgument,
    route: RouteArgument,
    name: NameArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Set one secret of a tenant's callbacks of a route; it is read from standard input.

    `key.<id>`: what signs, as the processor shows it; the id is the processor's own where it sends
    one (Braintree: the public key), else any. Several are in force side by side, for rotation.
    `webhook_id`: PayPal's. `authorization`: the header that is expected beside, or instead.
    """
    require_one(config, embedded)
    _check(name)
    text = secret_line("callback secret")
    if not is_secret_line(text):
        raise typer.BadParameter("the secret must be one line of printable ASCII")

    async def work(found: Config) -> None:
        identity = await tenant_id(found, tenant)
        _route(found, route)
        version = await set_callback_secret(found, identity, route, name, text)
        if version is None:
            fail("somebody else set one at the same time: try again")
        console.print(f"set: version {version}, in force within a minute")

    _with_deployment(config, embedded, work)


@stored.command("list")
def list_secrets(
    tenant: TenantArgument,
    route: RouteArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the names of the secrets that are set; never what they are."""

    async def work(found: Config) -> None:
        identity = await tenant_id(found, tenant)
        for name in await callback_secret_names(found, identity, route):
            if as_json:
                show({"tenant": identity, "route": route, "name": name})
            else:
                typer.echo(name)

    _with_deployment(config, embedded, work)


@stored.command("remove")
def remove(
    tenant: TenantArgument,
    route: RouteArgument,
    name: NameArgument,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
) -> None:
    """Remove one secret: what it signed is refused within a minute."""
    _check(name)

    async def work(found: Config) -> None:
        identity = await tenant_id(found, tenant)
        if not await remove_callback_secret(found, identity, route, name):
            fail(f"no secret {name} is set")
        console.print("removed: refused within a minute")

    _with_deployment(config, embedded, work)


# --- what they share ------------------------------------------------------------------------

_SHOWN: Final = ("id", "tenant", "route", "scheme", "state", "url")


def _tell(endpoint: CallbackEndpoint, config: Config, *, as_json: bool) -> None:
    if as_json:
        show(_document(endpoint, config))
    else:
        typer.echo(callback_url(config, endpoint.id))
    if config.callbacks.public_url is None:
        console.print("callbacks.public_url is not set: see that processors reach this host")


def _document(endpoint: CallbackEndpoint, config: Config) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "tenant": endpoint.tenant,
        "route": endpoint.route,
        "scheme": endpoint.scheme,
        "url": callback_url(config, endpoint.id),
        "state": _state(endpoint),
        "created_at": rfc3339(endpoint.created_at),
        "ends_at": rfc3339(endpoint.ends_at),
    }


def _state(endpoint: CallbackEndpoint) -> str:
    if not endpoint.is_in_force(utc_now()):
        return "ended"
    return "in force" if endpoint.ends_at is None else "ending"


def _route(config: Config, name: str) -> Route:
    for route in config.routes:
        if route.name == name:
            return route
    return fail(f"there is no route {name}")


def _scheme(route: Route, wanted: str | None) -> str:
    """The scheme that was asked for, or the one that the preset names first."""
    rules = route.preset.callbacks
    if rules is None:
        fail(f"the preset of {route.name} knows no callbacks")
    wanted = wanted or rules.schemes[0]
    if wanted not in rules.schemes:
        fail(f"the schemes of {route.name} are: {', '.join(rules.schemes)}")
    if SCHEMES[wanted].kind == "fetch" and route.credential != "injected":
        fail(
            f"{wanted} is a notice, of which the processor is asked with the stored credential:"
            f' the route {route.name} must have credential = "injected"'
        )
    return wanted


def _check(name: str) -> None:
    if not SECRET_NAME.fullmatch(name):
        raise typer.BadParameter(f"the name must be {NAMES}")


def _with_table(
    config: Path | None,
    embedded: Path | None,
    work: Callable[[CallbackEndpointTable, Config], Awaitable[None]],
) -> None:
    async def connected() -> None:
        async with database_of(config, embedded) as (database, found):
            await work(CallbackEndpointTable(database), found)

    run(connected())


def _with_deployment(
    config: Path | None, embedded: Path | None, work: Callable[[Config], Awaitable[None]]
) -> None:
    require_one(config, embedded)

    async def connected() -> None:
        async with deployment_of(config, embedded) as found:
            await work(found)

    run(connected())
