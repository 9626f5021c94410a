"""What one merchant at the simulated Authorize.Net holds, in memory. Pure.

Card numbers are not among it. A captured transaction can be voided as if the night's batch had
not run yet, and credited as if it had: nobody waits for a night here.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from gateway.sandbox.authorize_net_cards import KeptCard, Reason
from gateway.sandbox.books import Counts


@dataclass(slots=True)
class Transaction:
    """A transaction that was given a number: approved, declined or held."""

    id: str
    type: str  # authOnlyTransaction, …
    status: str  # authorizedPendingCapture, capturedPendingSettlement, …
    reason: Reason
    amount: Decimal
    card: KeptCard
    auth_code: str
    network_id: str
    avs: str
    cvv: str
    at: datetime
    invoice: str | None
    description: str | None
    ref_id: str | None = None
    settled: Decimal = Decimal(0)
    credited: Decimal = Decimal(0)


@dataclass(slots=True)
class PaymentProfile:
    """A stored card, with the zip that decides about it."""

    id: str
    card: KeptCard
    zip_code: str | None


@dataclass(slots=True)
class Profile:
    """A customer, with what is stored for them."""

    id: str
    known_by: tuple[str | None, str | None, str | None]  # merchantCustomerId, description, email
    payment_profiles: dict[str, PaymentProfile] = field(default_factory=dict[str, PaymentProfile])


@dataclass(slots=True)
class Books:
    """One merchant's objects, by id."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    key: bytes = field(repr=False)  # of card digests
    counts: Counts
    transactions: dict[str, Transaction] = field(default_factory=dict[str, Transaction])
    profiles: dict[str, Profile] = field(default_factory=dict[str, Profile])
    recent: dict[tuple[object, ...], datetime] = field(
        default_factory=dict[tuple[object, ...], datetime]
    )

    def number(self, digits: int) -> str:
        """A number as this processor gives them: short enough to be no card number."""
        digest = hashlib.blake2b(self.new_id("").encode(), digest_size=8).digest()
        first = 10 ** (digits - 1)
        return str(first * 6 + int.from_bytes(digest) % first)

    def code(self, characters: int) -> str:
        """Capital letters and digits, as issuers write them."""
        digest = hashlib.blake2b(self.new_id("").encode(), digest_size=15).digest()
        return base64.b32encode(digest).decode()[:characters]
