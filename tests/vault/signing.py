"""A key service of one key and one secret, that keeps HashiCorp Vault's promises, or breaks off.

It signs with real Ed25519 keys, and writes only on top of the version that the writer knows.
`fails` makes the next call of that name end without an answer, before or after it took effect.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.errors import KeysTimedOut
from vault.transit import Secret

Head: TypeAlias = dict[str, Any]


@dataclass
class KeyService:
    """What survives every crash of a gateway."""

    keys: dict[int, Ed25519PrivateKey] = field(
        default_factory=lambda: {1: Ed25519PrivateKey.generate()}
    )
    secret: Secret | None = None
    fails: dict[str, str] = field(default_factory=dict)  # operation: "before" or "after"
    signatures: list[tuple[int, bytes]] = field(default_factory=list)
    writes: int = 0
    deleted_version: int = 0  # of a secret that was deleted softly

    @property
    def public_key(self) -> bytes:
        return self.keys[1].public_key().public_bytes_raw()

    def rotate(self) -> bytes:
        """Make a version, and return its public half."""
        made = Ed25519PrivateKey.generate()
        self.keys[max(self.keys) + 1] = made
        return made.public_key().public_bytes_raw()

    def lose_secret(self) -> None:
        """Delete the secret softly, as `vault kv delete` does: its versions count on."""
        assert self.secret is not None
        self.deleted_version, self.secret = self.secret.version, None

    def rewrite(self, change: Callable[[Head], None]) -> None:
        """Change the remembered head, as whoever can write there."""
        assert self.secret is not None
        head = json.loads(self.secret.data["head"])
        change(head)
        self.secret = Secret({"head": json.dumps(head)}, self.secret.version)

    async def public_keys(self, key: str) -> Mapping[int, bytes]:
        assert key == "ledger"
        self._fail("public_keys", "before")
        return {n: one.public_key().public_bytes_raw() for n, one in self.keys.items()}

    async def sign(self, key: str, version: int, message: bytes) -> bytes:
        assert key == "ledger"
        self._fail("sign", "before")
        self.signatures.append((version, message))
        self._fail("sign", "after")
        return self.keys[version].sign(message)

    async def read_secret(self, path: str) -> Secret | None:
        assert path == "ledger/head"
        self._fail("read_secret", "before")
        return self.secret

    async def last_version(self, path: str) -> int:
        assert path == "ledger/head"
        return self.deleted_version

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None:
        assert path == "ledger/head"
        self._fail("write_secret", "before")
        if cas != (self.secret.version if self.secret else self.deleted_version):
            return None
        self.secret = Secret(dict(data), cas + 1)
        self.writes += 1
        self._fail("write_secret", "after")
        return cas + 1

    def _fail(self, operation: str, when: str) -> None:
        if self.fails.get(operation) == when:
            del self.fails[operation]
            raise KeysTimedOut
