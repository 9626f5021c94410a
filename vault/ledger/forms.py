"""The form of a value in a leaf, and how the forms of its fields make up the form of a type.

Each text type carries a regular expression; `leaf_form` joins those of a type's fields into one
for all of its bytes: keys in order, no white space, no escapes, nothing twice. What matches is
canonical JSON (RFC 8785) in ASCII, so one match stands for parsing, encoding again and comparing.
Bounds of numbers are not in it: the typed decoder checks them.

What lives here knows no type of entry.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

from msgspec import NODEFAULT, Meta, Struct, inspect, json

INTEGER_MAX: Final = 2**53 - 1  # JSON readers disagree about what is larger (RFC 7493 §2.2)
SYSTEM_ACTORS: Final = ("bootstrap", "publisher", "reconciler", "rotation", "sweeper", "writer")

_CROCKFORD: Final = "[0-9a-hjkmnp-tv-z]"
_BASE64URL_OF_32: Final = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"  # 32 bytes leave 4 of 6 bits
_ORIGIN: Final = r"[a-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]{1,64}){0,4}"
_UNQUOTED: Final[Mapping[type[inspect.Type], str]] = {
    inspect.IntType: "(?:0|[1-9][0-9]{0,15})",  # no leaf has a negative one
    inspect.BoolType: "(?:true|false)",
}


def _text(form: str) -> Meta:
    return Meta(extra={"form": form})


Uuid = Annotated[str, _text("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")]
Time = Annotated[
    str,
    _text(
        "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
        r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
    ),
]
Name = Annotated[str, _text("[a-z0-9_.-]{1,64}")]  # from the configuration
Code = Annotated[str, _text("[a-z][a-z0-9_]{0,63}")]  # of the problem table
Version = Annotated[str, _text("[0-9a-z][0-9a-z.!+-]{0,63}")]
Replica = Annotated[str, _text(f"r_{_CROCKFORD}{{8}}-(?:0|[1-9][0-9]{{0,3}})")]
Tenant = Annotated[str, _text("t_[0-9a-z]{2,26}")]
Token = Annotated[str, _text(f"pwt_(?:test|live)_{_CROCKFORD}{{28}}")]
EdgeKid = Annotated[str, _text(f"ek_[0-7]{_CROCKFORD}{{25}}")]  # a UUIDv7
ActorId = Annotated[str, _text(f"[a-z]{{1,4}}_[0-9a-z]{{2,32}}|none|{'|'.join(SYSTEM_ACTORS)}")]
Hash = Annotated[str, _text(_BASE64URL_OF_32)]
Origin = Annotated[str, _text(_ORIGIN)]
VerifierKey = Annotated[str, _text(_ORIGIN + r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}")]

Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Ordinal = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Status = Annotated[int, Meta(ge=100, le=999)]

ActorKind = Literal[
    "publishable_key",
    "secret_key",
    "client_certificate",
    "endpoint",
    "operator",
    "anonymous",
    "system",
]
TokenChange = Literal["customer_reference", "expires_at", "expiry"]
NotSentPhase = Literal["abandoned", "decrypt", "prepare", "dns", "connect", "tls"]
UnknownPhase = Literal["sending", "sent", "reply", "crash"]
Method = Literal[
    "inquiry",
    "replay",
    "callback",
    "settlement",
    "vault_audit",
    "spool",
    "late_reply",
    "manual",
    "deadline",
]
DeniedCause = Literal[
    "key", "scope", "foreign_token", "context", "signature", "wrapping_token", "egress"
]
SealCause = Literal["root_mismatch", "rollback", "fork", "signer", "corrupt", "spool", "stale"]


@lru_cache(maxsize=8)  # all entries of a batch have the same time
def time_text(at: datetime) -> str:
    """Write a time as leaves have it: UTC, cut to milliseconds."""
    assert at.tzinfo is not None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def base64url(data: bytes) -> str:
    """Write bytes as leaves have them: without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def leaf_form(
    entry_type: type[Struct], *, without: frozenset[str] = frozenset()
) -> re.Pattern[bytes]:
    """Compile the form of all bytes of a type, but for fields that are left out."""
    described = inspect.type_info(entry_type)
    assert isinstance(described, inspect.StructType)
    return re.compile(_object_form(described, without).encode("ascii"))


def _object_form(described: inspect.StructType, without: frozenset[str]) -> str:
    members = {
        field.encode_name: (
            _value_form(field.type),
            not field.required and field.default is NODEFAULT,
        )
        for field in described.fields
        if field.encode_name not in without
    }
    if described.tag_field is not None:
        members[described.tag_field] = (_literal_form(described.tag), False)
    parts: list[str] = []
    for name, (form, may_be_absent) in sorted(members.items()):
        assert parts or not may_be_absent, "the comma of the second member needs the first"
        member = f'{"," if parts else ""}"{name}":{form}'
        parts.append(f"(?:{member})?" if may_be_absent else member)
    return rf"\{{{''.join(parts)}\}}"


def _value_form(described: inspect.Type) -> str:
    match described:
        case inspect.Metadata(type=inspect.StrType(), extra={"form": str() as form}):
            return f'"(?:{form})"'
        case inspect.IntType() | inspect.BoolType():
            return _UNQUOTED[type(described)]
        case inspect.LiteralType(values=values):
            return f"(?:{'|'.join(map(_literal_form, values))})"
        case inspect.EnumType(cls=words):
            return f"(?:{'|'.join(_literal_form(word.value) for word in words)})"
        case inspect.VarTupleType(item_type=item_type):
            item = _value_form(item_type)
            return rf"\[(?:{item}(?:,{item})*)?\]"
        case inspect.StructType():
            return _object_form(described, frozenset())
        case _:
            raise TypeError("a leaf has no values of this kind")


def _literal_form(value: object) -> str:
    return re.escape(json.encode(value).decode("ascii"))
