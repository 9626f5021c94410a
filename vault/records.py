"""What is sealed and hashed, byte for byte. Pure, and final: what is stored was made with it.

Here lives how a ciphertext is bound to its place, how digits are padded and read back, and what
goes into a keyed hash. A changed format needs a new first byte, and the old one stays readable.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from vault.errors import InvalidCard
from vault.pan import Cvc, Pan
from vault.tokens import Env

PAN_RECORD_BYTES: Final = 40
CVC_RECORD_BYTES: Final = 24

DigestPurpose = Literal["idempotency", "request", "response", "callback"]
ContextPurpose = Literal["pan", "cvc", "reply", "probe"]

_FORMAT: Final = b"\x01"


def context_of(purpose: ContextPurpose, env: Env, tenant: str, subject: str) -> bytes:
    """Bind a ciphertext to its place; the lengths make two places never look alike."""
    return _place(purpose, env, tenant) + _counted(subject)


@lru_cache(maxsize=256)  # one row after the other is a tenant's
def _place(*names: str) -> bytes:
    """What many contexts or fingerprints begin with. Never digits: a cache would keep them."""
    return _FORMAT + b"".join(map(_counted, names))


def record_of(digits: str, size: int, fill: bytes) -> bytes:
    """Pad digits to a constant length, which hides the brand.

    The fill must be random: HashiCorp Vault's audit log hashes the record with one salt, so
    that equal records would show equal cards, and a bare CVC would be found by trying.
    """
    assert len(fill) == size
    start = _FORMAT + bytes((len(digits),)) + digits.encode("ascii")
    return start + fill[len(start) :]


def digits_in(record: bytes, size: int) -> str | None:
    """Read a record back; None for anything that `record_of` does not make."""
    if len(record) != size or record[:1] != _FORMAT or record[1] > size - 2:
        return None
    digits = record[2 : 2 + record[1]]
    return digits.decode("ascii") if digits.isdigit() else None  # of bytes: ASCII only


def pan_in(record: bytes) -> Pan | None:
    """Read a card number back; None for what is none, so that no error stands near the digits."""
    digits = digits_in(record, PAN_RECORD_BYTES)
    try:
        return None if digits is None else Pan.parse(digits)
    except InvalidCard:
        return None


def cvc_in(record: bytes) -> Cvc | None:
    digits = digits_in(record, CVC_RECORD_BYTES)
    try:
        return None if digits is None else Cvc.parse(digits)
    except InvalidCard:
        return None


def fingerprint_input(tenant: str, digits: str) -> bytes:
    return _place(tenant) + _counted(digits)


def digest_input(purpose: DigestPurpose, tenant: str, content: bytes) -> bytes:
    return _FORMAT + _counted(purpose) + _counted(tenant) + sha256(content).digest()


def _counted(text: str) -> bytes:
    part = text.encode("ascii")
    return len(part).to_bytes(2, "big") + part
