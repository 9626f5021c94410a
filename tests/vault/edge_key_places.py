"""Edge keys of one test in the key service that all tests share, and gateways that use them.

Everything is the real OpenBao under the real logins. Only the list is cut to the keys that were
made here: tests that ran before have left theirs.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from nacl.public import PublicKey, SealedBox

from tests.vault.ledger.samples import ORIGIN
from tests.vault.places import place_of_openbao
from tests.vault.stores import Clock
from vault.edge_key_rotation import EdgeKeyRotation
from vault.edge_keys import EdgeKey, EdgeKeys
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysUnavailable
from vault.ledger.store import Ledger
from vault.transit import Secret, Transit

DAY = timedelta(days=1)
START = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)  # gateways of other tests do not mind these


@dataclass
class Login:
    """One gateway's door, which counts what goes through and can be shut."""

    transit: Transit
    kids: set[str]  # of this test, whoever made them
    hidden: set[str] = field(default_factory=set)  # from a node that lags
    calls: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)  # kids, as often as it was asked for
    away: bool = False

    def _count(self, call: str) -> None:
        self.calls.append(call)
        if self.away:
            raise KeysUnavailable

    async def list_secrets(self, path: str) -> list[str]:
        self._count("list")
        listed = await self.transit.list_secrets(path)
        return [name for name in listed if name in self.kids - self.hidden]

    async def read_secret(self, path: str) -> Secret | None:
        self._count("read")
        return await self.transit.read_secret(path)

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None:
        self._count("write")
        version = await self.transit.write_secret(path, data, cas=cas)
        self.kids.add(path.removeprefix("edge/"))
        return version

    async def destroy_secret(self, path: str, versions: Sequence[int]) -> None:
        self._count("destroy")
        self.destroyed.append(path.removeprefix("edge/"))
        await self.transit.destroy_secret(path, versions)

    async def public_keys(self, key: str) -> Mapping[int, bytes]:
        self._count("keys")
        return await self.transit.public_keys(key)

    async def sign(self, key: str, version: int, message: bytes) -> bytes:
        self._count("sign")
        return await self.transit.sign(key, version, message)


@dataclass
class Places:
    """A deployment's edge keys: what reads them, what makes them, and the time."""

    tokenize: Transit
    reveal: Transit
    clock: Clock = field(default_factory=lambda: Clock(START))
    kids: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def reader(self) -> Login:
        return Login(self.tokenize, self.kids)

    def maker(self) -> Login:
        return Login(self.reveal, self.kids)

    def gateway(self, login: Login | None = None, origin: str = ORIGIN) -> EdgeKeys:
        return EdgeKeys(
            login or self.reader(), origin=origin, now=self.clock, on_refused=self.refused.append
        )

    def rotation(
        self,
        ledger: Ledger,
        login: Login | None = None,
        *,
        rotate: timedelta = DAY,
        overlap: timedelta = DAY,
    ) -> EdgeKeyRotation:
        return EdgeKeyRotation(
            login or self.maker(), ledger, origin=ORIGIN, now=self.clock,
            rotate=rotate, overlap=overlap,
        )  # fmt: skip


@asynccontextmanager
async def edge_key_places(embedded: EmbeddedParts) -> AsyncIterator[Places]:
    place = place_of_openbao(embedded)
    async with place.transit("tokenize") as tokenize, place.transit("reveal") as reveal:
        yield Places(tokenize, reveal)


def sealed_to(key: EdgeKey, message: bytes = b"a card") -> bytes:
    """Seal as a browser does."""
    return SealedBox(PublicKey(key.public_key)).encrypt(message)
