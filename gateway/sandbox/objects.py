"""The objects of the simulated API, as a caller sees them. Pure.

No field holds a card number or a CVC: what is kept of a card is its brand, its last four digits
and what the simulation will say about it.
"""

from typing import Literal

import msgspec


class StripeObject(msgspec.Struct, kw_only=True, tag_field="object"):
    """What all of them have. The tag is the API's `object`."""

    id: str
    created: int
    livemode: bool = False
    metadata: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class CardShown(msgspec.Struct, kw_only=True, frozen=True):
    """What the API shows of a card."""

    brand: str
    last4: str
    exp_month: int
    exp_year: int
    fingerprint: str
    country: str = "US"
    funding: str = "credit"


class PaymentMethod(StripeObject, tag="payment_method"):
    """A card that was handed over, ready to be charged."""

    card: CardShown
    customer: str | None = None
    type: str = "card"


class Token(StripeObject, tag="token"):
    """The older form of a card that was handed over."""

    card: CardShown
    type: str = "card"
    used: bool = False


class Customer(StripeObject, tag="customer"):
    """A person in the shop's books."""

    default_source: str | None = None
    description: str | None = None
    email: str | None = None
    name: str | None = None


class ChargedCard(msgspec.Struct, kw_only=True, frozen=True):
    """What the issuer answered."""

    brand: str
    last4: str
    authorization_code: str | None
    network_transaction_id: str | None


class PaymentMethodDetails(msgspec.Struct, kw_only=True, frozen=True):
    """How a charge was paid."""

    card: ChargedCard
    type: str = "card"


class Charge(StripeObject, tag="charge"):
    """One question to an issuer, and its answer."""

    amount: int
    currency: str
    paid: bool
    captured: bool
    status: Literal["succeeded", "failed"]
    payment_method_details: PaymentMethodDetails
    amount_captured: int = 0
    amount_refunded: int = 0
    description: str | None = None
    failure_code: str | None = None
    payment_intent: str | None = None
    refunded: bool = False


class LastError(msgspec.Struct, kw_only=True, frozen=True):
    """Why the last try of an intent failed."""

    code: str
    decline_code: str
    message: str
    charge: str | None = None
    type: str = "card_error"


class NextAction(msgspec.Struct, kw_only=True, frozen=True):
    """What the shopper has to do first (3-D Secure)."""

    redirect_to_url: dict[str, str | None]
    type: str = "redirect_to_url"


IntentStatus = Literal[
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "canceled",
    "succeeded",
]


class PaymentIntent(StripeObject, tag="payment_intent"):
    """One purchase, over all of its tries."""

    amount: int
    currency: str
    client_secret: str
    status: IntentStatus = "requires_payment_method"
    amount_capturable: int = 0
    amount_received: int = 0
    cancellation_reason: str | None = None
    capture_method: Literal["automatic", "manual"] = "automatic"
    customer: str | None = None
    description: str | None = None
    last_payment_error: LastError | None = None
    latest_charge: str | Charge | None = None
    next_action: NextAction | None = None
    payment_method: str | None = None
    payment_method_types: tuple[str, ...] = ("card",)
    statement_descriptor: str | None = None
    transfer_group: str | None = None


class SetupIntent(StripeObject, tag="setup_intent"):
    """The check of a card that is to be charged later."""

    client_secret: str
    status: IntentStatus = "requires_payment_method"
    customer: str | None = None
    description: str | None = None
    last_setup_error: LastError | None = None
    next_action: NextAction | None = None
    payment_method: str | None = None
    payment_method_types: tuple[str, ...] = ("card",)


class Refund(StripeObject, tag="refund"):
    """Money given back."""

    amount: int
    currency: str
    charge: str
    payment_intent: str | None = None
    reason: str | None = None
    status: Literal["succeeded"] = "succeeded"


class Dispute(StripeObject, tag="dispute"):
    """A payment that its shopper wants back from the issuer."""

    amount: int
    currency: str
    charge: str
    payment_intent: str | None = None
    reason: str = "fraudulent"
    status: Literal["needs_response"] = "needs_response"


class File(StripeObject, tag="file"):
    """A file that was uploaded."""

    filename: str
    purpose: str
    size: int
    url: str | None = None
