"""`panward callbacks send-test`: whether what a processor signs would be accepted.

A sample event is signed with each secret that is stored and posted to the URL that the processor
has, over the network and by HTTPS, as the processor would. Its type is `panward.test`: it is
received, kept and passed on to the merchant like any other, and means nothing.

The secrets are read with the `tokenize` login, by which the gateway reads them; the login that
sets them still cannot. They are shown to nobody: what is printed is their names.
"""

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from gateway.addresses import AddressAllow
from gateway.callback_samples import NoSample, sample, type_of
from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    fail,
    run,
    show,
)
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from gateway.exchange import Failure, Outcome, Replied
from gateway.https_client import HttpsUrl, Unwatched, UrlRefused
from gateway.preset_callbacks import CallbackEvents
from gateway.reporting import callback_url
from gateway.signatures import SCHEMES, CannotSign, Scheme, Secret, Secrets, signed
from gateway.upstream import Upstream, UpstreamRoute
from vault.callback_endpoint_table import CallbackEndpoint, CallbackEndpointTable
from vault.observer import Silent
from vault.secret_shelves import SecretShelves
from vault.transit import Transit

TIMEOUT_SECONDS: Final = 15.0
ANSWER_BYTES_MAX: Final = 64 * 1024

# It is our own address that is called, wherever that is.
_OWN: Final = AddressAllow.parse(
    (
        *("127.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7"),
    )
)
_NOT_SIGNED: Final[Mapping[str, str]] = {
    "rsa": "is signed with a key that the processor alone has: have it send a test itself",
    "source": "is not signed, and taken from the processor's own addresses only",
    "fetch": "is not signed: of what is posted there the processor is asked",
}
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404


class Refusal(msgspec.Struct, frozen=True):
    """What an answer says that is none of success."""

    code: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one secret."""

    result: str  # accepted, bad_signature, cannot_sign, refused, unreachable
    words: str
    status: int | None = None
    reason: str | None = None


def send_test(
    endpoint_id: Annotated[str, typer.Argument(metavar="ENDPOINT", help="cbe_…")],
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, help="Trust these authorities (embedded: its own)."
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Post a test event to an endpoint, signed with each of its secrets, and say what comes back.

    Its type is panward.test: it is kept and passed on as any other, and changes no payment. Exit 1
    unless each secret is accepted.
    """
    tried: list[Tried] = []
    if embedded is not None and ca_file is None:
        ca_file = embedded / "tls" / "ca.pem"

    async def work() -> None:
        async with database_of(config, embedded) as (database, found):
            endpoint = await CallbackEndpointTable(database).endpoint(endpoint_id, utc_now())
            if endpoint is None:
                fail(f"there is no endpoint {endpoint_id} in force")
            rules, scheme = _rules(found, endpoint)
            stored = await _secrets(found, endpoint)
            if not stored.signing:
                fail(f"no secret key.<id> is set for {endpoint.tenant} {endpoint.route}")
            url = callback_url(found, endpoint.id)
            async with _door(url, ca_file) as door:
                for secret in stored.signing:
                    trial = _Trial(rules, scheme, url, door, stored.authorization)
                    tried.append(result := await trial.of(secret))
                    _tell(secret, result, as_json=as_json)

    run(work())
    if any(one.result != "accepted" for one in tried):
        raise typer.Exit(1)


def _rules(config: Config, endpoint: CallbackEndpoint) -> tuple[CallbackEvents, Scheme]:
    presets = {route.name: route.preset.callbacks for route in config.routes}
    rules = presets.get(endpoint.route)
    if rules is None or endpoint.scheme not in rules.schemes:
        fail(f"the configuration has no route {endpoint.route} with the scheme {endpoint.scheme}")
    scheme = SCHEMES[endpoint.scheme]
    if scheme.kind in _NOT_SIGNED:
        fail(f"a callback of {scheme.name} {_NOT_SIGNED[scheme.kind]}")
    return rules, scheme


