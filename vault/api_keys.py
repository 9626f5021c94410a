"""API keys: what one looks like, how one is made, and what it may be allowed.

`pwpk_{test|live}_` or `pwsk_{test|live}_`, 16 characters that find the key, 52 that prove it (260
random bits). A key is stored as its SHA-256 alone (PCI DSS 8.3.2): so much chance needs no slow
hash. What never may live here: look-ups, tenants, and a message with a key in it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from vault.ids import BITS_A_CHARACTER, CROCKFORD_CLASS, crockford_number
from vault.tokens import Env

KeyKind = Literal["publishable_key", "secret_key"]
"""Who may hold it, in the ledger's words: a page that anyone reads, or a back end."""

ID_CHARACTERS: Final = 16
SECRET_CHARACTERS: Final = 52
RANDOM_BITS: Final = (ID_CHARACTERS + SECRET_CHARACTERS) * BITS_A_CHARACTER

_STARTS: Final[dict[KeyKind, str]] = {"publishable_key": "pwpk", "secret_key": "pwsk"}
_KEY: Final = re.compile(
    f"pw([ps])k_(test|live)_({CROCKFORD_CLASS}{{{ID_CHARACTERS}}})"
    f"{CROCKFORD_CLASS}{{{SECRET_CHARACTERS}}}"
)
_NO_DIGEST: Final = bytes(hashlib.sha256().digest_size)


# --- keys ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made: the only time that its text is in our hands to give away."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A well-formed key that a caller showed; whether it is good, only its digest says."""

    id: str
    kind: KeyKind
    env: Env
    digest: bytes = field(repr=False)

    def matches(self, stored: bytes | None) -> bool:
        """Compare with the digest stored under this id; None, for an unknown id, takes as long."""
        same = hmac.compare_digest(self.digest, _NO_DIGEST if stored is None else stored)
        return same and stored is not None


def api_key_of(kind: KeyKind, env: Env, random_bits: int) -> NewApiKey:
    """Spell a key: for tests, which know the bits."""
    characters = crockford_number(random_bits, ID_CHARACTERS + SECRET_CHARACTERS)
    text = f"{_STARTS[kind]}_{env}_{characters}"
    return NewApiKey(f"k_{characters[:ID_CHARACTERS]}", text, _digest(text))


def new_api_key(kind: KeyKind, env: Env) -> NewApiKey:
    return api_key_of(kind, env, secrets.randbits(RANDOM_BITS))


def parse_api_key(text: str) -> PresentedKey | None:
    """Read a key, or give None for what cannot be one."""
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    kind: KeyKind = "secret_key" if found[1] == "s" else "publishable_key"
    env: Env = "live" if found[2] == "live" else "test"
    return PresentedKey(f"k_{found[3]}", kind, env, _digest(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


# --- scopes -------------------------------------------------------------------------------


class Scope(StrEnum):
    """What a secret key may be allowed, apart from routes."""

    TOKENIZE = "tokenize"
    READ = "read"
    BIN = "bin"
    FINGERPRINT = "fingerprint"
    UPDATE = "update"
    DELETE = "delete"
    LEDGER = "ledger"


ROUTE_SCOPE: Final = re.compile("route:([a-z0-9_.-]{1,64})")
"""May send to the route of this name, which is a name from the configuration."""

_NAMES: Final = frozenset(scope.value for scope in Scope)


def route_scope(route: str) -> str:
    """Give the scope that a call to this route needs."""
    scope = f"route:{route}"
    assert ROUTE_SCOPE.fullmatch(scope), "not a route's name"
    return scope


def route_of(scope: str) -> str | None:
    """Give the route that a scope allows, or None if it is of another sort."""
    found = ROUTE_SCOPE.fullmatch(scope)
    return None if found is None else found[1]


def parse_scopes(texts: Iterable[str], *, kind: KeyKind = "secret_key") -> frozenset[str]:
    """Read the scopes that a key is to have; one that is unknown is refused by its position.

    A publishable key has none: it makes tokens and attaches codes, which nobody can widen.
    """
    scopes = list(texts)
    if scopes and kind == "publishable_key":
        raise ValueError("a publishable key carries no scopes")
    for position, scope in enumerate(scopes, start=1):
        if scope not in _NAMES and route_of(scope) is None:
            known = ", ".join([*Scope, "route:<name>"])
            raise ValueError(f"scope number {position} is none of {known}")
    return frozenset(scopes)
