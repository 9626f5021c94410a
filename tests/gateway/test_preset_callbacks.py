"""Which processor's captures are reported by the payment's own name."""

from dataclasses import dataclass

import pytest

from gateway.preset import load, names
from gateway.signatures import SCHEMES
from vault.payment_events import Effect


@dataclass(frozen=True)
class Event:
    """As much of an event as it takes."""

    effect: Effect | None
    payment_reference: str | None = None
    action_reference: str | None = "ref_1"


@pytest.mark.guards("F-23")
@pytest.mark.parametrize(
    ("preset", "effect", "payment"),
    [
        ("authorize_net", Effect.CAPTURED, "ref_1"),
        ("mollie", Effect.CAPTURED, "ref_1"),
        ("worldpay_wpg", Effect.CAPTURED, "ref_1"),
        ("authorize_net", Effect.REFUNDED, None),
        ("worldpay_wpg", Effect.CAPTURE_FAILED, None),
        ("paypal", Effect.CAPTURED, None),
        ("adyen", Effect.CAPTURED, None),
    ],
)
def test_what_is_captured_is_the_payment_where_nothing_else_names_one(
    preset: str, effect: Effect, payment: str | None
) -> None:
    rules = load(preset).callbacks
    assert rules is not None
    assert rules.payment_of(Event(effect)) == payment
    assert rules.payment_of(Event(effect, "pay_1")) in {"pay_1", payment}


@pytest.mark.parametrize("name", names())
def test_whoever_is_asked_about_notices_can_be_asked_with_a_stored_credential(name: str) -> None:
    preset = load(name)
    schemes = () if preset.callbacks is None else preset.callbacks.schemes
    asks = any(SCHEMES[each].kind == "fetch" for each in schemes)
    assert not asks or "injected" in preset.credential.modes
