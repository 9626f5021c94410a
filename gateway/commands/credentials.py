"""`panward credentials`: processor keys, which live in HashiCorp Vault and nowhere else."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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
from gateway.commands.secret_input import is_secret_line, secret_input, secret_line
from gateway.config import Config
from gateway.embedded import list_credentials, set_credential
from gateway.lanes import (
    CERTIFICATE_KEY_NAME,
    CERTIFICATE_NAME,
    KEY_NAME,
    MERCHANT_NAME,
    SECRET_NAME,
    USER_NAME,
)
from vault.api_keys import SIGNING_SECRET_PREFIX
from vault.db import Database
from vault.tenant_table import TenantTable

_PEM: Final = (CERTIFICATE_NAME, CERTIFICATE_KEY_NAME)
_LINES: Final = (KEY_NAME, USER_NAME, SECRET_NAME, MERCHANT_NAME)

credentials = typer.Typer(help="Processor keys in HashiCorp Vault.", no_args_is_help=True)


@credentials.command("set")
def set_(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")],
    route: Annotated[str, typer.Argument(metavar="ROUTE")],
    user: Annotated[
        str | None, typer.Option(help="Login name, public key or key id, where there is one.")
    ] = None,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    json_values: Annotated[
        bool, typer.Option("--json-values", help="Standard input is a JSON object of values.")
    ] = False,
) -> None:
    """Set a tenant's processor key for a route; it is read from standard input.

    Plain: one line, the API key. With --json-values: any of api_key, user, secret (base64, what
    signs), merchant_id, client_certificate and client_key (PEM). What was set before is replaced
    as a whole.
    """
    require_one(config, embedded)
    values = _from_json() if json_values else {KEY_NAME: secret_line("processor key")}
    if user is not None:
        if USER_NAME in values:
            raise typer.BadParameter("the user is given twice")
        values[USER_NAME] = user
    _check(values)

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            identity = await tenant_id(found, tenant)
            if route not in {one.name for one in found.routes}:
                fail(f"there is no route {route}")
            version = await set_credential(found, identity, route, values)
            if version is None:
                fail("somebody else set it at the same time: try again")
            console.print(f"set: version {version}, in force within a minute")

    run(work())


@credentials.command("list")
def list_(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """List which tenants have a processor key for which routes; never the keys.

    Signing keys that panward itself issued are listed too, by their ids.
    """
    require_one(config, embedded)

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            for tenant, name, version in await list_credentials(found):
                issued = name.startswith(SIGNING_SECRET_PREFIX)
                kind, text = ("route", name)
                if issued:
                    kind, text = ("signing_key", name.removeprefix(SIGNING_SECRET_PREFIX))
                if as_json:
                    show({"tenant": tenant, kind: text, "version": version})
                else:
                    shown = f"signing key {text}" if issued else text
                    typer.echo(f"{tenant}  {shown}  version {version}")

    run(work())


# --- reading what is set --------------------------------------------------------------------


def _from_json() -> dict[str, str]:
    """Read the values; what is wrong with them is never quoted."""
    try:
        values = msgspec.json.decode(secret_input(), type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        values = None
    if not values:
        raise typer.BadParameter("standard input must be a JSON object of texts")
    return values


def _check(values: Mapping[str, str]) -> None:
    """Refuse what could not be sent, while whoever sets it is still there."""
    if not values.keys() <= {*_LINES, *_PEM}:
        raise typer.BadParameter(f"the values have other names: {', '.join((*_LINES, *_PEM))}")
    for name in _LINES:
        if not is_secret_line(values.get(name, " ")):
            what = "the processor key" if name == KEY_NAME else name
            raise typer.BadParameter(f"{what} must be one line of printable ASCII")
    if not _is_pair(*(values.get(name) for name in _PEM)):
        raise typer.BadParameter(f"{' and '.join(_PEM)} must be a PEM certificate and its own key")


def _is_pair(certificate: str | None, key: str | None) -> bool:
    if certificate is None or key is None:
        return certificate is key
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):  # its text may quote the key
        return False
    return chain[0].public_key() == private.public_key()


async def tenant_id(config: Config, name: str) -> str:
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    try:
        found = await TenantTable(database).named(name)
    finally:
        await database.close()
    if found is None:
        fail(f"there is no tenant {name}")
    return found.id
