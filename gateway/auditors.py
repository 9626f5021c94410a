"""Who may read the whole log: auditors, by a key that is of no tenant and opens nothing else.

It comes as a Bearer credential or as the password of a Basic one, since clients of published logs
take a log's address with a login in it. When the database is away, a key that was looked up less
than five seconds ago still counts; after that, nobody is let in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.errors import NotAuthenticated
from gateway.merchants import CACHE_SECONDS, basic_credential, bearer_key
from vault.api_keys import parse_auditor_key
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.tokens import Env

CACHED_KEYS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Auditor:
    """An authenticated auditor, by the key's random id."""

    key: str
    name: str


class Auditors:
    """Authenticates those who read the log."""

    def __init__(
        self,
        table: AuditorTable,
        *,
        env: Env,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._table = table
        self._env = env
        self._now = now
        self._monotonic = monotonic
        self._cache: dict[str, tuple[float, AuditorKeyRow]] = {}

    async def authenticate(self, headers: Mapping[str, str]) -> Auditor:
        """Return the auditor whose key came with a request.

        Raises NotAuthenticated for anything but an auditor's key in force: unknown, wrong,
        revoked, expired, a tenant's and of another environment look the same. Raises
        StoreUnavailable.
        """
        text = presented_key(headers)
        presented = parse_auditor_key(text) if text is not None else None
        if presented is None or presented.env != self._env:
            raise NotAuthenticated
        row = await self._row(presented.id)
        known = presented.matches(row.digest if row is not None else None)
        if row is None or not known or not row.is_in_force(self._now()):
            raise NotAuthenticated
        return Auditor(row.id, row.name)

    async def _row(self, key_id: str) -> AuditorKeyRow | None:
        at = self._monotonic()
        cached = self._cache.get(key_id)
        if cached is not None and at - cached[0] < CACHE_SECONDS:
            return cached[1]
        row = await self._table.key(key_id)
        if row is None:  # not remembered: a stranger's guesses must not push real keys out
            self._cache.pop(key_id, None)
            return None
        if len(self._cache) >= CACHED_KEYS_MAX:
            self._cache.clear()
        self._cache[key_id] = (at, row)
        return row


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The Bearer credential, or the password of a Basic one, whoever its user is."""
    bearer = bearer_key(headers)
    if bearer is not None:
        return bearer
    basic = basic_credential(headers)
    return None if basic is None else basic[1]
