"""Whose credential a call carries. Pure.

Accounts are named by the place of their API key in the list: `acct_1` is the first. An account
has one credential, and each processor looks at that part of it which it asks for.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.sandbox.wire import SandboxCredential

ACCOUNT_PREFIX: Final = "acct_"


def credentials_of(api_keys: Sequence[str]) -> dict[str, SandboxCredential]:
    """Make each key an account, with a user and a signing secret that follow from it."""
    return {
        (name := f"{ACCOUNT_PREFIX}{place}"): SandboxCredential(
            api_key=api_key, user=name, secret=base64.b64encode(_digest(api_key)).decode()
        )
        for place, api_key in enumerate(api_keys, start=1)
    }


class ApiKeys:
    """Finds the account of an API key."""

    def __init__(self, accounts: Mapping[str, SandboxCredential]) -> None:
        self._names = {  # by digest: no API key is kept here
            _digest(credential.api_key): name for name, credential in accounts.items()
        }

    def account_of(self, api_key: str | None) -> str | None:
        return None if api_key is None else self._names.get(_digest(api_key))


def bearer(authorization: str | None) -> str | None:
    """Return what stands after `Bearer`."""
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def basic(authorization: str | None) -> tuple[str, str] | None:
    """Return user and password (RFC 7617)."""
    scheme, _, credential = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        return None
    user, _, password = decoded.partition(":")
    return user, password


def _digest(api_key: str) -> bytes:
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).digest()
