"""The webhooks of the simulated Checkout.com, and their signature. Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

import msgspec

from gateway.sandbox.callbacks import Post

_HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True, slots=True, repr=False)
class CheckoutEvent:
    """One event about one payment, or about one action on it."""

    id: str
    type: str
    created_on: str
    payment: str
    data: Mapping[str, object]
    note: str | None = None

    def noting(self, text: str) -> Self:
        return replace(self, note=text)

    def posted(self, secret: str | None, *, at: datetime) -> Post:  # noqa: ARG002 - of no use
        """Sign it: a repeat is the same to the last byte."""
        body = self._body()
        signed = {} if secret is None else {"Cko-Signature": signature(secret, body)}
        return Post({**_HEADERS, **signed}, body)

    def _body(self) -> bytes:
        metadata = {} if self.note is None else {"note": self.note}
        document = {
            "id": self.id,
            "type": self.type,
            "version": "1.0.0",
            "created_on": self.created_on,
            "data": {**self.data, "metadata": metadata},
        }
        return msgspec.json.encode(document)


def signature(secret: str, body: bytes) -> str:
    """Sign the body; the key is the secret as text."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
