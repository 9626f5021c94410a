"""Message authentication codes (RFC 2104) as processors write them: keys, hashes, texts. Pure.

Codes are compared as text and not decoded first: base64 and hex leave room for two texts of one
code. An empty key would make anybody's code good, so what decodes to none is no key. What never
lives here: which header holds a code, and what is signed.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.signatures_terms import Secret

KEY_BYTES_MIN: Final = 16  # of one that is written in hex or base64: a shorter one is a slip

Hash = Literal["sha1", "sha256", "sha512"]
Keys = Callable[[str], tuple[bytes, ...]]
Render = Callable[[bytes], str]

HEX: Final = re.compile("[0-9a-f]{64}")
HEX_512: Final = re.compile("[0-9A-F]{128}")
BASE64: Final = re.compile("[A-Za-z0-9+/]{43}=")
HEX_OR_BASE64: Final = re.compile("[0-9a-f]{64}|[0-9A-F]{64}|[A-Za-z0-9+/]{43}=")

_ASCII: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_HEX_KEY: Final = re.compile("(?:[0-9A-Fa-f]{2}){1,512}")
_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True, repr=False)
class Claimed:
    """A code that came, and the key that it names, if its scheme names any."""

    text: str
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Mac:
    """One way to make a code; the first key and the first text are those that we sign with."""

    keys: Keys
    render: tuple[Render, ...]
    hash: Hash = "sha256"

    def matches(
        self, messages: Iterable[bytes], secrets: Sequence[Secret], claimed: Sequence[Claimed]
    ) -> bool:
        """Whether any claim is the code of a message, compared with every secret, none skipped."""
        for message in messages:
            results = [
                hmac.compare_digest(text.encode("ascii"), claim.text.encode("ascii"))
                and claim.key_id in {None, secret.key_id}
                for secret in secrets
                for key in self.keys(secret.text)
                for text in self._texts(key, message)
                for claim in claimed
            ]
            if any(results):
                return True
        return False

    def has_key(self, secrets: Sequence[Secret]) -> bool:
        """Whether there is anything to check with."""
        return any(self.keys(secret.text) for secret in secrets)

    def made(self, key: bytes, message: bytes) -> str:
        """Return the code of a message."""
        return self.render[0](hmac.digest(key, message, self.hash))

    def _texts(self, key: bytes, message: bytes) -> list[str]:
        digest = hmac.digest(key, message, self.hash)
        return [render(digest) for render in self.render]


def hexadecimal(digest: bytes) -> str:
    return digest.hex()


def upper_hexadecimal(digest: bytes) -> str:
    return digest.hex().upper()


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def ascii_key(text: str) -> tuple[bytes, ...]:
    """Take the text itself for the key, even where it looks like hex; not a prefix alone."""
    is_key = _ASCII.fullmatch(text) is not None and text != _PREFIX
    return (text.encode("ascii"),) if is_key else ()


def hex_key(text: str) -> tuple[bytes, ...]:
    if not _HEX_KEY.fullmatch(text):
        return ()
    return _long_enough(bytes.fromhex(text))


def base64_key(text: str) -> tuple[bytes, ...]:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ()
    return _long_enough(raw)


def prefixed_base64_key(text: str) -> tuple[bytes, ...]:
    """Take what stands in base64 behind `whsec_`."""
    return base64_key(text.removeprefix(_PREFIX))


def any_key(text: str) -> tuple[bytes, ...]:
    """Take the text itself, and what it decodes to, where the processor does not say which."""
    return (*ascii_key(text), *hex_key(text), *base64_key(text))


def _long_enough(raw: bytes) -> tuple[bytes, ...]:
    return (raw,) if len(raw) >= KEY_BYTES_MIN else ()
