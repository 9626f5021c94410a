"""What the demo's steps read in an answer of the processor's shape, and how they show one. Pure."""

import msgspec

from gateway.demo.cards import MASK
from gateway.demo.orders import Heard
from gateway.demo.scene import StoryBroke


class CardShown(msgspec.Struct):
    """`card` of a PaymentMethod."""

    brand: str = ""
    last4: str = ""


class ErrorSaid(msgspec.Struct):
    """`error` of an error."""

    message: str = ""
    type: str = ""
    code: str | None = None
    param: str | None = None
    decline_code: str | None = None


class Said(msgspec.Struct):
    """What the steps look at in an answer of the processor's shape."""

    id: str = ""
    status: str | None = None
    amount: int | None = None
    description: str | None = None
    card: CardShown | None = None
    error: ErrorSaid = msgspec.field(default_factory=ErrorSaid)


def said(heard: Heard) -> Said:
    """Read an answer. Raises StoryBroke when there is none, or none in this shape."""
    try:
        return msgspec.json.decode(heard.body, type=Said)
    except msgspec.DecodeError:
        pass
    raise StoryBroke(f"the shop heard no answer that it can read: stripe.{heard.kind}")


def shown(heard: Heard) -> str:
    """One line: what the SDK gave the shop, or raised."""
    answer = said(heard)
    if heard.is_error:
        code = answer.error.decline_code or answer.error.code
        return f"raises stripe.{heard.kind} (HTTP {heard.http_status}, {code}): {heard.says}"
    if answer.card is not None:
        return f"{heard.kind} {answer.id}: {answer.card.brand} {MASK} {answer.card.last4}"
    return f"{heard.kind} {answer.id}: {answer.status}, {price(answer.amount or 0)}"


def price(minor_units: int) -> str:
    return f"{minor_units / 100:.2f} EUR"
