"""What an entry commits to without saying it: its details, which can be erased.

A leaf holds a salted hash of them; salt and body lie in a table of their own. With both erased
the leaf says nothing, and the root stays what it was. What never may be a detail: card data, or
a hash of card data (PCI DSS 3.5.1.1).
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, get_args

import msgspec
from msgspec import UNSET

from vault.ledger.entry import (
    AccessDenied,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationResolved,
    AuthorizationUnknown,
    CallbackReceived,
    Draft,
    Entry,
    EntryRefused,
    LogSealed,
    LogUnsealed,
    TokenCreated,
    TokenUpdated,
    canonical,
)
from vault.ledger.forms import INTEGER_MAX, TokenChange, base64url

DETAIL_BYTES_MAX: Final = 16 * 1024
SALT_BYTES: Final = 32

DetailValue = str | int | Mapping[str, str]

_OF_A_REPLY: Final = frozenset(
    {"processor_reference", "authorization_code", "decline_code", "response_digest"}
)
_OF_A_CALL: Final = frozenset(
    {"amount", "currency", "merchant_reference", "host"}
    | {"source_address", "idempotency_digest", "request_digest"}
)
DETAIL_FIELDS: Final[Mapping[type[Draft], frozenset[str]]] = {
    TokenCreated: frozenset({"customer_reference", "source_address"}),
    TokenUpdated: frozenset({"before", "after"}),
    AuthorizationAttempted: _OF_A_CALL,
    AuthorizationCompleted: _OF_A_REPLY,
    AuthorizationUnknown: _OF_A_REPLY,
    AuthorizationResolved: _OF_A_REPLY | {"evidence"},
    LogSealed: frozenset({"statement"}),
    LogUnsealed: frozenset({"statement"}),
    CallbackReceived: frozenset(
        {"processor_event", "processor_reference", "body_digest", "source_address"}
    ),
    AccessDenied: frozenset({"source_address"}),
}
"""The types whose leaves have a `detail`, and what may be in it."""


def detail_body(entry_type: type[Draft], fields: Mapping[str, DetailValue]) -> bytes:
    """Return what an entry of this type commits to: canonical JSON of the fields that are known.

    An empty text tells nothing and is left out. Raises EntryRefused on a field that the type
    does not have, and on a value of another kind.
    """
    if not fields.keys() <= DETAIL_FIELDS.get(entry_type, frozenset()):
        raise EntryRefused("the type has no such detail")
    if not all(_is_of_its_kind(name, value) for name, value in fields.items()):
        raise EntryRefused("a detail is of another kind")
    body = canonical({name: value for name, value in fields.items() if value != ""})
    if len(body) > DETAIL_BYTES_MAX:
        raise EntryRefused("the details are too long")
    return body


def commitment(salt: bytes, body: bytes) -> str:
    """Return the `detail` of a leaf."""
    if len(salt) != SALT_BYTES:
        raise EntryRefused("a salt has 32 bytes")
    return base64url(sha256(b"\x02" + salt + body).digest())


def read_detail(entry: Entry, salt: bytes, body: bytes) -> Mapping[str, DetailValue]:
    """Return what an entry committed to. Raises EntryRefused if it is not this."""
    if getattr(entry, "detail", UNSET) != commitment(salt, body):
        raise EntryRefused("the details are not what the entry commits to")
    try:
        fields = msgspec.json.decode(body, type=dict[str, DetailValue])
    except (msgspec.MsgspecError, ValueError):  # its text quotes what it read
        fields = None
    if fields is None or detail_body(type(entry), fields) != body:
        raise EntryRefused("the details are not in their form")
    return fields


def _is_of_its_kind(name: str, value: DetailValue) -> bool:
    match name:
        case "amount":
            return type(value) is int and abs(value) <= INTEGER_MAX
        case "before" | "after":
            return isinstance(value, Mapping) and all(
                field in get_args(TokenChange) and isinstance(text, str)
                for field, text in value.items()
            )
        case _:
            return isinstance(value, str)
