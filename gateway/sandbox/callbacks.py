"""What simulated processors report by themselves: the words for it. Pure.

Each processor's own form stands in `stripe_callbacks`, `adyen_callbacks` and
`checkout_com_callbacks`, with signing code of its own: one that used the gateway's would prove
nothing about it. What never lives here: how they are sent.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, Self, runtime_checkable

CallingProcessor = Literal["stripe", "adyen", "checkout_com"]
Forgery = Literal["other_secret", "missing"]
"""Signed by somebody who has another secret, or not signed."""


@dataclass(frozen=True, slots=True, repr=False)
class Post:
    """One callback as it goes out."""

    headers: Mapping[str, str]
    body: bytes


class Callback(Protocol):
    """One thing that happened, in the form of the processor to which it did."""

    @property
    def type(self) -> str: ...

    @property
    def id(self) -> str:
        """What a receiver knows a repeat by."""
        ...

    @property
    def payment(self) -> str:
        """The processor's reference of the payment."""
        ...

    def noting(self, text: str) -> Self:
        """Return the same with this in its free text, which no signature need cover."""
        ...

    def posted(self, secret: str | None, *, at: datetime) -> Post:
        """Sign it, at this time; without a secret it goes out unsigned."""
        ...


@runtime_checkable
class CallsBack(Protocol):
    """A simulated processor that reports."""

    name: str
    in_order: bool
    """Whether a callback that is not acknowledged holds back those behind it."""

    def check_secret(self, secret: str) -> None:
        """Raise ValueError if nobody can sign with this."""
        ...

    def acknowledged(self, status: int, body: bytes) -> bool:
        """Whether this is the answer that it expects."""
        ...

    def take_told(self, account: str) -> tuple[Callback, ...]:
        """Return what happened since this was last asked."""
        ...

    def charge_back(self, payment: str) -> str:
        """Let a shopper dispute this payment, and return its account; LookupError: not here."""
        ...


def others_secret(secret: str) -> str:
    """Make a secret that is not this one; in hexadecimal, which is text too."""
    return hashlib.sha256(b"other" + secret.encode()).hexdigest()


def is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - RFC 9110, 15.3
