"""`panward edge-keys status|replace`: the keys to which browsers seal cards, and their replacement.

What is shown is what everybody may have. Status reads as a gateway does, private halves too: they
are in this process while it runs, for that is how a pair is seen to be one. Nothing prints them.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from gateway.api.masked_card import rfc3339
from gateway.commands.on_record import CONSOLE, on_record
from gateway.commands.options import (
    EX_FAILED,
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    deployment_of,
    require_one,
    run,
    show,
)
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from vault.edge_key_rotation import EdgeKeyRotation
from vault.edge_keys import EdgeKey, EdgeKeys, made_at
from vault.observer import Silent
from vault.transit import Transit

edge_keys = typer.Typer(help="The keys to which browsers seal cards.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Found:
    """The edge keys of a deployment at a moment."""

    origin: str
    at: datetime
    keys: tuple[EdgeKey, ...]
    refused: Mapping[str, str]
    signing_keys: Mapping[int, bytes]

    @property
    def is_good(self) -> bool:
        return bool(self.keys) and not self.refused


@edge_keys.command("status")
def status(
    config: ConfigOption = None, embedded: EmbeddedOption = None, *, as_json: JsonOption = False
) -> None:
    """Show the keys in use, and the verifying keys that pages and apps may pin.

    Exit 1 if there is no key, or one whose signature does not hold.
    """
    require_one(config, embedded)
    found: list[Found] = []

    async def work() -> None:
        async with deployment_of(config, embedded) as deployment:
            found.append(await _found(deployment))

    run(work())
    if as_json:
        show(_document(found[0]))
    else:
        _tell(found[0])
    if not found[0].is_good:
        raise typer.Exit(EX_FAILED)


@edge_keys.command("replace")
def replace(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a new key and destroy all others at once: for one that somebody may have seen.

    Cards that are being typed are refused once and sealed anew by the fields. Gateways follow
    within ten seconds.
    """
    require_one(config, embedded)

    async def work() -> None:
        async with deployment_of(config, embedded) as deployment:
            if not yes:
                typer.confirm("Destroy all edge keys, and make a new one?", abort=True)
            async with on_record(deployment) as act:
                rotation = EdgeKeyRotation(
                    act.reveal,
                    act.ledger,
                    origin=deployment.ledger.origin,
                    now=utc_now,
                    rotate=timedelta(hours=deployment.checkout.edge_key_hours),
                    overlap=timedelta(hours=deployment.checkout.edge_key_overlap_hours),
                    actor=CONSOLE,
                )
                destroyed = await rotation.replace_all()
        for kid in destroyed:
            typer.echo(kid)
        console.print(f"destroyed: {len(destroyed)}; there is a new one")

    run(work())


async def _found(config: Config) -> Found:
    """Raises any KeysError."""
    transit = Transit(vault_access(config, config.vault.tokenize), observer=Silent())
    try:
        await transit.start()
        keys = EdgeKeys(transit, origin=config.ledger.origin, now=utc_now)
        await keys.refresh()
        return Found(
            origin=config.ledger.origin,
            at=utc_now(),
            keys=keys.published(),
            refused=dict(keys.refused),
            signing_keys=dict(keys.signing_keys()),
        )
    finally:
        await transit.close()


def _document(found: Found) -> dict[str, object]:
    """The status for machines; times RFC 3339."""
    return {
        "good": found.is_good,
        "origin": found.origin,
        "keys": [
            {
                "kid": key.kid,
                "age_seconds": _age_seconds(found, key),
                "not_before": rfc3339(key.not_before),
                "not_after": rfc3339(key.not_after),
                "public_key": _text(key.public_key),
                "signed_by": key.signed_by,
            }
            for key in found.keys
        ],
        "refused": [
            {"kid": kid, "made_at": at and rfc3339(at), "reason": reason}
            for kid, reason in found.refused.items()
            for at in [made_at(kid)]
        ],
        "signing_keys": [
            {"version": version, "public_key": _text(public_key)}
            for version, public_key in sorted(found.signing_keys.items())
        ],
    }


def _tell(found: Found) -> None:
    lines = [(key.kid, _told(found, key)) for key in found.keys]
    lines += [(kid, f"REFUSED ({reason}): not ours") for kid, reason in found.refused.items()]
    if not found.keys:
        lines.append(("NONE", "no browser can seal a card; a running gateway makes a key"))
    lines += [
        (f"verifying key, version {version}", _text(public_key))
        for version, public_key in sorted(found.signing_keys.items())
    ]
    for name, value in lines:
        typer.echo(f"{name:<30} {value}")


def _told(found: Found, key: EdgeKey) -> str:
    hours = _age_seconds(found, key) / 3600
    ends = rfc3339(key.not_after)
    return f"{hours:.1f} h old, opens until {ends}, signed by version {key.signed_by}"


def _age_seconds(found: Found, key: EdgeKey) -> int:
    return (found.at - key.not_before) // timedelta(seconds=1)


def _text(public_key: bytes) -> str:
    return base64.b64encode(public_key).decode("ascii")
