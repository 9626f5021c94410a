"""What the demo tells the shop to do, and what the shop hears: the shapes on both ends."""

from collections.abc import Mapping

import msgspec


class Account(msgspec.Struct):
    """What a shop has in its settings."""

    api_key: str
    api_base: str
    ca_file: str


class SaveCard(msgspec.Struct, tag="save_card"):
    """Make a PaymentMethod; the token stands where the card number would."""

    token: str
    exp_month: int
    exp_year: int
    with_cvc: bool = True
    retries: int | None = None  # as many as the SDK makes by itself


class Pay(msgspec.Struct, tag="pay"):
    """Make a PaymentIntent and confirm it."""

    order_id: str
    amount: int
    payment_method: str
    retries: int | None = None
    idempotency_key: str | None = None
    description: str | None = None
    receipt_email: str | None = None


class Hook(msgspec.Struct, tag="hook"):
    """Say whether a post is Stripe's, as its SDK does; `secret` is the shop's own."""

    body: str
    signature: str
    secret: str

    def __repr__(self) -> str:
        return "Hook"


Order = SaveCard | Pay | Hook


class Reported(msgspec.Struct):
    """What the SDK made of a post."""

    is_genuine: bool
    type: str = ""
    order_id: str = ""


class Heard(msgspec.Struct):
    """What the shop got: an object of the SDK's, or an exception; and every byte of the answer."""

    kind: str
    is_error: bool
    http_status: int | None
    headers: Mapping[str, str]
    body: str
    says: str = ""
    path: str = ""
    sent: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What the shop put into the call, by the field names of the wire."""
