"""Who may read the whole log: auditors, by a key that is of no tenant and opens nothing else.

It comes as a Bearer credential or as the password of a Basic one, since clients of published logs
take a log's address with a login in it. When the database is away, a key that was looked up less
than five seconds ago still counts; after that, nobody is let in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.errors import NotAuthenticated
from gateway.known_keys import KnownKeys
from gateway.merchants import basic_credential, bearer_key
from vault.api_keys import parse_auditor_key
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.tokens import Env


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
        self._known: KnownKeys[AuditorKeyRow] = KnownKeys(monotonic)

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
        row = await self._known.row(presented.id, self._table.key)
        known = presented.matches(row.digest if row is not None else None)
        if row is None or not known or not row.is_in_force(self._now()):
            raise NotAuthenticated
        return Auditor(row.id, row.name)


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The Bearer credential, or the password of a Basic one, whoever its user is."""
    bearer = bearer_key(headers)
    if bearer is not None:
        return bearer
    basic = basic_credential(headers)
    return None if basic is None else basic[1]
