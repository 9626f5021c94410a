"""A route as it is served: its preset, its credentials, and its pools of connections.

A pool for each tenant: what one tenant's credential opened never carries another's call.
"""

import base64
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from gateway.access_tokens import AccessTokens
from gateway.addresses import HTTPS_PORT
from gateway.breaker import Admission, Breaker, ended_well
from gateway.call import Call
from gateway.config import Route
from gateway.errors import CredentialsMissing
from gateway.exchange import Failure, Outcome, Phase, Replied
from gateway.limits import CallLimits
from gateway.preset import Place, Preset
from gateway.resign import SigningKey, signed_again, signing_key
from gateway.upstream import Upstream
from gateway.upstream_tls import ClientCertificateRefused
from vault.keys import RevealKeys

KEY_NAME: Final = "api_key"
USER_NAME: Final = "user"
SECRET_NAME: Final = "secret"  # noqa: S105 - the name of one
MERCHANT_NAME: Final = "merchant_id"
CERTIFICATE_NAME: Final = "client_certificate"
CERTIFICATE_KEY_NAME: Final = "client_key"
"""The names under which HashiCorp Vault keeps a tenant's secrets at `processor/…`."""

ACCESS_TOKEN: Final = "access_token"  # noqa: S105 - not stored: of the processor's own exchange
UNAUTHORIZED: Final = 401
_OF_CERTIFICATES: Final = frozenset({Failure.TLS_ERROR, Failure.RESET})

_NEEDED: Final[Mapping[Place, tuple[str, ...]]] = {
    "bearer": (KEY_NAME,),
    "basic_user": (KEY_NAME,),
    "basic_password": (USER_NAME, KEY_NAME),
    "header": (KEY_NAME,),
    "body": (USER_NAME, KEY_NAME),
    "signature": (USER_NAME, SECRET_NAME),
    "oauth": (USER_NAME, KEY_NAME),
}

OWN_HEADERS: Final = "panward-"
POOLS_MAX: Final = 256
"""Tenants of one route with connections of their own; beyond, idle ones are closed."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """What a tenant's calls are made with, by name; empty where the caller's own login passes."""

    values: Mapping[str, str]


NOTHING: Final = Secret({})


@dataclass(slots=True, repr=False)
class _Pool:
    upstream: Upstream
    certificate: tuple[str, str] | None
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class Guards:
    """What keeps calls from leaving: how many a tenant may make, and a processor that is down."""

    limits: CallLimits
    breaker: Breaker


MakeUpstream = Callable[[tuple[str, str] | None], Upstream]
"""Opens connections, with a tenant's certificate and its key. Raises ClientCertificateRefused."""


