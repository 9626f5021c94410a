"""The words of callback signatures: what was posted, with which secrets, and what came of it. Pure.

A secret is printed nowhere: not by `repr`, and no verdict quotes what came. What never lives here:
how a signature is made or checked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, Self

Headers = Sequence[tuple[str, str]]
Random = Callable[[int], bytes]
Reason = Literal[
    "signature_missing",
    "signature_malformed",
    "signature_mismatch",
    "signature_stale",
    "secret_missing",
    "certificate_refused",
    "authorization_mismatch",
]

_KEY: Final = "key."


class CannotSign(Exception):
    """Nothing can be signed in this scheme, or not with this secret, or not this post."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret as the processor shows it.

    `key_id` is the processor's own where its signatures name one (Braintree's public key, the key
    ids of CyberSource and Worldpay Access), else any name.
    """

    key_id: str
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What proves the callbacks of one route: several `signing` secrets while one is rotated."""

    signing: tuple[Secret, ...] = ()
    webhook_id: str | None = None  # PayPal's: public, but signed
    authorization: str | None = None  # the `Authorization` header that is expected beside

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Self:
        """Read what is stored in HashiCorp Vault; what a newer version stored beside is left."""
        return cls(
            tuple(
                Secret(name.removeprefix(_KEY), text)
                for name, text in stored.items()
                if name.startswith(_KEY)
            ),
            stored.get("webhook_id"),
            stored.get("authorization"),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Posted:
    """A post as it came. `url` is the one registered at the processor, never made of `Host`."""

    headers: Headers
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Genuine:
    """Whoever posted this holds a secret of the processor's, or nobody has to (`is_signed`)."""

    is_signed: bool = True


@dataclass(frozen=True, slots=True)
class Forged:
    """Nothing of it is to be believed."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class NeedsCertificate:
    """Fetch this, without following redirects, and ask again."""

    url: str


@dataclass(frozen=True, slots=True)
class NeedsSource:
    """It is not signed: it must come from an address with a name under one of these."""

    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the processor takes for an acknowledgment."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the callbacks of one kind look from outside."""

    name: str
    kind: Literal["hmac", "rsa", "source", "fetch"] = "hmac"
    content_types: tuple[str, ...] = ("application/json",)
    reply: Reply = Reply()
    challenge: bool = False  # a GET with `bt_challenge` has to be answered
    may_be_http_1_0: bool = False
    health_get: bool = False  # a GET has to be answered with 200


class Symmetric(Protocol):
    """A scheme whose secret both sides hold: what is checked with it can be signed with it."""

    def proven(self, posted: Posted, secrets: Secrets, *, at: datetime) -> Genuine | Forged: ...

    def signed(
        self, posted: Posted, secret: Secret, *, at: datetime, keep: bool
    ) -> tuple[tuple[tuple[str, str], ...], bytes]: ...

    def new_secret(self, random: Random) -> Secret: ...
