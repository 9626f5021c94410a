"""Whose API key a call carries, and what that account holds. Pure.

Accounts are named by the place of their key in the list: `acct_1` is the first.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from gateway.sandbox.books import Books, Counts, keep
from gateway.sandbox.objects import Charge
from gateway.sandbox.refusals import unauthorized

_SCHEMES: Final = ("bearer", "basic")


class Accounts:
    """The accounts of the simulation, found by API key."""

    def __init__(
        self,
        api_keys: Sequence[str],
        *,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
        fingerprint_key: bytes,
    ) -> None:
        self.counts = Counts()
        self._books: dict[str, Books] = {}
        self._names: dict[bytes, str] = {}  # by digest: no API key is kept
        for place, api_key in enumerate(api_keys, start=1):
            name = f"acct_{place}"
            self._names[_digest(api_key)] = name
            self._books[name] = Books(new_id, now, fingerprint_key, self.counts)

    def named_by(self, authorization: str | None) -> str | None:
        """Find the account whose key is in this header (Bearer, or Basic as its user)."""
        api_key = _api_key(authorization)
        return None if api_key is None else self._names.get(_digest(api_key))

    def books(self, account: str) -> Books:
        return self._books[account]

    def restore(self, account: str, charges: Iterable[Charge], counts: Counts) -> None:
        """Put back what an earlier life of the processor had come to."""
        for charge in charges:
            keep(self._books[account].charges, charge.id, charge)
        for name in counts.__struct_fields__:
            setattr(self.counts, name, getattr(counts, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._books)


def refuse_unknown(authorization: str | None, account: str | None) -> str:
    """Return the account's name, or raise a Refusal; the key itself is not repeated."""
    if account is not None:
        return account
    if _api_key(authorization) is None:
        raise unauthorized("You did not provide an API key.")
    raise unauthorized("Invalid API key provided.")


def _api_key(authorization: str | None) -> str | None:
    scheme, _, credential = (authorization or "").partition(" ")
    if scheme.lower() not in _SCHEMES or not credential:
        return None
    if scheme.lower() == "bearer":
        return credential.strip()
    try:
        user, _, _password = base64.b64decode(credential, validate=True).decode().partition(":")
    except ValueError:
        return None
    return user or None


def _digest(api_key: str) -> bytes:
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).digest()
