"""`panward ca`: the authority behind the CONNECT listener's certificates, and its rotation.

What clients must trust is public and is read without a login. Rotation is an act of the
break-glass login, whose secret is not in the gateway's configuration: it is named on the command
line, but for an embedded deployment.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from gateway.api.masked_card import rfc3339
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
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from vault.authority import Authority, Root, public_authority
from vault.embedded.bootstrap import parts_of
from vault.errors import KeysMisconfigured, StartRefused
from vault.observer import Silent
from vault.transit import Transit, VaultAccess

LOGIN: Final = "break-glass"
NO_AUTHORITY: Final = (
    "this deployment's HashiCorp Vault holds no certificate authority (engines pki-root and pki)."
    " An embedded one gets it at its first start only: begin with a new folder"
)

TRUST: Final = (
    ("stripe", "Python", 'stripe.ca_bundle_path = "ca.pem"  (nothing else is read)'),
    ("braintree", "Python", 'Environment.Sandbox.ssl_certificate = "ca.pem"  (nothing else)'),
    ("razorpay", "Python", 'client.cert_path = "ca.pem"  (nothing else)'),
    ("cybersource", "Python", "cannot be told: set IntermediateHost to /out/… instead"),
    ("squareup", "Python", "SSL_CERT_FILE=ca.pem, or httpx_client=httpx.Client(verify=…)"),
    (
        "Adyen, checkout-sdk, authorizenet, paypal, mollie",
        "Python",
        "REQUESTS_CA_BUNDLE=ca.pem",
    ),
    ("requests", "Python", "REQUESTS_CA_BUNDLE=ca.pem  (wins over verify= of a session)"),
    ("httpx · aiohttp", "Python", "SSL_CERT_FILE=ca.pem · TCPConnector(ssl=context)"),
    (
        "stripe, adyen, authorizenet, razorpay, square, mollie",
        "Node",
        "NODE_EXTRA_CA_CERTS=ca.pem",
    ),
    ("braintree, checkout-sdk-node, paypal", "Node", "the ca: of the https agent given to it"),
    ("cybersource", "Node", "cannot be told with a proxy: set intermediateHost instead"),
    ("curl", "any", "curl --cacert ca.pem"),
)
"""How each client is told to trust our root: most bring a bundle of their own."""

ca = typer.Typer(
    help="The certificate authority of the CONNECT listener.", invoke_without_command=True
)

RoleIdOption = Annotated[
    Path | None,
    typer.Option("--role-id-file", metavar="FILE", help="Role id of the break-glass login."),
]
SecretIdOption = Annotated[
    Path | None,
    typer.Option("--secret-id-file", metavar="FILE", help="Secret id of the break-glass login."),
]


@ca.callback()
def show_roots(
    context: typer.Context,
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the PEM bundle there.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the root that clients must trust; during a rotation, the old one and the new one."""
    if context.invoked_subcommand is not None:
        return
    require_one(config, embedded)

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            roots = await _roots(found)
        bundle = b"".join(root.certificate for root in roots)
        if out is not None:
            await asyncio.to_thread(out.write_bytes, bundle)
        if as_json:
            show({"roots": [_document(root) for root in roots]})
            return
        if out is None:
            typer.echo(bundle.decode(), nl=False)
        _tell(roots)

    run(work())


@ca.command("rotate")
def rotate(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    role_id_file: RoleIdOption = None,
    secret_id_file: SecretIdOption = None,
    *,
    activate: Annotated[
        bool, typer.Option("--activate", help="Sign with the new authority from now on.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Destroy the keys of the old authority.")
    ] = False,
) -> None:
    """Replace the authority in three steps: make a new one, --activate it, --retire the old one."""
    require_one(config, embedded)
    if activate and retire:
        raise typer.BadParameter("give --activate or --retire: days lie between them")

    async def work() -> None:
        async with deployment_of(config, embedded) as found:
            access = _break_glass(found, role_id_file, secret_id_file)
            transit = Transit(access, observer=Silent())
            try:
                await transit.start()
                authority = Authority(transit.ask)
                if activate:
                    await authority.activate()
                elif retire:
                    await authority.retire()
                else:
                    await authority.prepare(f"panward {found.env}")
            finally:
                await transit.close()
            roots = await _roots(found)
        _tell_next(activate=activate, retire=retire, roots=roots)

    run(work())


async def _roots(config: Config) -> Sequence[Root]:
    """Read the roots, without logging in."""
    access = vault_access(config, config.vault.tokenize)
    try:
        async with public_authority(access) as authority:
            roots = await authority.roots(at=utc_now())
    except KeysMisconfigured:
        roots = []
    if not roots:
        fail(NO_AUTHORITY)
    return roots


def _break_glass(
    config: Config, role_id_file: Path | None, secret_id_file: Path | None
) -> VaultAccess:
    """Give the access of the one command; raises StartRefused."""
    if config.embedded is not None:
        login = parts_of(config.embedded).logins[LOGIN]
        role_id_file, secret_id_file = login.role_id_file, login.secret_id_file
    if role_id_file is None or secret_id_file is None:
        raise StartRefused(
            "rotation takes the break-glass login: give --role-id-file and --secret-id-file"
        )
    access = vault_access(config, config.vault.tokenize)
    role_id = config.secret(str(role_id_file.absolute()))
    return replace(access, role_id=role_id, secret_id_file=str(secret_id_file))


def _document(root: Root) -> dict[str, object]:
    return {
        "name": root.name,
        "sha256": root.sha256,
        "not_after": rfc3339(root.not_after),
        "in_force": root.in_force,
        "pem": root.certificate.decode("ascii"),
    }


def _tell(roots: Sequence[Root]) -> None:
    """Explain, to a person at a terminal."""
    screen = Console(highlight=False)
    if not screen.is_terminal:
        return
    for root in roots:
        state = "in force" if root.in_force else "not in force"
        screen.print(f"{root.name}: {state}, until {rfc3339(root.not_after)}, {root.sha256[:16]}…")
    table = Table(
        "client", "language", "setting", title="how a client is told to trust it, saved as ca.pem"
    )
    for row in TRUST:
        table.add_row(*row)
    screen.print(table)


def _tell_next(*, activate: bool, retire: bool, roots: Sequence[Root]) -> None:
    if activate:
        console.print(
            "the new authority signs; a running gateway notices within a minute. What the old one"
            " signed ends within three days: then panward ca rotate --retire"
        )
    elif retire:
        console.print("the keys of the old authority are destroyed")
    else:
        console.print(
            "a new root is there, and not in force yet. Give every client the bundle of"
            f" {len(roots)} that panward ca prints now; then panward ca rotate --activate"
        )
