"""Secrets as they were last read from HashiCorp Vault, for a minute at most.

Here lives how one is kept: never longer, read by one caller while the others wait, and never
on a disk or in anything that can be printed; and how one that may be read is changed in part.
What a path means is its caller's business.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from vault.transit_secrets import CHANGES_MAX, Secret

SECRET_SECONDS_MAX: Final = 60.0
SECRETS_MAX: Final = 1024


class SecretSource(Protocol):
    """Where secrets are read."""

    async def read_secret(self, path: str) -> Secret | None: ...


class SecretStore(SecretSource, Protocol):
    """Where they are written too."""

    async def last_version(self, path: str) -> int: ...
    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None: ...
    async def destroy_before(self, path: str, version: int) -> None: ...


@dataclass(slots=True)
class _Shelf:
    """One stored secret as it was read, and the lock that lets one caller read it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    data: Mapping[str, str] | None = field(default=None, repr=False)
    read_at: float = 0.0


class SecretShelves:
    """One login's secrets, by their paths."""

    def __init__(self, source: SecretSource, *, now: Callable[[], float]) -> None:
        """`now` counts seconds and never goes back."""
        self._source = source
        self._now = now
        self._shelves: dict[str, _Shelf] = {}

    async def get(self, path: str) -> Mapping[str, str] | None:
        """Give what is stored there; None when nothing is. Raises any KeysError.

        It is kept for a minute at most, so that revoking our login stops us soon. An absence is
        not kept: whoever has just set a secret need not wait.
        """
        shelf = self._shelf(path)
        async with shelf.lock:  # one caller reads, the others wait for it
            if shelf.data is None or self._now() - shelf.read_at >= SECRET_SECONDS_MAX:
                shelf.data = None
                read_at = self._now()
                secret = await self._source.read_secret(path)
                if secret is not None:
                    shelf.data, shelf.read_at = MappingProxyType(dict(secret.data)), read_at
            return shelf.data

    def forget(self, path: str) -> None:
        """Read it anew when it is next asked for; a read that is under way counts for nobody."""
        self._shelves.pop(path, None)

    def _shelf(self, path: str) -> _Shelf:
        shelf = self._shelves.get(path)
        if shelf is None:
            if len(self._shelves) >= SECRETS_MAX:
                del self._shelves[next(iter(self._shelves))]
            shelf = self._shelves[path] = _Shelf()
        return shelf


async def changed(store: SecretStore, path: str, changes: Mapping[str, str | None]) -> bool:
    """Change these names of a stored secret, None taking one away, and no other.

    For a login that may read it. What was taken away or replaced is in no older version either;
    where a failure came between, the same change again destroys it. False: others were quicker
    each time, and nothing was changed.
    """
    for _ in range(CHANGES_MAX):
        stored = await store.read_secret(path)
        made = await store.last_version(path) if stored is None else stored.version
        before = {} if stored is None else stored.data
        data = {name: text for name, text in {**before, **changes}.items() if text is not None}
        if data != before:
            written = await store.write_secret(path, data, cas=made)
            if written is None:
                continue
            made = written
        if not _only_adds(changes, before):
            await store.destroy_before(path, made)
        return True
    return False


def _only_adds(changes: Mapping[str, str | None], before: Mapping[str, str]) -> bool:
    return bool(changes) and not any(
        text is None or name in before for name, text in changes.items()
    )
