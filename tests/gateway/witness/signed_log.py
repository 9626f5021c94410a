"""A log as its owner has it, for tests: leaves, a key, and whatever it may be made to sign."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.ledger.checkpoint import AddCheckpoint, Checkpoint
from vault.ledger.note import ED25519, Note, VerifierKey, signed
from vault.ledger.tree import consistency_proof, leaf_hash, root_of

ORIGIN = "ledger.example/gateway-1"
GOLDEN_SEED = bytes(range(32))


class SignedLog:
    """Signs any size of itself, and of its forks."""

    def __init__(
        self, entries: Iterable[bytes] = (), *, seed: bytes = GOLDEN_SEED, origin: str = ORIGIN
    ) -> None:
        self.entries = list(entries)
        self._leaves: list[bytes] = []
        self._seed = seed
        self._private_key = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = self._private_key.public_key().public_bytes_raw()
        self.key = VerifierKey(origin, ED25519, public_key)

    @classmethod
    def of_size(cls, size: int, *, origin: str = ORIGIN, seed: bytes = GOLDEN_SEED) -> Self:
        return cls((b'{"i":%d}' % number for number in range(size)), origin=origin, seed=seed)

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def leaves(self) -> list[bytes]:
        self._leaves += map(leaf_hash, self.entries[len(self._leaves) :])
        return self._leaves

    def root(self, size: int | None = None) -> bytes:
        return root_of(self.leaves[: self.size if size is None else size])

    def grow(self, by: int, *, words: bytes = b"") -> None:
        """Append entries; with other words, others."""
        self.entries += [b'{"i":%d}%b' % (self.size + more, words) for more in range(by)]

    def forked(self, at: int, *, to: int | None = None) -> "SignedLog":
        """Make a log of the same key that is another one from entry `at` on."""
        fork = SignedLog(self.entries[:at], seed=self._seed, origin=self.key.name)
        fork.grow((self.size if to is None else to) - at, words=b"!")
        return fork

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(self.key.name, size, self.root(size))

    def note(self, size: int | None = None) -> Note:
        return self.signed(self.checkpoint(size).text)

    def signed(self, text: str) -> Note:
        raw = self._private_key.sign(text.encode())
        return Note(text, (signed(text, self.key.name, self.key.public_key, raw),))

    def proof(self, old: int, size: int | None = None) -> tuple[bytes, ...]:
        return consistency_proof(old, self.leaves[: self.size if size is None else size])

    def request(self, old: int, size: int | None = None) -> AddCheckpoint:
        """Make what an honest client sends; where there is no proof, none."""
        size = self.size if size is None else size
        return AddCheckpoint(old, self.proof(old, size) if old <= size else (), self.note(size))

    @property
    def path(self) -> str:
        """Where a witness shows what it holds of this log."""
        return f"/{sha256(self.key.name.encode()).hexdigest()}/checkpoint"
