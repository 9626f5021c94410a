"""The events of the simulated Stripe, and their signature. Pure.

The endpoint is one that has chosen events of payment intents, refunds and disputes; charges of
the older API, which have no intent, have events of their own.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

import msgspec

from gateway.sandbox.callbacks import Post
from gateway.sandbox.objects import StripeObject

API_VERSION: Final = "2024-06-20"

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
}


@dataclass(frozen=True, slots=True, repr=False)
class StripeEvent:
    """One event, with its object as it was then."""

    id: str
    type: str
    created: int
    payment: str
    about: Mapping[str, object]
    note: str | None = None

    @classmethod
    def of(cls, id_: str, type_: str, created: int, payment: str, about: StripeObject) -> Self:
        return cls(id_, type_, created, payment, msgspec.to_builtins(about))

    def noting(self, text: str) -> Self:
        return replace(self, note=text)

    def posted(self, secret: str | None, *, at: datetime) -> Post:
        """Sign it anew for each try: the time is signed too."""
        body = self._body()
        signed = {} if secret is None else {"Stripe-Signature": signature(secret, body, at=at)}
        return Post({**_HEADERS, **signed}, body)

    def _body(self) -> bytes:
        document = {
            "id": self.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.created,
            "data": {"object": self._object()},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": self.type,
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2)

    def _object(self) -> Mapping[str, object]:
        """With the note among what the merchant noted: nothing else of it is free text in all."""
        noted = self.about["metadata"]
        if self.note is None or not isinstance(noted, dict):
            return self.about
        return {**self.about, "metadata": {**noted, "note": self.note}}


def signature(secret: str, body: bytes, *, at: datetime) -> str:
    """Sign time and body; the key is the whole secret with its prefix, as text."""
    time = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256)
    return f"t={time},v1={digest.hexdigest()}"
