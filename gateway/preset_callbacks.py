"""Where a processor's callbacks have what, and what they mean: a part of its preset. Pure.

What never lives here: how a callback proves itself, and how it is read.
"""

from typing import Literal, Protocol

import msgspec

from gateway.preset_conditions import Condition, Selectors
from vault.payment_events import Effect


class CallbackEffect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What events of these types mean, if all of this holds; the first that fits counts."""

    types: tuple[str, ...]  # exact, or with one `*` at the end
    where: tuple[Condition, ...] = ()
    effect: Effect


class Event(Protocol):
    """What of an event tells which payment it names."""

    @property
    def effect(self) -> Effect | None: ...

    @property
    def action_reference(self) -> str | None: ...

    @property
    def payment_reference(self) -> str | None: ...


class CallbackEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a processor's events have what, and what they mean.

    The first path that holds text counts; paths are those of an item, where a post has several.
    """

    schemes: tuple[str, ...]  # of `gateway.signatures`; the first is what an endpoint gets
    items: str | None = None  # where a post has several events: "notificationItems[*].X"
    type: Selectors
    id: Selectors = ()  # none, or none there: a digest of the content
    id_header: str | None = None
    id_parts: tuple[Selectors, ...] = ()  # instead of one id: all of these together
    at: Selectors = ()  # RFC 3339, Unix seconds or milliseconds; none: when it came
    action_reference: Selectors = ()
    payment_reference: Selectors = ()
    merchant_reference: Selectors = ()
    amount: Selectors = ()
    amount_unit: Literal["minor", "major"] = "minor"
    currency: Selectors = ()
    decline_code: Selectors = ()
    numbers: Selectors = ()  # ids of the processor's or merchant's that may look like cards
    effects: tuple[CallbackEffect, ...] = ()

    def payment_of(self, event: Event) -> str | None:
        """Return the processor's name for the payment that an event is about, if it has it.

        Where nothing else names a payment, there is no name for a capture: what was captured is it.
        """
        if event.effect is Effect.CAPTURED and not self.payment_reference:
            return event.action_reference
        return event.payment_reference
