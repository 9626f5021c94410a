"""What may stand in a leaf: a type for every event, and its bytes.

A leaf is canonical JSON (RFC 8785) of a closed vocabulary, random ids, names from the
configuration, numbers and times. Whatever could ever have to be erased goes into the detail, to
which the leaf commits under a salt. What never may be added: free text, an address, anything
computed from a card number. A type never changes; what must change gets a new `v`.

The writer asks the same `decode` as the auditor, so what is not an entry is never written.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, ClassVar, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from vault.authorization import Finding, Kind, Result, State
from vault.ledger.forms import (
    SYSTEM_ACTORS,
    ActorId,
    ActorKind,
    Code,
    Count,
    DeniedCause,
    EdgeKid,
    Hash,
    Method,
    Name,
    NotSentPhase,
    Ordinal,
    Origin,
    Replica,
    SealCause,
    Status,
    Tenant,
    Time,
    Token,
    TokenChange,
    UnknownPhase,
    Uuid,
    VerifierKey,
    Version,
    leaf_form,
    time_text,
)

ENTRY_BYTES_MAX: Final = 16 * 1024
OPENS_MAX: Final = 32
NAME_CHARACTERS: Final = 12  # of the hash of a name
ERASED_MAX: Final = 1_000
LEDGER_KEY: Final = "ledger"  # the transit key whose public half auditors pin


class EntryRefused(ValueError):
    """The bytes are not an entry of the ledger, or the values would not make one."""


class EntryUnknown(EntryRefused):
    """The entry is of a type or version that is not known here."""


# --- what all entries share ---------------------------------------------------------------


_NAMED_ACTORS: Final[Mapping[str, tuple[str, ...]]] = {  # the others have random ids
    "anonymous": ("none",),
    "system": SYSTEM_ACTORS,
}


class Actor(Struct, frozen=True, forbid_unknown_fields=True):
    """Who did it: the random id of a credential, a part of the system, or nobody known."""

    id: ActorId
    kind: ActorKind

    def __post_init__(self) -> None:
        named = _NAMED_ACTORS.get(self.kind)
        if not ("_" in self.id if named is None else self.id in named):
            raise EntryRefused("an actor of this kind has another id")


def inbound_actor(route: str) -> Actor:
    """Whoever sent something to a route of a merchant's own endpoint, by the route alone.

    `printf %s ROUTE | sha256sum` begins like the id: so an operator tells which route it is.
    """
    return Actor(id=f"in_{_short(route)}", kind="endpoint")


def callback_actor(endpoint: str) -> Actor:
    """A processor, by the callback endpoint that it posted to: its id is a secret, almost."""
    return Actor(id=f"cb_{_short(endpoint)}", kind="endpoint")


def _short(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:NAME_CHARACTERS]


class Draft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """An entry as its author knows it: when and by whom it is appended comes with the stamp."""

    actor: Actor
    id: Uuid
    v: Literal[1] = 1

    @property
    def type(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def intent_id(self) -> str | None:
        """The intent that this entry begins or ends."""
        return None


class Entry(Draft, frozen=True, kw_only=True):
    """An entry as it is appended. A fresh one still lacks its stamp: see it as a `Draft`."""

    boot: Uuid = ""
    n: Count = -1
    replica: Replica = ""
    ts: Time = ""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the writer adds just before it inserts."""

    ts: datetime
    replica: str
    boot: str
    n: int


class OfIntent(Entry, frozen=True, kw_only=True):
    """A step of something that is recorded before it is done: its intent, or an outcome."""

    family: ClassVar[str] = "authorization"
    state: ClassVar[State]

    intent: Uuid
    tenant: Tenant

    @property
    def intent_id(self) -> str:
        return self.intent


class Outcome(OfIntent, frozen=True, kw_only=True):
    """What became of an intent."""

    origin_boot: Uuid | UnsetType = UNSET  # whose act it was, when another boot appends


# --- the types ----------------------------------------------------------------------------


class OldLog(Struct, frozen=True, forbid_unknown_fields=True):
    """The last trusted head of the log that a new one replaces."""

    origin: Origin
    root: Hash
    size: Count


class OldBoot(Struct, frozen=True, forbid_unknown_fields=True):
    """A replica's last entry before it started again."""

    boot: Uuid
    n: Count


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """One item that is to be opened: the transit key and version it lies under."""

    key: Literal["pan", "cvc"]
    token: Token
    version: Ordinal


class LogOpened(Entry, frozen=True, kw_only=True, tag="log.opened"):
    """Entry 0."""

    env: Literal["test", "live"]
    origin: Origin
    vkey: VerifierKey
    previous: OldLog | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.vkey.startswith(self.origin + "+"):
            raise EntryRefused("the key is another log's")


