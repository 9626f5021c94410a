"""What a processor reports about a payment later on, and what follows for its record. Pure.

Events come late, twice and in any order. What is on record after all of them must not depend on
the order: of a result that came from events, the last event by the processor's own time counts, and
a result that came in the answer to the call itself yields to no event, but that an approval may
turn out to be none (`late_decline`), and then stays none. Some processors do not say when (Worldpay
WPG): of their events the one counts that a payment's life ends with, as they may come late, too.
What never may live here: where events come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from vault.authorization import Kind, Result, State


class Effect(StrEnum):
    """What a processor says has happened. Presets map their event types to these."""

    APPROVED = "approved"
    DECLINED = "declined"
    FAILED = "failed"  # it was not carried out, and no issuer declined it
    CAPTURED = "captured"
    CAPTURE_FAILED = "capture_failed"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    VOIDED = "voided"
    VOID_FAILED = "void_failed"
    STORED = "stored"
    LATE_DECLINE = "late_decline"  # an approval that turned out to be none
    DISPUTE_OPENED = "dispute_opened"  # no money has moved yet
    CHARGEBACK = "chargeback"
    CHARGEBACK_REVERSED = "chargeback_reversed"


PAYMENTS: Final = frozenset({Kind.AUTHORIZE, Kind.VERIFY})

_APPROVED, _DECLINED, _ERROR = Result.APPROVED, Result.DECLINED, Result.ERROR
_OF_A_PAYMENT: Final[Mapping[Effect, Result]] = {
    Effect.APPROVED: _APPROVED,
    Effect.DECLINED: _DECLINED,
    Effect.FAILED: _ERROR,
    Effect.LATE_DECLINE: _DECLINED,
    # Nothing of this happens to a payment that was not approved. A void may: of one that is held
    # for review, or was given up. So may a change that failed, perhaps for that very reason.
    Effect.CAPTURED: _APPROVED,
    Effect.REFUNDED: _APPROVED,
    Effect.DISPUTE_OPENED: _APPROVED,
    Effect.CHARGEBACK: _APPROVED,
    Effect.CHARGEBACK_REVERSED: _APPROVED,
}
_OF_A_CHANGE: Final[Mapping[Effect, tuple[Kind, Result]]] = {
    Effect.CAPTURED: (Kind.CAPTURE, _APPROVED),
    Effect.CAPTURE_FAILED: (Kind.CAPTURE, _DECLINED),
    Effect.REFUNDED: (Kind.REFUND, _APPROVED),
    Effect.REFUND_FAILED: (Kind.REFUND, _DECLINED),
    Effect.VOIDED: (Kind.VOID, _APPROVED),
    Effect.VOID_FAILED: (Kind.VOID, _DECLINED),
    Effect.STORED: (Kind.STORE_CARD, Result.STORED),
}
_RANK: Final[Mapping[Result, int]] = {  # of two events of one moment
    Result.PENDING: 0,
    _ERROR: 1,
    _APPROVED: 2,
    Result.STORED: 2,
    _DECLINED: 3,
}
_STAGE: Final[Mapping[Result, int]] = {  # of a payment's events without a time of their own:
    **_RANK,  # one that was approved is neither refused after that, nor in error
    _ERROR: 1,
    _DECLINED: 2,
    _APPROVED: 3,
    Result.STORED: 3,
}


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What is on record of a request; `evidence_at` where an event is what says so."""

    kind: Kind
    state: State
    result: Result | None
    evidence_at: datetime | None = None


def implied(effect: Effect, kind: Kind) -> Result | None:
    """Return the result that an event proves of a request of this kind, if any."""
    if kind in PAYMENTS:
        return _OF_A_PAYMENT.get(effect)
    change = _OF_A_CHANGE.get(effect)
    return change[1] if change is not None and change[0] is kind else None


def recorded(
    known: OnRecord, effect: Effect, at: datetime, *, has_own_time: bool = True
) -> OnRecord:
    """Return what has to be on record after an event, the same where it changes nothing.

    Without a time of its own, `at` is when it came: that orders only what is of one stage.

    What is still under way (`attempted`) changes by its own answer first: look again then. An event
    that agrees with an earlier one still moves `evidence_at`: else an event between the two would
    count or not by when it came. A late decline leaves no `evidence_at`: no event undoes it.
    """
    said = implied(effect, known.kind)
    if said is None or known.state in {State.ATTEMPTED, State.NOT_SENT}:
        return known
    if known.evidence_at is not None:
        is_later = _is_later(known, said, at, has_own_time=has_own_time)
        return replace(known, result=said, evidence_at=at) if is_later else known
    if known.state is State.UNKNOWN or known.result is Result.PENDING:
        return replace(known, state=State.RESOLVED, result=said, evidence_at=at)
    is_undone = known.result is _APPROVED and effect is Effect.LATE_DECLINE
    return replace(known, state=State.RESOLVED, result=said) if is_undone else known


def _is_later(known: OnRecord, said: Result, at: datetime, *, has_own_time: bool) -> bool:
    assert known.evidence_at is not None
    ranks = _RANK if has_own_time or known.kind not in PAYMENTS else _STAGE
    was, is_now = ranks[known.result] if known.result else -1, ranks[said]
    if has_own_time:
        return (at, is_now) > (known.evidence_at, was)
    return (is_now, at) > (was, known.evidence_at)


def consequence(
    known: OnRecord, effect: Effect, at: datetime, *, has_own_time: bool = True
) -> Result | None:
    """Return the result that has to be put on record because of an event; None: none.

    Then too `recorded(…).evidence_at` has to be.
    """
    after = recorded(known, effect, at, has_own_time=has_own_time).result
    return after if after is not known.result else None
