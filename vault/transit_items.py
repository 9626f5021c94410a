"""What goes to HashiCorp Vault: items, batches of them, requests. Pure.

Items are checked when they are made, so that none can spoil the batch it travels in. No shape
prints what it carries. No I/O lives here, and nothing of what comes back but the reading of one
item's result.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import msgspec

from vault.errors import KeysMisconfigured, RecordCorrupt

PLAINTEXT_BYTES_MAX: Final = 65_536
CIPHERTEXT_CHARS_MAX: Final = 90_000  # base64 of the longest plaintext, nonce, tag and prefix
MAC_BYTES: Final = 32

_NAME: Final = re.compile(r"[a-z0-9_-]+")
_CIPHERTEXT: Final = re.compile(r"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]+={0,2}")
_REFERENCE: Final = re.compile(r"[A-Za-z0-9/_-]{1,128}")


class Unprintable(msgspec.Struct):
    """A shape whose fields may be secret: neither repr nor rich shows them."""

    def __repr__(self) -> str:
        return type(self).__name__

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One HTTP request, with what is needed to measure it and to decide on a second try."""

    operation: str
    method: str
    path: str
    body: bytes | None = None
    items: int = 1
    repeatable: bool = True  # False: a lost answer must not be followed by a second request
    content_type: str = "application/json"


def is_name(text: str) -> bool:
    """Whether it may stand in a path: keys, mounts, tenants and routes are named like this."""
    return _NAME.fullmatch(text) is not None


def path_of(*names: str) -> str:
    """Join names to a path below `/v1/`. One that could climb out of its place is refused."""
    if not all(map(is_name, names)):
        raise KeysMisconfigured
    return "/v1/" + "/".join(names)


# --- items --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class EncryptItem:
    """One plaintext to be sealed, bound to its context."""

    plaintext: bytes
    context: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.plaintext) <= PLAINTEXT_BYTES_MAX or not self.context:
            raise ValueError("a plaintext of 1 to 65,536 bytes and a context are needed")


@dataclass(frozen=True, slots=True, repr=False)
class DecryptItem:
    """One ciphertext to be opened; `reference` names the act in HashiCorp Vault's audit log."""

    ciphertext: str
    context: bytes
    reference: str

    def __post_init__(self) -> None:
        if not self.context or not _REFERENCE.fullmatch(self.reference):
            raise ValueError("a context and a reference of up to 128 characters are needed")
        if len(self.ciphertext) > CIPHERTEXT_CHARS_MAX:
            raise RecordCorrupt  # it comes from a table row: not our bug, but the world's
        if not _CIPHERTEXT.fullmatch(self.ciphertext):
            raise RecordCorrupt


@dataclass(frozen=True, slots=True, repr=False)
class HmacItem:
    """One input of a keyed hash."""

    input: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.input) <= PLAINTEXT_BYTES_MAX:
            raise ValueError("an input of 1 to 65,536 bytes is needed")


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A ciphertext, and the version of the key that made it."""

    ciphertext: str
    key_version: int


class ItemResult(Unprintable):
    """What came back for one item, whatever the operation was."""

    reference: str = ""
    error: str = ""
    ciphertext: str = ""
    key_version: int = 0
    plaintext: bytes = b""
    hmac: str = ""


# --- the three operations -----------------------------------------------------------------


Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)


class Operation(Protocol[Item_contra, Value_co]):
    """How items of one kind travel, and how a result of that kind is read."""

    @property
    def name(self) -> str: ...
    def path(self, mount: str) -> str: ...
    def reference(self, item: Item_contra, number: int) -> str: ...
    def body(self, items: Sequence[Item_contra], references: Sequence[str]) -> bytes: ...
    def value(self, result: ItemResult) -> Value_co | None: ...


@dataclass(frozen=True, slots=True)
class Encrypt:
    """Plaintexts to ciphertexts under `key`."""

    key: str
    name: str = "encrypt"

    def path(self, mount: str) -> str:
        return path_of(mount, "encrypt", self.key)

    def reference(self, item: EncryptItem, number: int) -> str:  # noqa: ARG002 - one protocol
        return str(number)

    def body(self, items: Sequence[EncryptItem], references: Sequence[str]) -> bytes:
        entries = zip(items, references, strict=True)
        return msgspec.json.encode(
            _Batch([_EncryptEntry(i.plaintext, i.context, reference) for i, reference in entries])
        )

    def value(self, result: ItemResult) -> Encrypted | None:
        prefix = f"vault:v{result.key_version}:"
        if not result.ciphertext.startswith(prefix) or not _CIPHERTEXT.fullmatch(result.ciphertext):
            return None
        return Encrypted(result.ciphertext, result.key_version)


@dataclass(frozen=True, slots=True)
class Decrypt:
    """Ciphertexts to plaintexts under `key`."""

    key: str
    name: str = "decrypt"

    def path(self, mount: str) -> str:
        return path_of(mount, "decrypt", self.key)

    def reference(self, item: DecryptItem, number: int) -> str:  # noqa: ARG002 - one protocol
        return item.reference

    def body(self, items: Sequence[DecryptItem], references: Sequence[str]) -> bytes:
        entries = zip(items, references, strict=True)
        return msgspec.json.encode(
            _Batch([_DecryptEntry(i.ciphertext, i.context, reference) for i, reference in entries])
        )

    def value(self, result: ItemResult) -> bytes | None:
        return result.plaintext or None  # nothing empty was ever sealed


@dataclass(frozen=True, slots=True)
class Hmac:
    """Inputs to MACs under one pinned version of `key`: rotation must not change a fingerprint."""

    key: str
    key_version: int
    name: str = "hmac"

    def path(self, mount: str) -> str:
        return path_of(mount, "hmac", self.key, "sha2-256")

    def reference(self, item: HmacItem, number: int) -> str:  # noqa: ARG002 - one protocol
        return str(number)

    def body(self, items: Sequence[HmacItem], references: Sequence[str]) -> bytes:
        entries = zip(items, references, strict=True)
        return msgspec.json.encode(
            _HmacBatch(
                [_HmacEntry(i.input, reference) for i, reference in entries], self.key_version
            )
        )

    def value(self, result: ItemResult) -> bytes | None:
        prefix = f"vault:v{self.key_version}:"
        if not result.hmac.startswith(prefix):
            return None
        try:
            mac = msgspec.convert(result.hmac.removeprefix(prefix), bytes)  # strict base64
        except msgspec.ValidationError:
            return None
        return mac if len(mac) == MAC_BYTES else None


# --- their shapes in JSON; msgspec writes and reads bytes as base64 -------------------------


class _EncryptEntry(Unprintable):
    """An item of encrypt."""

    plaintext: bytes
    context: bytes
    reference: str


class _DecryptEntry(Unprintable):
    """An item of decrypt."""

    ciphertext: str
    context: bytes
    reference: str


class _HmacEntry(Unprintable):
    """An item of hmac."""

    input: bytes
    reference: str


class _Batch(Unprintable):
    """A body of encrypt or decrypt; the 200 keeps a mixed batch from coming back as a 400."""

    batch_input: Sequence[_EncryptEntry | _DecryptEntry]
    partial_failure_response_code: int = 200


class _HmacBatch(Unprintable):
    """A body of hmac; `key_version` stands once, for all its items."""

    batch_input: Sequence[_HmacEntry]
    key_version: int