async def _secrets(config: Config, endpoint: CallbackEndpoint) -> Secrets:
    transit = Transit(vault_access(config, config.vault.tokenize), observer=Silent())
    try:
        await transit.start()
        shelves = SecretShelves(transit, now=time.monotonic)
        stored = await shelves.get(f"callback/{endpoint.tenant}/{endpoint.route}")
        return Secrets.of(stored or {})
    finally:
        await transit.close()


# --- posting it -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Door:
    """The public listener, as it is reached from here."""

    upstream: Upstream
    path: str


@asynccontextmanager
async def _door(url: str, ca_file: Path | None) -> AsyncIterator[_Door]:
    try:
        address = HttpsUrl.parse(url, _OWN)
    except UrlRefused:
        address = None
    if address is None:
        fail(f"not a URL that can be called: {url}")
    upstream = Upstream(
        UpstreamRoute(
            name="callback_test",
            host=address.host,
            port=address.port,
            timeout_seconds=TIMEOUT_SECONDS,
            address_allow=_OWN,
            ca_file=ca_file,
            reply_bytes_max=ANSWER_BYTES_MAX,
        ),
        Unwatched(),
    )
    try:
        yield _Door(upstream, address.path)
    finally:
        await upstream.close()


@dataclass(frozen=True, slots=True, repr=False)
class _Trial:
    """What is posted, and where."""

    rules: CallbackEvents
    scheme: Scheme
    url: str
    door: _Door
    authorization: str | None

    async def of(self, secret: Secret) -> Tried:
        at = utc_now()
        try:
            headers, body = sample(
                self.rules, self.scheme, f"panward-test-{secrets.token_hex(4)}", at=at
            )
            headers, body = signed(
                self.scheme, headers, body, secret, at=at, url=self.url, keep=False
            )
        except NoSample:
            return Tried("cannot_sign", "by the preset's rules no event can be told for a test")
        except CannotSign:
            return Tried("cannot_sign", f"not in the form of a secret of {self.scheme.name}")
        if self.authorization is not None:
            headers = (*headers, ("Authorization", self.authorization))
        return _said(self.scheme, await self._send(headers, body), self.url)

    async def _send(self, headers: tuple[tuple[str, str], ...], body: bytes) -> Outcome:
        return await self.door.upstream.send("POST", self.door.path, "", headers, body)


def _said(scheme: Scheme, outcome: Outcome, url: str) -> Tried:
    """Say in plain words what came back."""
    if not isinstance(outcome, Replied):
        hint = "; is --ca-file right?" if outcome.code is Failure.TLS_ERROR else ""
        return Tried("unreachable", f"unreachable ({outcome.code}): {url}{hint}")
    status = outcome.status
    if (status, outcome.body) == (scheme.reply.status, scheme.reply.body):
        return Tried("accepted", f"accepted, and on record as {type_of(scheme)}", status)
    said = _refusal(outcome.body)
    if status == _UNAUTHORIZED:
        words = f"bad signature ({said.reason}); a secret set just now is in force within a minute"
        return Tried("bad_signature", words, status, said.reason)
    if status == _NOT_FOUND:
        words = f"not this deployment's endpoint is at {url}: see callbacks.public_url"
        return Tried("refused", words, status, said.code)
    return Tried("refused", f"answered {status} {said.code}".rstrip(), status, said.code or None)


def _refusal(body: bytes) -> Refusal:
    try:
        return msgspec.json.decode(body, type=Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Refusal()


def _tell(secret: Secret, tried: Tried, *, as_json: bool) -> None:
    name = f"key.{secret.key_id}"
    if as_json:
        show(
            {"secret": name, "result": tried.result, "status": tried.status, "reason": tried.reason}
        )
    elif tried.result == "accepted":
        typer.echo(f"{name}: {tried.words}")
    else:
        console.print(f"{name}: {tried.words}", markup=False, soft_wrap=True)
