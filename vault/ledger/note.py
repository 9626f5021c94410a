"""Names of the keys that sign the log (C2SP signed-note). Pure."""

from base64 import b64encode
from hashlib import sha256
from typing import Final

ED25519: Final = b"\x01"
PUBLIC_KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4 bytes by which a signature line names an Ed25519 key."""
    return sha256(name.encode("ascii") + b"\n" + ED25519 + public_key).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public_key: bytes) -> str:
    """Return the text by which verifiers are given a log's key: `name+id+key`."""
    assert len(public_key) == PUBLIC_KEY_BYTES
    encoded = b64encode(ED25519 + public_key).decode("ascii")
    return f"{name}+{key_id(name, public_key).hex()}+{encoded}"
