"""What one account at the simulated processor holds, in memory. Pure: ids and times are passed in.

Card numbers are not among it. Of each card stays what the simulation will say about it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from gateway.sandbox.cards import Card, Outcome, outcome_of
from gateway.sandbox.objects import (
    CardShown,
    Charge,
    Customer,
    PaymentIntent,
    PaymentMethod,
    Refund,
    SetupIntent,
    StripeObject,
    Token,
)
from gateway.sandbox.refusals import not_found
from gateway.sandbox.stripe_callbacks import StripeEvent

T = TypeVar("T")

OBJECTS_MAX: Final = 50_000  # of each kind; the oldest go first


class Counts(msgspec.Struct):
    """What happened so far. `charges` are those an issuer approved: money moved or was held."""

    requests: int = 0
    charges: int = 0
    declines: int = 0
    captures: int = 0
    cancels: int = 0
    refunds: int = 0
    replays: int = 0
    faults: int = 0  # bugs of the simulation itself


@dataclass(frozen=True, slots=True)
class KeptCard:
    """All that is kept of a card."""

    shown: CardShown
    outcome: Outcome


@dataclass(slots=True)
class Books:
    """One account's objects, by id."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    fingerprint_key: bytes = field(repr=False)
    counts: Counts
    payment_methods: dict[str, PaymentMethod] = field(default_factory=dict[str, PaymentMethod])
    tokens: dict[str, Token] = field(default_factory=dict[str, Token])
    customers: dict[str, Customer] = field(default_factory=dict[str, Customer])
    payment_intents: dict[str, PaymentIntent] = field(default_factory=dict[str, PaymentIntent])
    setup_intents: dict[str, SetupIntent] = field(default_factory=dict[str, SetupIntent])
    charges: dict[str, Charge] = field(default_factory=dict[str, Charge])
    refunds: dict[str, Refund] = field(default_factory=dict[str, Refund])
    cards: dict[str, KeptCard] = field(default_factory=dict[str, KeptCard])  # by pm_ or tok_
    _changed: dict[str, Charge] = field(default_factory=dict[str, Charge])
    _told: list[StripeEvent] = field(default_factory=list[StripeEvent])

    def created(self) -> int:
        return int(self.now().timestamp())

    def keep_charge(self, charge: Charge) -> None:
        """Keep a charge that is new, or changed."""
        keep(self.charges, charge.id, charge)
        self._changed[charge.id] = charge

    def take_changed(self) -> tuple[Charge, ...]:
        """Return the charges that were made or changed since this was last asked."""
        changed = tuple(self._changed.values())
        self._changed.clear()
        return changed

    def tell(self, type_: str, about: StripeObject, payment: str) -> None:
        """Report this of a payment; what it is about is shown as it is now."""
        id_, created = self.new_id("evt"), self.created()
        self._told.append(StripeEvent.of(id_, type_, created, payment, about))

    def take_told(self) -> tuple[StripeEvent, ...]:
        """Return what happened since this was last asked."""
        told = tuple(self._told)
        self._told.clear()
        return told

    def kept(self, card: Card) -> KeptCard:
        digest = hashlib.blake2b(
            card.number.encode(), key=self.fingerprint_key, digest_size=8
        ).hexdigest()
        shown = CardShown(
            brand=card.brand,
            last4=card.last4,
            exp_month=card.exp_month,
            exp_year=card.exp_year,
            fingerprint=digest,
        )
        return KeptCard(shown, outcome_of(card.number))


def keep(shelf: dict[str, T], id_: str, thing: T) -> None:
    shelf[id_] = thing
    if len(shelf) > OBJECTS_MAX:
        del shelf[next(iter(shelf))]


def found(shelf: Mapping[str, T], id_: str, *, kind: str, param: str = "id") -> T:
    thing = shelf.get(id_)
    if thing is None:
        raise not_found(kind, param)
    return thing
