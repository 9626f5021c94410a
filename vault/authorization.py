"""What an authorization is: its words, and the tables of what may follow. Pure.

The vocabulary is the ledger's, the API's and the metrics', letter for letter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a processor call does. An operation that opens a card is never `other`."""

    AUTHORIZE = "authorize"
    VERIFY = "verify"
    STORE_CARD = "store_card"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    OTHER = "other"


class State(StrEnum):
    """Where one send stands."""

    ATTEMPTED = "attempted"
    COMPLETED = "completed"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    RESOLVED = "resolved"


class Result(StrEnum):
    """What the processor said, when it is known."""

    APPROVED = "approved"
    DECLINED = "declined"
    PENDING = "pending"
    STORED = "stored"
    ERROR = "error"


class Finding(StrEnum):
    """What a reconciliation found out about an `unknown`."""

    ANSWERED = "answered"
    NOT_RECEIVED = "not_received"
    NOT_SENT = "not_sent"
    GIVEN_UP = "given_up"


MAY_FOLLOW: Final[Mapping[State, frozenset[State]]] = {
    State.ATTEMPTED: frozenset({State.COMPLETED, State.NOT_SENT, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.RESOLVED}),
    State.COMPLETED: frozenset(),  # contradicted later: a `resolved` with `supersedes`
    State.NOT_SENT: frozenset(),
    State.RESOLVED: frozenset(),
}

CONSUMES_CVC: Final = frozenset({Result.APPROVED, Result.DECLINED, Result.STORED})
"""Results after which a CVC must be gone (PCI DSS 3.3.1): the issuer has answered."""

KEEPS_CVC_CLAIMED: Final = frozenset({State.ATTEMPTED, State.UNKNOWN})
"""States in which a CVC stays with its authorization, until it is consumed or its time is up."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Go on: this request owns its idempotency key until its lease or its intent ends.

    `of` is the first attempt's intent, if there was one; `unsettled` are earlier attempts that
    ended as `unknown`, which the answer to this one settles: it is sent again under the same
    processor key.
    """

    of: str | None
    attempt: int
    nonce: str
    unsettled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """The same request has ended: its answer is in `intent`'s stored answer."""

    intent: str


@dataclass(frozen=True, slots=True)
class StillOpen:
    """The same request is under way."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The same request ended as `unknown`, and repeating it could charge twice."""


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key was used for another body."""


Claim = Claimed | Stored | StillOpen | Unsettled | KeyReused

SAME_KEY_SAME_BODY: Final[Mapping[State, type[Claim]]] = {  # another body: KeyReused
    State.ATTEMPTED: StillOpen,
    State.NOT_SENT: Claimed,
    State.COMPLETED: Stored,  # Claimed, where the preset lists its status as not executed
    State.RESOLVED: Stored,  # Claimed, where the finding is that it was never received
    State.UNKNOWN: Unsettled,  # Claimed, `of` the first, where the preset declares replay
}


@dataclass(frozen=True, slots=True)
class RepeatRules:
    """What a preset says about repeating a call under the same idempotency key."""

    replay_seconds: int | None = None  # how long the processor keeps a key; None: no replay
    not_executed: frozenset[int] = frozenset()  # statuses with which nothing was done


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of the request that had the key before."""

    same_body: bool
    leased: bool  # somebody is between claim and intent
    state: State | None = None  # of the latest attempt; None: there was none
    status: int | None = None
    finding: Finding | None = None
    first_at: datetime | None = None
    cvc_claimable: bool = True
    unsettled: bool = False  # some attempt, not only the latest, may have reached the processor


def repeat(earlier: Earlier, rules: RepeatRules, *, at: datetime) -> type[Claim]:
    """Return what a request with a key that was used before gets."""
    if not earlier.same_body:
        return KeyReused
    if earlier.leased:
        return StillOpen
    state = earlier.state
    if state is None:
        return Claimed
    if _did_nothing(state, earlier, rules):
        if not earlier.unsettled:
            return Claimed
        state = State.UNKNOWN  # a repeat that came to nothing says nothing of the attempt before
    if state is State.UNKNOWN and _may_replay(earlier, rules, at=at):
        return Claimed
    return SAME_KEY_SAME_BODY[state]


def _did_nothing(state: State, earlier: Earlier, rules: RepeatRules) -> bool:
    """Whether the latest attempt is known not to have been carried out."""
    match state:
        case State.NOT_SENT:
            return True
        case State.COMPLETED:
            return earlier.status in rules.not_executed
        case State.RESOLVED:
            return earlier.finding in _NOTHING_WAS_DONE
        case _:
            return False


_NOTHING_WAS_DONE: Final = frozenset({Finding.NOT_RECEIVED, Finding.NOT_SENT})


def _may_replay(earlier: Earlier, rules: RepeatRules, *, at: datetime) -> bool:
    if rules.replay_seconds is None or earlier.first_at is None or not earlier.cvc_claimable:
        return False
    return at < earlier.first_at + timedelta(seconds=rules.replay_seconds)