class GatewayStarted(Entry, frozen=True, kw_only=True, tag="gateway.started"):
    """A boot's first entry."""

    config: Hash
    role: Literal["all", "edge", "processor"]
    version: Version
    previous: OldBoot | UnsetType = UNSET


class GatewayStopped(Entry, frozen=True, kw_only=True, tag="gateway.stopped"):
    """A boot's last entry, when it ended in order."""


class TokenCreated(Entry, frozen=True, kw_only=True, tag="token.created"):
    """A token row was inserted."""

    format: Literal["opaque", "pan_like"]
    key_version: Ordinal
    single_use: bool
    tenant: Tenant
    token: Token
    detail: Hash | UnsetType = UNSET
    expires_at: Time | UnsetType = UNSET


class TokenUpdated(Entry, frozen=True, kw_only=True, tag="token.updated"):
    """A token row was changed."""

    changed: Annotated[tuple[TokenChange, ...], Meta(min_length=1)]
    reason: Literal["patch", "reuse"]
    tenant: Tenant
    token: Token
    detail: Hash | UnsetType = UNSET

    def __post_init__(self) -> None:
        if list(self.changed) != sorted(set(self.changed)):
            raise EntryRefused("the changed fields are not in order")


class TokenDeleted(Entry, frozen=True, kw_only=True, tag="token.deleted"):
    """A token row was deleted."""

    reason: Literal["request", "customer_erasure", "expired", "used"]
    tenant: Tenant
    token: Token


class AuthorizationAttempted(OfIntent, frozen=True, kw_only=True, tag="authorization.attempted"):
    """The intent of one send, durable before anything is opened or leaves."""

    state = State.ATTEMPTED

    attempt: Ordinal
    kind: Kind
    opens: Annotated[tuple[Opening, ...], Meta(max_length=OPENS_MAX)]
    operation: Name
    route: Name
    detail: Hash | UnsetType = UNSET
    of: Uuid | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.intent != self.id:
            raise EntryRefused("an intent is its own entry")
        if (self.attempt == 1) != (self.of is UNSET) or self.of == self.id:
            raise EntryRefused("exactly the later attempts name the first")


class AuthorizationCompleted(Outcome, frozen=True, kw_only=True, tag="authorization.completed"):
    """The whole reply is there."""

    state = State.COMPLETED

    ms: Count
    result: Result
    status: Status
    detail: Hash | UnsetType = UNSET


class AuthorizationNotSent(Outcome, frozen=True, kw_only=True, tag="authorization.not_sent"):
    """Nothing left, provably."""

    state = State.NOT_SENT

    phase: NotSentPhase
    reason: Code


class AuthorizationUnknown(Outcome, frozen=True, kw_only=True, tag="authorization.unknown"):
    """Something may have left, and no definite answer is there."""

    state = State.UNKNOWN

    phase: UnknownPhase
    reason: Code
    detail: Hash | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class AuthorizationResolved(Outcome, frozen=True, kw_only=True, tag="authorization.resolved"):
    """Later evidence says what became of it."""

    state = State.RESOLVED

    finding: Finding
    method: Method
    result: Result
    detail: Hash | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    supersedes: Count | UnsetType = UNSET  # index of the entry that this one contradicts

    def __post_init__(self) -> None:
        if self.finding != Finding.ANSWERED and self.result != Result.ERROR:
            raise EntryRefused("only an answer has another result than error")


class KeyRotated(Entry, frozen=True, kw_only=True, tag="key.rotated"):
    """A transit key has a new version; of the one that signs, auditors learn the public half."""

    from_version: Ordinal = field(name="from")
    key: Name
    to_version: Ordinal = field(name="to")
    vkey: VerifierKey | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.to_version <= self.from_version:
            raise EntryRefused("a key is rotated to a later version")
        if (self.key == LEDGER_KEY) != (self.vkey is not UNSET):
            raise EntryRefused("exactly the signing key has a public half")


class EdgeKeyCreated(Entry, frozen=True, kw_only=True, tag="edge_key.created"):
    """A key pair was made, to which browsers seal cards."""

    kid: EdgeKid


class EdgeKeyDestroyed(Entry, frozen=True, kw_only=True, tag="edge_key.destroyed"):
    """The private half of a key pair is gone: what was sealed to it, nobody opens any more."""

    kid: EdgeKid


class DetailErased(Entry, frozen=True, kw_only=True, tag="detail.erased"):
    """Details of these entries and their salts are gone; the leaves stay, and say nothing."""

    entries: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=ERASED_MAX)]
    reason: Literal["request", "retention"]
    tenant: Tenant

    def __post_init__(self) -> None:
        if list(self.entries) != sorted(set(self.entries)):
            raise EntryRefused("the erased entries are not in order")


