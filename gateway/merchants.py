"""Who calls: API keys and their aliases, found by id or digest and compared in constant time.

A tenant comes from a credential and from nothing else. When the database is away, a key that
was looked up less than five seconds ago still counts; after that, nobody is let in.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.errors import NotAuthenticated, NotPermitted, SignatureRefused
from gateway.known_keys import KnownKeys
from gateway.resign import Refusal, Verified
from vault.api_keys import AliasForm, KeyKind, alias_digest, parse_api_key, route_scope
from vault.ledger.entry import Actor
from vault.tenant_table import ApiKeyRow, TenantTable
from vault.tokens import Env

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_*#$=]{20,128})")
_BASIC = re.compile(r"[Bb]asic +([A-Za-z0-9+/=]{20,512})")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated key and what it may do."""

    tenant: str
    key: str
    kind: KeyKind
    scopes: frozenset[str]
    origins: frozenset[str] = frozenset()
    """Of a publishable key: whose pages may use it."""

    @property
    def actor(self) -> Actor:
        """How the ledger names this caller: by the key's random id."""
        return Actor(id=self.key, kind=self.kind)

    @property
    def is_publishable(self) -> bool:
        return self.kind == "publishable_key"

    def require(self, scope: str) -> None:
        """Raises NotPermitted."""
        if scope not in self.scopes:
            raise NotPermitted

    def require_route(self, route: str) -> None:
        """Raises NotPermitted."""
        self.require(route_scope(route))


@dataclass(frozen=True, slots=True)
class Claimant:
    """Whose signing key a call names, which anyone can: a caller once its signature is proved."""

    tenant: str
    signing_key: str
    _caller: Caller

    def proven(self, outcome: Verified | Refusal) -> Caller:
        """Return the caller if the call was signed with this key. Raises SignatureRefused."""
        if isinstance(outcome, Refusal):
            raise SignatureRefused(outcome.reason)
        if outcome.key_id != self.signing_key:
            raise SignatureRefused
        return self._caller


class Merchants:
    """Authenticates callers."""

    def __init__(
        self,
        table: TenantTable,
        *,
        env: Env,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._table = table
        self._env = env
        self._now = now
        self._known: KnownKeys[ApiKeyRow] = KnownKeys(monotonic)
        self._listing = asyncio.Lock()
        self._lists: KnownKeys[frozenset[str]] = KnownKeys(monotonic)

    async def authenticate(self, text: str | None) -> Caller:
        """Return the caller whose key this is.

        Raises NotAuthenticated for anything but a key in force: unknown, wrong, revoked,
        expired and of another environment look the same. Raises StoreUnavailable.
        """
        presented = parse_api_key(text) if text is not None else None
        if presented is None or presented.env != self._env:
            raise NotAuthenticated
        row = await self._known.row(presented.id, self._table.key)
        known = presented.matches(row.digest if row is not None else None)
        if not known:
            raise NotAuthenticated
        return self._caller(row)

    async def authenticate_alias(self, form: AliasForm, text: str | None) -> Caller:
        """Return the caller whose key has this alias; `text` is as `AliasForm` says.

        Raises what `authenticate` does. The look-up is by the digest of a secret that nobody can
        guess, or of a certificate whose key was proved: how long it takes says nothing.
        """
        assert form != "signing_key", "a key id proves nothing: `claimed_by`, then its signature"
        return self._caller(await self._aliased(form, text))

    async def claimed_by(self, key_id: str | None) -> Claimant:
        """Return whose signing key this is, still to be proved. Raises what `authenticate` does."""
        caller = self._caller(await self._aliased("signing_key", key_id))
        return Claimant(caller.tenant, key_id or "", caller)

    def has_met(self, key_id: str) -> bool:
        """Whether a key of this id was looked up with success since this process began."""
        return self._known.has_met(key_id)

    async def publishable(self, key_id: str) -> Caller | None:
        """Return whose publishable key has this id: what a page shows, and proves nothing.

        None for one that is unknown, not in force or of another kind. Raises StoreUnavailable.
        """
        row = await self._known.row(key_id, self._table.key)
        if row is None or row.kind != "publishable_key" or not _in_force(row, self._now()):
            return None
        return self._caller(row)

    async def origins(self, tenant: str) -> frozenset[str]:
        """Return all origins that a tenant's publishable keys list. Raises StoreUnavailable."""
        return await self._lists.row(tenant, self._table.origins) or frozenset()

    async def all_origins(self) -> frozenset[str]:
        """Return all origins that are listed at all. Raises StoreUnavailable."""
        async with self._listing:  # every preflight asks: one of them reads
            return await self._lists.row("", lambda _: self._table.origins()) or frozenset()

    def _caller(self, row: ApiKeyRow | None) -> Caller:
        if row is None or not _in_force(row, self._now()):
            raise NotAuthenticated
        return Caller(row.tenant, row.id, row.kind, row.scopes, row.origins)

    async def _aliased(self, form: AliasForm, text: str | None) -> ApiKeyRow | None:
        digest = alias_digest(form, text) if text is not None else None
        return None if digest is None else await self._known.row(digest, self._table.key_of_alias)


def bearer_key(headers: Mapping[str, str]) -> str | None:
    """The text of a Bearer credential (RFC 6750), or None."""
    match = _BEARER.fullmatch(headers.get("Authorization", ""))
    return match[1] if match else None


def basic_user(headers: Mapping[str, str]) -> str | None:
    """The user name of a Basic credential (RFC 7617), or None."""
    found = basic_credential(headers)
    return None if found is None else found[0]


def basic_credential(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """User name and password of a Basic credential, or None."""
    match = _BASIC.fullmatch(headers.get("Authorization", ""))
    if match is None:
        return None
    try:
        text = base64.b64decode(match[1], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, _, password = text.partition(":")
    return user, password


def _in_force(row: ApiKeyRow, at: datetime) -> bool:
    if row.revoked_at is not None:
        return False
    return row.expires_at is None or row.expires_at > at