class Lane:
    """One route: where a tenant's calls go, and with whose key."""

    def __init__(
        self,
        route: Route,
        make_upstream: MakeUpstream,
        keys: RevealKeys,
        guards: Guards,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._route = route
        self._make_upstream = make_upstream
        self._keys = keys
        self._guards = guards
        self._now = now
        self._pools: dict[str, _Pool] = {}
        self._access_tokens = AccessTokens(monotonic)

    @property
    def limits(self) -> CallLimits:
        return self._guards.limits

    @property
    def breaker(self) -> Breaker:
        return self._guards.breaker

    def heard(self, admission: Admission, outcome: Outcome) -> None:
        """Tell the breaker how a call ended, where that says something of the processor.

        A tenant's own certificate may be what it failed for, in TLS 1.3 after the handshake too:
        that is no word on the others.
        """
        ok = ended_well(outcome)
        own = self._route.client_certificate and _may_be_of_a_certificate(outcome)
        if ok is not None and not own:
            self.breaker.settled(admission, ok=ok)

    @property
    def name(self) -> str:
        return self._route.name

    @property
    def preset(self) -> Preset:
        return self._route.preset

    @property
    def host(self) -> str:
        return f"{self._route.host}:{self._route.port}"

    @property
    def injects(self) -> bool:
        """Whether the caller's API key is panward's, and the processor's is put in its place."""
        return self._route.credential == "injected"

    @property
    def replays_unknown(self) -> bool:
        """Whether the gateway itself repeats a call whose outcome is unknown."""
        return self._route.unknown_replay == "within_lifetime"

    async def close(self) -> None:
        for pool in list(self._pools.values()):
            await pool.upstream.close()

    async def secret(self, tenant: str) -> Secret:
        """Return what a tenant's calls are made with.

        Raises CredentialsMissing when some of it is not set for this tenant and route; any
        KeysError.
        """
        needed = self._needed()
        if not needed:
            return NOTHING
        stored = await self._keys.processor_secret(tenant, self.name)
        if stored is None or not all(name in stored for name in needed):
            raise CredentialsMissing
        secret = Secret(stored)
        if self.preset.credential.sent == "signature":
            self.signing_key(secret)
        self._pool(tenant, secret)  # a certificate that cannot be used is told before the intent
        if self.injects and self.preset.credential.sent == "oauth":
            return Secret({**stored, ACCESS_TOKEN: await self._access_token(tenant, secret)})
        return secret

    async def _access_token(self, tenant: str, secret: Secret) -> str:
        async def send(headers: tuple[tuple[str, str], ...], body: bytes) -> Outcome:
            path = self.preset.credential.token_path or ""
            pool = self._pool(tenant, secret)
            pool.under_way += 1
            try:
                with self.breaker.admitted() as admission:
                    outcome = await pool.upstream.send("POST", path, "", headers, body)
                    self.heard(admission, outcome)
            finally:
                pool.under_way -= 1
            return outcome

        login = secret.values[USER_NAME], secret.values[KEY_NAME]
        return await self._access_tokens.of(tenant, login, send)

    def account(self, secret: Secret, headers: Sequence[tuple[str, str]]) -> bytes:
        """Tell accounts apart: where a call goes, by what login, and in whose name."""
        scopes = self.preset.idempotency.scope_headers
        login = _NEEDED[self.preset.credential.sent] if self.injects else ()
        said = [
            self.host,
            *(f"{name}={secret.values.get(name, '')}" for name in (*login, MERCHANT_NAME)),
            *(f"{name.lower()}: {text}" for name, text in headers if name.lower() in scopes),
        ]
        return hashlib.sha256("\0".join(said).encode("utf-8", "surrogateescape")).digest()

    def _needed(self) -> tuple[str, ...]:
        place = self.preset.credential.sent
        login = _NEEDED[place] if self.injects or place == "signature" else ()
        merchant = (MERCHANT_NAME,) if self.injects and place == "signature" else ()
        return (*login, *merchant, *self._certificate)

    @property
    def _certificate(self) -> tuple[str, ...]:
        return (CERTIFICATE_NAME, CERTIFICATE_KEY_NAME) if self._route.client_certificate else ()

    def login(self, secret: Secret) -> Mapping[str, str] | None:
        """Return what takes the place of a login in the body, where a preset has it there."""
        in_body = self.injects and self.preset.credential.sent == "body"
        return secret.values if in_body else None

    async def send(
        self, tenant: str, call: Call, secret: Secret, body: bytes | bytearray
    ) -> Outcome:
        """Send a call with the right credential and this body, once."""
        pool = self._pool(tenant, secret)
        pool.under_way += 1
        try:
            await self._make_room()
            headers = self._headers(call, secret, body)
            outcome = await pool.upstream.send(call.method, call.path, call.query, headers, body)
        finally:
            pool.under_way -= 1
        if isinstance(outcome, Replied) and outcome.status == UNAUTHORIZED:
            self._access_tokens.forget(tenant)
        return outcome

    def _pool(self, tenant: str, secret: Secret) -> _Pool:
        """A tenant's connections; a certificate that was replaced gets others."""
        certificate = self._certificate_of(secret)
        pool = self._pools.pop(tenant, None)
        if pool is not None and pool.certificate != certificate:
            self._pools[f"{tenant} until {id(pool)}"] = pool  # calls may be under way on them
            pool = None
        if pool is None:
            pool = _Pool(self._made(certificate), certificate)
        self._pools[tenant] = pool  # now the last of them
        return pool

    def _made(self, certificate: tuple[str, str] | None) -> Upstream:
        try:
            return self._make_upstream(certificate)
        except ClientCertificateRefused:
            pass
        raise CredentialsMissing

    def _certificate_of(self, secret: Secret) -> tuple[str, str] | None:
        if not self._route.client_certificate:
            return None
        return secret.values[CERTIFICATE_NAME], secret.values[CERTIFICATE_KEY_NAME]

    async def _make_room(self) -> None:
        """Close the connections of the tenant that has not called for longest."""
        if len(self._pools) > POOLS_MAX:
            idle = next((name for name, pool in self._pools.items() if not pool.under_way), None)
            if idle is not None:
                await self._pools.pop(idle).upstream.close()

    def returned(self, headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The headers of a reply that go back to the merchant."""
        returns = self.preset.returns
        return tuple(header for header in headers if returns(header[0]))

    def signing_key(self, secret: Secret) -> SigningKey:
        """The tenant's key at a processor that has bodies signed. Raises CredentialsMissing."""
        values = secret.values
        merchant = values.get(MERCHANT_NAME) if self.injects else None
        key = signing_key(values[USER_NAME], values[SECRET_NAME], merchant)
        if key is None:
            raise CredentialsMissing
        return key

    def _headers(
        self, call: Call, secret: Secret, body: bytes | bytearray
    ) -> list[tuple[str, str]]:
        """Drop what is ours and what the preset drops; put the credential in its place."""
        credential = self.preset.credential
        dropped: Collection[str] = credential.headers if self.injects else ()
        signed: tuple[tuple[str, str], ...] = ()
        if credential.sent == "signature" and call.proof is not None:
            key = self.signing_key(secret)
            host = self._route.host if self._route.port == HTTPS_PORT else self.host
            signed = signed_again(call.proof, body, key, host=host, now=self._now())
            dropped = {name.lower() for name, _ in signed}
        preset = self.preset
        kept = [
            header
            for header in call.headers
            if (name := header[0].lower()) not in dropped
            and not name.startswith(OWN_HEADERS)
            and preset.forwards(name)
        ]
        if credential.sent == "signature" or not self.injects:
            return [*kept, *signed]
        return kept + _headers_of(self.preset, secret.values)


def _may_be_of_a_certificate(outcome: Outcome) -> bool:
    return not isinstance(outcome, Replied) and (
        outcome.phase is Phase.TLS or outcome.code in _OF_CERTIFICATES
    )


def _headers_of(preset: Preset, values: Mapping[str, str]) -> list[tuple[str, str]]:
    match preset.credential.sent:
        case "bearer":
            return [("Authorization", f"Bearer {values[KEY_NAME]}")]
        case "oauth":
            return [("Authorization", f"Bearer {values[ACCESS_TOKEN]}")]
        case "basic_user":
            return [("Authorization", _basic(values[KEY_NAME], ""))]
        case "basic_password":
            return [("Authorization", _basic(values[USER_NAME], values[KEY_NAME]))]
        case "header":
            return [(preset.credential.header or "", values[KEY_NAME])]
        case "body" | "signature":
            return []
        case _ as unreachable:
            assert_never(unreachable)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


Lanes = Mapping[str, Lane]
