"""Which request an event means, of those that have one of its references. Pure.

A processor's reference decides. Without one the merchant's own does, if a single payment has it
and nothing speaks against that. Where several may be meant, none is: an event that is left alone
can be matched later, one that was taken for another's cannot be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vault.authorization import Kind, State
from vault.callback_table import CLOCKS_APART, CallbackRow, Candidate
from vault.payment_events import PAYMENTS, Effect, implied

_OF_THE_PAYMENT: Final = frozenset(
    {Effect.APPROVED, Effect.DECLINED, Effect.FAILED, Effect.LATE_DECLINE}
)
_CHANGES: Final = (Kind.CAPTURE, Kind.REFUND, Kind.VOID, Kind.STORE_CARD)


@dataclass(frozen=True, slots=True)
class Targets:
    """The payment that an event speaks of, and what was done to it."""

    payment: Candidate | None
    action: Candidate | None
    missing: Kind | None  # of an action that is none of the candidates

    @property
    def all(self) -> tuple[Candidate, ...]:
        return tuple(one for one in (self.payment, self.action) if one is not None)

    @property
    def first(self) -> str | None:
        return self.all[0].first if self.all else None

    @property
    def changed(self) -> str | None:
        return self.action.first if self.action else None

    @property
    def must_wait(self) -> bool:
        """Whether what is on record of one is about to change by its own answer."""
        return any(one.state is State.ATTEMPTED for one in self.all)


def targets(event: CallbackRow, candidates: Sequence[Candidate]) -> Targets:
    # An event says nothing of what was begun after it.
    candidates = [one for one in candidates if one.created_at <= event.event_at + CLOCKS_APART]
    kind = kind_of_change(event.effect)
    action = None if kind is None else _action(event, kind, candidates)
    wanted = action is None and event.action_reference is not None
    return Targets(_payment(event, candidates), action, kind if wanted else None)


def processor_reference(event: CallbackRow, target: Candidate) -> str | None:
    """Return the processor's name for a target that has none on record yet."""
    if target.processor_reference is not None:
        return None
    return _own_reference(event) if target.kind in PAYMENTS else event.action_reference


def kind_of_change(effect: Effect | None) -> Kind | None:
    if effect is None:
        return None
    return next((kind for kind in _CHANGES if implied(effect, kind) is not None), None)


def _own_reference(event: CallbackRow) -> str | None:
    """The payment's own reference, where an event has it."""
    if event.payment_reference is not None or event.effect not in _OF_THE_PAYMENT:
        return event.payment_reference
    return event.action_reference


def _payment(event: CallbackRow, candidates: Sequence[Candidate]) -> Candidate | None:
    payments = [one for one in candidates if one.kind in PAYMENTS]
    for reference in (event.payment_reference, event.action_reference):
        named = [one for one in payments if _is_named(one, reference)]
        if named:
            return _only_open(named) or _latest(named)
    namesakes = [one for one in payments if not one.by_reference]
    if len(namesakes) == 1 and _fits(event, namesakes[0]):
        return namesakes[0]
    return None


def _action(event: CallbackRow, kind: Kind, candidates: Sequence[Candidate]) -> Candidate | None:
    changes = [one for one in candidates if one.kind is kind]
    named = [one for one in changes if _is_named(one, event.action_reference)]
    if len(named) == 1:
        return named[0]
    # Some processors' captures and voids answer with the payment's reference.
    named = named or [one for one in changes if _is_named(one, event.payment_reference)]
    return _only_open([one for one in named if _is_of_this_amount(event, one)])


def _is_named(one: Candidate, reference: str | None) -> bool:
    return one.by_reference and reference is not None and one.processor_reference == reference


def _only_open(named: Sequence[Candidate]) -> Candidate | None:
    undecided = [one for one in named if one.is_open]
    return undecided[0] if len(undecided) == 1 else None


def _latest(named: Sequence[Candidate]) -> Candidate | None:
    if any(one.is_open for one in named):
        return None  # several are: which of them is not said
    return max(named, key=lambda one: (one.created_at, one.first))


def _fits(event: CallbackRow, one: Candidate) -> bool:
    """Whether a namesake is the one: merchants call many payments the same.

    Of a change the amount may be a part; what is not known on either side proves nothing.
    """
    if event.amount is None or one.amount is None or event.currency != one.currency:
        return False
    own = _own_reference(event)
    if own is not None and one.processor_reference not in {None, own}:
        return False
    if event.effect in _OF_THE_PAYMENT:
        return event.amount == one.amount
    return event.amount <= one.amount


def _is_of_this_amount(event: CallbackRow, one: Candidate) -> bool:
    return event.amount is None or one.amount is None or event.amount == one.amount
