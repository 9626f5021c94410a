"""What is posted to a merchant's endpoint: headers, body and signatures. Pure.

A processor's callback goes on as it came, unless a card number had to be taken out of it: then it
is signed again in the processor's own scheme, with a secret that the merchant shares with us, so
that the processor's SDK still accepts it. Beside that, and on events, there are always signatures
of Standard Webhooks. What never lives here: sending, and where secrets come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from standardwebhooks import Webhook

from gateway.signatures import SCHEMES, CannotSign, Scheme, Secret, signed
from vault.delivery_queue import Claimed
from vault.telling import callback_id, event_id

Headers = tuple[tuple[str, str], ...]

STANDARD: Final = "standard."
"""Names of secrets: of Standard Webhooks, and of the processor's scheme with the key's id."""
CALLBACK: Final = "callback."
JSON: Final = ("Content-Type", "application/json")

_SEVERAL: Final = frozenset(  # schemes in which a second signature stands beside the first
    {"stripe", "braintree", "mollie_nextgen", "worldpay_access", "standard_webhooks"}
)
_NOT_PASSED_ON: Final = frozenset({"paypal"})
"""Whose signature proves a checksum alone: with it, a body of the receiver's own would pass."""
_STANDARDS: Final = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})
_HEADERS: Final = msgspec.json.Decoder(Headers)


class Unsignable(Exception):
    """There is no secret, or the body is none that can be signed: nobody could check a post."""


class Forgotten(Exception):
    """The body is not kept any more."""


@dataclass(frozen=True, slots=True)
class Post:
    """What goes out."""

    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


def post_of(claimed: Claimed, secrets: Mapping[str, str], *, at: datetime) -> Post:
    """Put together what is posted. Raises Unsignable; Forgotten."""
    if claimed.body is None:
        raise Forgotten
    if claimed.form == "events":
        beside = _standard(event_id(claimed.message), claimed.body, secrets, at)
        if not beside:
            raise Unsignable
        return Post((JSON, *beside), claimed.body)
    return _callback(claimed, claimed.body, secrets, at)


def _callback(claimed: Claimed, body: bytes, secrets: Mapping[str, str], at: datetime) -> Post:
    scheme = SCHEMES.get(claimed.scheme or "")
    headers = _HEADERS.decode(claimed.headers or "[]")
    own = scheme is not None and scheme.name == "standard_webhooks"
    if not own:  # whoever sent them, they prove nothing here, and ours stand in their place
        headers = tuple(each for each in headers if each[0].lower() not in _STANDARDS)
    message: UUID = claimed.message
    again = _again(claimed, scheme, headers, body, secrets, at) if scheme is not None else None
    is_whole = claimed.signature == "original" and not claimed.is_scrubbed
    is_whole = is_whole and claimed.scheme not in _NOT_PASSED_ON
    if again is None and not is_whole:  # nothing of the processor's signature holds any more
        headers = tuple(each for each in headers if each[0].lower() == "content-type")
    elif again is not None:
        headers, body = again
    own = any(name.lower() == "webhook-signature" for name, _ in headers)
    beside = () if own else _standard(callback_id(message), body, secrets, at)
    if not (beside or is_whole or again):
        raise Unsignable
    return Post((*headers, *beside), body)


def _again(
    claimed: Claimed,
    scheme: Scheme,
    headers: Headers,
    body: bytes,
    secrets: Mapping[str, str],
    at: datetime,
) -> tuple[Headers, bytes] | None:
    """Sign in the processor's scheme, if that is called for and can be done."""
    keep = claimed.signature == "original" and not claimed.is_scrubbed
    takes_several = scheme.name in _SEVERAL
    if keep and not takes_several:
        return None
    ours = _named(secrets, CALLBACK)
    done: tuple[Headers, bytes] | None = None
    for key_id, text in ours if takes_several else ours[:1]:
        try:
            done = headers, body = signed(
                scheme,
                headers,
                body,
                Secret(key_id, text),
                at=at,
                url=claimed.url,
                keep=keep or done is not None,
            )
        except CannotSign:
            continue
    return done


def _standard(message: str, body: bytes, secrets: Mapping[str, str], at: datetime) -> Headers:
    """Sign by Standard Webhooks with every secret in force; its verifiers read text alone."""
    at = at.astimezone(UTC)
    try:
        text = body.decode()
        made = [Webhook(secret).sign(message, at, text) for _, secret in _named(secrets, STANDARD)]
    except ValueError:  # not UTF-8, or a secret that is not base64
        made = []
    if not made:
        return ()
    return (
        ("webhook-id", message),
        ("webhook-timestamp", str(int(at.timestamp()))),
        ("webhook-signature", " ".join(made)),
    )


def _named(secrets: Mapping[str, str], prefix: str) -> Sequence[tuple[str, str]]:
    """Pick the secrets of a kind, the one with the last name first: that is the newest."""
    names = sorted((name for name in secrets if name.startswith(prefix)), reverse=True)
    return [(name.removeprefix(prefix), secrets[name]) for name in names if secrets[name]]
