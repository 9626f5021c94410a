"""What the entries say of every send and every request: a fold over them. Pure.

The writer keeps two rows beside the entries, one a send and one for all sends of a request, so
that a question is one look-up. Here they follow from the entries alone, by the same table of
what may follow, so that a row can be checked, and made again if it is lost. What never may live
here: a row's `due`, or anything else that a process changes without saying so in the ledger.

Details are erasable, and a few columns come from them alone. Where one is gone the column is
`untold`: no entry says what was in it, and whoever compares leaves it as it is.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import UNSET, UnsetType

from vault.authorization import MAY_FOLLOW, Finding, Result, State
from vault.ledger.detail import DetailValue
from vault.ledger.entry import (
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    OfIntent,
    Outcome,
)

Words = Mapping[str, DetailValue]
"""What an entry's details say. None in its place: the entry commits to some that are gone."""

_OF_A_CALL: Final = frozenset({"amount", "currency", "merchant_reference", "key_digest"})
_CODES: Final = frozenset({"decline_code", "authorization_code"})
_REFERENCE: Final = frozenset({"processor_reference"})
_WHY_NOT: Final = frozenset({"phase", "reason"})  # what a `resolved` leaf has no field for


@dataclass(slots=True)
class Send:
    """A row of `intent_state`, as far as entries tell it."""

    intent: str
    first: str
    attempt: int
    tenant: str
    route: str
    tokens: list[str]
    opens_cvc: bool
    opened_idx: int
    last_idx: int
    replica: str
    boot: str
    opened_at: datetime
    state: State = State.ATTEMPTED
    result: Result | None = None
    finding: Finding | None = None
    status: int | None = None
    phase: str | None = None
    reason: str | None = None
    ended_at: datetime | None = None
    untold: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Request:
    """A row of `authorizations`: one request with all its sends; `leaf` is 32 bytes."""

    first: str
    tenant: str
    route: str
    operation: str
    kind: str
    tokens: list[str]
    idx: int
    leaf: bytes
    created_at: datetime
    updated_at: datetime
    amount: int | None = None
    currency: str | None = None
    merchant_reference: str | None = None
    key_digest: bytes | None = None
    state: State = State.ATTEMPTED
    result: Result | None = None
    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None
    untold: set[str] = field(default_factory=set)
    sends: list[Send] = field(default_factory=list)


class Illegal(ValueError):
    """An entry says what may not follow from those before it."""


@dataclass(slots=True)
class _Settling:
    """The outcomes that were appended at once: a send's own, then of those that it settles too."""

    request: Request
    own: Send
    entry: Outcome
    words: Words | None
    last_idx: int


class States:
    """Fed all entries of some requests in their order, knows their rows."""

    def __init__(self) -> None:
        self.sends: dict[str, Send] = {}
        self.requests: dict[str, Request] = {}
        self._settling: _Settling | None = None

    def feed(self, index: int, leaf: bytes, entry: OfIntent, words: Words | None) -> None:
        """Follow one more entry. Raises Illegal, and then knows what it knew before."""
        match entry:
            case AuthorizationAttempted():
                self._open(index, leaf, entry, words)
            case Outcome():
                self._settle(index, leaf, entry, words)
            case _ as unreachable:
                raise TypeError(unreachable)

    # --- an intent ------------------------------------------------------------------------

    def _open(
        self, index: int, leaf: bytes, entry: AuthorizationAttempted, words: Words | None
    ) -> None:
        if entry.intent in self.sends:
            raise Illegal("there is an earlier intent of this id")
        first = entry.intent if entry.of is UNSET else entry.of
        at = time_of(entry.ts)
        tokens = list(dict.fromkeys(opening.token for opening in entry.opens))
        send = Send(
            intent=entry.intent,
            first=first,
            attempt=entry.attempt,
            tenant=entry.tenant,
            route=entry.route,
            tokens=tokens,
            opens_cvc=any(opening.key == "cvc" for opening in entry.opens),
            opened_idx=index,
            last_idx=index,
            replica=entry.replica,
            boot=entry.boot,
            opened_at=at,
        )
        request = self.requests.get(first)
        if request is None:
            request = Request(
                first=first,
                tenant=entry.tenant,
                route=entry.route,
                operation=entry.operation,
                kind=entry.kind,
                tokens=tokens,
                idx=index,
                leaf=leaf,
                created_at=at,
                updated_at=at,
            )
            _tell_call(request, words)
            self.requests[first] = request
        self.sends[entry.intent] = send
        request.sends.append(send)
        _begin_again(request, index, leaf, at)

    # --- an outcome -----------------------------------------------------------------------

    def _settle(self, index: int, leaf: bytes, entry: Outcome, words: Words | None) -> None:
        send = self.sends.get(entry.intent)
        if send is None:
            raise Illegal("there is no earlier intent of this outcome")
        if not _may_follow(send, entry):
            raise Illegal("this outcome may not follow the intent's state")
        request = self.requests[send.first]
        at = time_of(entry.ts)
        _end(send, entry, index, at)
        if not self._settles_along(request, index, entry):
            self._settling = _Settling(request, send, entry, words, index)
            _tell_reference(request, words)
            request.idx, request.leaf, request.updated_at = index, leaf, at
        self._show()

    def _settles_along(self, request: Request, index: int, entry: Outcome) -> bool:
        """Whether this says of another send what the entry before, of the same unit, says of its.

        Then it changes neither the request's place in the log nor its references.
        """
        along = self._settling
        if along is None or along.request is not request or along.last_idx + 1 != index:
            return False
        if not _of_one_unit(along.entry, entry):
            return False
        along.last_idx = index
        return True

    def _show(self) -> None:
        """Show of the request what its telling send says."""
        along = self._settling
        assert along is not None, "an outcome settles"
        request, told = along.request, telling(along.request.sends)
        request.state, request.result = told.state, told.result
        if told is along.own:
            request.decline_code = _text(along.words, "decline_code")
            request.authorization_code = _text(along.words, "authorization_code")
            _set_told(request, _CODES, told=along.words is not None)