class LogSealed(Entry, frozen=True, kw_only=True, tag="ledger.sealed"):
    """No card is disclosed from here on."""

    cause: SealCause
    detail: Hash | UnsetType = UNSET


class LogUnsealed(Entry, frozen=True, kw_only=True, tag="ledger.unsealed"):
    """What the seal was for is over, by itself or by an operator's word."""

    cause: SealCause
    detail: Hash | UnsetType = UNSET


class CallbackReceived(Entry, frozen=True, kw_only=True, tag="callback.received"):
    """An event of a processor's is in the inbox; `unsigned`: its source proved it, or we asked."""

    route: Name
    signature: Literal["unsigned", "valid"]
    tenant: Tenant
    detail: Hash | UnsetType = UNSET
    intent: Uuid | UnsetType = UNSET  # the first of the request that it speaks of, if known


class AccessDenied(Entry, frozen=True, kw_only=True, tag="access.denied"):
    """Refusals of one cause within a minute."""

    cause: DeniedCause
    count: Ordinal
    detail: Hash | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET


AnyEntry = (  # the registry: a new type is its class and a line here
    LogOpened
    | GatewayStarted
    | GatewayStopped
    | TokenCreated
    | TokenUpdated
    | TokenDeleted
    | AuthorizationAttempted
    | AuthorizationCompleted
    | AuthorizationNotSent
    | AuthorizationUnknown
    | AuthorizationResolved
    | KeyRotated
    | EdgeKeyCreated
    | EdgeKeyDestroyed
    | DetailErased
    | LogSealed
    | LogUnsealed
    | CallbackReceived
    | AccessDenied
)

TYPES: Final[Mapping[str, type[Entry]]] = {
    str(known.__struct_config__.tag): known for known in get_args(AnyEntry)
}

# --- bytes --------------------------------------------------------------------------------

# What the decoder raises on wrong types, wrong UTF-8, deep nesting. The first quotes what it read.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)

_STAMPED: Final = frozenset({"boot", "n", "replica", "ts"})
_ENCODER: Final = msgspec.json.Encoder(order="sorted")  # "deterministic" leaves fields unsorted
_DECODER: Final[msgspec.json.Decoder[AnyEntry]] = msgspec.json.Decoder(AnyEntry)
_FORMS: Final = {known: leaf_form(known) for known in TYPES.values()}
_DRAFT_FORMS: Final = {known: leaf_form(known, without=_STAMPED) for known in TYPES.values()}


class _Envelope(Struct):
    type: str
    v: int


def canonical(value: object) -> bytes:
    """Return the JSON of what holds no float. Raises EntryRefused if it has none."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError):  # no JSON type, or text that is not Unicode
        pass
    raise EntryRefused("a value has no canonical form")


def encode(draft: Draft, stamp: Stamp) -> bytes:
    """Return the bytes of the leaf. Raises EntryRefused unless an auditor would accept them."""
    body = canonical(
        replace(draft, ts=time_text(stamp.ts), replica=stamp.replica, boot=stamp.boot, n=stamp.n)
    )
    decode(body)
    return body


def decode(body: bytes) -> Entry:
    """Read a leaf. Raises EntryRefused, or EntryUnknown if it is of a later version."""
    return _decode(body, _FORMS)


def encode_draft(draft: Draft) -> bytes:
    """Return an entry without its stamp, for keeping it until it can be appended."""
    fields = msgspec.json.decode(canonical(draft), type=dict[str, object])
    body = canonical({name: fields[name] for name in fields.keys() - _STAMPED})
    decode_draft(body)
    return body


def decode_draft(body: bytes) -> Draft:
    """Read what `encode_draft` wrote. Raises EntryRefused."""
    return _decode(body, _DRAFT_FORMS)


def _decode(body: bytes, forms: Mapping[type[Entry], re.Pattern[bytes]]) -> Entry:
    if len(body) > ENTRY_BYTES_MAX:
        raise EntryRefused("an entry is not that long")
    try:
        entry = _DECODER.decode(body)
    except _UNREADABLE:
        entry = None
    if entry is None:
        raise _refusal(body)
    if forms[type(entry)].fullmatch(body) is None:
        raise EntryRefused("the bytes are not canonical, or a value does not have its form")
    return entry


def _refusal(body: bytes) -> EntryRefused:
    """Tell what is malformed from what is of another version."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except _UNREADABLE:
        return EntryRefused("the bytes are no entry")
    if envelope.type not in TYPES or envelope.v != 1:
        return EntryUnknown("the type or version is not known")
    return EntryRefused("a field is missing, unknown or not of its type")
