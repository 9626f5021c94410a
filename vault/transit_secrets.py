"""What the KV engine of HashiCorp Vault is asked: read, write, change a part, list, destroy.

Paths are below the mount, in the words of `transit_items`. Nothing is kept here (`secret_shelves`
does), and no tenant, route or meaning of a secret is known. How a request travels is whoever's
`ask` it is: the class is a part of `Transit`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from vault.transit_answers import Answer, Verdict, data_of
from vault.transit_items import Request, Unprintable, path_of

CHANGES_MAX: Final = 5  # of a secret that others change at the same time
OLDER_MAX: Final = 256
"""Versions that may still hold something: the engine keeps ten, unless it was told otherwise."""
_MERGE_PATCH: Final = "application/merge-patch+json"  # RFC 7396, which is all that OpenBao takes


@dataclass(frozen=True, slots=True)
class Secret:
    """What the KV engine holds at a path."""

    data: Mapping[str, str] = field(repr=False)
    version: int


class StoredSecrets(ABC):
    """The part of the door that leads to the KV engine."""

    def __init__(self, kv_mount: str) -> None:
        self._kv_mount = kv_mount

    @abstractmethod
    async def ask(self, request: Request) -> Answer:
        """Send under our login. Raises any KeysError when there is none."""

    async def read_secret(self, path: str) -> Secret | None:
        """Read the current version; None where nothing is, or nothing any more."""
        answer = await self.ask(Request("read_secret", "GET", self._kv_path("data", path)))
        if answer.verdict is Verdict.ABSENT:
            return None
        stored = data_of(answer, _KvData)
        return Secret(stored.data, stored.metadata.version)

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None:
        """Write on top of version `cas` (0: nothing); None if another version is there.

        An answer that was lost is not followed by a second write, which would find the first.
        """
        body = msgspec.json.encode({"data": data, "options": {"cas": cas}})
        where = self._kv_path("data", path)
        answer = await self.ask(Request("write_secret", "POST", where, body, repeatable=False))
        if answer.verdict is Verdict.OUTRUN:
            return None
        return data_of(answer, _KvVersion).version

    async def patch_secret(self, path: str, data: Mapping[str, str | None]) -> int | None:
        """Change these names alone, None taking one away, and read nothing; give the new version.

        Where nothing is, a secret with these names comes about. What was taken away or replaced
        is in no older version either. None: others were quicker each time. An answer that was
        lost is not followed by a second change.
        """
        named = {name: text for name, text in data.items() if text is not None}
        for _ in range(CHANGES_MAX):
            seen = await self.secret_version(path)
            names = await self.secret_names(path)
            if names:
                made = await self._merge(path, data, cas=seen)
            else:  # OpenBao patches nothing where nothing is, or nothing any more
                made = await self.write_secret(path, named, cas=seen)
            if made is not None:
                if not names or names & data.keys():
                    await self.destroy_before(path, made)
                return made
        return None

    async def secret_names(self, path: str) -> frozenset[str]:
        """Say which names a secret has, and not what they hold; none where nothing is."""
        answer = await self.ask(Request("secret_names", "GET", self._kv_path("subkeys", path)))
        if answer.verdict is Verdict.ABSENT:
            return frozenset()
        return frozenset(data_of(answer, _KvSubkeys).subkeys)

    async def last_version(self, path: str) -> int:
        """Say what `cas` the next write needs, after a deletion too; 0 where nothing ever was."""
        answer = await self.ask(Request("read_secret", "GET", self._kv_path("data", path)))
        if answer.verdict is not Verdict.ABSENT:
            return data_of(answer, _KvData).metadata.version
        try:
            return msgspec.json.decode(answer.data, type=_KvDeleted).metadata.version
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0

    async def secret_version(self, path: str) -> int:
        """Say which version is there, without reading it; 0 where nothing ever was."""
        answer = await self.ask(Request("secret_version", "GET", self._kv_path("metadata", path)))
        if answer.verdict is Verdict.ABSENT:
            return 0
        return data_of(answer, _KvHistory).current_version

    async def list_secrets(self, path: str) -> list[str]:
        """List the names below a path; one that has names below it ends with a slash."""
        where = self._kv_path("metadata", path)
        answer = await self.ask(Request("list_secrets", "GET", f"{where}?list=true"))
        if answer.verdict is Verdict.ABSENT:
            return []
        return data_of(answer, _KvNames).keys

    async def destroy_secret(self, path: str, versions: Sequence[int]) -> None:
        """Destroy what these versions hold, for ever; one that holds nothing is none to fail on."""
        body = msgspec.json.encode({"versions": list(versions)})
        where = self._kv_path("destroy", path)
        answer = await self.ask(Request("destroy_secret", "PUT", where, body))
        if answer.verdict is not Verdict.ANSWERED:
            raise answer.failure

    async def destroy_before(self, path: str, version: int) -> None:
        """Destroy what every version before this one holds: what was removed is there still."""
        older = range(max(1, version - OLDER_MAX), version)
        if older:
            await self.destroy_secret(path, older)

    async def _merge(self, path: str, data: Mapping[str, str | None], *, cas: int) -> int | None:
        request = Request(
            "patch_secret",
            "PATCH",
            self._kv_path("data", path),
            msgspec.json.encode({"data": data, "options": {"cas": cas}}),
            repeatable=False,
            content_type=_MERGE_PATCH,
        )
        answer = await self.ask(request)
        if answer.verdict is Verdict.OUTRUN:
            return None
        return data_of(answer, _KvVersion).version

    def _kv_path(self, what: str, path: str) -> str:
        return path_of(self._kv_mount, what, *path.split("/"))


class _KvMetadata(Unprintable):
    """`metadata` of a stored secret."""

    version: int


class _KvData(Unprintable):
    """`data` of a read from the KV engine."""

    data: dict[str, str]
    metadata: _KvMetadata


class _KvDeleted(Unprintable):
    """`data` of a read of what was deleted."""

    metadata: _KvMetadata


class _KvVersion(Unprintable):
    """`data` of a write to the KV engine."""

    version: int


class _KvHistory(Unprintable):
    """`data` of a secret's metadata."""

    current_version: int


class _KvNames(Unprintable):
    """`data` of a list from the KV engine."""

    keys: list[str]


class _KvSubkeys(Unprintable):
    """`data` of a look at a secret's names: its values are null, and none is kept if not."""

    subkeys: dict[str, None]
