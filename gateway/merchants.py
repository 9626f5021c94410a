"""Who calls: API keys, found by their id and compared in constant time.

A tenant comes from a credential and from nothing else. When the database is away, a key that
was looked up less than five seconds ago still counts; after that, nobody is let in.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.errors import NotAuthenticated, NotPermitted
from vault.api_keys import KeyKind, PresentedKey, parse_api_key, route_scope
from vault.ledger.entry import Actor
from vault.tenant_table import ApiKeyRow, TenantTable
from vault.tokens import Env

CACHE_SECONDS: Final = 5.0
CACHED_KEYS_MAX: Final = 10_000

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_]{20,128})")
_BASIC = re.compile(r"[Bb]asic +([A-Za-z0-9+/=]{20,512})")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated key and what it may do."""

    tenant: str
    key: str
    kind: KeyKind
    scopes: frozenset[str]

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
        self._monotonic = monotonic
        self._cache: dict[str, tuple[float, ApiKeyRow | None]] = {}

    async def authenticate(self, text: str | None) -> Caller:
        """Return the caller whose key this is.

        Raises NotAuthenticated for anything but a key in force: unknown, wrong, revoked,
        expired and of another environment look the same. Raises StoreUnavailable.
        """
        presented = parse_api_key(text) if text is not None else None
        if presented is None or presented.env != self._env:
            raise NotAuthenticated
        row = await self._row(presented)
        known = presented.matches(row.digest if row is not None else None)
        if row is None or not known or not _in_force(row, self._now()):
            raise NotAuthenticated
        return Caller(row.tenant, row.id, row.kind, row.scopes)

    async def _row(self, presented: PresentedKey) -> ApiKeyRow | None:
        at = self._monotonic()
        cached = self._cache.get(presented.id)
        if cached is not None and at - cached[0] < CACHE_SECONDS:
            return cached[1]
        row = await self._table.key(presented.id)
        if row is None:  # not remembered: a stranger's guesses must not push real keys out
            self._cache.pop(presented.id, None)
            return None
        if len(self._cache) >= CACHED_KEYS_MAX:
            self._cache.clear()
        self._cache[presented.id] = (at, row)
        return row


def bearer_key(headers: Mapping[str, str]) -> str | None:
    """The text of a Bearer credential (RFC 6750), or None."""
    match = _BEARER.fullmatch(headers.get("Authorization", ""))
    return match[1] if match else None


def basic_user(headers: Mapping[str, str]) -> str | None:
    """The user name of a Basic credential (RFC 7617), or None."""
    match = _BASIC.fullmatch(headers.get("Authorization", ""))
    if match is None:
        return None
    try:
        text = base64.b64decode(match[1], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text.partition(":")[0]


def _in_force(row: ApiKeyRow, at: datetime) -> bool:
    if row.revoked_at is not None:
        return False
    return row.expires_at is None or row.expires_at > at
