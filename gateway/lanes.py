"""A route as it is served: its preset, its credentials, and its pools of connections.

A pool for each tenant: what one tenant's credential opened never carries another's call.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.config import Route
from gateway.errors import CredentialsMissing
from gateway.exchange import Outcome
from gateway.order import Call
from gateway.preset import Preset
from gateway.upstream import Upstream
from vault.keys import RevealKeys

KEY_NAME: Final = "api_key"
"""The name under which HashiCorp Vault keeps a processor's API key at `processor/…`."""

OWN_HEADERS: Final = "panward-"
POOLS_MAX: Final = 256
"""Tenants of one route with connections of their own; beyond, idle ones are closed."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What is put in the place of the caller's credential; None: the caller's own passes."""

    headers: tuple[tuple[str, str], ...] | None

    def __repr__(self) -> str:
        return "Secret"


@dataclass(slots=True)
class _Pool:
    upstream: Upstream
    under_way: int = 0


class Lane:
    """One route: where a tenant's calls go, and with whose key."""

    def __init__(
        self, route: Route, make_upstream: Callable[[], Upstream], keys: RevealKeys
    ) -> None:
        self._route = route
        self._make_upstream = make_upstream
        self._keys = keys
        self._pools: dict[str, _Pool] = {}

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

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.upstream.close()

    async def secret(self, tenant: str) -> Secret:
        """Return what authenticates a tenant to the processor.

        Raises CredentialsMissing when none are set for this tenant and route; any KeysError.
        """
        if not self.injects:
            return Secret(None)
        stored = await self._keys.processor_secret(tenant, self.name)
        key = stored.get(KEY_NAME) if stored is not None else None
        if key is None:
            raise CredentialsMissing
        return Secret((_header(self.preset, key),))

    async def send(
        self, tenant: str, call: Call, secret: Secret, body: bytes | bytearray
    ) -> Outcome:
        """Send a call with the right credential and this body, once."""
        pool = self._pool(tenant)
        pool.under_way += 1
        try:
            await self._make_room()
            headers = self._headers(call.headers, secret)
            return await pool.upstream.send(call.method, call.path, call.query, headers, body)
        finally:
            pool.under_way -= 1

    def _pool(self, tenant: str) -> _Pool:
        pool = self._pools.pop(tenant, None) or _Pool(self._make_upstream())
        self._pools[tenant] = pool  # now the last of them
        return pool

    async def _make_room(self) -> None:
        """Close the connections of the tenant that has not called for longest."""
        if len(self._pools) > POOLS_MAX:
            idle = next((name for name, pool in self._pools.items() if not pool.under_way), None)
            if idle is not None:
                await self._pools.pop(idle).upstream.close()

    def returned(self, headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The headers of a reply that go back to the merchant."""
        return tuple((name, value) for name, value in headers if self.preset.returns(name))

    def _headers(self, headers: Sequence[tuple[str, str]], secret: Secret) -> list[tuple[str, str]]:
        """Drop what is ours and what the preset drops; put the credential in its place."""
        credentials = frozenset(self.preset.credential.headers)
        kept = [
            (name, value)
            for name, value in headers
            if not name.lower().startswith(OWN_HEADERS)
            and self.preset.forwards(name)
            and (secret.headers is None or name.lower() not in credentials)
        ]
        return kept + list(secret.headers or ())


def _header(preset: Preset, key: str) -> tuple[str, str]:
    if preset.credential.sent == "basic_user":
        return "Authorization", "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    return "Authorization", f"Bearer {key}"


Lanes = Mapping[str, Lane]
