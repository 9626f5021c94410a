"""A witness's name and the key that signs for it: drawn once, kept in one private file.

The file says the name, too: a key signs under one name only (C2SP tlog-cosignature), and nothing
but cosignatures. It is in the clear, so whoever can read the folder can be this witness.
"""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.errors import StartRefused
from vault.ledger.checkpoint import cosignature, cosigned_text
from vault.ledger.note import (
    COSIGNATURE,
    NoteRefused,
    Signature,
    VerifierKey,
    base64_bytes,
    base64_text,
    key_name,
)
from vault.private_files import write_private

FORM: Final = "PRIVATE+KEY"
SEED_BYTES: Final = 32


class Identity:
    """Who cosigns here."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Raises NoteRefused for a name that no key may have."""
        self._private_key = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = self._private_key.public_key().public_bytes_raw()
        self.key = VerifierKey(key_name(name), COSIGNATURE, public_key)

    def cosign(self, text: str, at: int) -> Signature:
        """Sign a checkpoint's text; `at` in Unix seconds."""
        raw = self._private_key.sign(cosigned_text(text, at))
        return cosignature(self.key.name, self.key.public_key, at, raw)


def draw_identity(path: Path, name: str) -> Identity:
    """Make a key for this name and keep it. Raises StartRefused."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    identity = _identity(name, seed)
    if identity is None:
        raise StartRefused("the name of a witness has no spaces and no +, such as example.com/w1")
    typed = base64_text(bytes([COSIGNATURE]) + seed)
    write_private(path, f"{FORM}+{name}+{identity.key.key_id.hex()}+{typed}\n".encode())
    return identity


def read_identity(path: Path, name: str) -> Identity:
    """Read the key of this name. Raises StartRefused."""
    try:
        *form, kept_name, key_id, typed = path.read_text("utf-8").rstrip("\n").split("+", 4)
        raw = base64_bytes(typed)
    except (OSError, ValueError):
        raw = b""
        form, kept_name, key_id = [], "", ""
    identity = _identity(kept_name, raw[1:]) if raw[:1] == bytes([COSIGNATURE]) else None
    if identity is None or "+".join(form) != FORM or identity.key.key_id.hex() != key_id:
        raise StartRefused(f"{path} does not hold the key of a witness")
    if kept_name != name:
        raise StartRefused(f"the key in {path} signs as {kept_name}: a key has one name")
    return identity


def _identity(name: str, seed: bytes) -> Identity | None:
    if len(seed) != SEED_BYTES:
        return None
    try:
        return Identity(name, seed)
    except NoteRefused:
        return None
