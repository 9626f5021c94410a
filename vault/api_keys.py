"""API keys: what one looks like, how one is made, its aliases, and what it may be allowed.

`pwpk_{test|live}_` or `pwsk_{test|live}_` for a tenant, `pwau_{test|live}_` for an auditor of the
whole log; 16 characters that find the key, 52 that prove it (260 random bits). A key is stored as
its SHA-256 alone (PCI DSS 8.3.2): so much chance needs no slow hash. What never may live here:
look-ups, tenants, and a message with a key in it.
"""

import base64
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal
from uuid import uuid4

from vault.ids import BITS_A_CHARACTER, CROCKFORD_CLASS, crockford_number
from vault.tokens import Env

KeyKind = Literal["publishable_key", "secret_key"]
"""Who may hold a tenant's key, in the ledger's words: a page that anyone reads, or a back end."""

AnyKeyKind = Literal["publishable_key", "secret_key", "auditor_key"]
"""An auditor's is no tenant's: what reads one kind reads none of the other."""

ID_CHARACTERS: Final = 16
SECRET_CHARACTERS: Final = 52
RANDOM_BITS: Final = (ID_CHARACTERS + SECRET_CHARACTERS) * BITS_A_CHARACTER

_STARTS: Final[dict[AnyKeyKind, str]] = {
    "publishable_key": "pwpk",
    "secret_key": "pwsk",
    "auditor_key": "pwau",
}
_KINDS: Final = {start: kind for kind, start in _STARTS.items()}
_KEY: Final = re.compile(
    f"({'|'.join(_KINDS)})_(test|live)_({CROCKFORD_CLASS}{{{ID_CHARACTERS}}})"
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
    kind: AnyKeyKind
    env: Env
    digest: bytes = field(repr=False)

    def matches(self, stored: bytes | None) -> bool:
        """Compare with the digest stored under this id; None, for an unknown id, takes as long."""
        same = hmac.compare_digest(self.digest, _NO_DIGEST if stored is None else stored)
        return same and stored is not None


def api_key_of(kind: AnyKeyKind, env: Env, random_bits: int) -> NewApiKey:
    """Spell a key: for tests, which know the bits."""
    characters = crockford_number(random_bits, ID_CHARACTERS + SECRET_CHARACTERS)
    text = f"{_STARTS[kind]}_{env}_{characters}"
    return NewApiKey(_id(kind, characters[:ID_CHARACTERS]), text, _digest(text))


def new_api_key(kind: AnyKeyKind, env: Env) -> NewApiKey:
    return api_key_of(kind, env, secrets.randbits(RANDOM_BITS))


def parse_api_key(text: str) -> PresentedKey | None:
    """Read a tenant's key, or give None for what cannot be one."""
    key = _parsed(text)
    return None if key is None or key.kind == "auditor_key" else key


def parse_auditor_key(text: str) -> PresentedKey | None:
    """Read an auditor's key, or give None for what cannot be one."""
    key = _parsed(text)
    return key if key is not None and key.kind == "auditor_key" else None


def _parsed(text: str) -> PresentedKey | None:
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    kind = _KINDS[found[1]]
    env: Env = "live" if found[2] == "live" else "test"
    return PresentedKey(_id(kind, found[3]), kind, env, _digest(text))


def _id(kind: AnyKeyKind, characters: str) -> str:
    return f"{'au' if kind == 'auditor_key' else 'k'}_{characters}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


# --- aliases ------------------------------------------------------------------------------


AliasForm = Literal["checkout_com", "authorize_net", "client_certificate", "signing_key"]
"""Whose form an alias of a secret key has, where an SDK would refuse the key itself.

`checkout_com`: a Bearer credential. `authorize_net`: the login in a body, `name:transaction key`.
`client_certificate`: SHA-256 of one whose key the TLS handshake has proved. `signing_key`: a key
id, which proves nothing without a signature.
"""


@dataclass(frozen=True, slots=True)
class NewAlias:
    """An alias just made: its parts, by name, are in our hands this once."""

    form: AliasForm
    parts: Mapping[str, str] = field(repr=False)
    digest: bytes = field(repr=False)


_BASE32: Final = string.ascii_lowercase + "234567"
_CHECKOUT_LAST: Final = _BASE32 + "*#$="
_CHECKOUT_CHARACTERS: Final = 26
_TRANSACTION_KEY_CHARACTERS: Final = 16  # the longest that its schema allows; 95 bits
_SIGNING_SECRET_BYTES: Final = 32
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ALIASES: Final[Mapping[AliasForm, re.Pattern[str]]] = {
    "checkout_com": re.compile(r"sk_(?:sbox_)?[a-z2-7]{26}[a-z2-7*#$=]"),
    "authorize_net": re.compile("[A-Za-z0-9_]{1,25}:[A-Za-z0-9]{16}"),
    "client_certificate": re.compile("[0-9a-f]{64}"),
    "signing_key": _UUID,
}


def new_alias(form: AliasForm, env: Env, key_id: str) -> NewAlias:
    """Make an alias of the key of this id; a certificate is not made but taken."""
    match form:
        case "checkout_com":
            start = "sk_" if env == "live" else "sk_sbox_"
            text = start + _drawn(_BASE32, _CHECKOUT_CHARACTERS) + _drawn(_CHECKOUT_LAST, 1)
            return _alias(form, {"secret_key": text}, text)
        case "authorize_net":
            key = _drawn(string.ascii_letters + string.digits, _TRANSACTION_KEY_CHARACTERS)
            return _alias(form, {"name": key_id, "transaction_key": key}, f"{key_id}:{key}")
        case "signing_key":
            text = str(uuid4())
            secret = base64.b64encode(secrets.token_bytes(_SIGNING_SECRET_BYTES)).decode()
            return _alias(form, {"key_id": text, "secret": secret}, text)
        case "client_certificate":
            raise ValueError("a certificate is made by whoever holds its key")


def certificate_alias(der: bytes) -> NewAlias:
    """Make an alias of a client certificate; what is shown of it is its fingerprint."""
    text = hashlib.sha256(der).hexdigest()
    return _alias("client_certificate", {"sha256": text}, text)


def alias_digest(form: AliasForm, text: str) -> bytes | None:
    """Give the digest of an alias that a caller showed, or None for what cannot be one.

    The form is in it: a key id, which is no secret, can never pass for a Bearer credential.
    """
    fits = _ALIASES[form].fullmatch(text)
    return None if fits is None else _digest(f"panward alias {form} {text}")


SIGNING_SECRET_PREFIX: Final = "signing-key-"  # noqa: S105 - a name


def signing_secret_name(key_id: str) -> str:
    """Name the place, among a tenant's processor keys, of the secret issued with a key id."""
    assert _UUID.fullmatch(key_id), "not a key id of ours"
    return f"{SIGNING_SECRET_PREFIX}{key_id}"


def _alias(form: AliasForm, parts: Mapping[str, str], text: str) -> NewAlias:
    digest = alias_digest(form, text)
    assert digest is not None, "an alias that nobody could show"
    return NewAlias(form, parts, digest)


def _drawn(characters: str, count: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(count))


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
    WEBHOOKS = "webhooks"


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