def telling(sends: Sequence[Send]) -> Send:
    """Return the one under way or in doubt; else the latest with which something was done."""
    return min(
        sends,
        key=lambda send: (
            send.state is not State.ATTEMPTED,
            send.state is not State.UNKNOWN,
            send.state is State.NOT_SENT or send.result is Result.ERROR,
            -send.attempt,
        ),
    )


def _of_one_unit(own: Outcome, entry: Outcome) -> bool:
    """Whether two neighbors can only have been appended at once: by one author, on one ground."""
    if not isinstance(entry, AuthorizationResolved) or entry.supersedes is not UNSET:
        return False
    if (own.boot, own.ts, own.actor) != (entry.boot, entry.ts, entry.actor):
        return False
    if entry.method == "replay":  # the answer to a repeat, which is its own entry
        return True
    return isinstance(own, AuthorizationResolved) and (
        (own.method, own.finding, own.result) == (entry.method, entry.finding, entry.result)
    )


def _may_follow(send: Send, entry: Outcome) -> bool:
    if entry.state in MAY_FOLLOW[send.state]:
        return getattr(entry, "supersedes", UNSET) is UNSET
    # Evidence against a terminal outcome, which names it.
    return isinstance(entry, AuthorizationResolved) and (
        not MAY_FOLLOW[send.state] and entry.supersedes == send.last_idx
    )


def _end(send: Send, entry: Outcome, index: int, at: datetime) -> None:
    send.state, send.last_idx, send.ended_at = entry.state, index, at
    send.result = send.finding = send.phase = send.reason = None
    send.untold.clear()
    match entry:
        case AuthorizationCompleted():
            send.result, send.status = entry.result, entry.status
        case AuthorizationNotSent():
            send.phase, send.reason = entry.phase, entry.reason
        case AuthorizationUnknown():
            send.phase, send.reason = entry.phase, entry.reason
            send.status = _known(entry.status, send.status)
        case AuthorizationResolved():
            send.result, send.finding = entry.result, entry.finding
            send.status = _known(entry.status, send.status)
            send.untold |= _WHY_NOT
        case _ as unreachable:
            raise TypeError(unreachable)


def _known(status: int | UnsetType, before: int | None) -> int | None:
    return before if status is UNSET else status


def _begin_again(request: Request, index: int, leaf: bytes, at: datetime) -> None:
    request.state, request.result = State.ATTEMPTED, None
    request.decline_code = request.authorization_code = None
    _set_told(request, _CODES, told=True)
    request.idx, request.leaf, request.updated_at = index, leaf, at


def _tell_call(request: Request, words: Words | None) -> None:
    _set_told(request, _OF_A_CALL, told=words is not None)
    amount = (words or {}).get("amount")
    request.amount = amount if isinstance(amount, int) else None
    request.currency = _text(words, "currency")
    request.merchant_reference = _text(words, "merchant_reference")
    digest = _text(words, "idempotency_digest")
    request.key_digest = digest_value(digest) if digest is not None else None


def _tell_reference(request: Request, words: Words | None) -> None:
    reference = _text(words, "processor_reference")
    if words is None or reference is not None:  # else what was known before stays
        request.processor_reference = reference
        _set_told(request, _REFERENCE, told=words is not None)


def _set_told(request: Request, columns: frozenset[str], *, told: bool) -> None:
    if told:
        request.untold -= columns
    else:
        request.untold |= columns


def _text(words: Words | None, name: str) -> str | None:
    value = (words or {}).get(name)
    return value if isinstance(value, str) else None


def digest_value(text: str) -> bytes | None:
    """Read a keyed digest as it stands in a detail: `<key version>:<base64url>`."""
    encoded = text.rpartition(":")[2]
    try:
        return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return None


def time_of(ts: str) -> datetime:
    """Read an entry's time. Raises Illegal for a day that no month has."""
    try:
        return datetime.fromisoformat(ts)
    except ValueError:
        pass
    raise Illegal("there is no such time")
